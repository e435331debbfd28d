//! A lane: jobs on one state, in order, off the async threads, one running while the next is prepared.
//!
//! An upload has two, one that computes sha256 and one that writes and computes blake3, so that on two cores the slower
//! of them sets the pace. How many jobs run at once in the whole room is bounded by the lane's gate.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::space::Refused;

/// Ordered blocking work on a state.
pub(crate) struct Lane<S> {
    /// `None` while a job runs, and for good when one panicked.
    state: Option<S>,
    running: Option<JoinHandle<(S, Result<(), Refused>)>>,
    gate: Arc<Semaphore>,
}

impl<S: Send + 'static> Lane<S> {
    pub(crate) fn new(state: S, gate: Arc<Semaphore>) -> Self {
        Lane { state: Some(state), running: None, gate }
    }

    /// Waits for the job before, reports its failure, then starts this one.
    pub(crate) async fn push<F>(&mut self, job: F) -> Result<(), Refused>
    where
        F: FnOnce(&mut S) -> Result<(), Refused> + Send + 'static,
    {
        self.settle().await?;
        let mut state = self.state.take().ok_or_else(lost)?;
        let permit = Arc::clone(&self.gate).acquire_owned().await.map_err(|_| lost())?;
        self.running = Some(tokio::task::spawn_blocking(move || {
            let result = job(&mut state);
            drop(permit);
            (state, result)
        }));
        Ok(())
    }

    /// Waits until no job runs and reports the failure of the last one.
    pub(crate) async fn settle(&mut self) -> Result<(), Refused> {
        let Some(running) = self.running.as_mut() else { return Ok(()) };
        let joined = running.await;
        self.running = None;
        let (state, result) = joined.map_err(|error| Refused::Failed(io::Error::other(error)))?;
        self.state = Some(state);
        result
    }

    /// The state, once settled; `None` when a job panicked.
    pub(crate) async fn finish(mut self) -> (Option<S>, Result<(), Refused>) {
        let result = self.settle().await;
        (self.state.take(), result)
    }
}

fn lost() -> Refused {
    Refused::Failed(io::Error::other("a write job did not come back"))
}
