//! The door of the room: propose, read, watch.

use std::time::Duration;

use domain::{NodeId, RegionId, Revision};
use tokio::sync::watch;

use crate::command::{Command, StoreClaim};
use crate::outcome::{Outcome, Refusal};
use crate::view::{self, View};

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

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    _private: (),
}

#[expect(unused_variables, clippy::unused_async, reason = "filled in by the raft shell")]
impl Handle {
    /// Proposes a command and waits until it is applied here (bounded), or says why not.
    ///
    /// Forwards to the leader, retries under one request id through leader changes for at most 30 s; whatever is
    /// unresolved then is `Unknown`.
    pub async fn propose(&self, origin: Origin, command: Command) -> Result<Applied, ProposeError> {
        unimplemented!()
    }
    /// A view that meets `demand`, at or after `min_revision`.
    pub async fn view(&self, demand: Demand, min_revision: Option<Revision>) -> Result<View, ReadError> {
        unimplemented!()
    }
    /// Local state, at once.
    pub fn local(&self) -> Result<View, view::Error> {
        unimplemented!()
    }
    /// Becomes a new value whenever the space changed (a snapshot changes all).
    pub fn watch(&self, space: Watched) -> watch::Receiver<u64> {
        unimplemented!()
    }
    /// This node.
    pub fn identity(&self) -> &Identity {
        unimplemented!()
    }
    /// This node's claim, once its `OpenStore` is applied here; none before.
    pub fn claim(&self) -> Option<StoreClaim> {
        unimplemented!()
    }
    /// Waits for `claim`.
    pub async fn opened(&self) -> StoreClaim {
        unimplemented!()
    }
    /// Who leads, and whether a quorum is heard.
    pub fn quorum(&self) -> Quorum {
        unimplemented!()
    }
    /// A gRPC channel to a node's peer door. Connects lazily; `None` for unknown or removed nodes.
    pub fn channel(&self, node: NodeId, class: ChannelClass) -> Option<tonic::transport::Channel> {
        unimplemented!()
    }
    /// Adds this room's gRPC services (Raft, forwarded proposals, minting) to a node's peer door.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder) {
        unimplemented!()
    }
    /// Hands leadership to another voter, the most advanced one when none is named.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), ProposeError> {
        unimplemented!()
    }
    /// Stops Raft after a durable commit of the state.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
    /// Measured round trip to a node's peer door, if it was heard recently.
    pub fn round_trip(&self, node: NodeId) -> Option<Duration> {
        unimplemented!()
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
}
