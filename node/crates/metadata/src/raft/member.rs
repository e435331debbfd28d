//! What a running member shares between its tasks, services and handles.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Incarnation, NodeId, Revision};
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use runtime::{Tasks, clock};
use tokio::sync::{mpsc, watch};

use crate::birth::Config;
use crate::command::StoreClaim;
use crate::handle::{Agreement, Identity, Quorum};
use crate::raft::config::Timing;
use crate::raft::log::LogStore;
use crate::raft::machine::StateFile;
use crate::raft::peers::Peers;
use crate::raft::propose::Admission;
use crate::raft::reads::{Escape, Waiter};
use crate::raft::types::{Raft, RaftMetrics};
use crate::view::{self, Freshness, View};

/// A running member. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Member {
    inner: Arc<Inner>,
}

/// What a member is made of.
pub(crate) struct Parts {
    pub(crate) raft: Raft,
    pub(crate) identity: Identity,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: Config,
    pub(crate) timing: Timing,
    pub(crate) peers: Peers,
    pub(crate) file: Arc<StateFile>,
    pub(crate) log: LogStore,
    pub(crate) tasks: Tasks,
    pub(crate) waiters: mpsc::Sender<Waiter>,
}

struct Inner {
    parts: Parts,
    admission: Admission,
    escape: Escape,
    contact: Mutex<Contact>,
    quorum: watch::Sender<Quorum>,
    claim: watch::Sender<Option<StoreClaim>>,
    /// This node ends by its own wish.
    stopping: AtomicBool,
    receiving: Arc<tokio::sync::Mutex<()>>,
}

/// When the leader, and when a quorum, was last heard.
struct Contact {
    leader: Option<(NodeId, Instant)>,
    /// Since when no quorum is heard; none while one is.
    lost_since: Option<Instant>,
}

impl Member {
    pub(crate) fn new(parts: Parts) -> Self {
        let quorum = Quorum {
            leader: None,
            is_leader: false,
            heard: false,
            term: 0,
            applied: Revision(0),
            committed: Revision(0),
        };
        Member {
            inner: Arc::new(Inner {
                parts,
                admission: Admission::default(),
                escape: Escape::default(),
                contact: Mutex::new(Contact { leader: None, lost_since: Some(clock::now()) }),
                quorum: watch::Sender::new(quorum),
                claim: watch::Sender::new(None),
                stopping: AtomicBool::new(false),
                receiving: Arc::default(),
            }),
        }
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.parts.raft
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.parts.identity
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.inner.parts.incarnation
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.parts.config
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.inner.parts.timing
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.inner.parts.peers
    }

    pub(crate) fn file(&self) -> &Arc<StateFile> {
        &self.inner.parts.file
    }

    pub(crate) fn log(&self) -> &LogStore {
        &self.inner.parts.log
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.inner.parts.tasks
    }

