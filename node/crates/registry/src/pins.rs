//! Pins of placed bytes whose proposal is not settled (design §8).
//!
//! A pin goes when its proposal was applied or refused. Where the outcome is not known, or the proposal may be made
//! again by the session's next closing PUT, it stays here, and goes once the session is gone and the proposal has
//! fallen below the request horizon.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blobs::handle::{Pin, SessionKey};

/// The pins, by session.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    held: Mutex<HashMap<SessionKey, Held>>,
}

#[derive(Debug)]
struct Held {
    /// Kept only to be dropped.
    _pin: Pin,
    /// Cluster time when it was last held. Unit: milliseconds.
    at_ms: u64,
}

impl Pins {
    pub(crate) fn hold(&self, session: SessionKey, pin: Pin, now_ms: u64) {
        // One pin a session is enough: a retry pins the same copy again.
        self.lock().insert(session, Held { _pin: pin, at_ms: now_ms });
    }

    pub(crate) fn release(&self, session: SessionKey) {
        self.lock().remove(&session);
    }

    /// Sessions pinned since before `before_ms`.
    pub(crate) fn older_than(&self, before_ms: u64) -> Vec<SessionKey> {
        self.lock().iter().filter(|(_, held)| held.at_ms < before_ms).map(|(session, _)| *session).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
