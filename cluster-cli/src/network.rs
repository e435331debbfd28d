//! The gRPC side: asks nodes, follows endpoints, turns answers into our own words at once.

use std::future::Future;
use std::time::Duration;

use domain::{Durability, Place, RepositoryName, Tag};
use proto::admin::admin_client::AdminClient;
use proto::admin::{
    ClusterStatusRequest, Globs, InitRequest, JoinRequest, LeaveRequest, LeaveResponse, NodeStatusRequest,
    Place as WirePlace, Policy as WirePolicy, RollbackTagRequest, RollbackTagResponse, SetPolicyRequest,
    ShowPoliciesRequest, SyncRequest, SyncResponse, TagHistoryRequest, TagMove as WireMove, TransferLeaderRequest,
};
use serde::Serialize;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cluster::{Cluster, Node};
use crate::failure::{Exit, Failure};
use crate::wire::{cluster_from_wire, known, node_from_wire};

type Client = AdminClient<Channel>;

const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const WRITE_DEADLINE: Duration = Duration::from_secs(40);
const READ: Call = Call { deadline: Duration::from_secs(5), changes: false };
const WRITE: Call = Call { deadline: WRITE_DEADLINE, changes: true };
/// Metadata key of what to do next (proto/admin.proto).
const NEXT: &str = "longshore-next-bin";

/// What kind of question is asked.
#[derive(Clone, Copy)]
struct Call {
    deadline: Duration,
    /// Whether a connection that broke may have changed something.
    changes: bool,
}

/// Nodes to ask, in order.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    list: Vec<String>,
    /// Say on standard error when the next one is tried.
    verbose: bool,
}

/// What leaving would take along.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Departure {
    pub(crate) revision: u64,
    pub(crate) copies: u64,
    pub(crate) bytes: u64,
    pub(crate) last_copies: u64,
    pub(crate) last_copy_bytes: u64,
    pub(crate) examples: Vec<(String, u64)>,
    /// Repositories that link them: the first by name.
    pub(crate) repositories: Vec<String>,
    pub(crate) repositories_total: u64,
    /// It was begun, and the region is still looked through for last copies.
    #[serde(skip)]
    pub(crate) under_way: bool,
}

/// A policy row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Policy {
    pub(crate) prefix: String,
    pub(crate) durability: String,
    pub(crate) sparse: bool,
    pub(crate) immutable_tags: Vec<String>,
}

/// What of a policy is set; the rest stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PolicyChange {
    pub(crate) durability: Option<Durability>,
    pub(crate) sparse: Option<bool>,
    pub(crate) immutable_tags: Option<Vec<String>>,
}

/// A move of a tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TagMove {
    pub(crate) revision: u64,
    /// None when the tag was deleted.
    pub(crate) digest: Option<String>,
    /// The manifest is still stored.
    pub(crate) stored: bool,
    pub(crate) at_ms: u64,
    pub(crate) actor: String,
    pub(crate) region: String,
}

/// A tag that was put back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RolledBack {
    pub(crate) revision: u64,
    /// None when the tag was deleted.
    pub(crate) from: Option<String>,
    pub(crate) to: String,
}

/// A comparison of a node's disk with its rows that has begun.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    pub(crate) node: u64,
    pub(crate) region: String,
    /// The node waited for the operator's word.
    pub(crate) was_asked: bool,
    /// It was given.
    pub(crate) confirmed: bool,
}

impl Endpoints {
    pub(crate) fn new(list: Vec<String>) -> Self {
        Endpoints { list, verbose: true }
    }

    /// Says nothing when an endpoint does not answer, for those that ask again and again.
    pub(crate) fn quiet(mut self) -> Self {
        self.verbose = false;
        self
    }

    /// The cluster, as the first node that answers sees it.
    pub(crate) async fn cluster(&self) -> Result<Cluster, Failure> {
        let ask = |mut client: Client| async move { client.cluster_status(ClusterStatusRequest {}).await };
        let answer = self.ask(READ, ask).await?.into_inner();
        Ok(cluster_from_wire(answer))
    }

    /// Takes a region out, or says what that would do.
    pub(crate) async fn leave(&self, region: &str, force: bool, dry_run: bool) -> Result<Departure, Failure> {
        self.ask_to_leave(LeaveRequest { region: region.to_owned(), force, dry_run, follow: 0 }).await
    }

    /// Waits on for the end of a departure that was begun at a revision.
    pub(crate) async fn follow_leave(&self, region: &str, begun: u64) -> Result<Departure, Failure> {
        let request = LeaveRequest { region: region.to_owned(), force: false, dry_run: false, follow: begun };
        self.ask_to_leave(request).await
    }