    pub(crate) fn round_waiters(&self) -> &mpsc::Sender<Waiter> {
        &self.inner.parts.waiters
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    pub(crate) fn escape(&self) -> &Escape {
        &self.inner.escape
    }

    pub(crate) fn claims(&self) -> &watch::Sender<Option<StoreClaim>> {
        &self.inner.claim
    }

    /// Set when this node ends Raft by its own wish.
    pub(crate) fn stopping(&self) -> &AtomicBool {
        &self.inner.stopping
    }

    pub(crate) fn receiving(&self) -> &Arc<tokio::sync::Mutex<()>> {
        &self.inner.receiving
    }

    /// A majority has another state: nothing is served from this one.
    pub(crate) fn is_diverged(&self) -> bool {
        matches!(*self.file().agreement().borrow(), Agreement::Diverged { .. })
    }

    /// How long nobody has accepted writes because states differ without a majority; none while that is not so.
    pub(crate) fn undecided_for(&self) -> Option<Duration> {
        match &*self.file().agreement().borrow() {
            Agreement::Undecided { since, .. } => Some(since.elapsed()),
            Agreement::Agrees | Agreement::Diverged { .. } => None,
        }
    }

    /// Why this node's state stands in the way, if it does.
    pub(crate) fn state_obstacle(&self) -> Option<String> {
        let me = self.identity().node;
        let removed = self.removal().map(|removal| removal.sentence(me));
        removed.or_else(|| self.file().agreement().borrow().obstacle(me))
    }

    fn contact(&self) -> std::sync::MutexGuard<'_, Contact> {
        // Two plain fields, never half changed.
        self.inner.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leader spoke to this node.
    pub(crate) fn heard_leader(&self, leader: NodeId) {
        self.contact().leader = Some((leader, clock::now()));
    }

    /// How long no leader has spoken to this node; none when none ever did.
    pub(crate) fn leader_silent_for(&self) -> Option<Duration> {
        self.contact().leader.map(|(_, at)| at.elapsed())
    }

    /// The leader as the library knows it, whether it is heard or not.
    pub(crate) fn raft_leader(&self) -> Option<NodeId> {
        self.raft().metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// Everybody who votes, by the newest membership; in a joint one both sets.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().map(NodeId).collect()
    }

    /// Highest index applied here.
    pub(crate) fn applied(&self) -> Revision {
        Revision(*self.file().applied().borrow())
    }

    /// Waits until `index` is applied here; false when `limit` ran out first.
    pub(crate) async fn wait_applied(&self, index: Revision, limit: Duration) -> bool {
        let mut applied = self.file().applied().subscribe();
        let reached = applied.wait_for(|applied| *applied >= index.0);
        matches!(tokio::time::timeout(limit, reached).await, Ok(Ok(_)))
    }

    /// A view of what is applied here.
    pub(crate) fn local_view(&self, freshness: Freshness) -> Result<View, view::Error> {
        self.file().view(freshness)
    }

    /// Who leads and whether a quorum is heard, now.
    pub(crate) fn quorum(&self) -> Quorum {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let me = self.identity().node;
        let leader = metrics.current_leader.map(NodeId);
        let is_leader = leader == Some(me);
        let lease = self.timing().election_max;
        let running = metrics.running_state.is_ok() && !self.has_failed_storage() && !self.serves_nothing();
        let heard = running
            && match leader {
                None => false,
                Some(_) if is_leader => leads_with_quorum(&metrics, lease),
                Some(leader) => {
                    self.contact().leader.is_some_and(|(heard, at)| heard == leader && at.elapsed() < lease)
                }
            };
        Quorum {
            leader,
            is_leader,
            heard,
            term: metrics.current_term,
            applied: self.applied(),
            committed: Revision(metrics.local_committed.as_ref().map_or(0, |id| id.index)),
        }
    }

    /// Becomes a new value when the leader changes or a quorum is lost or found.
    pub(crate) fn quorum_changes(&self) -> watch::Receiver<Quorum> {
        self.inner.quorum.subscribe()
    }

    /// How long no quorum has been heard; none while one is.
    pub(crate) fn quorum_lost_for(&self) -> Option<Duration> {
        self.contact().lost_since.map(|since| since.elapsed())
    }

    /// Tells the quorum watch how things stand now; whether a quorum is heard.
    pub(crate) fn refresh_quorum(&self) -> bool {
        let quorum = self.quorum();
        let heard = quorum.heard;
        self.note_quorum(&quorum);
        self.inner.quorum.send_if_modified(|known| {
            let changed = (known.leader, known.heard, known.term) != (quorum.leader, quorum.heard, quorum.term);
            *known = quorum;
            changed
        });
        heard
    }

    /// Keeps the quorum watch true.
    pub(crate) async fn run_contact(self) {
        let token = self.tasks().token();
        let step = self.timing().heartbeat / 4;
        let mut metrics = self.raft().server_metrics();
        loop {
            self.refresh_quorum();
            if self.has_stopped() && !token.is_cancelled() {
                self.await_restart().await;
                return;
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    if !self.inner.stopping.load(Ordering::Acquire) {
                        self.await_restart().await;
                    }
                    return;
                },
                () = tokio::time::sleep(step) => {}
                () = token.cancelled() => return,
            }
        }
    }

    /// Raft has ended by itself: its log or state failed, or it broke an invariant of its own.
    pub(crate) fn has_stopped(&self) -> bool {
        let metrics = self.raft().metrics();
        let stopped = metrics.borrow_watched().running_state.is_err();
        !self.inner.stopping.load(Ordering::Acquire) && (stopped || self.has_failed_storage())
    }

    /// The log or the state could not be written: nothing more can be promised by this process.
    fn has_failed_storage(&self) -> bool {
        self.log().failed().is_some() || self.file().has_failed()
    }

