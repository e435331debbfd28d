//! Every task has a kind, an owner and an end.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a task is for. The kind decides what its failure means and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// An accept loop or server: its failure stops the node.
    Door,
    /// Raft's own helpers (log writer, state committer, ticks): failure stops the node.
    Raft,
    /// A long-lived worker (replication, collection, janitor): failure is logged as an error, the node goes on.
    Worker,
    /// One transfer, flight or probe: failure is logged by its owner.
    Transfer,
    /// Work for one request or connection.
    Request,
}

impl TaskKind {
    /// Whether the node must stop when such a task fails.
    pub fn failure_stops_node(self) -> bool {
        matches!(self, TaskKind::Door | TaskKind::Raft)
    }
}

/// Owner of tasks: spawn through it, cancel through it, drain through it. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
    failed: CancellationToken,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.tracker.len()).finish_non_exhaustive()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Tasks::new()
    }
}

impl Tasks {
    /// A fresh owner.
    pub fn new() -> Self {
        Tasks { tracker: TaskTracker::new(), cancel: CancellationToken::new(), failed: CancellationToken::new() }
    }

    /// Spawns a task. It should end soon after [`Tasks::cancelled`]; a panic in it is reported and, for kinds that ask
    /// for it, stops the node.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, kind: TaskKind, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let failed = self.failed.clone();
        let inner = tokio::spawn(self.tracker.track_future(future));
        tokio::spawn(self.tracker.track_future(async move {
            let abort = AbortOnDrop(Some(inner));
            if let Err(error) = abort.join().await
                && error.is_panic()
            {
                tracing::error!(task = name, ?kind, error = %error, "task panicked");
                if kind.failure_stops_node() {
                    failed.cancel();
                }
            }
        }))
    }

    /// Spawns a fallible task; an error is logged once, here, and stops the node where the kind says so.
    pub fn spawn_fallible<F, E>(&self, kind: TaskKind, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let failed = self.failed.clone();
        self.spawn(kind, name, async move {
            if let Err(error) = future.await {
                tracing::error!(task = name, ?kind, error = %error, "task failed");
                if kind.failure_stops_node() {
                    failed.cancel();
                }
            }
        })
    }

    /// The token that ends everything here.
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Resolves once shutdown began.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Resolves when a task whose failure stops the node has failed.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Marks the node as failed, for errors found outside a task.
    pub fn fail(&self) {
        self.failed.cancel();
    }

    /// Begins shutdown.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits for every task, at most `limit`; false when some were still running.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

/// Aborts the inner task when the handle that watches it is aborted.
struct AbortOnDrop(Option<JoinHandle<()>>);

impl AbortOnDrop {
    async fn join(mut self) -> Result<(), tokio::task::JoinError> {
        match self.0.as_mut() {
            Some(handle) => {
                let result = handle.await;
                self.0 = None;
                result
            }
            None => Ok(()),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_door_stops_the_node_and_a_failing_worker_does_not() {
        let tasks = Tasks::new();
        tasks.spawn_fallible(TaskKind::Worker, "worker", async { Err::<(), _>("boom") });
        assert!(tasks.drain(Duration::from_secs(5)).await);
        assert!(!tasks.failed.is_cancelled());
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::Door, "door", async { panic!("boom") });
        assert!(tokio::time::timeout(Duration::from_secs(5), tasks.failed()).await.is_ok());
    }
}
