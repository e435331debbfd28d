//! Random commands of every kind through real Raft, on real disks: with refusals, stale requests, retries across changes
//! of the leader, restarts and catch-ups by snapshot, every node ends with the same state.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::{RegionId, Revision};
use metadata::command::Proposal;
use metadata::outcome::Refusal;
use metadata::{Outcome, wire};
use tokio::task::JoinSet;

use super::author::{Dice, KINDS, Known, draw, kind};
use super::same_state;
use crate::support::network::{Door, Said};
use crate::support::{LIMIT, TestNode, cluster_with, leader, scaled, seed, until};

/// Commands in flight at once.
const WRITERS: u64 = 8;
/// Decided commands that are proposed once more to every new leader.
const REPEATED: usize = 40;

/// A proposal and what became of it.
struct Decided {
    proposal: Bytes,
    as_of: Revision,
    revision: Revision,
    outcome: Outcome,
}

/// What the writers share.
struct World {
    doors: Vec<Door>,
    /// Where the leader was last.
    leader: AtomicUsize,
    /// Newest index that was answered.
    index: AtomicU64,
    known: Mutex<Known>,
    journal: Mutex<Vec<Decided>>,
    /// By kind: done and refused.
    counts: Mutex<BTreeMap<&'static str, (u64, u64)>>,
    /// Commands whose first try was in doubt, and which another node decided in the end.
    retried: AtomicU64,
    too_old: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn decided(&self) -> u64 {
        lock(&self.journal).len() as u64
    }

    /// Proposes the same bytes again until somebody decided them, as a forwarding node does.
    async fn settle(&self, proposal: &Bytes) -> (Revision, Outcome) {
        let deadline = runtime::clock::now() + LIMIT;
        let mut doubted = None;
        loop {
            let at = self.leader.load(Ordering::Relaxed);
            match self.doors[at].propose(proposal.clone()).await {
                Said::Applied { index, revision, outcome } => {
                    self.index.fetch_max(index.0, Ordering::Relaxed);
                    self.retried.fetch_add(u64::from(doubted.is_some_and(|first| first != at)), Ordering::Relaxed);
                    return (revision, outcome);
                }
                Said::Unknown => {
                    doubted.get_or_insert(at);
                    self.leader.store((at + 1) % self.doors.len(), Ordering::Relaxed);
                }
                Said::NotLeader(node) => {
                    // Ids are minted in the order of births, from 1.
                    let next = usize::try_from(node.0).unwrap().checked_sub(1).filter(|next| *next < self.doors.len());
                    self.leader.store(next.unwrap_or((at + 1) % self.doors.len()), Ordering::Relaxed);
                }
                Said::Busy => {}
            }
            assert!(runtime::clock::now() < deadline, "a command was never decided");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn step(&self, dice: &mut Dice) {
        let command = draw(dice, &lock(&self.known));
        let index = self.index.load(Ordering::Relaxed);
        let back = if dice.once_in(40) { dice.below(4000) } else { 0 };
        let as_of = Revision(index.saturating_sub(back));
        let region = RegionId(u32::try_from(dice.below(3)).unwrap() + 1);
        let actor = "chaos".to_owned();
        let proposal = Proposal { request: dice.request(), as_of, wall_ms: 0, actor, region, command };
        let encoded = wire::encode_proposal(&proposal);
        let (revision, outcome) = self.settle(&encoded).await;
        lock(&self.known).learn(&proposal.command, &outcome);
        let refused = matches!(outcome, Outcome::Refused(_));
        self.too_old.fetch_add(u64::from(outcome == Outcome::Refused(Refusal::TooOld)), Ordering::Relaxed);
        {
            let mut counts = lock(&self.counts);
            let count = counts.entry(kind(&proposal.command)).or_default();
            if refused { count.1 += 1 } else { count.0 += 1 }
        }
        lock(&self.journal).push(Decided { proposal: encoded, as_of, revision, outcome });
    }

    /// The newest decided commands, proposed once more: the answer is the first one, whoever leads now.
    async fn repeat(&self, nodes: &[TestNode]) {
        let newest: Vec<_> = {
            let journal = lock(&self.journal);
            let newest = journal.iter().rev().take(REPEATED);
            newest.map(|it| (it.proposal.clone(), it.as_of, it.revision, it.outcome.clone())).collect()
        };
        let mut same = 0;
        for (proposal, as_of, revision, outcome) in newest {
            let again = self.settle(&proposal).await;
            if again.1 == Outcome::Refused(Refusal::TooOld) && again.1 != outcome {
                let meta = nodes[leader(nodes).await].handle().local().unwrap().meta().unwrap().unwrap();
                assert!(as_of < meta.horizon, "{as_of} is not older than the horizon {}", meta.horizon);
            } else if outcome != Outcome::Refused(Refusal::TooOld) {
                assert_eq!(again, (revision, outcome), "a retry was decided anew");
                same += 1;
            }
        }
        assert!(same > 0, "no retry was recent enough");
    }
}

/// Writers that go on until so many commands were decided in all.
fn write_until(world: &Arc<World>, seed: u64, target: u64) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (world, mut dice) =
            (world.clone(), Dice(seed.wrapping_mul(131).wrapping_add(target << 8).wrapping_add(writer)));
        writers.spawn(async move {
            while world.decided() < target {
                world.step(&mut dice).await;
            }
        });
    }
    writers
}

