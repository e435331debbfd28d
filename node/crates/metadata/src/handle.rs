//! The door of the room: propose, read, watch.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use domain::{NodeId, RegionId, Revision};
use tokio::sync::watch;

use crate::command::{Command, StoreClaim};
use crate::outcome::{Outcome, Refusal};
use crate::raft::member::Member;
use crate::view::{self, Freshness, View};

/// Who asks, for the log's display fields.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Actor; "anonymous" until the trust issue, "system" for the node itself.
    pub actor: String,
}

/// A proposal that was applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Log index of the entry (of the first, when a retry found it applied).
    pub revision: Revision,
    /// What `apply` decided; never `Refused`.
    pub outcome: Outcome,
}

/// Why a proposal has no applied outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Judged and refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much is in flight; nothing changed. HTTP 429.
    #[error("too many writes are in flight")]
    Busy,
    /// Certainly not applied: no leader or no quorum was heard. HTTP 503, retryable.
    #[error("{detail}")]
    Unavailable {
        /// A sentence for people.
        detail: String,
    },
    /// It may or may not have happened, and may still happen. HTTP 504 with `Longshore-Outcome: unknown`.
    #[error("the outcome of the write is not known yet")]
    Unknown,
}

impl ProposeError {
    /// Whether the same wish may be tried again later with a chance.
    pub fn is_retryable(&self) -> bool {
        match self {
            ProposeError::Refused(Refusal::NotYetDurable { .. } | Refusal::TooOld) => true,
            ProposeError::Refused(_) => false,
            ProposeError::Busy | ProposeError::Unavailable { .. } | ProposeError::Unknown => true,
        }
    }

    /// Whether certainly nothing changed.
    pub fn has_no_side_effects(&self) -> bool {
        !matches!(self, ProposeError::Unknown)
    }
}

/// Why leadership was not handed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Another node leads, and it alone can hand that on.
    #[error("this node does not lead")]
    NotLeader(Option<NodeId>),
    /// Without a majority nobody can lead.
    #[error("no majority of the regions can be reached, so leadership cannot be handed on")]
    NoQuorum,
    /// The node does not vote: it is not known, joins, or left.
    #[error("node {0} has no vote, so it cannot lead")]
    NoVote(NodeId),
    /// The node did not answer the leader lately.
    #[error("node {0} does not answer the leader, so it cannot take over")]
    Silent(NodeId),
    /// There is nobody else.
    #[error("no other voter can take the leadership now")]
    Alone,
    /// It was asked to lead, and does not lead yet.
    #[error("node {0} did not take the leadership over in time")]
    NotTaken(NodeId),
}

/// Which proof a read needs (design §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Strict, but after `strict_wait_ms_max` local state marked `Stale`: positive pull answers.
    Pull,
    /// Strict or nothing; waits through a fail-over: negative answers, uploads, reads with a push scope.
    Strict,
    /// Local state, no proof.
    Local,
}

/// Why a read has no view.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Freshness cannot be proved now. HTTP 503, retryable.
    #[error("{detail}")]
    Unavailable {
        /// A sentence for people.
        detail: String,
    },
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] view::Error),
}

/// Spaces whose changes can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Anything was applied.
    Applied,
    /// The wanted rows of this node's region.
    Wanted,
    /// The condemned rows of this node's store.
    Condemned,
    /// Holder rows of any blob (durability waiters).
    Holders,
    /// Regions, nodes, stores or policies.
    Cluster,
}

/// Who this node is, once it belongs to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Node id.
    pub node: NodeId,
    /// Region id.
    pub region: RegionId,
    /// Region name.
    pub region_name: domain::RegionName,
    /// Cluster.
    pub cluster: domain::ClusterId,
    /// The node's blob store.
    pub store: domain::StoreId,
}

/// Whether a quorum is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The leader as this node knows it.
    pub leader: Option<NodeId>,
    /// This node leads.
    pub is_leader: bool,
    /// A quorum was heard within a lease.
    pub heard: bool,
    /// Raft term.
    pub term: u64,
    /// Last applied index here.
    pub applied: Revision,
    /// Committed index as known here.
    pub committed: Revision,
}

