//! The supervisor of this region's backlog: gathers facts, lets `plan` decide, launches transfers.
//!
//! The rows are the work list; nothing here is remembered that they do not say. At most `window_rows` of them are in
//! memory, and only the first few of those are looked at closely.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use domain::{Digest, NodeId};
use metadata::handle::Watched;
use metadata::{rows, view};
use runtime::clock;
use tracing::{debug, warn};

use crate::config::{SMALL_BATCH_BLOBS_MAX, UNSETTLED_MAX};
use crate::core::Core;
use crate::flight::{Departed, Flight};
use crate::handle::FetchError;
use crate::plan::{self, Action, Candidate, Input, Urgency};
use crate::transfer;

/// Longest sleep without any news. Unit: milliseconds.
const IDLE_MS_MAX: u64 = 1_000;
/// Shortest pause between two rounds, and between two readings of the backlog. Unit: milliseconds.
const ROUND_MS_MIN: u64 = 5;
/// A window that still has work is read anew at most so often. Unit: milliseconds.
const RELOAD_MS_MIN: u64 = 50;
/// New rows may lie on the first page: it is visited at least so often while rows change. Unit: milliseconds.
const FIRST_PAGE_MS: u64 = 5_000;
/// Urged digests that one round looks at.
const URGENT_LOOKED_AT_MAX: usize = 2_000;
/// Pages without work that one round skips.
const PAGES_PER_ROUND: usize = 4;

/// The part of the backlog in memory.
#[derive(Default)]
struct Window {
    rows: Vec<rows::Wanted>,
    /// Where this page begins; none = at the beginning.
    from: Option<Digest>,
    /// Where the next one begins; none = there is none.
    next: Option<Digest>,
    loaded_ms: Option<u64>,
    /// When the first page was read last.
    first_ms: u64,
}

/// Runs until shutdown.
pub(crate) async fn run(core: Arc<Core>) {
    let mut changes = core.cluster.watch(Watched::Wanted);
    let mut window = Window::default();
    let mut rate = Rate::new(&core);
    let mut changed = true;
    loop {
        rate.measure(&core);
        let wake_at_ms = match round(&core, &mut window, changed).await {
            Ok(wake_at_ms) => wake_at_ms,
            Err(error) => {
                warn!(error = %error, "backlog cannot be read");
                None
            }
        };
        let now_ms = core.now_ms();
        let idle = wake_at_ms.map_or(IDLE_MS_MAX, |at| at.saturating_sub(now_ms).min(IDLE_MS_MAX));
        changed = tokio::select! {
            () = core.tasks.cancelled() => return,
            () = core.wake.notified() => false,
            result = changes.changed() => result.is_ok(),
            () = tokio::time::sleep(Duration::from_millis(idle.max(ROUND_MS_MIN))) => false,
        };
        tokio::time::sleep(Duration::from_millis(ROUND_MS_MIN)).await;
    }
}

/// One round; returns when the next one is due at the latest.
async fn round(core: &Arc<Core>, window: &mut Window, changed: bool) -> Result<Option<u64>, view::Error> {
    let slots = core.fetch_slots.available_permits();
    let space = core.blobs.space();
    // A full disk takes nothing more, and without a quorum nothing is settled: both are looked at again next round.
    if slots == 0 || space.free <= space.reserve || core.flights.unsettled() >= UNSETTLED_MAX {
        return Ok(None);
    }
    let now_ms = core.now_ms();
    let in_flight = core.flights.digests();
    refill(core, window, &in_flight, changed).await?;
    let mut close = close_candidates(core, window, &in_flight, slots).await?;
    for candidate in &mut close {
        core.keep_willing(&candidate.digest, &mut candidate.holders);
    }
    let sources = measured(core, &close);
    let plan = plan::plan(&Input { now_ms, candidates: &close, in_flight: &in_flight, sources: &sources, slots });
    let begun = act(core, plan.actions);
    let more = begun > 0 && core.fetch_slots.available_permits() > 0 && !window.rows.is_empty();
    Ok(if more { Some(now_ms + ROUND_MS_MIN) } else { plan.wake_at_ms })
}

/// Reads the page anew when it may have changed, and goes on to the next ones while there is nothing to do on it.
async fn refill(
    core: &Arc<Core>,
    window: &mut Window,
    in_flight: &BTreeSet<Digest>,
    changed: bool,
) -> Result<(), view::Error> {
    let now_ms = core.now_ms();
    if changed && now_ms >= window.first_ms + FIRST_PAGE_MS {
        window.from = None;
    }
    let pause_ms = if changed { RELOAD_MS_MIN } else { IDLE_MS_MAX };
    if window.loaded_ms.is_none_or(|at| now_ms >= at + pause_ms) {
        reload(core, window).await?;
    }
    for _ in 0..PAGES_PER_ROUND {
        let idle = |row: &rows::Wanted| in_flight.contains(&row.digest) || core.retry_at_ms(&row.digest) > now_ms;
        let only_page = window.from.is_none() && window.next.is_none();
        if only_page || !window.rows.iter().all(idle) {
            break;
        }
        window.from = window.next;
        reload(core, window).await?;
    }
    Ok(())
}

async fn reload(core: &Arc<Core>, window: &mut Window) -> Result<(), view::Error> {
    let limit = core.config.window_rows;
    let cluster = core.cluster.clone();
    let from = window.from;
    let rows = blocking(move || cluster.wanted(from.as_ref(), limit)).await?;
    let now_ms = core.now_ms();
    if from.is_none() {
        window.first_ms = now_ms;
    }
    window.next = if rows.len() == limit { rows.last().map(|row| row.digest) } else { None };
    window.rows = rows;
    window.loaded_ms = Some(now_ms);
    Ok(())
}

