//! openraft's values to and from our own protobuf (`raft.proto`), for the disk and the wire.

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::impls::BasicNode;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
};
use prost::Message;
use proto::raft as pb;

use crate::raft::types::{Data, Entry, LeaderId, LogId, Membership, StoredMembership, TypeConfig, Vote};

/// Bytes that are not what this release writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {detail}")]
pub(crate) struct Error {
    /// What was read.
    pub(crate) what: &'static str,
    /// What is wrong.
    pub(crate) detail: String,
}

fn missing(what: &'static str, field: &str) -> Error {
    Error { what, detail: format!("{field} is missing") }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

pub(crate) fn log_id_to_wire(log_id: &LogId) -> pb::LogId {
    pb::LogId { term: log_id.leader_id.term, node: log_id.leader_id.node_id, index: log_id.index }
}

pub(crate) fn log_id_from_wire(wire: pb::LogId) -> LogId {
    let pb::LogId { term, node, index } = wire;
    LogId::new(LeaderId { term, node_id: node }, index)
}

pub(crate) fn vote_to_wire(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn vote_from_wire(wire: pb::Vote) -> Vote {
    let pb::Vote { term, node, committed } = wire;
    if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) }
}

fn need_vote(wire: Option<pb::Vote>, what: &'static str) -> Result<Vote, Error> {
    wire.map(vote_from_wire).ok_or_else(|| missing(what, "vote"))
}

pub(crate) fn membership_to_wire(membership: &Membership) -> pb::Membership {
    pb::Membership {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|set| pb::VoterSet { nodes: set.iter().copied().collect() })
            .collect(),
        members: membership.nodes().map(|(&node, basic)| pb::Member { node, address: basic.addr.clone() }).collect(),
    }
}

pub(crate) fn membership_from_wire(wire: pb::Membership) -> Result<Membership, Error> {
    let pb::Membership { voters, members } = wire;
    let voters = voters.into_iter().map(|pb::VoterSet { nodes }| nodes.into_iter().collect()).collect();
    let nodes: std::collections::BTreeMap<u64, BasicNode> =
        members.into_iter().map(|pb::Member { node, address }| (node, BasicNode::new(address))).collect();
    Membership::new(voters, nodes).map_err(|error| Error { what: "membership", detail: error.to_string() })
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_wire(wire: pb::StoredMembership) -> Result<StoredMembership, Error> {
    let pb::StoredMembership { log_id, membership } = wire;
    let membership = membership.ok_or_else(|| missing("stored membership", "membership"))?;
    Ok(StoredMembership::new(log_id.map(log_id_from_wire), membership_from_wire(membership)?))
}

pub(crate) fn entry_to_wire(entry: &Entry) -> pb::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(Data(bytes)) => Some(pb::entry::Payload::Proposal(bytes.clone())),
        EntryPayload::Membership(membership) => Some(pb::entry::Payload::Membership(membership_to_wire(membership))),
    };
    pb::Entry { log_id: Some(log_id_to_wire(&entry.log_id)), payload }
}

pub(crate) fn entry_from_wire(wire: pb::Entry) -> Result<Entry, Error> {
    let pb::Entry { log_id, payload } = wire;
    let log_id = log_id_from_wire(log_id.ok_or_else(|| missing("entry", "log id"))?);
    let payload = match payload {
        None => EntryPayload::Blank,
        Some(pb::entry::Payload::Proposal(bytes)) => EntryPayload::Normal(Data(bytes)),
        Some(pb::entry::Payload::Membership(membership)) => EntryPayload::Membership(membership_from_wire(membership)?),
    };
    Ok(Entry { log_id, payload })
}

/// Encodes an entry for the log file.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    entry_to_wire(entry).encode_to_vec()
}

/// Decodes an entry of the log file.
pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, Error> {
    let wire = pb::Entry::decode(bytes).map_err(|error| Error { what: "entry", detail: error.to_string() })?;
    entry_from_wire(wire)
}

macro_rules! stored {
    ($encode:ident, $decode:ident, $own:ty, $wire:ty, $to:expr, $from:expr, $what:literal) => {
        pub(crate) fn $encode(value: &$own) -> Vec<u8> {
            let to: fn(&$own) -> $wire = $to;
            to(value).encode_to_vec()
        }

        pub(crate) fn $decode(bytes: &[u8]) -> Result<$own, Error> {
            let from: fn($wire) -> Result<$own, Error> = $from;
            from(<$wire>::decode(bytes).map_err(|error| Error { what: $what, detail: error.to_string() })?)
        }
    };
}

stored!(encode_log_id, decode_log_id, LogId, pb::LogId, log_id_to_wire, |wire| Ok(log_id_from_wire(wire)), "log id");
stored!(encode_vote, decode_vote, Vote, pb::Vote, vote_to_wire, |wire| Ok(vote_from_wire(wire)), "vote");
stored!(
    encode_stored_membership,
    decode_stored_membership,
    StoredMembership,
    pb::StoredMembership,
    stored_membership_to_wire,
    stored_membership_from_wire,
    "membership"
);

pub(crate) fn append_to_wire(request: AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_to_wire),
        leader_commit: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: request.entries.iter().map(entry_to_wire).collect(),
    }
}