/// What snapshots moved between this node and others since its start. Unit of bytes: those of the compressed file that
/// is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// States that were received, verified and put in place here.
    pub installed: u64,
    /// Bytes sent to peers.
    pub sent_bytes: u64,
    /// Bytes received from a peer.
    pub received_bytes: u64,
    /// Bytes that were here already when a transfer went on where an earlier one broke off.
    pub resumed_bytes: u64,
}

/// How this node's state stands to that of the others (promise 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// No difference is known, or a majority of all voters has this node's state.
    Agrees,
    /// Voters differ, and no majority is known to have one state: nobody accepts writes of clients, pulls go on.
    Undecided {
        /// Where the difference was found first.
        index: Revision,
        /// Since when.
        since: Instant,
    },
    /// A majority of all voters has another state: this node serves nothing, also after a restart, until a snapshot of
    /// a peer replaces its state.
    Diverged {
        /// Where the difference was found.
        index: Revision,
        /// The voters of that majority.
        right: BTreeSet<NodeId>,
    },
}

impl Agreement {
    /// What stands in the way, and its remedy, as a sentence about node `me`; none while nothing does.
    pub fn obstacle(&self, me: NodeId) -> Option<String> {
        match self {
            Agreement::Agrees => None,
            Agreement::Undecided { index, since: _ } => Some(format!(
                "the regions differ in state at revision {index} and no majority of them agrees; start what is down, or \
                 replace a node by an empty one (`cluster-cli join --replace`)"
            )),
            Agreement::Diverged { index, right: _ } => Some(format!(
                "this node's state differs from that of a majority of the regions at revision {index}; stop the node, \
                 empty its data directory and join it anew with `cluster-cli join --replace {me}`"
            )),
        }
    }
}

/// That this node was taken out of the cluster, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The node that has its place now, if one has.
    pub successor: Option<NodeId>,
    /// A revision at which the state of the cluster says so.
    pub revision: Revision,
    /// The node whose state says so.
    pub told_by: NodeId,
}

impl Removal {
    /// What became of node `me`, and what to do, as a sentence.
    pub fn sentence(&self, me: NodeId) -> String {
        let Removal { successor, revision, told_by } = self;
        let what = match successor {
            Some(node) => format!("node {me} was replaced by node {node}"),
            None => format!("node {me} was removed from the cluster"),
        };
        format!(
            "{what} (so says node {told_by} at revision {revision}); stop it (a node that shall come back joins anew, with \
             an empty data directory)"
        )
    }
}

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    member: Member,
}

impl Handle {
    pub(crate) fn new(member: Member) -> Self {
        Handle { member }
    }

    #[cfg(test)]
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Proposes a command and waits until it is applied here (bounded), or says why not.
    ///
    /// Forwards to the leader, retries under one request id through leader changes for at most 30 s; whatever is
    /// unresolved then is `Unknown`.
    pub async fn propose(&self, origin: Origin, command: Command) -> Result<Applied, ProposeError> {
        self.member.propose(origin, command).await
    }

    /// A view that meets `demand`, at or after `min_revision`.
    pub async fn view(&self, demand: Demand, min_revision: Option<Revision>) -> Result<View, ReadError> {
        self.member.view(demand, min_revision).await
    }

    /// Local state, at once.
    pub fn local(&self) -> Result<View, view::Error> {
        self.member.local_view(Freshness::Local)
    }

    /// Becomes a new value whenever the space changed (a snapshot changes all).
    pub fn watch(&self, space: Watched) -> watch::Receiver<u64> {
        self.member.file().watch(space)
    }

    /// This node.
    pub fn identity(&self) -> &Identity {
        self.member.identity()
    }

    /// This node's claim, once its `OpenStore` is applied here; none before.
    pub fn claim(&self) -> Option<StoreClaim> {
        *self.member.claims().borrow()
    }

