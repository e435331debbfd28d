//! The admin service: what `cluster-cli` asks of a node.

use std::sync::Arc;

use domain::{Durability, NodeId, Place, RegionName, RepositoryName, Revision};
use metadata::command::{Command, NewNode};
use metadata::handle::{Demand, Origin};
use proto::admin::admin_server::{Admin, AdminServer};
use proto::admin::{
    ClusterStatusRequest, ClusterStatusResponse, Globs, InitRequest, InitResponse, JoinRequest, JoinResponse,
    LeaveRequest, LeaveResponse, NodeStatusRequest, NodeStatusResponse, Place as WirePlace, Policy, RollbackTagRequest,
    RollbackTagResponse, SetPolicyRequest, SetPolicyResponse, ShowPoliciesRequest, ShowPoliciesResponse, SyncRequest,
    SyncResponse, TagHistoryRequest, TagHistoryResponse, TransferLeaderRequest, TransferLeaderResponse,
};
use tonic::{Code, Request, Response, Status};

use super::refusal::{from_birth, from_policy, from_propose, from_read, from_state, refuse};
use super::{server_join, server_leader, server_leave, server_status, server_tags};
use crate::assemble::House;
use crate::rooms::Rooms;

/// Administration of one node and, through it, of its cluster.
#[derive(Clone)]
pub struct AdminService(Arc<House>);

impl AdminService {
    /// The service of a house.
    pub fn new(house: Arc<House>) -> Self {
        AdminService(house)
    }

    /// As a gRPC server.
    pub fn into_server(self) -> AdminServer<Self> {
        AdminServer::new(self)
    }

    fn rooms(&self) -> Result<Arc<Rooms>, Status> {
        self.0.phase().get().rooms().ok_or_else(|| {
            let next = "name another node with --endpoint, or make this one a member with `cluster-cli init` or `cluster-cli join`";
            refuse(Code::Unavailable, "this node belongs to no cluster yet", next)
        })
    }

    fn new_node(&self, region: &str, place: Option<WirePlace>) -> Result<NewNode, Status> {
        let region = RegionName::parse(region).map_err(|error| {
            refuse(Code::InvalidArgument, error.to_string(), "choose another name, such as paris or us-east-1")
        })?;
        let place = match place {
            Some(WirePlace { latitude_micros, longitude_micros }) => Place { latitude_micros, longitude_micros },
            None => self.0.config().region.place.map(|position| position.0).unwrap_or_default(),
        };
        Ok(NewNode {
            region,
            place,
            public_url: self.0.config().public_url(),
            peer_address: self.0.config().peer_address(),
            certificate: Vec::new(),
        })
    }
}

fn origin() -> Origin {
    Origin { actor: "operator".to_owned() }
}

fn parse_durability(text: &str) -> Result<Durability, Status> {
    Durability::parse(text).map_err(|error| {
        refuse(Code::InvalidArgument, error.to_string(), "see docs/consistency.md for what each one survives")
    })
}

