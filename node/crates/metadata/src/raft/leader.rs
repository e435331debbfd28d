//! Duties: the leader's (cluster time, membership, forgetting lost stores, minting) and every node's own (opening its
//! store, snapshots and purges, addresses of peers).
//!
//! Verbs only write rows; the loop here brings Raft's membership to what the rows say, so that a join goes on when the
//! tool that began it is gone (ground.md §5).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use domain::{Digest, NodeId, RegionId, Revision, StoreId, limits};
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::BasicNode;
use runtime::{Backoff, clock};

use crate::command::{Command, StoreClaim};
use crate::handle::{Applied, Origin, ProposeError};
use crate::outcome::{Outcome, Refusal};
use crate::raft::member::Member;
use crate::raft::types::RaftMetrics;
use crate::raft::upkeep::Upkeep;
use crate::rows::{self, RegionState};
use crate::view::{self, Freshness};

/// Interval of ticks while anything else is logged.
const TICK_BUSY: Duration = Duration::from_secs(10);
/// Interval of ticks of an idle cluster.
const TICK_IDLE: Duration = Duration::from_secs(60);
/// How often the rows are compared with Raft's membership when nothing wakes the loop.
const STEP: Duration = Duration::from_millis(500);
/// Pause between two pages of a duty that goes through many rows: other proposals find their place.
const PAGE_PAUSE: Duration = Duration::from_millis(10);
/// How long a learner of a busy log must keep up before it votes (design §7).
const KEPT_UP: Duration = Duration::from_secs(10);
/// A learner within so many entries of the log's end keeps up.
const LAG_ENTRIES_MAX: u64 = 200;

fn system() -> Origin {
    Origin { actor: "system".to_owned() }
}

/// What the leader should do next; decided without I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Make a node of the rows a learner.
    AddLearner(NodeId, String),
    /// Give a learner that keeps up a vote, in the same change that takes it from nodes the rows no longer name: these
    /// are the voters from then on.
    Promote(BTreeSet<NodeId>),
    /// Take away what the rows no longer name.
    Remove(BTreeSet<NodeId>),
    /// Leave a joint configuration that was left behind.
    LeaveJoint,
    /// The region's node takes part: it begins to refill.
    Backfill(RegionId),
    /// Judge the next blobs of a region that shall leave, from there on.
    Depart(RegionId, Option<Digest>),
    /// Remove the rows of a store that is not open, a page at a time.
    Forget(StoreId),
    /// Clear what is left of a region that leaves and has no store, a page at a time.
    Finish(RegionId),
}

/// Raft's membership as the plan needs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) learners: BTreeSet<NodeId>,
    pub(crate) joint: bool,
    /// Learners whose log keeps up.
    pub(crate) kept_up: BTreeSet<NodeId>,
}

/// The next duty, most urgent first; none when rows and membership agree.
pub(crate) fn plan(
    nodes: &[rows::Node],
    regions: &[rows::Region],
    stores: &[rows::Store],
    members: &Members,
) -> Option<Duty> {
    if members.joint {
        return Some(Duty::LeaveJoint);
    }
    let known = |id: &NodeId| members.voters.contains(id) || members.learners.contains(id);
    let wanted: BTreeMap<NodeId, &rows::Node> =
        nodes.iter().filter(|node| !node.removed).map(|node| (node.id, node)).collect();
    if let Some(node) = wanted.values().find(|node| !known(&node.id)) {
        return Some(Duty::AddLearner(node.id, node.peer_address.clone()));
    }
    let staying: BTreeSet<NodeId> = members.voters.iter().filter(|id| wanted.contains_key(id)).copied().collect();
    let votes = staying.len();
    let ready = wanted.keys().find(|id| members.kept_up.contains(id));
    if let Some(&node) = ready
        && votes < limits::VOTERS_MAX
    {
        return Some(Duty::Promote(staying.into_iter().chain([node]).collect()));
    }
    // A node that is being replaced keeps its vote until its successor takes it over.
    let awaited: BTreeSet<RegionId> =
        wanted.values().filter(|node| members.learners.contains(&node.id)).map(|node| node.region).collect();
    let replaced = |id: &NodeId| {
        votes < limits::VOTERS_MAX && nodes.iter().any(|node| node.id == *id && awaited.contains(&node.region))
    };
    let gone = members.voters.iter().chain(&members.learners).filter(|id| !wanted.contains_key(id) && !replaced(id));
    let extra: BTreeSet<NodeId> = gone.copied().collect();
    if !extra.is_empty() {
        return Some(Duty::Remove(extra));
    }
    let joining = |region: &&rows::Region| region.state == RegionState::Joining;
    for region in regions.iter().filter(joining) {
        let takes_part = |node: &&&rows::Node| {
            node.region == region.id
                && (members.voters.contains(&node.id)
                    || votes >= limits::VOTERS_MAX && members.learners.contains(&node.id))
        };
        if wanted.values().find(takes_part).is_some() {
            return Some(Duty::Backfill(region.id));
        }
    }
    let forgotten = stores.iter().find(|store| is_forgotten(store, regions, stores));
    let left = || {
        let is_left = |region: &&rows::Region| {
            region.state == RegionState::Leaving && stores.iter().all(|store| store.region != region.id)
        };
        regions.iter().find(is_left).map(|region| Duty::Finish(region.id))
    };
    let departing =
        || regions.iter().find_map(|region| region.departure.map(|departure| Duty::Depart(region.id, departure.next)));
    forgotten.map(|store| Duty::Forget(store.id)).or_else(left).or_else(departing)
}

