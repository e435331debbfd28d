//! A flight: one transfer of one blob into this node's staging, which any number of readers follow.
//!
//! The worker that drives a backlog row and the client that cannot wait for it share the same flight. This file knows its
//! state and who is in the air; `transfer` moves the bytes, `reader` follows.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blobs::handle::StagedReader;
use domain::{CopyId, Digest};
use metadata::rows;
use tokio::sync::watch;

use crate::handle::FetchError;

/// How a flight ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// All bytes are staged and readable, whatever became of the copy.
    Complete,
    /// What is staged stays readable, more will not come.
    Failed(FetchError),
}

/// Where a flight stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Verified bytes that the reader gives. Unit: bytes.
    pub(crate) written: u64,
    /// Set once staging exists; gone again when nobody follows any more.
    pub(crate) reader: Option<StagedReader>,
    /// Set before the end, once the bytes lie under their final key. They are read there until the rows name them.
    pub(crate) placed: Option<CopyId>,
    /// Set once.
    pub(crate) end: Option<End>,
}

/// One transfer.
pub(crate) struct Flight {
    pub(crate) digest: Digest,
    pub(crate) blob: rows::Blob,
    /// The bad copy here that this one replaces; any other copy here means that an upload was quicker.
    pub(crate) replaces: Option<CopyId>,
    state: watch::Sender<State>,
    followers: AtomicUsize,
    urgent: AtomicBool,
    wanted: AtomicBool,
}

impl Flight {
    pub(crate) fn new(digest: Digest, blob: rows::Blob, replaces: Option<CopyId>) -> Arc<Self> {
        Arc::new(Flight {
            digest,
            blob,
            replaces,
            state: watch::Sender::new(State::default()),
            followers: AtomicUsize::new(0),
            urgent: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
        })
    }

    /// Makes `written` bytes readable.
    pub(crate) fn publish(&self, reader: &StagedReader, written: u64) {
        self.state.send_modify(|state| {
            state.written = written;
            if state.reader.is_none() {
                state.reader = Some(reader.clone());
            }
        });
    }

    /// The bytes lie under their final key.
    pub(crate) fn place(&self, copy: CopyId) {
        self.state.send_modify(|state| state.placed = Some(copy));
    }

    /// Where the bytes lie, once they were placed.
    pub(crate) fn placed(&self) -> Option<CopyId> {
        self.state.borrow().placed
    }

    /// Ends it; the first end counts. Staging stays open only for those that follow: later readers go elsewhere.
    pub(crate) fn end(&self, end: End) {
        self.state.send_if_modified(|state| {
            let first = state.end.is_none();
            if first {
                state.end = Some(end);
                if self.followers() == 0 {
                    state.reader = None;
                }
            }
            first
        });
    }

    /// Gives up the staging file of a flight that has ended, unless somebody follows.
    fn close_reader(&self) {
        self.state.send_if_modified(|state| {
            if self.followers() == 0 && state.end.is_some() {
                state.reader = None;
            }
            // Nobody is there to be told.
            false
        });
    }

    pub(crate) fn written(&self) -> u64 {
        self.state.borrow().written
    }

    pub(crate) fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    /// Somebody waits: its report does not linger.
    pub(crate) fn hurry(&self) {
        self.urgent.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::Relaxed)
    }

    /// Says whether this region wants the bytes, by the rows of the moment.
    pub(crate) fn note_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Follows it; counted until dropped.
    pub(crate) fn follow(self: &Arc<Self>) -> Follower {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Follower { state: self.state.subscribe(), flight: self.clone() }
    }
}

/// A reader's place behind a flight.
pub(crate) struct Follower {
    pub(crate) state: watch::Receiver<State>,
    flight: Arc<Flight>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.flight.followers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.flight.close_reader();
        }
    }
}

/// All flights of the node, one per digest. Those in the air are bounded by their permits; of those that have landed and
/// wait for their settlement there are at most as many again beyond `UNSETTLED_MAX`, for then no more begin.
#[derive(Default)]
pub(crate) struct Flights {
    map: Mutex<HashMap<Digest, Arc<Flight>>>,
    unsettled: AtomicUsize,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Flight>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<Flight>> {
        self.lock().get(digest).cloned()
    }

    pub(crate) fn digests(&self) -> BTreeSet<Digest> {
        self.lock().keys().copied().collect()
    }

    /// Landed flights that wait for their settlement.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Relaxed)
    }

    /// A flight has landed; it counts as unsettled until this is dropped.
    pub(crate) fn land(self: &Arc<Self>) -> Landed {
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        Landed(self.clone())
    }

    /// Registers a flight; none when another one for the digest is in the air.
    pub(crate) fn depart(self: &Arc<Self>, flight: Arc<Flight>) -> Option<Departed> {
        let mut map = self.lock();
        if map.contains_key(&flight.digest) {
            return None;
        }
        map.insert(flight.digest, flight.clone());
        Some(Departed { flight, flights: self.clone() })
    }
}

/// Counts a landed flight.
pub(crate) struct Landed(Arc<Flights>);

impl Drop for Landed {
    fn drop(&mut self) {
        self.0.unsettled.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Right to drive a registered flight. Dropped, it unregisters the flight and ends it for its followers.
pub(crate) struct Departed {
    pub(crate) flight: Arc<Flight>,
    flights: Arc<Flights>,
}

impl Drop for Departed {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.flight.digest);
        let detail = "transfer was stopped".to_owned();
        self.flight.end(End::Failed(FetchError::Local { digest: self.flight.digest, detail }));
    }
}

#[cfg(test)]
mod tests {
    use domain::Blake3Root;

    use super::*;

    #[test]
    fn one_flight_per_digest_and_a_dropped_one_ends() {
        let flights = Arc::new(Flights::default());
        let digest = Digest::Sha256([1; 32]);
        let blob = rows::Blob { size: 1, root: Blake3Root([0; 32]), references: 1, unreferenced_since_ms: None };
        let departed = flights.depart(Flight::new(digest, blob.clone(), None)).expect("the first departs");
        assert!(flights.depart(Flight::new(digest, blob.clone(), None)).is_none());
        let follower = departed.flight.follow();
        assert_eq!(departed.flight.followers(), 1);
        drop(departed);
        assert!(matches!(follower.state.borrow().end, Some(End::Failed(FetchError::Local { .. }))));
        assert!(flights.depart(Flight::new(digest, blob, None)).is_some());
    }
}