async fn ended(mut writers: JoinSet<()>) {
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
}

/// Hands leadership to the other node that runs, in the midst of the writes.
async fn change_leader(nodes: &[TestNode], away: usize) {
    let old = leader(nodes).await;
    let next = (0..nodes.len()).find(|at| *at != old && *at != away).unwrap();
    let to = nodes[next].handle().identity().node;
    until("leadership moves on", async || {
        // Refused while the other one is not up to date: asked for again.
        drop(nodes[old].handle().transfer_leadership(Some(to)).await);
        nodes[next].handle().quorum().is_leader
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_commands_of_every_kind_leave_one_state_on_every_node() {
    let seed = seed("random commands through raft");
    let total = scaled(2_000, 10_000);
    let root = tempfile::tempdir().unwrap();
    let kept = total / 40;
    let set = |config: &mut metadata::birth::Config| (config.log_entries_kept, config.snapshot_every) = (kept, kept);
    let mut nodes = cluster_with(root.path(), 3, set).await;
    let world = Arc::new(World {
        doors: nodes.iter().map(Door::of).collect(),
        leader: AtomicUsize::new(0),
        index: AtomicU64::new(nodes[0].handle().quorum().applied.0),
        known: Mutex::default(),
        journal: Mutex::default(),
        counts: Mutex::new(BTreeMap::from([("genesis", (1, 0))])),
        retried: AtomicU64::new(0),
        too_old: AtomicU64::new(0),
    });
    lock(&world.known).claims = nodes.iter().filter_map(|node| node.handle().claim()).collect();
    let mut installed = 0;
    for victim in [0_usize, 1, 2] {
        let behind = nodes[victim].handle().quorum().applied;
        nodes[victim].stop().await;
        let writers = write_until(&world, seed, (victim as u64 + 1) * total / 4);
        let half = world.decided() + total / 8;
        until("half of the writes", async || world.decided() >= half).await;
        change_leader(&nodes, victim).await;
        world.repeat(&nodes).await;
        ended(writers).await;
        let purged = |at: usize| nodes[at].handle().log_purged() > behind;
        let others = [(victim + 1) % 3, (victim + 2) % 3];
        until("the log that the node misses is purged", async || others.into_iter().all(purged)).await;
        nodes[victim].start().await;
        same_state(&nodes).await;
        installed += nodes[victim].handle().snapshots().installed;
    }
    // Restarts of one after the other while writes go on.
    let writers = write_until(&world, seed, total);
    for victim in [0_usize, 1, 2] {
        nodes[victim].stop().await;
        let next = world.decided() + total / 16;
        until("writes without the node", async || world.decided() >= next.min(total)).await;
        nodes[victim].start().await;
        until("the node follows", async || nodes[victim].handle().quorum().heard).await;
    }
    ended(writers).await;
    world.repeat(&nodes).await;
    same_state(&nodes).await;
    report(&world, installed, nodes[0].handle().quorum().applied);
}

fn report(world: &World, installed: u64, index: Revision) {
    let counts = lock(&world.counts);
    let (retried, too_old) = (world.retried.load(Ordering::Relaxed), world.too_old.load(Ordering::Relaxed));
    println!("one state at index {index} after {} commands, {installed} catch-ups by snapshot", world.decided());
    println!("{retried} in doubt and decided by another node, {too_old} too old; done and refused by kind: {counts:?}");
    let done = counts.iter().filter(|(_, (done, _))| *done > 0).count();
    assert_eq!(done, KINDS, "every kind was done at least once: {counts:?}");
    let refused: u64 = counts.values().map(|(_, refused)| refused).sum();
    assert!(refused > 0 && counts["genesis"].1 > 0, "refusals are part of it: {counts:?}");
    assert!(installed >= 3, "{installed} catch-ups by snapshot");
    assert!(too_old > 0, "no request was too old");
}