/// Whether a lost store is given up for good: its region leaves, or keeps another one now. Until then its disk may come
/// back under a node that takes the lost one's place, and what its rows say of it is true again.
fn is_forgotten(store: &rows::Store, regions: &[rows::Region], stores: &[rows::Store]) -> bool {
    let stays = regions.iter().any(|region| region.id == store.region && region.state != RegionState::Leaving);
    let has_other = stores.iter().any(|other| other.open && other.region == store.region);
    !store.open && (!stays || has_other)
}

/// Runs the leader's duties whenever this node leads.
pub(crate) async fn run(member: Member) {
    let token = member.tasks().token();
    let mut quorum = member.quorum_changes();
    let mut term = Term::default();
    let mut pause = STEP;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = quorum.changed() => if changed.is_err() { return },
            () = token.cancelled() => return,
        }
        pause = STEP;
        let now = member.quorum();
        if !now.is_leader || !now.heard {
            term = Term::default();
            continue;
        }
        let done = tokio::select! {
            done = term.step(&member) => done,
            // Without a quorum a proposal waits for long; a node that stops does not.
            () = token.cancelled() => return,
        };
        match done {
            Ok(more) => pause = if more { PAGE_PAUSE } else { STEP },
            Err(error) => tracing::warn!(error = %error, "leader could not do its duties, will try again"),
        }
    }
}

/// What the leader remembers of its own term.
#[derive(Default)]
struct Term {
    last_tick: Option<(Instant, Revision)>,
    kept_up_since: BTreeMap<NodeId, Instant>,
    /// What the log said last: a duty of many pages is told once.
    told: String,
}

/// Why a duty was not done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    State(#[from] view::Error),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("membership change failed: {0}")]
    Membership(String),
}

impl Term {
    /// The next duty; true when more of it may be left to do at once.
    async fn step(&mut self, member: &Member) -> Result<bool, Error> {
        let view = member.local_view(Freshness::Local)?;
        if view.meta()?.is_none() {
            return Ok(false);
        }
        self.tick(member).await?;
        let members = self.members(member);
        let duty = plan(&view.nodes()?, &view.regions()?, &view.stores()?, &members);
        drop(view);
        let told = duty.as_ref().map(Duty::to_string).unwrap_or_default();
        if self.told != told {
            if !told.is_empty() {
                tracing::info!(duty = %told, "leader brings the cluster to what its rows say");
            }
            self.told = told;
        }
        match duty {
            Some(duty) => match duty.command() {
                Some(command) => write(member, &duty, command).await,
                None => perform(member, duty).await.map(|()| false),
            },
            None => Ok(false),
        }
    }

    /// Advances cluster time from the monotonic clock.
    async fn tick(&mut self, member: &Member) -> Result<(), Error> {
        let now = clock::now();
        let applied = member.applied();
        let Some((at, index)) = self.last_tick else {
            self.last_tick = Some((now, applied));
            return Ok(());
        };
        let elapsed = now.duration_since(at);
        let due = if applied > index { TICK_BUSY } else { TICK_IDLE };
        if elapsed < due {
            return Ok(());
        }
        let (hash_index, hash) = member.file().last_tick().unwrap_or((Revision(0), [0; 32]));
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        // Counted from now on, whatever comes of it: a tick in doubt may still be applied, and cluster time never runs
        // ahead.
        self.last_tick = Some((now, index));
        let applied = member.propose(system(), Command::Tick { elapsed_ms, hash_index, hash }).await?;
        self.last_tick = Some((now, applied.revision));
        Ok(())
    }

