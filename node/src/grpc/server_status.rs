//! Status from the rows and handles that drive the work: nothing here is remembered or estimated.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::time::Duration;

use domain::NodeId;
use futures_util::future::join_all;
use metadata::handle::ChannelClass;
use metadata::rows;
use metadata::view::{Error, View};
use proto::admin::admin_client::AdminClient;
use proto::admin::{
    ClusterStatusResponse, MemberStatus, NodeStatusRequest, NodeStatusResponse, Phase as WirePhase, Place, RegionState,
    RegionStatus,
};

use crate::assemble::House;
use crate::phase::Phase;
use crate::rooms::Rooms;
use crate::status::Facts;

/// How long a node may take to speak for itself.
pub(super) const NODE_DEADLINE: Duration = Duration::from_secs(1);
/// Wanted rows read to find the oldest; a longer backlog is measured by its first rows.
const LAG_ROWS_MAX: usize = 1000;

/// What this node says of itself.
pub(super) fn node(house: &House) -> NodeStatusResponse {
    let phase = house.phase().get();
    let facts = Facts::gather(&phase);
    let mut status = NodeStatusResponse {
        phase: match &phase {
            Phase::Unjoined => WirePhase::Unjoined,
            Phase::Starting => WirePhase::Starting,
            Phase::Member(_) => WirePhase::Member,
            Phase::Draining(_) => WirePhase::Draining,
        }
        .into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        process_id: u64::from(std::process::id()),
        uptime_ms: house.uptime_ms(),
        registry_url: house.config().public_url(),
        peer_address: house.config().peer_address(),
        insecure: house.config().peer.insecure,
        profile: house.profile_name().to_owned(),
        store_open: facts.store_open,
        impaired: facts.impaired(),
        ..NodeStatusResponse::default()
    };
    if let Some(rooms) = phase.rooms() {
        fill_metadata(&mut status, &rooms);
        fill_work(&mut status, &rooms);
    }
    status
}

fn fill_metadata(status: &mut NodeStatusResponse, rooms: &Rooms) {
    let identity = rooms.metadata.identity();
    status.node = identity.node.0;
    status.region = identity.region_name.to_string();
    status.cluster = identity.cluster.to_string();
    let quorum = rooms.metadata.quorum();
    status.leader = quorum.leader.map_or(0, |node| node.0);
    status.is_leader = quorum.is_leader;
    status.quorum_heard = quorum.heard;
    status.term = quorum.term;
    status.applied = quorum.applied.0;
    status.committed = quorum.committed.0;
    let Ok(view) = rooms.metadata.local() else { return };
    if let (Ok(Some(meta)), Ok(hash)) = (view.meta(), view.state_hash()) {
        status.format_level = meta.format_level;
        status.state_hash = hash.to_vec().into();
        status.state_hash_index = view.revision().0;
    }
}

fn fill_work(status: &mut NodeStatusResponse, rooms: &Rooms) {
    let space = rooms.blobs.space();
    status.disk_total_bytes = space.total;
    status.disk_free_bytes = space.free;
    status.disk_reserve_bytes = space.reserve;
    let progress = rooms.replication.progress();
    status.fetches = progress.fetches;
    status.fetched_bytes = progress.fetched_bytes;
    status.fetched_blobs = progress.fetched_blobs;
    status.fetch_failures = progress.failures;
    status.copies_damaged = progress.damaged;
    status.fetch_bytes_per_second = progress.rate;
    status.confirm_loss = progress.confirm_loss;
}

