//! What openraft sends to one peer: pipelined appends, heartbeats, votes, snapshots, leader transfer.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use domain::{NodeId, limits};
use futures_util::task::AtomicWaker;
use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use prost::Message as _;
use proto::raft as pb;
use proto::raft::metadata_client::MetadataClient;
use runtime::clock;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::handle::ChannelClass;
use crate::raft::network::transfer;
use crate::raft::peers::{Peers, Stamp};
use crate::raft::snapshot::Spool;
use crate::raft::types::{RpcError, TypeConfig, Vote};
use crate::raft::wire;

/// An append stream with requests out and no reply for this long is broken (design §7, "by progress").
const APPEND_PROGRESS: Duration = Duration::from_secs(5);
/// Requests of one append stream that wait for their reply at once.
const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// No further request leaves while those without a reply have so many bytes: they wait in the memory of a follower that
/// writes more slowly than the leader sends. One request more may be out, of at most one read of the log. Unit: bytes.
const APPEND_BYTES_IN_FLIGHT_MAX: usize = 16 * 1024 * 1024;
/// A peer that refuses is not dialled again at once: the library would spin (libs.md §1).
const RECONNECT_DELAY: Duration = Duration::from_millis(300);

/// A stamped client of a peer's metadata service.
pub(crate) type Client = MetadataClient<InterceptedService<Channel, Stamp>>;

/// A client of a peer, or nothing when its address is not known.
pub(crate) fn connect(peers: &Peers, node: NodeId, class: ChannelClass) -> Option<Client> {
    let service = peers.stamped(node, class)?;
    Some(
        MetadataClient::new(service)
            .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::PEER_MESSAGE_BYTES_MAX),
    )
}

/// Makes the library's connections.
pub(crate) struct Factory {
    pub(crate) peers: Peers,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, ChannelClass::Raft)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, ChannelClass::Heartbeat)
    }
}

impl Factory {
    fn peer(&self, target: u64, node: &BasicNode, class: ChannelClass) -> Peer {
        let target = NodeId(target);
        self.peers.learn(target, &node.addr);
        Peer { peers: self.peers.clone(), target, class }
    }
}

/// One connection of the library's.
pub(crate) struct Peer {
    peers: Peers,
    target: NodeId,
    class: ChannelClass,
}

impl Peer {
    fn client(&self, class: ChannelClass) -> Result<Client, RpcError> {
        connect(&self.peers, self.target, class).ok_or_else(|| unreachable("no address is known for the node"))
    }

    /// Heartbeats and votes never wait behind appends, whichever client the library uses for them.
    fn urgent(&self) -> Result<Client, RpcError> {
        self.client(ChannelClass::Heartbeat)
    }
}

fn unreachable(detail: &str) -> RpcError {
    RPCError::Unreachable(Unreachable::new(&std::io::Error::other(detail.to_owned())))
}

fn from_status(status: &tonic::Status) -> RpcError {
    let error = std::io::Error::other(status.to_string());
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown | tonic::Code::FailedPrecondition => {
            RPCError::Unreachable(Unreachable::new(&error))
        }
        _ => RPCError::Network(NetworkError::new(&error)),
    }
}

