//! What peers ask of this node: the gRPC services of the room.

use std::pin::Pin;

use bytes::Bytes;
use domain::{NodeId, Revision, limits};
use futures_util::{Stream, StreamExt as _};
use openraft::raft::TransferLeaderRequest;
use proto::raft as pb;
use proto::raft::birth_server::{Birth, BirthServer};
use proto::raft::metadata_server::{Metadata, MetadataServer};
use tonic::{Request, Response, Status};

use crate::command::Command;
use crate::handle::Removal;
use crate::raft::agreement::{self, Recorded};
use crate::raft::member::Member;
use crate::raft::minting::{self, Minting};
use crate::raft::network::transfer;
use crate::raft::peers::{CLUSTER_HEADER, header};
use crate::raft::propose::Attempt;
use crate::raft::reads::RoundError;
use crate::raft::wire;

/// Adds the services of a member to a peer door.
pub(crate) fn add_services(routes: &mut tonic::service::RoutesBuilder, member: &Member) {
    let service = MetadataServer::new(Service { member: member.clone() })
        .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::PEER_MESSAGE_BYTES_MAX);
    let identity = member.identity();
    let expected = header(identity.cluster, member.incarnation(), identity.node);
    routes.add_service(tonic::service::interceptor::InterceptedService::new(
        service,
        move |request: Request<()>| -> Result<Request<()>, Status> {
            if request.metadata().get(CLUSTER_HEADER) == Some(&expected) {
                Ok(request)
            } else {
                Err(Status::failed_precondition("this node belongs to another cluster, incarnation or id"))
            }
        },
    ));
    routes.add_service(BirthServer::new(Service { member: member.clone() }));
}

#[derive(Clone)]
struct Service {
    member: Member,
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("raft has stopped on this node: {error}"))
}

type Replies = Pin<Box<dyn Stream<Item = Result<pb::AppendReply, Status>> + Send>>;

#[tonic::async_trait]
impl Metadata for Service {
    type AppendStream = Replies;

