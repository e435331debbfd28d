//! Calls that a follower makes of the leader for its own clients.

use bytes::Bytes;
use domain::{ClusterId, Incarnation, NodeId, Revision};
use proto::raft as pb;
use proto::raft::birth_client::BirthClient;
use tonic::transport::Channel;

use super::client::Client;
use crate::handle::Removal;
use crate::raft::agreement::Recorded;
use crate::raft::judge::Hash;
use crate::raft::propose::Attempt;
use crate::wire;

/// Forwards an encoded proposal to the leader.
pub(crate) async fn propose(mut client: Client, proposal: Bytes) -> Attempt {
    match client.propose(pb::ProposeRequest { proposal }).await {
        Ok(response) => reply_to_attempt(response.into_inner()),
        Err(status) if never_sent(&status) => Attempt::NotLeader(None),
        Err(_) => Attempt::Unknown,
    }
}

/// Asks the leader for the index that a strict read must have applied; none when it cannot say, with its reason.
pub(crate) async fn read_index(mut client: Client) -> Result<Revision, Option<String>> {
    use pb::read_index_reply::Result as Wire;
    match client.read_index(pb::ReadIndexRequest {}).await.map(|response| response.into_inner().result) {
        Ok(Some(Wire::Index(index))) => Ok(Revision(index)),
        Ok(Some(Wire::Unavailable(detail))) => Err(Some(detail)),
        Ok(Some(Wire::NotLeader(_)) | None) | Err(_) => Err(None),
    }
}

/// Asks a peer for the state hash it recorded at an index, and tells it ours.
pub(crate) async fn compare(
    mut client: Client,
    me: NodeId,
    index: Revision,
    ours: Hash,
) -> Result<Recorded, tonic::Status> {
    use pb::compare_reply::Result as Wire;
    let request = pb::CompareRequest { node: me.0, index: index.0, hash: Bytes::copy_from_slice(&ours) };
    let pb::CompareReply { result } = client.compare(request).await?.into_inner();
    match result {
        Some(Wire::Hash(hash)) => match hash.as_ref().try_into() {
            Ok(hash) => Ok(Recorded::Hash(hash)),
            Err(_) => Err(tonic::Status::internal("the peer's hash is not 32 bytes")),
        },
        Some(Wire::NotReached(_)) => Ok(Recorded::NotReached),
        Some(Wire::Forgotten(_)) => Ok(Recorded::Forgotten),
        None => Err(tonic::Status::internal("the peer's answer is of another release")),
    }
}

/// Asks a peer whether its state says that a node was taken out of the cluster.
pub(crate) async fn standing(
    channel: Channel,
    cluster: ClusterId,
    incarnation: Incarnation,
    node: NodeId,
) -> Result<Option<Removal>, tonic::Status> {
    let cluster = Bytes::copy_from_slice(cluster.as_bytes());
    let request = pb::StandingRequest { cluster, incarnation: incarnation.0, node: node.0 };
    let reply = BirthClient::new(channel).standing(request).await?.into_inner();
    let pb::StandingReply { removed, successor, revision, told_by } = reply;
    Ok(removed.then_some(Removal {
        successor: (successor != 0).then_some(NodeId(successor)),
        revision: Revision(revision),
        told_by: NodeId(told_by),
    }))
}

/// Whether a status proves that the request never reached the leader's raft.
fn never_sent(status: &tonic::Status) -> bool {
    // A failed connection attempt carries tonic's ConnectError; refused headers are our own answer.
    status.code() == tonic::Code::FailedPrecondition
        || std::error::Error::source(status).is_some_and(|source| {
            let mut next = Some(source);
            while let Some(error) = next {
                if error.to_string().contains("tcp connect error") {
                    return true;
                }
                next = error.source();
            }
            false
        })
}

fn reply_to_attempt(reply: pb::ProposeReply) -> Attempt {
    use pb::propose_reply::Result as Wire;
    match reply.result {
        Some(Wire::Applied(pb::Applied { index, revision, outcome })) => match wire::decode_outcome(outcome) {
            Ok(outcome) => Attempt::Applied { index: Revision(index), revision: Revision(revision), outcome },
            Err(error) => {
                tracing::error!(error = %error, "leader answered with a malformed outcome");
                Attempt::Unknown
            }
        },
        Some(Wire::NotLeader(node)) => Attempt::NotLeader((node != 0).then_some(NodeId(node))),
        Some(Wire::Busy(_)) => Attempt::Busy,
        Some(Wire::Unknown(_)) | None => Attempt::Unknown,
    }
}