fn malformed(error: &wire::Error) -> RpcError {
    RPCError::Network(NetworkError::new(error))
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Spool;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let mut client = self.client(self.class)?;
        let started = clock::now();
        let reply = within(option.hard_ttl(), client.heartbeat(wire::append_to_wire(rpc))).await?;
        self.peers.note_round_trip(self.target, started.elapsed());
        wire::heartbeat_reply_from_wire(reply).map_err(|error| malformed(&error))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let client = self.client(ChannelClass::Raft);
        Box::pin(async move {
            let opened = match client {
                Ok(client) => open_append_stream(client, input).await,
                Err(error) => Err(error),
            };
            if opened.is_err() {
                tokio::time::sleep(RECONNECT_DELAY).await;
            }
            opened
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.urgent()?;
        let reply = within(option.hard_ttl(), client.vote(wire::vote_request_to_wire(&rpc))).await?;
        wire::vote_reply_from_wire(reply).map_err(|error| malformed(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.urgent()?;
        let reply = within(option.hard_ttl(), client.pre_vote(wire::vote_request_to_wire(&rpc))).await?;
        wire::vote_reply_from_wire(reply).map_err(|error| malformed(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, Spool>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client(ChannelClass::Bulk)?;
        let sending = transfer::send(client, self.target, vote, snapshot.meta, snapshot.snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(status) => {
                    // A peer that is away is nothing new every time it is tried.
                    if status.code() == tonic::Code::Unavailable {
                        tracing::debug!(peer = %self.target, error = %status, "peer takes no snapshot now");
                    } else {
                        tracing::info!(peer = %self.target, error = %status, "snapshot transfer broke off, it will resume");
                    }
                    tokio::time::sleep(RECONNECT_DELAY).await;
                    Err(from_status(&status).into())
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<TypeConfig>, RpcError> {
        let mut client = self.urgent()?;
        let request = pb::TransferRequest {
            from_leader: Some(wire::vote_to_wire(req.from_leader())),
            to: *req.to_node_id(),
            last: req.last_log_id().map(wire::log_id_to_wire),
        };
        let pb::TransferReply { refused } = within(option.hard_ttl(), client.transfer_leader(request)).await?;
        if refused.is_empty() { Ok(Ok(())) } else { Err(unreachable(&refused)) }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RECONNECT_DELAY)))
    }
}

/// Awaits a unary reply within a deadline.
async fn within<T>(
    limit: Duration,
    reply: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, RpcError> {
    match tokio::time::timeout(limit, reply).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(RPCError::Timeout(Timeout {
            action: openraft::network::RPCTypes::AppendEntries,
            id: 0,
            target: 0,
            timeout: limit,
        })),
    }
}

type Replies = BoxStream<'static, Result<StreamAppendResult<TypeConfig>, RpcError>>;

/// Requests out without a reply, and who waits for them to become fewer.
#[derive(Default)]
struct Flow {
    outstanding: Mutex<Outstanding>,
    waker: AtomicWaker,
}

/// Sizes of the requests without a reply, oldest first, and their sum. Unit: bytes.
#[derive(Default)]
struct Outstanding {
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Flow {
    fn outstanding(&self) -> std::sync::MutexGuard<'_, Outstanding> {
        // Two fields that are changed together, without anything in between that can fail.
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        let outstanding = self.outstanding();
        outstanding.sizes.len() >= APPENDS_IN_FLIGHT_MAX || outstanding.bytes >= APPEND_BYTES_IN_FLIGHT_MAX
    }

    fn is_idle(&self) -> bool {
        self.outstanding().sizes.is_empty()
    }

    fn sent(&self, bytes: usize) {
        let mut outstanding = self.outstanding();
        outstanding.sizes.push_back(bytes);
        outstanding.bytes += bytes;
    }

    /// Replies come in the order of requests.
    fn answered(&self) {
        let mut outstanding = self.outstanding();
        let bytes = outstanding.sizes.pop_front().unwrap_or(0);
        outstanding.bytes -= bytes;
        drop(outstanding);
        self.waker.wake();
    }
}

/// The library's requests on their way to the wire, within the bounds of [`Flow`].
struct Outgoing<S> {
    input: S,
    flow: Arc<Flow>,
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Stream for Outgoing<S> {
    type Item = pb::AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<pb::AppendRequest>> {
        self.flow.waker.register(context.waker());
        if self.flow.is_full() {
            return Poll::Pending;
        }
        let request = ready!(self.input.poll_next_unpin(context));
        Poll::Ready(request.map(|request| {
            let message = wire::append_to_wire(request);
            self.flow.sent(message.encoded_len());
            message
        }))
    }
}

/// Opens one bidirectional stream: requests leave without waiting for replies; replies come back in order.
async fn open_append_stream<S>(mut client: Client, input: S) -> Result<Replies, RpcError>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let flow = Arc::new(Flow::default());
    let requests = Outgoing { input, flow: flow.clone() };
    let opening = tokio::time::timeout(APPEND_PROGRESS, client.append(requests));
    let replies = match opening.await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(from_status(&status)),
        Err(_) => return Err(unreachable("the peer did not open the append stream in time")),
    };
    Ok(Box::pin(futures_util::stream::unfold(Some(replies), move |replies| {
        let flow = flow.clone();
        async move {
            let mut replies = replies?;
            let reply = next_reply(&mut replies, &flow).await?;
            let rest = reply.is_ok().then_some(replies);
            match &rest {
                Some(_) => flow.answered(),
                None => tokio::time::sleep(RECONNECT_DELAY).await,
            }
            Some((reply, rest))
        }
    })))
}

/// The next reply; an idle stream may stay silent for ever, one with requests out may not.
async fn next_reply(
    replies: &mut tonic::Streaming<pb::AppendReply>,
    flow: &Flow,
) -> Option<Result<StreamAppendResult<TypeConfig>, RpcError>> {
    let mut silent_since = clock::now();
    loop {
        match tokio::time::timeout(Duration::from_millis(500), replies.message()).await {
            Ok(Ok(Some(reply))) => {
                return Some(wire::stream_result_from_wire(reply).map_err(|error| malformed(&error)));
            }
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => return Some(Err(from_status(&status))),
            Err(_) if flow.is_idle() => silent_since = clock::now(),
            Err(_) if silent_since.elapsed() < APPEND_PROGRESS => {}
            Err(_) => return Some(Err(unreachable("the peer stopped answering appends"))),
        }
    }
}

#[cfg(test)]
#[path = "client_test.rs"]
mod tests;
