//! What all parts of the room share: ports, flights, measurements, counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blobs::handle::{ReadError, Stored};
use domain::{CopyId, Digest, NodeId};
use metadata::rows;
use runtime::{Tasks, clock};
use tokio::sync::{Notify, Semaphore};

use crate::cluster::{Cluster, Facts};
use crate::config::Config;
use crate::flight::Flights;
use crate::handle::FetchError;
use crate::healing::Health;
use crate::hints::Hints;
use crate::network::SourceError;
use crate::report::Reporter;
use crate::retries::Retries;
use crate::sources::{self, Source};

/// Unit: milliseconds.
const WARN_EVERY_MS: u64 = 30_000;

/// Counts since start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) fetched_bytes: AtomicU64,
    pub(crate) fetched_blobs: AtomicU64,
    /// Bytes of blobs that this region wants.
    pub(crate) arrived_bytes: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) running: AtomicU64,
    /// Recent rate as bits of an f64. Unit: bytes per second.
    pub(crate) rate_bits: AtomicU64,
}

/// What a region says of blobs that somebody waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Bytes of them that have arrived in running transfers.
    pub(crate) received: u64,
    /// How many of them it holds.
    pub(crate) held: u32,
    /// Bytes of anything it wants that have arrived since it started.
    pub(crate) arrived: u64,
    /// Those it lacks.
    pub(crate) lacking: Vec<Digest>,
}