/// Runs a longer read of the state off the async threads.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, view::Error> + Send + 'static,
) -> Result<T, view::Error> {
    let joined = tokio::task::spawn_blocking(read).await;
    joined.unwrap_or_else(|error| Err(view::Error { detail: error.to_string() }))
}

/// The rows worth a closer look: urgent ones and the oldest of the window, with their holders.
async fn close_candidates(
    core: &Arc<Core>,
    window: &Window,
    in_flight: &BTreeSet<Digest>,
    slots: usize,
) -> Result<Vec<Candidate>, view::Error> {
    let now_ms = core.now_ms();
    let close = slots * SMALL_BATCH_BLOBS_MAX;
    let mut urgent = core.urgent();
    urgent.retain(|(digest, _)| !in_flight.contains(digest) && core.retry_at_ms(digest) <= now_ms);
    let hinted: BTreeSet<Digest> = urgent.iter().map(|(digest, _)| *digest).collect();
    let mut rows: Vec<&rows::Wanted> =
        window.rows.iter().filter(|row| !in_flight.contains(&row.digest) && !hinted.contains(&row.digest)).collect();
    rows.sort_by_key(|row| (core.retry_at_ms(&row.digest), row.since_ms, row.digest));
    let backlog: Vec<(Digest, u64, u64)> =
        rows.into_iter().take(close).map(|row| (row.digest, row.since_ms, core.retry_at_ms(&row.digest))).collect();
    let cluster = core.cluster.clone();
    blocking(move || {
        let look = |digest, urgency, since_ms, retry_at_ms| {
            let facts = cluster.facts(&digest)?;
            let Some(blob) = facts.blob.filter(|_| facts.wanted) else { return Ok::<_, view::Error>(None) };
            let holders = facts.holders;
            Ok(Some(Candidate { digest, size: blob.size, since_ms, urgency, retry_at_ms, holders }))
        };
        let mut candidates = Vec::new();
        // Many are urged that are not lacking here: they take no place, and waiting clients leave half to the backlog.
        for (digest, since_ms) in urgent.into_iter().take(URGENT_LOOKED_AT_MAX) {
            if candidates.len() >= close / 2 {
                break;
            }
            candidates.extend(look(digest, Urgency::Waited, since_ms, 0)?);
        }
        for (digest, since_ms, retry_at_ms) in backlog.into_iter().take(close - candidates.len()) {
            candidates.extend(look(digest, Urgency::Backlog, since_ms, retry_at_ms)?);
        }
        Ok(candidates)
    })
    .await
}

/// Measurements, with round trips refreshed for the holders in question.
fn measured(core: &Core, candidates: &[Candidate]) -> BTreeMap<NodeId, crate::sources::Source> {
    let nodes: BTreeSet<NodeId> = candidates.iter().flat_map(|candidate| candidate.holders.iter().copied()).collect();
    core.refresh(&nodes);
    core.sources()
}

/// Launches what was planned; returns how many transfers began.
fn act(core: &Arc<Core>, actions: Vec<Action>) -> usize {
    let mut begun = 0;
    for action in actions {
        match action {
            Action::BackOff { digest } => core.transfer_failed(&digest, &FetchError::NoHolder { digest }),
            Action::Fetch { digest, urgency, .. } => {
                let Ok(permit) = core.fetch_slots.clone().try_acquire_owned() else { return begun };
                if let Some(departed) = depart(core, digest, urgency) {
                    transfer::launch(core, departed, permit);
                    begun += 1;
                }
            }
            Action::FetchSmall { source, blobs, urgency } => {
                let Ok(permit) = core.fetch_slots.clone().try_acquire_owned() else { return begun };
                let departed: Vec<Departed> =
                    blobs.iter().filter_map(|(digest, _)| depart(core, *digest, urgency)).collect();
                if !departed.is_empty() {
                    transfer::launch_batch(core, departed, source, permit);
                    begun += 1;
                }
            }
        }
    }
    begun
}

/// Registers a flight for a wanted blob; none when it flies already or is not lacking any more.
fn depart(core: &Arc<Core>, digest: Digest, urgency: Urgency) -> Option<Departed> {
    let (facts, bad) = match core.facts(&digest) {
        Ok(facts) => facts,
        Err(error) => {
            debug!(%digest, error = %error, "facts cannot be read");
            return None;
        }
    };
    if facts.copy_here.is_some() {
        return None;
    }
    let flight = Flight::new(digest, facts.blob?, bad);
    if urgency == Urgency::Waited {
        flight.hurry();
    }
    core.flights.depart(flight)
}

/// The recent rate, for status.
struct Rate {
    at: Instant,
    bytes: u64,
    smoothed: f64,
}

impl Rate {
    fn new(core: &Core) -> Self {
        Rate { at: clock::now(), bytes: core.counters.fetched_bytes.load(Ordering::Relaxed), smoothed: 0.0 }
    }

    fn measure(&mut self, core: &Core) {
        let now = clock::now();
        let elapsed = now.duration_since(self.at).as_secs_f64();
        if elapsed < 0.5 {
            return;
        }
        let bytes = core.counters.fetched_bytes.load(Ordering::Relaxed);
        let sample = (bytes - self.bytes) as f64 / elapsed;
        // Half of the weight lies in the last two seconds.
        let weight = 1.0 - 0.5f64.powf(elapsed / 2.0);
        self.smoothed += (sample - self.smoothed) * weight;
        if self.smoothed < 1.0 {
            self.smoothed = 0.0;
        }
        self.at = now;
        self.bytes = bytes;
        core.counters.rate_bits.store(self.smoothed.to_bits(), Ordering::Relaxed);
    }
}
