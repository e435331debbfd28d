//! Whose turn it is at a session that lives here: one request at a time works on it, from its first byte to its outcome.
//!
//! The store locks a session for each of its steps only. A closing PUT is several of them (bytes, digest, proposal), and
//! the same PUT sent again must find the outcome of the first one, not its middle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blobs::handle::SessionKey;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Table = HashMap<SessionKey, Arc<AsyncMutex<()>>>;

/// The sessions that requests work on or wait for. As many as there are such requests, at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    table: Arc<Mutex<Table>>,
}

/// A turn. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    // Dropped in this order: the lock, then the place, which is removed when nobody else has it.
    _held: OwnedMutexGuard<()>,
    _place: Place,
}

/// A place in the row of a session.
#[derive(Debug)]
struct Place {
    turns: Turns,
    session: SessionKey,
    lock: Option<Arc<AsyncMutex<()>>>,
}

impl Turns {
    /// Waits for the session; those that wait come in order. `None` when the ones before take longer than `wait_max`.
    pub(crate) async fn take(&self, session: SessionKey, wait_max: Duration) -> Option<Turn> {
        let lock = self.lock().entry(session).or_default().clone();
        let place = Place { turns: self.clone(), session, lock: Some(lock.clone()) };
        let held = tokio::time::timeout(wait_max, lock.lock_owned()).await.ok()?;
        Some(Turn { _held: held, _place: place })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.turns.lock();
        self.lock = None;
        if table.get(&self.session).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            table.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SESSION: SessionKey = SessionKey([1; 16]);

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left() {
        let turns = Turns::default();
        let first = turns.take(SESSION, LONG).await;
        assert!(first.is_some());
        assert!(turns.take(SESSION, Duration::ZERO).await.is_none());
        assert!(turns.take(SessionKey([2; 16]), Duration::ZERO).await.is_some());
        let (second, ()) = tokio::join!(turns.take(SESSION, LONG), async { drop(first) });
        assert!(second.is_some() && turns.lock().len() == 1);
        drop(second);
        assert!(turns.lock().is_empty(), "{turns:?}");
    }
}
