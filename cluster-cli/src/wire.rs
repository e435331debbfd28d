//! Answers of nodes in our own words, field by field.

use proto::admin::{
    ClusterStatusResponse, MemberStatus, NodeStatusResponse, Phase as WirePhase, RegionState as WireState, RegionStatus,
};

use crate::cluster::{Cluster, Member, Node, Phase, Region, RegionState};

/// Zero stands for nobody on the wire.
pub(crate) fn known(node: u64) -> Option<u64> {
    (node != 0).then_some(node)
}

pub(crate) fn cluster_from_wire(answer: ClusterStatusResponse) -> Cluster {
    let ClusterStatusResponse {
        cluster,
        revision,
        answered_by,
        writes_ok,
        leader,
        format_level,
        regions,
        members,
        no_writes,
    } = answer;
    let mut members: Vec<(u32, Member)> = members.into_iter().map(member_from_wire).collect();
    let regions = regions.into_iter().map(|region| {
        let id = region.id;
        let mine = members.extract_if(.., |(region, _)| *region == id).map(|(_, member)| member).collect();
        region_from_wire(region, mine)
    });
    let regions = regions.collect();
    let no_writes = (!no_writes.is_empty()).then_some(no_writes);
    Cluster { cluster, revision, answered_by, writes_ok, no_writes, leader: known(leader), format_level, regions }
}

fn member_from_wire(member: MemberStatus) -> (u32, Member) {
    let MemberStatus { node, region, peer_address, status, unreachable } = member;
    let unreachable = (!unreachable.is_empty()).then_some(unreachable);
    (region, Member { node, peer_address, status: status.map(node_from_wire), unreachable })
}

fn region_from_wire(region: RegionStatus, nodes: Vec<Member>) -> Region {
    let state = match region.state() {
        WireState::Joining => RegionState::Joining,
        WireState::Backfilling => RegionState::Backfilling,
        WireState::Ready => RegionState::Ready,
        WireState::Leaving => RegionState::Leaving,
        WireState::Unspecified => RegionState::Unknown,
    };
    let RegionStatus {
        id,
        name,
        state: _,
        cordoned,
        registry_url,
        place: _,
        backlog_blobs,
        backlog_bytes,
        lag_ms,
        backfill_blobs_total,
        backfill_bytes_total,
    } = region;
    Region {
        id,
        name,
        state,
        cordoned,
        registry_url,
        backlog_blobs,
        backlog_bytes,
        lag_ms,
        backfill_blobs_total,
        backfill_bytes_total,
        nodes,
    }
}

pub(crate) fn node_from_wire(answer: NodeStatusResponse) -> Node {
    let phase = match answer.phase() {
        WirePhase::Unjoined => Phase::Unjoined,
        WirePhase::Starting | WirePhase::Unspecified => Phase::Starting,
        WirePhase::Member => Phase::Member,
        WirePhase::Draining => Phase::Draining,
    };
    #[rustfmt::skip]
    let NodeStatusResponse {
        phase: _, node, region, cluster, version, process_id, uptime_ms, registry_url, peer_address, insecure,
        profile, leader, is_leader, quorum_heard, term, applied, committed, format_level, state_hash,
        state_hash_index, store_open, disk_total_bytes, disk_free_bytes, disk_reserve_bytes, fetches,
        fetched_bytes, fetched_blobs, fetch_failures, copies_damaged, fetch_bytes_per_second,
        confirm_loss, impaired,
    } = answer;
    #[rustfmt::skip]
    let node = Node {
        phase, node, region, cluster, version, process_id, uptime_ms, registry_url, peer_address, insecure,
        profile, leader: known(leader), is_leader, quorum_heard, term, applied, committed, format_level,
        state_hash: domain::digest::encode_hex(&state_hash), state_hash_index, store_open, disk_total_bytes,
        disk_free_bytes, disk_reserve_bytes, fetches, fetched_bytes, fetched_blobs, fetch_failures, copies_damaged,
        fetch_bytes_per_second, confirm_loss, impaired,
    };
    node
}
