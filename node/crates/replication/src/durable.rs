//! Waiting until blobs are durable in enough regions (design §6).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Digest, RegionId, limits};
use futures_util::future::join_all;
use metadata::handle::Watched;
use runtime::{TaskKind, clock};
use tokio::time::timeout;
use tracing::debug;

use crate::cluster::Below;
use crate::core::{Core, Standing};
use crate::network;

/// Pause between two hints to the other regions, whose answers tell whether bytes arrive. Unit: milliseconds.
const URGE_EVERY_MS: u64 = 500;
/// Shortest pause between two looks at the rows. Unit: milliseconds.
const LOOK_EVERY_MS: u64 = 5;

/// Whether bytes still arrive: any change of what is known counts.
struct Stall {
    limit: Duration,
    seen: (usize, u64, u64),
    since: Instant,
}

impl Stall {
    fn is_over(&mut self, seen: (usize, u64, u64), now: Instant) -> bool {
        if seen != self.seen {
            self.seen = seen;
            self.since = now;
        }
        now.saturating_duration_since(self.since) >= self.limit
    }
}

/// Waits while `digests` are durable in fewer than `need` ready regions, or not in `only`, and bytes still arrive; true
/// when met.
pub(crate) async fn wait(
    core: &Arc<Core>,
    digests: &[Digest],
    need: u32,
    only: Option<RegionId>,
    deadline: Instant,
) -> bool {
    let mut changes = core.cluster.watch(Watched::Holders);
    let mut pending = digests.to_vec();
    let mut stall = Stall {
        limit: Duration::from_millis(core.config.durability_stall_ms),
        seen: (usize::MAX, 0, 0),
        since: clock::now(),
    };
    let told = Arc::new(Mutex::new(Told::default()));
    let mut urged: Option<Instant> = None;
    loop {
        changes.borrow_and_update();
        let Some(below) = look(core, pending, need, only).await else { return false };
        pending = below.digests;
        if pending.is_empty() {
            return true;
        }
        let now = clock::now();
        if below.hopeless || now >= deadline || core.tasks.token().is_cancelled() {
            return false;
        }
        let Told { bytes, blobs } = *told.lock().unwrap_or_else(PoisonError::into_inner);
        if stall.is_over((pending.len(), bytes, blobs), now) {
            debug!(pending = pending.len(), need, "durability wait ended, no bytes arrive");
            return false;
        }
        if urged.is_none_or(|at| now.duration_since(at) >= Duration::from_millis(URGE_EVERY_MS)) {
            urged = Some(now);
            urge_later(core, &pending, need, told.clone());
        }
        let rest = deadline.saturating_duration_since(now).min(Duration::from_millis(URGE_EVERY_MS));
        drop(timeout(rest, changes.changed()).await);
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS).min(rest)).await;
    }
}

/// Hints in the background, so that a change of the rows is not waited past.
fn urge_later(core: &Arc<Core>, pending: &[Digest], need: u32, told: Arc<Mutex<Told>>) {
    let few = pending[..pending.len().min(limits::REPORT_DIGESTS_MAX)].to_vec();
    let urging = core.clone();
    core.tasks.spawn(TaskKind::Request, "urge", async move {
        let sum = urge_all(&urging, &few, need).await;
        *told.lock().unwrap_or_else(PoisonError::into_inner) = sum;
    });
}

/// Those still below; none when the state cannot be read.
async fn look(core: &Arc<Core>, pending: Vec<Digest>, need: u32, only: Option<RegionId>) -> Option<Below> {
    let cluster = core.cluster.clone();
    tokio::task::spawn_blocking(move || cluster.below(&pending, need, only)).await.ok()?.ok()
}