    async fn ask_to_leave(&self, request: LeaveRequest) -> Result<Departure, Failure> {
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.leave(request).await }
        };
        #[rustfmt::skip]
        let LeaveResponse {
            revision, copies, bytes, last_copies, last_copy_bytes, examples, repositories, repositories_total, under_way,
        } = self.ask(WRITE, ask).await?.into_inner();
        let examples = examples.into_iter().map(|copy| (copy.digest, copy.bytes)).collect();
        #[rustfmt::skip]
        let departure = Departure {
            revision, copies, bytes, last_copies, last_copy_bytes, examples, repositories, repositories_total, under_way,
        };
        Ok(departure)
    }

    /// Sets what is named of a policy; gives the revision.
    pub(crate) async fn set_policy(&self, prefix: &str, change: PolicyChange) -> Result<u64, Failure> {
        let PolicyChange { durability, sparse, immutable_tags } = change;
        let request = SetPolicyRequest {
            prefix: prefix.to_owned(),
            durability: durability.map(|durability| durability.to_string()),
            sparse,
            immutable_tags: immutable_tags.map(|globs| Globs { globs }),
        };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.set_policy(request).await }
        };
        Ok(self.ask(WRITE, ask).await?.into_inner().revision)
    }

    /// All policies, or the one in force for a repository.
    pub(crate) async fn policies(&self, repository: Option<&RepositoryName>) -> Result<Vec<Policy>, Failure> {
        let request = ShowPoliciesRequest { repository: repository.map(ToString::to_string).unwrap_or_default() };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.show_policies(request).await }
        };
        let show = |WirePolicy { prefix, durability, sparse, immutable_tags }| Policy {
            prefix,
            durability,
            sparse,
            immutable_tags,
        };
        Ok(self.ask(READ, ask).await?.into_inner().policies.into_iter().map(show).collect())
    }

    /// The newest moves of a tag, newest first.
    pub(crate) async fn tag_history(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        limit: u32,
    ) -> Result<Vec<TagMove>, Failure> {
        let request = TagHistoryRequest { repository: repository.to_string(), tag: tag.to_string(), limit };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.tag_history(request).await }
        };
        let show = |WireMove { revision, digest, stored, at_ms, actor, region }| TagMove {
            revision,
            digest: (!digest.is_empty()).then_some(digest),
            stored,
            at_ms,
            actor,
            region,
        };
        Ok(self.ask(READ, ask).await?.into_inner().moves.into_iter().map(show).collect())
    }

    /// Puts a tag back.
    pub(crate) async fn tag_rollback(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        to: Option<u64>,
    ) -> Result<RolledBack, Failure> {
        let request = RollbackTagRequest { repository: repository.to_string(), tag: tag.to_string(), to };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.rollback_tag(request).await }
        };
        let RollbackTagResponse { revision, from, to } = self.ask(WRITE, ask).await?.into_inner();
        Ok(RolledBack { revision, from: (!from.is_empty()).then_some(from), to })
    }

    /// Hands leadership over; gives the node that leads then, as far as known.
    pub(crate) async fn transfer_leader(&self, to: &str) -> Result<Option<u64>, Failure> {
        let request = TransferLeaderRequest { to: to.to_owned() };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.transfer_leader(request).await }
        };
        Ok(known(self.ask(WRITE, ask).await?.into_inner().leader))
    }

    /// Asks one node after the other until one answers for good or refuses.
    async fn ask<T, F, R>(&self, kind: Call, call: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> R,
        R: Future<Output = Result<T, Status>>,
    {
        let mut tried = Vec::new();
        for (position, endpoint) in self.list.iter().enumerate() {
            let status = match connect(endpoint).await {
                Err(why) => Status::unavailable(why),
                Ok(client) => match tokio::time::timeout(kind.deadline, call(client)).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(status)) if is_of_the_transport(&status) && !kind.changes => Status::unavailable(NO_DOOR),
                    Ok(Err(status)) => status,
                    Err(_) => Status::deadline_exceeded(format!("no answer within {} s", kind.deadline.as_secs())),
                },
            };
            // Only what certainly changed nothing is asked of the next one.
            if status.code() != Code::Unavailable || is_of_the_transport(&status) {
                return Err(at(endpoint, &status));
            }
            let next = self.list.get(position + 1);
            if let Some(next) = next.filter(|_| self.verbose) {
                eprintln!("{endpoint}: {}; trying {next}", status.message());
            }
            tried.push((endpoint, status));
        }
        // A node that answered says more than one that does not.
        let answered = tried.iter().find(|(_, status)| next_of(status).is_some());
        if let Some((endpoint, status)) = answered {
            return Err(at(endpoint, status));
        }
        let lines = tried.iter().map(|(endpoint, status)| format!("{endpoint}   {}", status.message())).collect();
        let next =
            "start the nodes (`cluster-cli dev` for a local cluster), or name one that runs with --endpoint host:port";
        Err(Failure::new(Exit::NotNow, "no node could answer", next).with_details(lines))
    }
}

/// Asks a single node about itself.
pub(crate) async fn node_status(endpoint: &str, deadline: Duration) -> Result<Node, Failure> {
    let ask = async {
        let mut client = connect(endpoint).await.map_err(Status::unavailable)?;
        client.node_status(NodeStatusRequest {}).await
    };
    match tokio::time::timeout(deadline, ask).await {
        Ok(Ok(answer)) => Ok(node_from_wire(answer.into_inner())),
        Ok(Err(status)) => Err(at(endpoint, &status)),
        Err(_) => Err(at(endpoint, &Status::unavailable(format!("no answer within {} ms", deadline.as_millis())))),
    }
}