    fn members(&mut self, member: &Member) -> Members {
        let metrics = member.raft().metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let mut members = Members {
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            joint: membership.get_joint_config().len() > 1,
            kept_up: BTreeSet::new(),
        };
        let now = clock::now();
        self.kept_up_since.retain(|node, _| members.learners.contains(node));
        for &node in &members.learners {
            match learner_state(&metrics, node) {
                Learner::Complete => {
                    members.kept_up.insert(node);
                }
                Learner::Close => {
                    let since = *self.kept_up_since.entry(node).or_insert(now);
                    if now.duration_since(since) >= KEPT_UP {
                        members.kept_up.insert(node);
                    }
                }
                Learner::Behind => drop(self.kept_up_since.remove(&node)),
            }
        }
        members
    }
}

enum Learner {
    /// Holds the whole log: an idle log counts as kept up at once.
    Complete,
    Close,
    Behind,
}

fn learner_state(metrics: &RaftMetrics, node: NodeId) -> Learner {
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = metrics
        .replication
        .as_ref()
        .and_then(|replication| replication.get(&node.0))
        .and_then(|matched| matched.as_ref().map(|id| id.index));
    match matched {
        Some(index) if index >= last => Learner::Complete,
        Some(index) if index + LAG_ENTRIES_MAX >= last => Learner::Close,
        _ => Learner::Behind,
    }
}

/// A duty that is a step of the rows; true when it has many.
async fn write(member: &Member, duty: &Duty, command: Command) -> Result<bool, Error> {
    match (member.propose(system(), command).await, duty) {
        (Ok(Applied { outcome: Outcome::Stays(why), .. }), Duty::Depart(region, _)) => {
            let first = if let Refusal::LastCopies { digests, .. } = &why { digests.first() } else { None };
            let first = first.map(Digest::to_string);
            tracing::warn!(%region, reason = %why, first, "region stays, it cannot leave without a loss");
            Ok(false)
        }
        // Rows that this node has not applied yet, or a forced removal, were quicker.
        (Err(ProposeError::Refused(refusal)), Duty::Depart(..)) => {
            tracing::debug!(error = %refusal, "step of a departure refused");
            Ok(false)
        }
        (proposed, _) => proposed.map(|_| duty.has_pages()).map_err(Error::from),
    }
}

/// A duty that changes Raft's membership.
async fn perform(member: &Member, duty: Duty) -> Result<(), Error> {
    let raft = member.raft();
    let failed = |error: &dyn std::fmt::Display| Error::Membership(error.to_string());
    let limit = member.timing().failover_wait;
    let timed_out = |_| Error::Membership("no quorum within the deadline".to_owned());
    match duty {
        Duty::AddLearner(node, address) => {
            let adding = raft.add_learner(node.0, BasicNode::new(address), false);
            tokio::time::timeout(limit, adding).await.map_err(timed_out)?.map_err(|error| failed(&error))?;
        }
        Duty::Promote(voters) => {
            let voters: BTreeSet<u64> = voters.into_iter().map(|node| node.0).collect();
            let promoting = raft.change_membership(voters, false);
            tokio::time::timeout(limit, promoting).await.map_err(timed_out)?.map_err(|error| failed(&error))?;
        }
        Duty::Remove(nodes) => {
            if nodes.contains(&member.identity().node) {
                // A removed node does not lead: somebody else carries the change out.
                member.hand_over(None).await;
                return Ok(());
            }
            let ids: BTreeSet<u64> = nodes.iter().map(|node| node.0).collect();
            let voters: BTreeSet<u64> = {
                let metrics = raft.metrics();
                let metrics = metrics.borrow_watched();
                metrics.membership_config.voter_ids().filter(|id| ids.contains(id)).collect()
            };
            let change =
                if voters.is_empty() { ChangeMembers::RemoveNodes(ids) } else { ChangeMembers::RemoveVoters(voters) };
            let removing = raft.change_membership(change, false);
            tokio::time::timeout(limit, removing).await.map_err(timed_out)?.map_err(|error| failed(&error))?;
        }
        Duty::LeaveJoint => {
            let target: BTreeSet<u64> = {
                let metrics = raft.metrics();
                let metrics = metrics.borrow_watched();
                let config = metrics.membership_config.membership().get_joint_config();
                config.last().cloned().unwrap_or_default()
            };
            let leaving = raft.change_membership(target, false);
            tokio::time::timeout(limit, leaving).await.map_err(timed_out)?.map_err(|error| failed(&error))?;
        }
        Duty::Backfill(_) | Duty::Depart(..) | Duty::Forget(_) | Duty::Finish(_) => {}
    }
    Ok(())
}