/// Tells every region, this one too, who is waited for; sums what they say has arrived.
async fn urge_all(core: &Arc<Core>, digests: &[Digest], need: u32) -> Told {
    let own = core.standing(digests).unwrap_or_default();
    core.urge(&own.lacking);
    let peers = core.cluster.peers().unwrap_or_default();
    // Regions on their way count only where the ready ones are too few: what a backfill brings says nothing of a push.
    let ready = 1 + peers.iter().filter(|peer| peer.is_ready).count();
    let asked = peers.into_iter().map(|peer| async move {
        let answer = network::urge(core.cluster.as_ref(), &core.config, peer.node, digests).await;
        answer.ok().filter(|_| peer.is_ready || ready < need as usize)
    });
    let told = join_all(asked).await.into_iter().flatten();
    told.chain([own]).fold(Told::default(), |told, standing| told.and(&standing, digests.len()))
}

/// What all regions that are waited for have said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    bytes: u64,
    blobs: u64,
}

impl Told {
    /// Adds what one region says. While it lacks something, any wanted byte that arrives there brings that nearer: it may
    /// stand behind a long backlog. What arrives where everything is held already says nothing.
    fn and(self, standing: &Standing, asked: usize) -> Told {
        let waits = (standing.held as usize) < asked;
        let bytes = if waits { standing.arrived.saturating_add(standing.received) } else { 0 };
        Told { bytes: self.bytes.saturating_add(bytes), blobs: self.blobs + u64::from(standing.held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room_test::{content, read, two, until};

    /// The first in the backlog may take longer than the stall allows: what arrives before the one waited for counts.
    #[tokio::test(flavor = "multi_thread")]
    async fn any_wanted_byte_that_arrives_where_something_is_lacking_counts() {
        let (world, a, b) = two().await;
        let (waited, _) = a.push(&world, &content(1000, 30)).await;
        let before = content(2 * 1024 * 1024, 31);
        let (first, blob) = a.push(&world, &before).await;
        world.want(&b, waited);
        let told = urge_all(&a.core, &[waited], 2).await;
        assert_eq!(told.blobs, 1, "A holds it, B does not");
        // Bytes that B does not want pass it by.
        assert!(read(&b, first, &blob, 0, before.len()).await.unwrap() == before);
        until("the flight is over", || b.core.flights.get(&first).is_none()).await;
        assert_eq!(urge_all(&a.core, &[waited], 2).await, told);
        world.want(&b, first);
        assert!(read(&b, first, &blob, 0, before.len()).await.unwrap() == before);
        let moved = urge_all(&a.core, &[waited], 2).await;
        assert_eq!(moved.bytes, told.bytes + before.len() as u64);
        // B counts as holding everything: its bytes say nothing of what is waited for elsewhere.
        until("B holds it", || b.core.cluster.facts(&first).is_ok_and(|facts| facts.copy_here.is_some())).await;
        assert_eq!(urge_all(&a.core, &[first], 2).await.bytes, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_arrives_in_this_region_counts_too() {
        let (world, a, b) = two().await;
        let bytes = content(2 * 1024 * 1024, 32);
        let (digest, blob) = b.push(&world, &bytes).await;
        let (waited, _) = b.push(&world, &content(1000, 33)).await;
        world.want(&a, digest);
        world.want(&a, waited);
        let told = urge_all(&a.core, &[waited], 2).await;
        assert!(a.core.is_urgent(&waited));
        assert!(read(&a, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
        assert_eq!(urge_all(&a.core, &[waited], 2).await.bytes, told.bytes + bytes.len() as u64);
    }

    #[test]
    fn a_stall_needs_the_whole_time_without_any_change() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut stall = Stall { limit: Duration::from_millis(100), seen: (usize::MAX, 0, 0), since: start };
        assert!(!stall.is_over((2, 0, 0), at(0)));
        assert!(!stall.is_over((2, 0, 0), at(99)));
        assert!(!stall.is_over((2, 1, 0), at(150)), "a byte arrived");
        assert!(!stall.is_over((1, 0, 1), at(240)), "a blob is durable");
        assert!(stall.is_over((1, 0, 1), at(340)));
    }
}
