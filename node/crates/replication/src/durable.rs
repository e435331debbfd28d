//! Waiting until blobs are durable in enough regions (design §6).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Digest, limits};
use futures_util::future::join_all;
use metadata::handle::Watched;
use runtime::{TaskKind, clock};
use tokio::time::timeout;
use tracing::debug;

use crate::cluster::Below;
use crate::core::Core;
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

/// Waits while `digests` are durable in fewer than `need` ready regions and bytes still arrive; true when met.
pub(crate) async fn wait(core: &Arc<Core>, digests: &[Digest], need: u32, deadline: Instant) -> bool {
    let mut changes = core.cluster.watch(Watched::Holders);
    let mut pending = digests.to_vec();
    let mut stall = Stall {
        limit: Duration::from_millis(core.config.durability_stall_ms),
        seen: (usize::MAX, 0, 0),
        since: clock::now(),
    };
    let told = Arc::new(Mutex::new((0, 0)));
    let mut urged: Option<Instant> = None;
    loop {
        changes.borrow_and_update();
        let Some(below) = look(core, pending, need).await else { return false };
        pending = below.digests;
        if pending.is_empty() {
            return true;
        }
        let now = clock::now();
        if below.hopeless || now >= deadline || core.tasks.token().is_cancelled() {
            return false;
        }
        let (received, held) = *told.lock().unwrap_or_else(PoisonError::into_inner);
        if stall.is_over((pending.len(), received, held), now) {
            debug!(pending = pending.len(), need, "durability wait ended, no bytes arrive");
            return false;
        }
        if urged.is_none_or(|at| now.duration_since(at) >= Duration::from_millis(URGE_EVERY_MS)) {
            urged = Some(now);
            urge_later(core, &pending, told.clone());
        }
        let rest = deadline.saturating_duration_since(now).min(Duration::from_millis(URGE_EVERY_MS));
        drop(timeout(rest, changes.changed()).await);
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS).min(rest)).await;
    }
}

/// Hints in the background, so that a change of the rows is not waited past.
fn urge_later(core: &Arc<Core>, pending: &[Digest], told: Arc<Mutex<(u64, u64)>>) {
    let few = pending[..pending.len().min(limits::REPORT_DIGESTS_MAX)].to_vec();
    let urging = core.clone();
    core.tasks.spawn(TaskKind::Request, "urge", async move {
        let lacks = |digest: &&Digest| urging.facts(digest).is_ok_and(|(facts, _)| facts.copy_here.is_none());
        let lacking: Vec<Digest> = few.iter().filter(lacks).copied().collect();
        urging.urge(&lacking);
        let sum = urge_all(&urging, &few).await;
        *told.lock().unwrap_or_else(PoisonError::into_inner) = sum;
    });
}

/// Those still below; none when the state cannot be read.
async fn look(core: &Arc<Core>, pending: Vec<Digest>, need: u32) -> Option<Below> {
    let cluster = core.cluster.clone();
    tokio::task::spawn_blocking(move || cluster.below(&pending, need)).await.ok()?.ok()
}

/// Tells every other region who is waited for; sums what they say has arrived.
async fn urge_all(core: &Arc<Core>, digests: &[Digest]) -> (u64, u64) {
    let peers = core.cluster.peers().unwrap_or_default();
    let asked = peers.into_iter().map(|node| network::urge(core.cluster.as_ref(), &core.config, node, digests));
    let answers = join_all(asked).await;
    let told = answers.into_iter().flatten();
    told.fold((0, 0), |(bytes, blobs), (received, held)| (bytes + received, blobs + u64::from(held)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