/// Opens this node's store under a fresh boot, in the background until applied (design §7).
pub(crate) async fn open_store(member: Member) {
    let token = member.tasks().token();
    let identity = member.identity().clone();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    while member.removal().is_none() {
        let command = Command::OpenStore {
            store: identity.store,
            node: identity.node,
            region: identity.region,
            format_level_max: crate::state::FORMAT_LEVEL,
        };
        let proposed = tokio::select! {
            proposed = member.propose(system(), command) => proposed,
            () = token.cancelled() => return,
        };
        match proposed {
            Ok(applied) => {
                if let Outcome::StoreOpened { boot } = applied.outcome {
                    // A claim made before its own opening is applied here would judge the disk by rows of before.
                    tokio::select! {
                        () = opened_here(&member, applied.revision) => {}
                        () = token.cancelled() => return,
                    }
                    let claim = StoreClaim { store: identity.store, node: identity.node, boot };
                    tracing::info!(store = %identity.store, boot = boot.0, "store is open");
                    member.claims().send_replace(Some(claim));
                    return;
                }
            }
            Err(error) => tracing::debug!(error = %error, attempt = backoff.attempts(), "store is not open yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = token.cancelled() => return,
        }
    }
}

/// Waits until `index` is applied here, however long a region that catches up takes.
async fn opened_here(member: &Member, index: Revision) {
    while !member.wait_applied(index, Duration::from_secs(60)).await {
        tracing::info!(
            index = index.0,
            applied = member.applied().0,
            "store is open, its opening has not arrived here yet"
        );
    }
}

/// Who is to be reached where: the nodes of the rows, and those taken out of them that Raft still counts on.
fn addresses(nodes: Vec<rows::Node>, members: &BTreeSet<NodeId>) -> BTreeMap<NodeId, String> {
    let needed = nodes.into_iter().filter(|node| !node.removed || members.contains(&node.id));
    needed.map(|node| (node.id, node.peer_address)).collect()
}

/// Keeps the peers' addresses as the rows say.
pub(crate) async fn follow_addresses(member: Member) {
    let token = member.tasks().token();
    let mut changes = member.file().watch(crate::handle::Watched::Cluster);
    loop {
        match member.local_view(Freshness::Local).and_then(|view| view.nodes()) {
            Ok(nodes) if !nodes.is_empty() => {
                let members = {
                    let metrics = member.raft().metrics();
                    let metrics = metrics.borrow_watched();
                    let membership = metrics.membership_config.membership();
                    membership.voter_ids().chain(membership.learner_ids()).map(NodeId).collect()
                };
                member.peers().set_addresses(addresses(nodes, &members));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %error, "addresses of the nodes cannot be read"),
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = token.cancelled() => return,
        }
    }
}

/// Builds snapshots and purges the log behind them, on every node (design §10).
pub(crate) async fn maintain_log(member: Member) {
    let token = member.tasks().token();
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = token.cancelled() => return,
        }
        if member.removal().is_some() {
            return;
        }
        let config = member.config();
        let (applied, purged, snapshot) = {
            let metrics = member.raft().metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<crate::raft::types::LogId>| id.as_ref().map_or(0, |id| id.index);
            (index(&metrics.last_applied), index(&metrics.purged), index(&metrics.snapshot))
        };
        let too_big = member.log().bytes() > config.log_bytes_max;
        let held = applied.saturating_sub(purged);
        if !too_big && held <= config.log_entries_kept + config.snapshot_every {
            continue;
        }
        // A log of few, big entries is cut to a half when it outgrows its bytes.
        let kept = if too_big { config.log_entries_kept.min(held / 2) } else { config.log_entries_kept };
        let Upkeep { build, purge } =
            Upkeep::of(applied.saturating_sub(kept), purged, snapshot, member.file().spools().bound());
        let trigger = member.raft().trigger();
        for step in [
            if build { trigger.snapshot().await } else { Ok(()) },
            if let Some(upto) = purge { trigger.purge_log(upto).await } else { Ok(()) },
        ] {
            if let Err(error) = step {
                tracing::warn!(error = %error, "log cannot be purged");
            }
        }
    }
}

#[cfg(test)]
#[path = "leader_test.rs"]
mod tests;
