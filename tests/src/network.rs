//! The administration protocol, as far as the suites speak it: births and status.

use std::time::Duration;

use proto::admin::admin_client::AdminClient;
use proto::admin::{
    ClusterStatusRequest, Globs, InitRequest, JoinRequest, MemberStatus, NodeStatusRequest, NodeStatusResponse, Phase,
    RegionState, RegionStatus, SetPolicyRequest, TransferLeaderRequest,
};
use tonic::transport::{Channel, Endpoint};

/// How long a question may take.
const ASK: Duration = Duration::from_secs(3);
/// How long a birth may take.
const BIRTH: Duration = Duration::from_secs(60);

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// It belongs to a cluster and runs.
    pub is_member: bool,
    /// It waits for `init` or `join`.
    pub is_unjoined: bool,
    /// Its id; 0 while unjoined.
    pub node: u64,
    /// The leader as it knows it; 0 for none.
    pub leader: u64,
    /// It leads.
    pub is_leader: bool,
    /// A quorum was heard within a lease.
    pub is_quorum_heard: bool,
    /// Raft term.
    pub term: u64,
    /// Last applied index.
    pub applied: u64,
    /// Its claim on its store is applied.
    pub is_store_open: bool,
    /// State hash, and the index it belongs to.
    pub state_hash: (u64, Vec<u8>),
    /// Blobs fetched since its start.
    pub fetched_blobs: u64,
    /// Copies found damaged since its start.
    pub copies_damaged: u64,
    /// Promises it cannot keep.
    pub impaired: Vec<String>,
}

impl From<NodeStatusResponse> for NodeStatus {
    fn from(status: NodeStatusResponse) -> NodeStatus {
        NodeStatus {
            is_member: status.phase() == Phase::Member,
            is_unjoined: status.phase() == Phase::Unjoined,
            node: status.node,
            leader: status.leader,
            is_leader: status.is_leader,
            is_quorum_heard: status.quorum_heard,
            term: status.term,
            applied: status.applied,
            is_store_open: status.store_open,
            state_hash: (status.state_hash_index, status.state_hash.to_vec()),
            fetched_blobs: status.fetched_blobs,
            copies_damaged: status.copies_damaged,
            impaired: status.impaired,
        }
    }
}

/// A region's row.
#[derive(Clone, Debug)]
pub struct RegionRow {
    /// Name.
    pub name: String,
    /// It counts for durability.
    pub is_ready: bool,
    /// Blobs it wants and does not hold.
    pub backlog_blobs: u64,
    /// Unit: bytes.
    pub backlog_bytes: u64,
}

impl From<RegionStatus> for RegionRow {
    fn from(region: RegionStatus) -> RegionRow {
        RegionRow {
            is_ready: region.state() == RegionState::Ready,
            name: region.name,
            backlog_blobs: region.backlog_blobs,
            backlog_bytes: region.backlog_bytes,
        }
    }
}

/// The cluster as one node sees it.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// Applied index of the answering node.
    pub revision: u64,
    /// Leader; 0 for none.
    pub leader: u64,
    /// Regions.
    pub regions: Vec<RegionRow>,
    /// Node ids that did not answer, and why.
    pub unreachable: Vec<(u64, String)>,
}

/// Speaks to the admin door of one node.
#[derive(Clone, Debug)]
pub struct Admin {
    client: AdminClient<Channel>,
}

impl Admin {
    /// Connects to `peer` (`host:port` of a peer door).
    pub async fn connect(peer: &str) -> Result<Admin, String> {
        let endpoint = Endpoint::from_shared(format!("http://{peer}")).map_err(|error| error.to_string())?;
        let channel = endpoint.connect_timeout(ASK).connect().await.map_err(|error| format!("{peer}: {error:?}"))?;
        Ok(Admin { client: AdminClient::new(channel) })
    }

    /// What the node says of itself.
    pub async fn node_status(&mut self) -> Result<NodeStatus, String> {
        let answer =
            self.client.node_status(timed(NodeStatusRequest {}, ASK)).await.map_err(|status| words(&status))?;
        Ok(answer.into_inner().into())
    }

    /// What it knows of all.
    pub async fn cluster_status(&mut self) -> Result<ClusterStatus, String> {
        let request = timed(ClusterStatusRequest {}, ASK * 2);
        let answer = self.client.cluster_status(request).await.map_err(|status| words(&status))?.into_inner();
        let unreachable = |member: MemberStatus| member.status.is_none().then_some((member.node, member.unreachable));
        Ok(ClusterStatus {
            revision: answer.revision,
            leader: answer.leader,
            regions: answer.regions.into_iter().map(RegionRow::from).collect(),
            unreachable: answer.members.into_iter().filter_map(unreachable).collect(),
        })
    }

    /// Makes the node the first of a cluster; gives its id.
    pub async fn init(&mut self, region: &str, durability: &str) -> Result<u64, String> {
        let request = InitRequest { region: region.to_owned(), place: None, durability: durability.to_owned() };
        let answer = self.client.init(timed(request, BIRTH)).await.map_err(|status| words(&status))?;
        Ok(answer.into_inner().node.map_or(0, |node| node.node))
    }

    /// Makes the node a member of the cluster of `member`; gives its id.
    pub async fn join(&mut self, member: &str, region: &str, replace: Option<u64>) -> Result<u64, String> {
        let request = JoinRequest {
            member: member.to_owned(),
            region: region.to_owned(),
            place: None,
            replace: replace.unwrap_or(0),
        };
        let answer = self.client.join(timed(request, BIRTH)).await.map_err(|status| words(&status))?;
        Ok(answer.into_inner().node.map_or(0, |node| node.node))
    }

    /// Sets the durability of a repository prefix.
    pub async fn set_durability(&mut self, prefix: &str, durability: &str) -> Result<(), String> {
        let durability = Some(durability.to_owned());
        self.set_policy(SetPolicyRequest { prefix: prefix.to_owned(), durability, ..SetPolicyRequest::default() }).await
    }

    /// Says whether manifests with missing children are stored below a prefix.
    pub async fn set_sparse(&mut self, prefix: &str, accepted: bool) -> Result<(), String> {
        let sparse = Some(accepted);
        self.set_policy(SetPolicyRequest { prefix: prefix.to_owned(), sparse, ..SetPolicyRequest::default() }).await
    }

    /// Says which tags below a prefix never move.
    pub async fn set_immutable_tags(&mut self, prefix: &str, glob: &str) -> Result<(), String> {
        let immutable_tags = Some(Globs { globs: vec![glob.to_owned()] });
        let request = SetPolicyRequest { prefix: prefix.to_owned(), immutable_tags, ..SetPolicyRequest::default() };
        self.set_policy(request).await
    }

    async fn set_policy(&mut self, request: SetPolicyRequest) -> Result<(), String> {
        self.client.set_policy(timed(request, BIRTH)).await.map(drop).map_err(|status| words(&status))
    }

    /// Hands leadership on; to the most advanced voter when `to` is empty.
    pub async fn transfer_leader(&mut self, to: &str) -> Result<(), String> {
        let request = TransferLeaderRequest { to: to.to_owned() };
        self.client.transfer_leader(timed(request, BIRTH)).await.map(drop).map_err(|status| words(&status))
    }
}

fn timed<T>(message: T, deadline: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    request
}

fn words(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
