use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::{ClusterId, Incarnation, NodeId};
use futures_util::{Stream, StreamExt};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::AppendEntriesRequest;
use proto::raft as pb;
use proto::raft::metadata_server::{Metadata, MetadataServer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::{APPEND_BYTES_IN_FLIGHT_MAX, APPENDS_IN_FLIGHT_MAX, Factory, Peer};
use crate::birth::Profile;
use crate::raft::config::Timing;
use crate::raft::peers::Peers;
use crate::raft::types::{Data, Entry, LeaderId, LogId, TypeConfig, Vote};

/// Requests that the peer below wants to see before it answers any.
const TOGETHER: usize = 3;

/// A peer that answers appends only once several have arrived: whoever waits for each answer waits for ever. Or one that
/// never answers.
struct Reluctant {
    answers: bool,
}

type Replies = Pin<Box<dyn Stream<Item = Result<pb::AppendReply, Status>> + Send>>;

#[tonic::async_trait]
impl Metadata for Reluctant {
    type AppendStream = Replies;

    async fn append(&self, request: Request<tonic::Streaming<pb::AppendRequest>>) -> Result<Response<Replies>, Status> {
        if !self.answers {
            let silence = request.into_inner().filter_map(|_| std::future::ready(None));
            return Ok(Response::new(Box::pin(silence)));
        }
        let replies = request.into_inner().chunks(TOGETHER).flat_map(|requests| {
            let replies = requests.into_iter().map(|request| {
                let log_id = request?.prev;
                Ok(pb::AppendReply { result: Some(pb::append_reply::Result::Matching(pb::Matching { log_id })) })
            });
            futures_util::stream::iter(replies.collect::<Vec<_>>())
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn heartbeat(&self, _: Request<pb::AppendRequest>) -> Result<Response<pb::HeartbeatReply>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn vote(&self, _: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn pre_vote(&self, _: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn transfer_leader(&self, _: Request<pb::TransferRequest>) -> Result<Response<pb::TransferReply>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn offer_snapshot(&self, _: Request<pb::SnapshotHead>) -> Result<Response<pb::SnapshotOffset>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn send_snapshot(
        &self,
        _: Request<tonic::Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn propose(&self, _: Request<pb::ProposeRequest>) -> Result<Response<pb::ProposeReply>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn read_index(&self, _: Request<pb::ReadIndexRequest>) -> Result<Response<pb::ReadIndexReply>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn compare(&self, _: Request<pb::CompareRequest>) -> Result<Response<pb::CompareReply>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

/// A connection to such a peer.
async fn connected(answers: bool) -> (Peer, runtime::Tasks) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    let tasks = runtime::Tasks::new();
    tasks.spawn(runtime::TaskKind::Door, "reluctant", async move {
        let server = tonic::transport::Server::builder().add_service(
            MetadataServer::new(Reluctant { answers })
                .max_decoding_message_size(domain::limits::PEER_MESSAGE_BYTES_MAX),
        );
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("serves");
    });
    let config = crate::birth::Config::for_tests(Profile::Lan);
    let peers = Peers::new(ClusterId([1; 16]), Incarnation(1), BTreeMap::new(), Timing::of(&config));
    peers.set_addresses(BTreeMap::from([(NodeId(2), address.clone())]));
    let mut factory = Factory { peers };
    (factory.new_client(2, &openraft::impls::BasicNode::new(address)).await, tasks)
}

/// Appends leave without waiting for the answers to earlier ones.
#[tokio::test]
async fn appends_are_pipelined() {
    let (mut peer, tasks) = connected(true).await;
    let request = |index| AppendEntriesRequest::<TypeConfig> {
        vote: Vote::new_committed(1, 1),
        prev_log_id: Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index)),
        entries: Vec::new(),
        leader_commit: None,
    };
    let requests: Vec<_> = (0..TOGETHER as u64).map(request).collect();
    let input = futures_util::stream::iter(requests).chain(futures_util::stream::pending());
    let option = RPCOption::new(Duration::from_secs(1));
    let replies = peer.stream_append(Box::pin(input), option).await.expect("opens");
    let answered = replies.take(TOGETHER).collect::<Vec<_>>();
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await.expect("answers come without waiting");
    for (index, reply) in answered.into_iter().enumerate() {
        let matching = reply.expect("no transport error").expect("matching").expect("an id");
        assert_eq!(matching.index, index as u64, "answers come in order");
    }
    tasks.cancel();
}

/// What a follower has not written yet waits in its memory: it is not sent more than it was promised room for.
#[tokio::test]
async fn a_peer_that_answers_nothing_is_sent_a_bounded_number_of_bytes() {
    const ENTRY_BYTES: usize = 1024 * 1024;
    let (mut peer, tasks) = connected(false).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let body = bytes::Bytes::from(vec![7; ENTRY_BYTES]);
    let counting = taken.clone();
    let input = futures_util::stream::iter(1..).map(move |index| {
        counting.fetch_add(1, Ordering::Relaxed);
        let log_id = LogId::new(LeaderId { term: 1, node_id: 1 }, index);
        let payload = openraft::EntryPayload::Normal(Data(body.clone()));
        AppendEntriesRequest::<TypeConfig> {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: vec![Entry { log_id, payload }],
            leader_commit: None,
        }
    });
    let option = RPCOption::new(Duration::from_secs(1));
    let mut replies = peer.stream_append(Box::pin(input), option).await.expect("opens");
    // The stream ends by the peer's silence: nothing was on its way for seconds.
    let end = tokio::time::timeout(Duration::from_secs(60), replies.next()).await.expect("silence has a bound");
    assert!(end.expect("an answer").is_err());
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken < APPENDS_IN_FLIGHT_MAX / 2, "{taken} requests");
    assert!(taken * ENTRY_BYTES <= APPEND_BYTES_IN_FLIGHT_MAX, "{taken} MiB");
    assert!(taken * ENTRY_BYTES * 2 >= APPEND_BYTES_IN_FLIGHT_MAX, "{taken} MiB are not pipelined");
    tasks.cancel();
}