/// The room's shared state.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) blobs: blobs::Handle,
    pub(crate) tasks: Tasks,
    pub(crate) reporter: Reporter,
    pub(crate) flights: Arc<Flights>,
    pub(crate) counters: Counters,
    /// Slots of the workers.
    pub(crate) fetch_slots: Arc<Semaphore>,
    /// Slots of flights that clients begin.
    pub(crate) flight_slots: Arc<Semaphore>,
    /// Slots of reads for peers.
    pub(crate) serve_slots: Arc<Semaphore>,
    /// Groups that direct reads may ask for ahead.
    pub(crate) ahead_slots: Arc<Semaphore>,
    /// Wakes the supervisor.
    pub(crate) wake: Notify,
    started: Instant,
    sources: Mutex<BTreeMap<NodeId, Source>>,
    retries: Mutex<Retries>,
    hints: Mutex<Hints>,
    /// Copies here known as gone or damaged, and those that did not read.
    pub(crate) health: Mutex<Health>,
    /// Asks for a comparison of the disk with the rows.
    pub(crate) compare: Notify,
    /// When the bandwidth given out so far is used up; none while unused.
    paced_until: Mutex<Option<Instant>>,
    /// When a warning that would repeat itself may be given again. Unit: milliseconds of the room's clock.
    warn_at_ms: AtomicU64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(config: Config, cluster: Arc<dyn Cluster>, blobs: blobs::Handle, tasks: Tasks) -> Arc<Self> {
        let reporter = Reporter::start(&cluster, &tasks, Duration::from_millis(config.report_linger_ms));
        Arc::new(Core {
            reporter,
            flights: Arc::default(),
            counters: Counters::default(),
            fetch_slots: Arc::new(Semaphore::new(config.fetches_max)),
            flight_slots: Arc::new(Semaphore::new(config.flights_max)),
            serve_slots: Arc::new(Semaphore::new(config.serves_max)),
            ahead_slots: Arc::new(Semaphore::new(config.direct_ahead_max)),
            wake: Notify::new(),
            started: clock::now(),
            sources: Mutex::default(),
            retries: Mutex::default(),
            hints: Mutex::default(),
            health: Mutex::default(),
            compare: Notify::new(),
            paced_until: Mutex::default(),
            warn_at_ms: AtomicU64::new(0),
            config,
            cluster,
            blobs,
            tasks,
        })
    }

    /// The room's clock. Unit: milliseconds since it started.
    pub(crate) fn now_ms(&self) -> u64 {
        clock::elapsed_ms(self.started)
    }

    /// Facts about a blob; a copy here that is known as bad counts as absent and is named beside.
    pub(crate) fn facts(&self, digest: &Digest) -> Result<(Facts, Option<CopyId>), FetchError> {
        // Looked up first: it is forgotten once the rows do not name the copy any more.
        let bad = lock(&self.health).bad(digest);
        let mut facts = self
            .cluster
            .facts(digest)
            .map_err(|error| FetchError::Local { digest: *digest, detail: error.to_string() })?;
        let bad = bad.filter(|bad| facts.copy_here == Some(*bad));
        if bad.is_some() {
            facts.copy_here = None;
        }
        Ok((facts, bad))
    }

    /// The copy that the rows name by now instead of one that is missing: a newer one took its place, and its file went
    /// between the look at the rows and the read.
    pub(crate) fn newer(&self, missing: Stored, failure: &ReadError) -> Option<Stored> {
        let ReadError::Missing = failure else { return None };
        let (facts, _) = self.facts(&missing.digest).ok()?;
        let copy = facts.copy_here.filter(|copy| *copy != missing.copy)?;
        Some(Stored { copy, ..missing })
    }

    /// The copy here that has landed and is not named by the rows yet.
    pub(crate) fn landed(&self, digest: &Digest) -> Option<CopyId> {
        self.flights.get(digest)?.placed()
    }

    /// What this region has of these blobs.
    pub(crate) fn standing(&self, digests: &[Digest]) -> Result<Standing, FetchError> {
        let arrived = self.counters.arrived_bytes.load(Ordering::Relaxed);
        let mut standing = Standing { arrived, ..Standing::default() };
        for digest in digests {
            if self.facts(digest)?.0.copy_here.is_some() {
                standing.held += 1;
                continue;
            }
            standing.lacking.push(*digest);
            let flying = self.flights.get(digest).map_or(0, |flight| flight.written());
            standing.received = standing.received.saturating_add(flying);
        }
        Ok(standing)
    }

    /// Bytes came that this region wants.
    pub(crate) fn arrived(&self, bytes: usize) {
        self.counters.arrived_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether a warning that would repeat itself may be given now.
    pub(crate) fn may_warn(&self) -> bool {
        let now_ms = self.now_ms();
        let due = |at_ms| (at_ms <= now_ms).then_some(now_ms + WARN_EVERY_MS);
        self.warn_at_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }

    /// When the operator's bandwidth allows `bytes` more; they are counted from now on.
    pub(crate) fn paced(&self, bytes: usize) -> Instant {
        let now = clock::now();
        let Some(rate) = self.config.bandwidth.filter(|rate| *rate > 0) else { return now };
        let mut until = lock(&self.paced_until);
        let (begin, used_up) = turn(*until, now, bytes, rate);
        *until = Some(used_up);
        begin
    }

    /// How long a client follows a flight that does not move.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.config.first_byte_ms_max.saturating_mul(2))
    }

    // Sources.

    /// Measurements of all peers, round trips as known now.
    pub(crate) fn sources(&self) -> BTreeMap<NodeId, Source> {
        lock(&self.sources).clone()
    }

    /// Takes the newest round trips of these nodes.
    pub(crate) fn refresh<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) {
        let mut measured = lock(&self.sources);
        for node in nodes {
            let rtt = self.cluster.round_trip(*node);
            let source = measured.entry(*node).or_default();
            source.rtt_ms = rtt.map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)).or(source.rtt_ms);
        }
    }

    /// Holders in the order in which to ask them: those that answered without it last.
    pub(crate) fn order(&self, digest: &Digest, size: u64, holders: &[NodeId]) -> Vec<NodeId> {
        self.refresh(holders);
        let mut ordered = sources::order(digest, size, holders, &lock(&self.sources), self.now_ms());
        lock(&self.retries).put_last(digest, &mut ordered);
        ordered
    }

    /// Counts a transfer from a node until dropped.
    pub(crate) fn running(self: &Arc<Self>, node: NodeId) -> Running {
        lock(&self.sources).entry(node).or_default().running += 1;
        Running { core: self.clone(), node, begun: clock::now(), bytes: 0 }
    }

    pub(crate) fn source_failed(&self, node: NodeId, digest: &Digest, error: &SourceError) {
        tracing::debug!(%digest, peer = %node, error = error.detail(), "source failed");
        if matches!(error, SourceError::Unreachable(_)) {
            lock(&self.sources).entry(node).or_default().failed(self.now_ms());
        }
    }

    // Retries and hints.

    /// Remembers that a transfer failed. Unreachable holders are tried again sooner than broken copies.
    pub(crate) fn transfer_failed(&self, digest: &Digest, error: &FetchError) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let most_ms = if matches!(error, FetchError::Unreachable { .. }) { 5_000 } else { 60_000 };
        lock(&self.retries).failed(digest, most_ms, self.now_ms());
    }

    /// A holder answered a batch and did not bring this blob, whose transfer was said to have failed.
    pub(crate) fn pass_over(&self, digest: &Digest, node: NodeId) {
        lock(&self.retries).pass_over(digest, node);
    }

    /// Leaves out the holders that did not bring it.
    pub(crate) fn keep_willing(&self, digest: &Digest, holders: &mut Vec<NodeId>) {
        lock(&self.retries).keep_willing(digest, holders);
    }

    pub(crate) fn transfer_done(&self, digest: &Digest) {
        lock(&self.retries).remove(digest);
        lock(&self.hints).remove(digest);
    }

    pub(crate) fn retry_at_ms(&self, digest: &Digest) -> u64 {
        lock(&self.retries).at_ms(digest)
    }

    /// Somebody waits for these blobs.
    pub(crate) fn urge(&self, digests: &[Digest]) {
        lock(&self.hints).give(digests, self.now_ms());
        for digest in digests {
            if let Some(flight) = self.flights.get(digest) {
                flight.hurry();
            }
        }
        self.wake.notify_one();
    }

    /// Digests somebody waits for and since when by the room's clock, those that have waited longest first.
    pub(crate) fn urgent(&self) -> Vec<(Digest, u64)> {
        lock(&self.hints).oldest_first(self.now_ms())
    }

    pub(crate) fn is_urgent(&self, digest: &Digest) -> bool {
        lock(&self.hints).contains(digest)
    }
}