    /// Pulls go on from local state for as long as the disk fails; once it answers, the process ends so that whoever
    /// runs it starts it anew with a working Raft (design §11).
    async fn await_restart(&self) {
        tracing::error!("raft has stopped on this node: it takes no writes, pulls are served and marked stale");
        self.note_quorum(&self.quorum());
        // With a state that failed and a log that works, raft would go on leading: another region has to.
        self.hand_over(None).await;
        if let Err(error) = self.raft().shutdown().await {
            tracing::debug!(error = %error, "raft had ended already");
        }
        let token = self.tasks().token();
        let mut said = String::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
                () = token.cancelled() => return,
            }
            let folder = self.config().data.clone();
            let probe = tokio::task::spawn_blocking(move || storage_answers(&folder)).await;
            match probe {
                Ok(Ok(())) => {
                    tracing::error!("storage answers, the node ends to be started anew");
                    self.tasks().fail();
                    return;
                }
                Ok(Err(error)) => {
                    // Once, and again when it fails otherwise: a disk may stay full for days.
                    let error = error.to_string();
                    if error != said {
                        tracing::warn!(error, "storage of raft does not answer yet");
                        said = error;
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn note_quorum(&self, quorum: &Quorum) {
        let mut contact = self.contact();
        match (quorum.heard, contact.lost_since) {
            (true, Some(since)) => {
                tracing::info!(
                    leader = quorum.leader.map(|node| node.0),
                    term = quorum.term,
                    lost_ms = clock::elapsed_ms(since),
                    "quorum is heard"
                );
                contact.lost_since = None;
            }
            (false, None) => {
                tracing::warn!(leader = quorum.leader.map(|node| node.0), term = quorum.term, "quorum is not heard");
                contact.lost_since = Some(clock::now());
            }
            _ => {}
        }
    }

    /// Whether this node has a vote for good: by a committed membership that is not joint, for in a joint one the old
    /// voters alone are needed as well.
    pub(crate) fn is_voter(&self) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let committed = &metrics.committed_membership_config;
        committed.get_joint_config().len() == 1 && committed.voter_ids().any(|id| id == self.identity().node.0)
    }

    /// Hands leadership to `to`, or to the voter whose log is longest.
    pub(crate) async fn hand_over(&self, to: Option<NodeId>) -> bool {
        let target = to.or_else(|| {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow_watched();
            let me = self.identity().node.0;
            let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().filter(|id| *id != me).collect();
            let replication = metrics.replication.as_ref()?;
            let longest =
                replication.iter().filter(|(id, _)| voters.contains(id)).max_by_key(|(_, matched)| **matched)?;
            Some(NodeId(*longest.0))
        });
        match target {
            Some(node) => self.raft().trigger().transfer_leader(node.0).await.is_ok(),
            None => false,
        }
    }

    /// Hands leadership over, stops Raft and makes the state durable.
    pub(crate) async fn shutdown(&self) {
        if self.quorum().is_leader && self.hand_over(None).await {
            let mut changes = self.quorum_changes();
            let moved = changes.wait_for(|quorum| !quorum.is_leader);
            // Without a successor in time the others elect one.
            drop(tokio::time::timeout(self.timing().election_max, moved).await);
        }
        self.inner.stopping.store(true, Ordering::Release);
        let retired = self.removal().is_some();
        if let Err(error) = self.raft().shutdown().await
            && !retired
        {
            tracing::warn!(error = %error, "raft did not stop cleanly");
        }
        if let Err(error) = self.file().sync_off_thread().await {
            tracing::error!(error = %error, "replicated state cannot be made durable");
        }
    }

    /// What is said to people while no quorum is heard.
    pub(crate) fn cut_off_text(&self) -> String {
        no_quorum(self.identity().region_name.as_str(), self.has_stopped())
    }

    /// Whether these nodes are a majority of the voters; in a joint membership, of both sets.
    pub(crate) fn is_majority(&self, nodes: &BTreeSet<NodeId>) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        majority(metrics.membership_config.membership().get_joint_config(), nodes)
    }
}

fn majority(voters: &[BTreeSet<u64>], nodes: &BTreeSet<NodeId>) -> bool {
    let up = |voters: &BTreeSet<u64>| voters.iter().filter(|id| nodes.contains(&NodeId(**id))).count();
    voters.iter().all(|voters| up(voters) * 2 > voters.len())
}

/// Why a quorum is not heard: whoever asks adds what that costs.
fn no_quorum(region: &str, stopped: bool) -> String {
    if stopped {
        format!("the disk of the log or the state failed or is full on the node of {region}")
    } else {
        format!("no majority of the regions can be reached from {region}")
    }
}

/// A leader hears a quorum while acknowledgements are younger than its lease; alone it is its own quorum.
fn leads_with_quorum(metrics: &RaftMetrics, lease: Duration) -> bool {
    let alone = metrics.membership_config.voter_ids().count() == 1;
    alone || metrics.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < lease)
}

/// Whether the data directory takes a durable write.
fn storage_answers(folder: &std::path::Path) -> std::io::Result<()> {
    use std::io::Write;
    let path = folder.join("probe");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&[0; 4096])?;
    file.sync_all()?;
    drop(file);
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_one_of_every_set_of_a_joint_membership() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<BTreeSet<NodeId>>();
        let three = [set(&[1, 2, 3])];
        assert!(majority(&three, &nodes(&[1, 3])));
        assert!(!majority(&three, &nodes(&[1])));
        assert!(!majority(&three, &nodes(&[1, 4])), "a learner has no vote");
        assert!(!majority(&[set(&[1, 2])], &nodes(&[2])), "half is no majority");
        let joint = [set(&[1, 2, 3]), set(&[3, 4, 5])];
        assert!(!majority(&joint, &nodes(&[1, 2, 3])));
        assert!(majority(&joint, &nodes(&[2, 3, 4])));
    }

    #[test]
    fn what_is_missing_is_said_without_what_it_costs() {
        assert_eq!(no_quorum("paris", false), "no majority of the regions can be reached from paris");
        let stopped = no_quorum("paris", true);
        assert!(stopped.contains("disk") && !stopped.contains("majority"), "{stopped}");
    }
}
