//! Which transfers to begin now. Pure: the supervisor gathers the facts, this decides, the supervisor acts.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Digest, NodeId};

use crate::config::{SMALL_BATCH_BLOBS_MAX, SMALL_BATCH_BYTES_MAX, SMALL_BLOB_BYTES};
use crate::sources::{self, Source};

/// Why a blob is fetched; later ones go first (design §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// A row of the backlog.
    Backlog,
    /// A durability waiter somewhere, or a client here, waits.
    Waited,
}

/// A wanted blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) digest: Digest,
    /// Unit: bytes.
    pub(crate) size: u64,
    /// When it was first wanted, in cluster time, or first waited for, by the room's clock: compared only within one
    /// urgency. Unit: milliseconds.
    pub(crate) since_ms: u64,
    pub(crate) urgency: Urgency,
    /// Not before this time. Unit: milliseconds of the room's clock.
    pub(crate) retry_at_ms: u64,
    /// Nodes that hold it.
    pub(crate) holders: Vec<NodeId>,
}

/// Everything the decision rests on.
pub(crate) struct Input<'a> {
    pub(crate) now_ms: u64,
    pub(crate) candidates: &'a [Candidate],
    /// Digests in flight already.
    pub(crate) in_flight: &'a BTreeSet<Digest>,
    pub(crate) sources: &'a BTreeMap<NodeId, Source>,
    /// Transfers that may begin.
    pub(crate) slots: usize,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Fetch one blob, beginning with its best holder; the transfer itself goes on to others.
    Fetch { digest: Digest, size: u64, urgency: Urgency },
    /// Fetch several small blobs over one stream of one holder.
    FetchSmall { source: NodeId, blobs: Vec<(Digest, u64)>, urgency: Urgency },
    /// Nobody holds it: look again later.
    BackOff { digest: Digest },
}

/// What to do, and when to look again if nothing changes before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Unit: milliseconds of the room's clock.
    pub(crate) wake_at_ms: Option<u64>,
}

/// A batch of small blobs that is being filled.
struct Batch {
    blobs: Vec<(Digest, u64)>,
    bytes: u64,
    urgency: Urgency,
}

/// Decides. Urgent candidates first, then the oldest; small ones share a stream per source; whoever backs off, or has only
/// resting holders, waits; never more transfers than slots.
pub(crate) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut batches: BTreeMap<NodeId, Batch> = BTreeMap::new();
    let mut slots = input.slots;
    let mut running = input.sources.clone();
    for candidate in sorted(input) {
        if candidate.retry_at_ms > input.now_ms {
            plan.wake(candidate.retry_at_ms);
            continue;
        }
        let Some(&best) =
            sources::order(&candidate.digest, candidate.size, &candidate.holders, &running, input.now_ms).first()
        else {
            plan.actions.push(Action::BackOff { digest: candidate.digest });
            continue;
        };
        if candidate.urgency == Urgency::Backlog {
            let awake = sources::awake_at_ms(&candidate.holders, &running);
            if awake > input.now_ms {
                plan.wake(awake);
                continue;
            }
        }
        if candidate.size < SMALL_BLOB_BYTES && join_batch(&mut batches, best, candidate) {
            continue;
        }
        if slots == 0 {
            continue;
        }
        slots -= 1;
        running.entry(best).or_default().running += 1;
        let Candidate { digest, size, urgency, .. } = *candidate;
        if size < SMALL_BLOB_BYTES {
            let full = batches.insert(best, Batch { blobs: vec![(digest, size)], bytes: size, urgency });
            plan.actions.extend(full.map(|batch| batch.into_action(best)));
        } else {
            plan.actions.push(Action::Fetch { digest, size, urgency });
        }
    }
    plan.actions.extend(batches.into_iter().map(|(source, batch)| batch.into_action(source)));
    plan
}

fn sorted<'a>(input: &'a Input<'_>) -> Vec<&'a Candidate> {
    let mut seen = BTreeSet::new();
    let mut candidates: Vec<&Candidate> = input
        .candidates
        .iter()
        .filter(|candidate| !input.in_flight.contains(&candidate.digest) && seen.insert(candidate.digest))
        .collect();
    candidates.sort_by_key(|candidate| {
        (std::cmp::Reverse(candidate.urgency), candidate.since_ms, candidate.size, candidate.digest)
    });
    candidates
}

/// Puts a small blob into a batch that has begun for this source; false when there is none or it is full.
fn join_batch(batches: &mut BTreeMap<NodeId, Batch>, source: NodeId, candidate: &Candidate) -> bool {
    let Some(batch) = batches.get_mut(&source) else { return false };
    if batch.blobs.len() >= SMALL_BATCH_BLOBS_MAX || batch.bytes + candidate.size > SMALL_BATCH_BYTES_MAX {
        return false;
    }
    batch.blobs.push((candidate.digest, candidate.size));
    batch.bytes += candidate.size;
    batch.urgency = batch.urgency.max(candidate.urgency);
    true
}

impl Batch {
    fn into_action(self, source: NodeId) -> Action {
        match self.blobs[..] {
            [(digest, size)] => Action::Fetch { digest, size, urgency: self.urgency },
            _ => Action::FetchSmall { source, blobs: self.blobs, urgency: self.urgency },
        }
    }
}

impl Plan {
    fn wake(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |old| old.min(at_ms)));
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