    async fn append(&self, request: Request<tonic::Streaming<pb::AppendRequest>>) -> Result<Response<Replies>, Status> {
        let member = self.member.clone();
        // A malformed or broken request ends the stream; the leader opens another.
        let requests = request.into_inner().map(move |message| {
            let request = wire::append_from_wire(message.ok()?)
                .inspect_err(|error| tracing::warn!(error = %error, "malformed append request"))
                .ok()?;
            member.heard_leader(NodeId(request.vote.leader_id.node_id));
            Some(request)
        });
        // A quiet leader sends nothing for a minute: a node that stops does not wait for its next entry.
        let stopping = self.member.tasks().token().cancelled_owned();
        let requests = requests
            .take_while(|request| std::future::ready(request.is_some()))
            .filter_map(std::future::ready)
            .take_until(Box::pin(stopping));
        let replies = self
            .member
            .raft()
            .stream_append(requests)
            .map(|reply| reply.map(wire::stream_result_to_wire).map_err(fatal));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn heartbeat(&self, request: Request<pb::AppendRequest>) -> Result<Response<pb::HeartbeatReply>, Status> {
        let request = wire::append_from_wire(request.into_inner())?;
        let leader = NodeId(request.vote.leader_id.node_id);
        let response = self.member.raft().append_entries(request).await.map_err(fatal)?;
        if !matches!(response, openraft::raft::AppendEntriesResponse::HigherVote(_)) {
            self.member.heard_leader(leader);
        }
        Ok(Response::new(wire::heartbeat_reply_to_wire(response)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let request = wire::vote_request_from_wire(request.into_inner())?;
        let response = self.member.raft().vote(request).await.map_err(fatal)?;
        Ok(Response::new(wire::vote_reply_to_wire(&response)))
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let request = wire::vote_request_from_wire(request.into_inner())?;
        let response = self.member.raft().pre_vote(request).await.map_err(fatal)?;
        Ok(Response::new(wire::vote_reply_to_wire(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Result<Response<pb::TransferReply>, Status> {
        let pb::TransferRequest { from_leader, to, last } = request.into_inner();
        if to == self.member.identity().node.0 && self.member.is_diverged() {
            return Ok(Response::new(pb::TransferReply { refused: "this node has diverged".to_owned() }));
        }
        let from = from_leader.map(wire::vote_from_wire).ok_or_else(|| Status::invalid_argument("vote is missing"))?;
        let request = TransferLeaderRequest::new(from, to, last.map(wire::log_id_from_wire));
        let accepted = self.member.raft().handle_transfer_leader(request).await.map_err(fatal)?;
        let refused = accepted.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(pb::TransferReply { refused }))
    }

    async fn offer_snapshot(&self, request: Request<pb::SnapshotHead>) -> Result<Response<pb::SnapshotOffset>, Status> {
        let offset = transfer::offered(&self.member, request.into_inner()).await?;
        Ok(Response::new(pb::SnapshotOffset { offset }))
    }

    async fn send_snapshot(
        &self,
        request: Request<tonic::Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        let vote = transfer::receive(&self.member, request.into_inner()).await?;
        Ok(Response::new(pb::SnapshotReply { vote: Some(wire::vote_to_wire(&vote)) }))
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Result<Response<pb::ProposeReply>, Status> {
        use pb::propose_reply::Result as Wire;
        let pb::ProposeRequest { proposal } = request.into_inner();
        // What no node could decode would stop every node that applies it.
        let decoded = crate::wire::decode_proposal(proposal.clone())
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let result = match self.member.submit(proposal, decoded.command.is_upkeep()).await {
            Attempt::Applied { index, revision, outcome } => Wire::Applied(pb::Applied {
                index: index.0,
                revision: revision.0,
                outcome: crate::wire::encode_outcome(&outcome),
            }),
            Attempt::NotLeader(leader) => Wire::NotLeader(leader.map_or(0, |node| node.0)),
            Attempt::Busy => Wire::Busy(true),
            Attempt::Unknown => Wire::Unknown(true),
        };
        Ok(Response::new(pb::ProposeReply { result: Some(result) }))
    }

    async fn read_index(
        &self,
        _request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexReply>, Status> {
        use pb::read_index_reply::Result as Wire;
        let result = match self.member.leader_read_index().await {
            Ok(index) => Wire::Index(index.0),
            Err(RoundError::NotLeader(leader)) => Wire::NotLeader(leader.map_or(0, |node| node.0)),
            Err(RoundError::Unavailable(detail)) => Wire::Unavailable(detail),
        };
        Ok(Response::new(pb::ReadIndexReply { result: Some(result) }))
    }

    async fn compare(&self, request: Request<pb::CompareRequest>) -> Result<Response<pb::CompareReply>, Status> {
        use pb::compare_reply::Result as Wire;
        let pb::CompareRequest { node, index, hash } = request.into_inner();
        let hash = hash.as_ref().try_into().map_err(|_| Status::invalid_argument("hash is not 32 bytes"))?;
        let result = match agreement::asked(&self.member, NodeId(node), Revision(index), hash) {
            Recorded::Hash(hash) => Wire::Hash(Bytes::copy_from_slice(&hash)),
            Recorded::NotReached => Wire::NotReached(true),
            Recorded::Forgotten => Wire::Forgotten(true),
        };
        Ok(Response::new(pb::CompareReply { result: Some(result) }))
    }
}

#[tonic::async_trait]
impl Birth for Service {
    async fn mint(&self, request: Request<pb::MintRequest>) -> Result<Response<pb::MintReply>, Status> {
        let pb::MintRequest { proposal } = request.into_inner();
        let invalid = |detail: String| Status::invalid_argument(detail);
        let proposal = crate::wire::decode_proposal(proposal).map_err(|error| invalid(error.to_string()))?;
        let Command::MintNode { node, replace } = proposal.command else {
            return Err(invalid("only a MintNode may be asked for here".to_owned()));
        };
        let minting = minting::mint(&self.member, node, replace).await;
        let minting = minting.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(match minting {
            Minting::Minted(node, region) => pb::MintReply {
                cluster: Bytes::copy_from_slice(self.member.identity().cluster.as_bytes()),
                incarnation: self.member.incarnation().0,
                node: node.0,
                region: region.0,
                ..pb::MintReply::default()
            },
            Minting::Refused(refused) => pb::MintReply { refused, ..pb::MintReply::default() },
            Minting::Unavailable(unavailable) => pb::MintReply { unavailable, ..pb::MintReply::default() },
        }))
    }

    async fn standing(&self, request: Request<pb::StandingRequest>) -> Result<Response<pb::StandingReply>, Status> {
        let pb::StandingRequest { cluster, incarnation, node } = request.into_inner();
        let own = self.member.identity().cluster;
        if cluster.as_ref() != own.as_bytes() || incarnation != self.member.incarnation().0 {
            return Err(Status::failed_precondition("this node belongs to another cluster or incarnation"));
        }
        let standing = self.member.standing_of(NodeId(node)).map_err(|error| Status::internal(error.to_string()))?;
        let reply = standing.map(|Removal { successor, revision, told_by }| pb::StandingReply {
            removed: true,
            successor: successor.map_or(0, |node| node.0),
            revision: revision.0,
            told_by: told_by.0,
        });
        Ok(Response::new(reply.unwrap_or_default()))
    }
}
