//! A node's peer door, used as another node uses it.

use std::time::Duration;

use bytes::Bytes;
use domain::{NodeId, Revision};
use metadata::{Outcome, wire};
use prost::Message as _;
use proto::raft as pb;
use proto::raft::metadata_client::MetadataClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};

use super::TestNode;

/// Longest wait for one answer; without one the outcome is unknown.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a node answered to a proposal.
#[derive(Debug)]
pub(crate) enum Said {
    /// Decided, here and now or under an earlier index.
    Applied { index: Revision, revision: Revision, outcome: Outcome },
    /// Not appended; who may lead.
    NotLeader(NodeId),
    /// Not appended: too much is in flight.
    Busy,
    /// It may be in somebody's log.
    Unknown,
}

/// The way to one node.
#[derive(Clone)]
pub(crate) struct Door {
    client: MetadataClient<Channel>,
    header: AsciiMetadataValue,
}

impl Door {
    /// The door of a node that runs; it stays of use when the node is started again.
    pub(crate) fn of(node: &TestNode) -> Self {
        let identity = node.handle().identity();
        let endpoint = Endpoint::from_shared(format!("http://{}", node.address)).unwrap();
        let header = format!("{}.1.{}", identity.cluster, identity.node);
        let client = MetadataClient::new(endpoint.connect_lazy()).max_encoding_message_size(64 << 20);
        Door { client, header: header.parse().unwrap() }
    }

    /// Proposes as a node does that forwards for its client.
    pub(crate) async fn propose(&self, proposal: Bytes) -> Said {
        use pb::propose_reply::Result as Wire;
        let mut request = tonic::Request::new(pb::ProposeRequest { proposal });
        request.metadata_mut().insert("longshore-cluster", self.header.clone());
        let mut client = self.client.clone();
        let Ok(Ok(reply)) = tokio::time::timeout(ANSWER_MAX, client.propose(request)).await else {
            return Said::Unknown;
        };
        match reply.into_inner().result {
            Some(Wire::Applied(pb::Applied { index, revision, outcome })) => Said::Applied {
                index: Revision(index),
                revision: Revision(revision),
                outcome: wire::decode_outcome(outcome).unwrap(),
            },
            Some(Wire::NotLeader(node)) => Said::NotLeader(NodeId(node)),
            Some(Wire::Busy(_)) => Said::Busy,
            Some(Wire::Unknown(_)) | None => Said::Unknown,
        }
    }
}

/// A log id as the log file stores it, moved to another index.
pub(crate) fn at_index(raw: &[u8], index: u64) -> Vec<u8> {
    let pb::LogId { term, node, index: _ } = pb::LogId::decode(raw).unwrap();
    pb::LogId { term, node, index }.encode_to_vec()
}
