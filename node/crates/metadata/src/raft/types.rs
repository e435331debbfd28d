//! openraft's type parameters, hidden behind names of our own.

use std::fmt;

use bytes::Bytes;
use domain::Revision;
use openraft::impls::BasicNode;

use crate::outcome::Outcome;
use crate::raft::machine::Machine;

/// What an entry carries: an encoded `Proposal`. Encoded once by the proposer, decoded where it is applied.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Data(pub(crate) Bytes);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What `apply` answers for an entry.
#[derive(Clone, Debug)]
pub(crate) enum Response {
    /// A blank or membership entry.
    Nothing,
    /// A proposal's outcome and the index under which it was first decided.
    Decided(Revision, Outcome),
}

openraft::declare_raft_types!(
    /// openraft, as Longshore uses it.
    pub(crate) TypeConfig:
        D = Data,
        R = Response,
        NodeId = u64,
        Node = BasicNode,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type RpcError = openraft::errors::RPCError<TypeConfig>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<TypeConfig>;