/// Makes a node the first of a new cluster.
pub(crate) async fn init(
    endpoint: &str,
    region: &str,
    place: Option<Place>,
    durability: Durability,
) -> Result<Node, Failure> {
    let durability = durability.to_string();
    let request = InitRequest { region: region.to_owned(), place: place.map(place_to_wire), durability };
    let answer = one(endpoint, |mut client| async move { client.init(request).await }).await?;
    Ok(node_from_wire(answer.into_inner().node.unwrap_or_default()))
}

/// Makes a node a member of the cluster of `member`.
pub(crate) async fn join(
    endpoint: &str,
    member: &str,
    region: &str,
    place: Option<Place>,
    replace: Option<u64>,
) -> Result<Node, Failure> {
    let request = JoinRequest {
        member: member.to_owned(),
        region: region.to_owned(),
        place: place.map(place_to_wire),
        replace: replace.unwrap_or(0),
    };
    let answer = one(endpoint, |mut client| async move { client.join(request).await }).await?;
    Ok(node_from_wire(answer.into_inner().node.unwrap_or_default()))
}

/// Compares a node's disk with its rows; with `confirmed` what is missing or bad there is lost.
pub(crate) async fn sync(endpoint: &str, confirmed: bool) -> Result<Comparison, Failure> {
    let request = SyncRequest { confirm_loss: confirmed };
    let answer = one(endpoint, |mut client| async move { client.sync(request).await }).await?;
    let SyncResponse { node, region, was_asked } = answer.into_inner();
    Ok(Comparison { node, region, was_asked, confirmed })
}

/// A verb for one particular node.
async fn one<T, F, R>(endpoint: &str, call: F) -> Result<T, Failure>
where
    F: FnOnce(Client) -> R,
    R: Future<Output = Result<T, Status>>,
{
    let client = connect(endpoint).await.map_err(|why| {
        let next = "start the node with `longshore-node --config FILE`, or name its peer door with --node";
        Failure::new(Exit::NotNow, format!("the node at {endpoint} does not answer: {why}"), next)
    })?;
    match tokio::time::timeout(WRITE_DEADLINE, call(client)).await {
        Ok(answer) => answer.map_err(|status| at_if_mute(endpoint, &status)),
        Err(_) => {
            let what = format!("the node at {endpoint} gave no answer within {} s", WRITE_DEADLINE.as_secs());
            Err(Failure::new(Exit::NotNow, what, "run the same command again: repeating it is safe"))
        }
    }
}

async fn connect(endpoint: &str) -> Result<Client, String> {
    let target = Endpoint::from_shared(format!("http://{endpoint}")).map_err(|_| "is not a host:port".to_owned())?;
    let target = target.connect_timeout(CONNECT_DEADLINE).tcp_nodelay(true);
    match tokio::time::timeout(CONNECT_DEADLINE, target.connect()).await {
        Ok(Ok(channel)) => Ok(AdminClient::new(channel)),
        Ok(Err(error)) => Err(innermost(&error)),
        Err(_) => Err(format!("no connection within {} s", CONNECT_DEADLINE.as_secs())),
    }
}

/// The root of an error, in words.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    match current.downcast_ref::<std::io::Error>() {
        Some(io) => crate::failure::explain(io),
        None => current.to_string(),
    }
}

fn next_of(status: &Status) -> Option<String> {
    let value = status.metadata().get_bin(NEXT)?.to_bytes().ok()?;
    String::from_utf8(value.to_vec()).ok()
}

/// What is said of an address where something listens that speaks another protocol, or ended in the middle.
const NO_DOOR: &str = "the connection ended without an answer: no peer door listens there (is it the registry's port?), \
                       or its node ended";

/// Whether the connection failed, not the node's work.
fn is_of_the_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn at_if_mute(endpoint: &str, status: &Status) -> Failure {
    if is_of_the_transport(status) { at(endpoint, status) } else { from_status(status) }
}

fn at(endpoint: &str, status: &Status) -> Failure {
    let mut failure = from_status(status);
    failure.what = format!("{endpoint}: {}", failure.what);
    failure
}

fn from_status(status: &Status) -> Failure {
    if is_of_the_transport(status) {
        return Failure::new(Exit::NotNow, NO_DOOR, "name the node's peer door (7001 with `cluster-cli dev`)");
    }
    let exit = match status.code() {
        Code::FailedPrecondition => Exit::Refused,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => Exit::NotNow,
        Code::InvalidArgument => Exit::Usage,
        _ => Exit::Failed,
    };
    let what = if status.message().is_empty() { status.code().description() } else { status.message() };
    Failure::new(exit, what, next_of(status).unwrap_or_default())
}

fn place_to_wire(place: Place) -> WirePlace {
    let Place { latitude_micros, longitude_micros } = place;
    WirePlace { latitude_micros, longitude_micros }
}