pub(super) fn parse_repository(text: &str) -> Result<RepositoryName, Status> {
    RepositoryName::parse(text).map_err(|error| {
        refuse(Code::InvalidArgument, error.to_string(), "write the repository's name without the registry's address")
    })
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let InitRequest { region, place, durability } = request.into_inner();
        let node = self.new_node(&region, place)?;
        let durability = parse_durability(if durability.is_empty() { "majority" } else { &durability })?;
        self.0.init(node, durability).await.map_err(|error| from_birth(&error))?;
        Ok(Response::new(InitResponse { node: Some(server_status::node(&self.0)) }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let JoinRequest { member, region, place, replace } = request.into_inner();
        let node = self.new_node(&region, place)?;
        let replace = (replace != 0).then_some(NodeId(replace));
        if let Some(rooms) = self.0.phase().get().rooms() {
            // A join that was asked for again: it goes on by itself.
            server_join::repeat(&rooms, &member, &node.region).await?;
            return Ok(Response::new(JoinResponse { node: Some(server_status::node(&self.0)) }));
        }
        self.0.join(member, node, replace).await.map_err(|error| from_birth(&error))?;
        Ok(Response::new(JoinResponse { node: Some(server_status::node(&self.0)) }))
    }

    async fn node_status(&self, _: Request<NodeStatusRequest>) -> Result<Response<NodeStatusResponse>, Status> {
        Ok(Response::new(server_status::node(&self.0)))
    }

    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        let rooms = self.rooms()?;
        server_status::cluster(&self.0, &rooms).await.map(Response::new).map_err(|error| from_state(&error))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let LeaveRequest { region, force, dry_run, follow } = request.into_inner();
        let rooms = self.rooms()?;
        let view = rooms.metadata.view(Demand::Strict, None).await.map_err(|error| from_read(&error))?;
        let name = RegionName::parse(&region).map_err(|error| refuse(Code::InvalidArgument, error.to_string(), ""))?;
        let row = view.region_named(&name).map_err(|error| from_state(&error))?;
        let Some(row) = row else {
            if follow > 0 {
                return Ok(Response::new(LeaveResponse { revision: view.revision().0, ..LeaveResponse::default() }));
            }
            let next = "run `cluster-cli regions` to see which there are";
            return Err(refuse(Code::InvalidArgument, format!("there is no region `{region}` in this cluster"), next));
        };
        if follow > 0 {
            return server_leave::follow(&rooms, row.id, Revision(follow)).await.map(Response::new);
        }
        let mut answer = server_leave::survey(view, row.id).await.map_err(|error| from_state(&error))?;
        if !dry_run {
            let command = Command::RemoveRegion { region: row.id, force };
            let applied = rooms.metadata.propose(origin(), command).await;
            let revision = applied.map_err(|error| from_propose(&error))?.revision;
            let left = server_leave::follow(&rooms, row.id, revision).await?;
            (answer.revision, answer.under_way) = (left.revision, left.under_way);
        }
        Ok(Response::new(answer))
    }

    async fn set_policy(&self, request: Request<SetPolicyRequest>) -> Result<Response<SetPolicyResponse>, Status> {
        let SetPolicyRequest { prefix, durability, sparse, immutable_tags } = request.into_inner();
        let durability = durability.as_deref().map(parse_durability).transpose()?;
        let immutable_tags = immutable_tags.map(|Globs { globs }| globs);
        let command = Command::SetPolicy { prefix, durability, sparse, immutable_tags };
        let applied = self.rooms()?.metadata.propose(origin(), command).await;
        let revision = applied.map_err(|error| from_policy(&error))?.revision.0;
        Ok(Response::new(SetPolicyResponse { revision }))
    }

    async fn show_policies(
        &self,
        request: Request<ShowPoliciesRequest>,
    ) -> Result<Response<ShowPoliciesResponse>, Status> {
        let ShowPoliciesRequest { repository } = request.into_inner();
        let name = (!repository.is_empty()).then(|| parse_repository(&repository)).transpose()?;
        let view = self.rooms()?.metadata.view(Demand::Pull, None).await.map_err(|error| from_read(&error))?;
        let rows = match name {
            None => view.policies(),
            Some(name) => view.policy(&name).map(|row| vec![row]),
        };
        let rows = rows.map_err(|error| from_state(&error))?;
        let show = |(prefix, policy): (String, metadata::rows::Policy)| {
            let metadata::rows::Policy { durability, sparse, immutable_tags } = policy;
            Policy { prefix, durability: durability.to_string(), sparse, immutable_tags }
        };
        let policies = rows.into_iter().map(show).collect();
        Ok(Response::new(ShowPoliciesResponse { revision: view.revision().0, policies }))
    }

    async fn tag_history(&self, request: Request<TagHistoryRequest>) -> Result<Response<TagHistoryResponse>, Status> {
        let rooms = self.rooms()?;
        server_tags::history(&rooms, request.into_inner()).await.map(Response::new)
    }

    async fn rollback_tag(
        &self,
        request: Request<RollbackTagRequest>,
    ) -> Result<Response<RollbackTagResponse>, Status> {
        let rooms = self.rooms()?;
        server_tags::rollback(&rooms, origin(), request.into_inner()).await.map(Response::new)
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        let SyncRequest { confirm_loss } = request.into_inner();
        let rooms = self.rooms()?;
        let was_asked = rooms.replication.progress().confirm_loss;
        rooms.replication.compare(confirm_loss);
        let identity = rooms.metadata.identity();
        let answer = SyncResponse { node: identity.node.0, region: identity.region_name.to_string(), was_asked };
        Ok(Response::new(answer))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let passed_on = server_leader::is_passed_on(request.metadata());
        let TransferLeaderRequest { to } = request.into_inner();
        let rooms = self.rooms()?;
        let target = if to.is_empty() { None } else { Some(find_node(&rooms, &to)?) };
        server_leader::transfer(&rooms, target, passed_on).await.map(Response::new)
    }
}

/// A node by its id, or the node of a region.
fn find_node(rooms: &Rooms, text: &str) -> Result<NodeId, Status> {
    let view = rooms.metadata.local().map_err(|error| from_state(&error))?;
    let nodes = view.nodes().map_err(|error| from_state(&error))?;
    let region = match RegionName::parse(text) {
        Ok(name) => view.region_named(&name).map_err(|error| from_state(&error))?.map(|row| row.id),
        Err(_) => None,
    };
    let wanted = text.parse().ok().map(NodeId);
    let fits = |node: &&metadata::rows::Node| !node.removed && (Some(node.region) == region || Some(node.id) == wanted);
    nodes.iter().find(fits).map(|node| node.id).ok_or_else(|| {
        let next = "run `cluster-cli status` to see regions and nodes";
        refuse(Code::InvalidArgument, format!("there is no region or node `{text}` in this cluster"), next)
    })
}