    /// Waits for `claim`.
    pub async fn opened(&self) -> StoreClaim {
        let mut claims = self.member.claims().subscribe();
        loop {
            if let Some(claim) = *claims.borrow_and_update() {
                return claim;
            }
            if claims.changed().await.is_err() {
                // The sender lives as long as this handle does.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Who leads, and whether a quorum is heard.
    pub fn quorum(&self) -> Quorum {
        self.member.quorum()
    }

    /// Whether a quorum is heard, after a wait through a fail-over: for the rest of `failover_wait` since contact was lost.
    /// False at once when it was lost longer ago than that, or when only the next start brings it back.
    pub async fn hear_quorum(&self) -> bool {
        self.member.hear_quorum().await
    }

    /// How this node's state stands to that of the others.
    pub fn agreement(&self) -> Agreement {
        self.member.file().agreement().borrow().clone()
    }

    /// That this node was taken out of the cluster, once it knows. It serves nothing then, also after a restart.
    pub fn removal(&self) -> Option<Removal> {
        self.member.removal()
    }

    /// Waits for `removal`.
    pub async fn removed(&self) -> Removal {
        let mut removals = self.member.file().removal().subscribe();
        loop {
            if let Some(removal) = *removals.borrow_and_update() {
                return removal;
            }
            if removals.changed().await.is_err() {
                // The sender lives as long as this handle does.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Raft has ended on this node by itself: log or state could not be written. Only the next start helps.
    pub fn has_stopped(&self) -> bool {
        self.member.has_stopped()
    }

    /// Why nothing can be agreed on through this node while no quorum is heard, as half a sentence.
    pub fn no_quorum_text(&self) -> String {
        self.member.cut_off_text()
    }

    /// Whether these nodes are a majority of the voters.
    pub fn is_majority(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.member.is_majority(nodes)
    }

    /// Why reads are answered from local state now, if they are.
    pub fn is_stale(&self) -> bool {
        self.member.escape().is_on()
    }

    /// Longest wait through a fail-over, for callers that bound waits of their own alike.
    pub fn failover_wait(&self) -> Duration {
        self.member.timing().failover_wait
    }

    /// Bytes of the Raft log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.member.log().bytes()
    }

    /// Newest index that was purged from the Raft log; 0 while nothing was. A peer behind it needs a snapshot.
    pub fn log_purged(&self) -> Revision {
        Revision(self.member.log().purged())
    }

    /// What snapshots moved since the start.
    pub fn snapshots(&self) -> Snapshots {
        self.member.file().spools().traffic.counts()
    }

    /// Whether this node has a vote.
    pub fn is_voter(&self) -> bool {
        self.member.is_voter()
    }

    /// A gRPC channel to a node's peer door. Connects lazily; `None` for unknown or removed nodes.
    pub fn channel(&self, node: NodeId, class: ChannelClass) -> Option<tonic::transport::Channel> {
        self.member.peers().channel(node, class)
    }

    /// Adds this room's gRPC services (Raft, forwarded proposals, minting) to a node's peer door.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder) {
        crate::raft::server::add_services(routes, &self.member);
    }

    /// Hands leadership to another voter, the most advanced one when none is named, and waits until that one leads. Only
    /// the leader can do that. Gives the node that leads then.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.member.transfer(to).await
    }

    /// Stops Raft after handing over leadership and a durable commit of the state.
    pub async fn shutdown(&self) {
        self.member.shutdown().await;
    }

    /// Measured round trip to a node's peer door, if it was heard recently.
    pub fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.member.peers().round_trip(node)
    }
}

/// Connections to one peer are kept apart by duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelClass {
    /// Log appends, snapshots, forwarded proposals.
    Raft,
    /// Heartbeats and votes.
    Heartbeat,
    /// Forwarded requests of clients: upload sessions.
    Forward,
    /// Blob transfers, with wide windows.
    Bulk,
    /// Blobs that clients read straight from a holder: as wide, and no slow client stands in the way of transfers.
    Direct,
}