/// The cluster as this node's rows have it, each node's numbers as it gives them itself.
pub(super) async fn cluster(house: &House, rooms: &Rooms) -> Result<ClusterStatusResponse, Error> {
    let mut answer = ClusterStatusResponse {
        cluster: rooms.metadata.identity().cluster.to_string(),
        answered_by: rooms.metadata.identity().node.0,
        ..ClusterStatusResponse::default()
    };
    let nodes = {
        // The view ends before the first await: it pins pages of the state file.
        let view = rooms.metadata.local()?;
        answer.revision = view.revision().0;
        let meta = view.meta()?;
        answer.format_level = meta.as_ref().map_or(0, |meta| meta.format_level);
        let now_ms = meta.map_or(0, |meta| meta.cluster_time_ms);
        for row in view.regions()? {
            answer.regions.push(region(&view, row, now_ms)?);
        }
        view.nodes()?
    };
    let asked = nodes.into_iter().filter(|node| !node.removed).map(|node| member(house, rooms, node));
    answer.members = join_all(asked).await;
    // A lease outlives those who granted it: who answers now is counted too, and the facts are taken after that.
    let answering = answer.members.iter().filter(|member| member.status.is_some());
    let up: BTreeSet<NodeId> = answering.map(|member| NodeId(member.node)).collect();
    let facts = Facts::gather(&house.phase().get());
    let why = facts.no_writes(rooms.metadata.is_majority(&up));
    answer.writes_ok = why.is_none();
    answer.no_writes = why.unwrap_or_default().to_owned();
    let heard = facts.quorum.filter(|quorum| quorum.heard).and_then(|quorum| quorum.leader);
    answer.leader = heard.filter(|leader| up.contains(leader)).map_or(0, |node| node.0);
    Ok(answer)
}

fn region(view: &View, row: rows::Region, now_ms: u64) -> Result<RegionStatus, Error> {
    let wanted = view.wanted(row.id, None, LAG_ROWS_MAX)?;
    let oldest = wanted.iter().map(|wanted| wanted.since_ms).min();
    let beyond = match row.state {
        rows::RegionState::Ready => (0, 0),
        rows::RegionState::Joining | rows::RegionState::Backfilling | rows::RegionState::Leaving => {
            (row.backfill_blobs, row.backfill_bytes)
        }
    };
    Ok(RegionStatus {
        id: row.id.0,
        name: row.name.to_string(),
        state: match row.state {
            _ if row.departure.is_some() => RegionState::Leaving,
            rows::RegionState::Joining => RegionState::Joining,
            rows::RegionState::Backfilling => RegionState::Backfilling,
            rows::RegionState::Ready => RegionState::Ready,
            rows::RegionState::Leaving => RegionState::Leaving,
        }
        .into(),
        cordoned: row.cordoned,
        registry_url: row.public_url,
        place: Some(Place { latitude_micros: row.place.latitude_micros, longitude_micros: row.place.longitude_micros }),
        backlog_blobs: row.wanted_blobs.saturating_add(beyond.0),
        backlog_bytes: row.wanted_bytes.saturating_add(beyond.1),
        lag_ms: oldest.map_or(0, |since| now_ms.saturating_sub(since).max(1)),
        backfill_blobs_total: row.backfill_blobs_total,
        backfill_bytes_total: row.backfill_bytes_total,
    })
}

async fn member(house: &House, rooms: &Rooms, row: rows::Node) -> MemberStatus {
    let said = if row.id == rooms.metadata.identity().node {
        Ok(node(house))
    } else {
        match tokio::time::timeout(NODE_DEADLINE, ask(rooms, row.id)).await {
            Ok(said) => said,
            Err(_) => Err(format!("no answer within {} s", NODE_DEADLINE.as_secs())),
        }
    };
    let (status, unreachable) = match said {
        Ok(status) => (Some(status), String::new()),
        Err(why) => (None, why),
    };
    MemberStatus { node: row.id.0, region: row.region.0, peer_address: row.peer_address, status, unreachable }
}

async fn ask(rooms: &Rooms, node: NodeId) -> Result<NodeStatusResponse, String> {
    let Some(channel) = rooms.metadata.channel(node, ChannelClass::Forward) else {
        return Err("its address is not known here".to_owned());
    };
    let said = AdminClient::new(channel).node_status(NodeStatusRequest {}).await;
    let said = said.map_err(|status| format!("cannot be reached: {}", reason(&status)))?.into_inner();
    // Another process may have taken the address over; its numbers are not this node's.
    if said.node == node.0 { Ok(said) } else { Err("another node answers at its address".to_owned()) }
}

/// Why a call failed, in the words of the innermost cause.
pub(super) fn reason(status: &tonic::Status) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = status.source();
    let mut words = status.message().to_owned();
    while let Some(current) = cause {
        words = match current.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(std::io::ErrorKind::ConnectionRefused) => "nothing listens there".to_owned(),
            Some(std::io::ErrorKind::TimedOut) => "it does not answer".to_owned(),
            _ => current.to_string(),
        };
        cause = current.source();
    }
    words
}