/// When `bytes` may begin and when their share of `rate` is used up; time that nobody used is not saved up.
fn turn(until: Option<Instant>, now: Instant, bytes: usize, rate: u64) -> (Instant, Instant) {
    let begin = until.map_or(now, |until| until.max(now));
    (begin, begin + Duration::from_secs_f64(bytes as f64 / rate as f64))
}

/// What to read, by the rows.
pub(crate) fn stored(digest: Digest, copy: CopyId, blob: &rows::Blob) -> Stored {
    Stored { digest, copy, size: blob.size, root: blob.root }
}

/// A running transfer from a node: counted as load, measured at its end.
pub(crate) struct Running {
    core: Arc<Core>,
    node: NodeId,
    begun: Instant,
    bytes: u64,
}

impl Running {
    /// Bytes came, verified.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.core.counters.fetched_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let elapsed_ms = clock::elapsed_ms(self.begun);
        let mut sources = lock(&self.core.sources);
        let source = sources.entry(self.node).or_default();
        source.running = source.running.saturating_sub(1);
        if self.bytes > 0 {
            source.delivered(self.bytes, elapsed_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_handed_out_in_turns() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (first, used) = turn(None, start, 500, 1000);
        assert_eq!((first, used), (start, at(500)));
        let (second, used) = turn(Some(used), at(10), 1000, 1000);
        assert_eq!((second, used), (at(500), at(1500)));
        assert_eq!(turn(Some(used), at(9000), 1000, 1000), (at(9000), at(10_000)), "what was idle is not made up for");
    }
}