pub(crate) fn append_from_wire(wire: pb::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Error> {
    let pb::AppendRequest { vote, prev, leader_commit, entries } = wire;
    Ok(AppendEntriesRequest {
        vote: need_vote(vote, "append request")?,
        prev_log_id: prev.map(log_id_from_wire),
        leader_commit: leader_commit.map(log_id_from_wire),
        entries: entries.into_iter().map(entry_from_wire).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn stream_result_to_wire(result: StreamAppendResult<TypeConfig>) -> pb::AppendReply {
    use pb::append_reply::Result as Wire;
    let result = match result {
        Ok(log_id) => Wire::Matching(pb::Matching { log_id: log_id.as_ref().map(log_id_to_wire) }),
        Err(StreamAppendError::Conflict(log_id)) => Wire::Conflict(log_id_to_wire(&log_id)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(vote_to_wire(&vote)),
    };
    pb::AppendReply { result: Some(result) }
}

pub(crate) fn stream_result_from_wire(wire: pb::AppendReply) -> Result<StreamAppendResult<TypeConfig>, Error> {
    use pb::append_reply::Result as Wire;
    Ok(match wire.result.ok_or_else(|| missing("append reply", "result"))? {
        Wire::Matching(pb::Matching { log_id }) => Ok(log_id.map(log_id_from_wire)),
        Wire::Conflict(log_id) => Err(StreamAppendError::Conflict(log_id_from_wire(log_id))),
        Wire::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_wire(vote))),
    })
}

pub(crate) fn heartbeat_reply_to_wire(response: AppendEntriesResponse<TypeConfig>) -> pb::HeartbeatReply {
    use pb::heartbeat_reply::Result as Wire;
    let result = match response {
        AppendEntriesResponse::Success => Wire::Success(true),
        AppendEntriesResponse::PartialSuccess(log_id) => {
            Wire::Partial(pb::Matching { log_id: log_id.as_ref().map(log_id_to_wire) })
        }
        AppendEntriesResponse::Conflict => Wire::Conflict(true),
        AppendEntriesResponse::HigherVote(vote) => Wire::HigherVote(vote_to_wire(&vote)),
    };
    pb::HeartbeatReply { result: Some(result) }
}

pub(crate) fn heartbeat_reply_from_wire(wire: pb::HeartbeatReply) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
    use pb::heartbeat_reply::Result as Wire;
    Ok(match wire.result.ok_or_else(|| missing("heartbeat reply", "result"))? {
        Wire::Success(_) => AppendEntriesResponse::Success,
        Wire::Partial(pb::Matching { log_id }) => AppendEntriesResponse::PartialSuccess(log_id.map(log_id_from_wire)),
        Wire::Conflict(_) => AppendEntriesResponse::Conflict,
        Wire::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_from_wire(vote)),
    })
}

pub(crate) fn vote_request_to_wire(request: &VoteRequest<TypeConfig>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_wire(wire: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Error> {
    let pb::VoteRequest { vote, last, leadership_transfer } = wire;
    let mut request = VoteRequest::new(need_vote(vote, "vote request")?, last.map(log_id_from_wire));
    request.leadership_transfer = leadership_transfer;
    Ok(request)
}

pub(crate) fn vote_reply_to_wire(response: &VoteResponse<TypeConfig>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn vote_reply_from_wire(wire: pb::VoteReply) -> Result<VoteResponse<TypeConfig>, Error> {
    let pb::VoteReply { vote, granted, last } = wire;
    Ok(VoteResponse::new(need_vote(vote, "vote reply")?, last.map(log_id_from_wire), granted))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sample_entries() -> Vec<Entry> {
        let log_id = |index| LogId::new(LeaderId { term: 3, node_id: 2 }, index);
        let membership = Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])],
            (1..=4)
                .map(|node| (node, BasicNode::new(format!("127.0.0.1:{node}"))))
                .collect::<std::collections::BTreeMap<_, _>>(),
        )
        .expect("valid membership");
        vec![
            Entry { log_id: log_id(7), payload: EntryPayload::Blank },
            Entry { log_id: log_id(8), payload: EntryPayload::Normal(Data(Bytes::from_static(b"wish"))) },
            Entry { log_id: log_id(9), payload: EntryPayload::Membership(membership) },
        ]
    }

    #[test]
    fn entries_round_trip_and_keep_their_golden_bytes() {
        for entry in sample_entries() {
            let bytes = encode_entry(&entry);
            let back = decode_entry(bytes.into()).expect("decodes");
            assert_eq!(format!("{entry:?}"), format!("{back:?}"));
        }
        let golden: Vec<String> =
            sample_entries().iter().map(|entry| domain::digest::encode_hex(&encode_entry(entry))).collect();
        assert_eq!(golden[0], "0a06080310021807");
        assert_eq!(golden[1], "0a06080310021808120477697368");
        assert!(golden[2].starts_with("0a060803100218091a"), "{}", golden[2]);
    }

    #[test]
    fn votes_and_log_ids_round_trip() {
        let vote = Vote::new_committed(5, 2);
        assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        let log_id = LogId::new(LeaderId { term: 5, node_id: 2 }, 9);
        assert_eq!(decode_log_id(&encode_log_id(&log_id)), Ok(log_id));
        assert!(decode_entry(Bytes::from_static(b"\xff\xff")).is_err());
        assert!(decode_entry(Bytes::new()).is_err());
    }
}
