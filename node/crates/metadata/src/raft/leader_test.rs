use std::collections::BTreeSet;

use domain::{Boot, Digest, NodeId, Place, RegionId, RegionName, StoreId};

use super::{Duty, Members, addresses, plan};
use crate::rows::{Departure, Node, Region, RegionState, Store};

fn node(id: u64, removed: bool) -> Node {
    Node {
        id: NodeId(id),
        region: RegionId(u32::try_from(id).expect("small")),
        peer_address: format!("127.0.0.1:{id}"),
        certificate: Vec::new(),
        format_level_max: 1,
        removed,
    }
}

fn region(id: u32, state: RegionState) -> Region {
    Region {
        id: RegionId(id),
        name: RegionName::parse(&format!("r{id}")).expect("valid"),
        place: Place::default(),
        public_url: String::new(),
        state,
        cordoned: false,
        backfill_cursor: None,
        backfill_blobs: 0,
        backfill_bytes: 0,
        backfill_blobs_total: 0,
        backfill_bytes_total: 0,
        wanted_blobs: 0,
        wanted_bytes: 0,
        departure: None,
    }
}

fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn members(voters: &[u64], learners: &[u64], kept_up: &[u64]) -> Members {
    Members { voters: ids(voters), learners: ids(learners), joint: false, kept_up: ids(kept_up) }
}

#[test]
fn a_minted_node_becomes_learner_then_voter_then_backfills() {
    let nodes = [node(1, false), node(2, false)];
    let regions = [region(1, RegionState::Ready), region(2, RegionState::Joining)];
    let next = |members: &Members| plan(&nodes, &regions, &[], members);
    assert_eq!(next(&members(&[1], &[], &[])), Some(Duty::AddLearner(NodeId(2), "127.0.0.1:2".to_owned())));
    assert_eq!(next(&members(&[1], &[2], &[])), None, "a learner that lags must wait");
    assert_eq!(next(&members(&[1], &[2], &[2])), Some(Duty::Promote(ids(&[1, 2]))));
    assert_eq!(next(&members(&[1, 2], &[], &[])), Some(Duty::Backfill(RegionId(2))));
}

#[test]
fn removed_nodes_go_and_a_joint_configuration_is_left_first() {
    let nodes = [node(1, false), node(2, true)];
    let regions = [region(1, RegionState::Ready)];
    let mut now = members(&[1, 2], &[], &[]);
    assert_eq!(plan(&nodes, &regions, &[], &now), Some(Duty::Remove(ids(&[2]))));
    now.joint = true;
    assert_eq!(plan(&nodes, &regions, &[], &now), Some(Duty::LeaveJoint));
}

#[test]
fn an_eighth_region_stays_a_learner_and_refills_all_the_same() {
    let nodes: Vec<Node> = (1..=8).map(|id| node(id, false)).collect();
    let regions = [region(8, RegionState::Joining)];
    let now = members(&[1, 2, 3, 4, 5, 6, 7], &[8], &[8]);
    assert_eq!(plan(&nodes, &regions, &[], &now), Some(Duty::Backfill(RegionId(8))));
}

fn store(number: u8, region: u32, open: bool) -> Store {
    Store { id: StoreId([number; 16]), region: RegionId(region), node: NodeId(u64::from(region)), boot: Boot(1), open }
}

#[test]
fn a_lost_store_is_forgotten_once_its_region_keeps_another() {
    let now = members(&[1], &[], &[]);
    let next = |stores: &[Store]| plan(&[node(1, false)], &[region(1, RegionState::Ready)], stores, &now);
    assert_eq!(next(&[store(1, 1, false), store(2, 1, true)]), Some(Duty::Forget(StoreId([1; 16]))));
    assert_eq!(next(&[store(2, 1, true)]), None);
    assert_eq!(next(&[store(1, 1, false), store(2, 2, true)]), None, "another region's store is no substitute");
}

#[test]
fn a_lost_store_waits_for_its_disk_while_its_region_is_joined_anew() {
    let mut old = node(2, true);
    old.region = RegionId(2);
    let mut new = node(4, false);
    new.region = RegionId(2);
    let nodes = [node(1, false), old, new];
    for state in [RegionState::Joining, RegionState::Backfilling, RegionState::Ready] {
        let regions = [region(1, RegionState::Ready), region(2, state)];
        for now in [members(&[1, 2], &[4], &[]), members(&[1, 4], &[], &[])] {
            let duty = plan(&nodes, &regions, &[store(1, 1, true), store(2, 2, false)], &now);
            assert!(!matches!(duty, Some(Duty::Forget(_))), "{state:?}, {now:?}: {duty:?}");
        }
    }
}

#[test]
fn a_leaving_region_is_cleared_until_no_row_of_it_is_left() {
    let now = members(&[1], &[], &[]);
    let nodes = [node(1, false), node(2, true)];
    let regions = [region(1, RegionState::Ready), region(2, RegionState::Leaving)];
    let own = [store(1, 1, true)];
    let next = |stores: &[Store]| plan(&nodes, &regions, stores, &now);
    // Whatever rows the store has left, of held, condemned or wanted blobs: it is done when its own row is gone.
    assert_eq!(next(&[own[0].clone(), store(2, 2, false)]), Some(Duty::Forget(StoreId([2; 16]))));
    assert_eq!(next(&own), Some(Duty::Finish(RegionId(2))));
    let orphan = [store(2, 2, false)];
    assert_eq!(plan(&nodes, &regions[..1], &orphan, &now), Some(Duty::Forget(StoreId([2; 16]))));
}

#[test]
fn a_region_that_shall_leave_is_judged_from_where_its_row_stands() {
    let now = members(&[1, 2], &[], &[]);
    let nodes = [node(1, false), node(2, false)];
    let mut regions = [region(1, RegionState::Ready), region(2, RegionState::Ready)];
    assert_eq!(plan(&nodes, &regions, &[], &now), None);
    for next in [None, Some(Digest::Sha256([7; 32]))] {
        regions[1].departure = Some(Departure { next });
        assert_eq!(plan(&nodes, &regions, &[], &now), Some(Duty::Depart(RegionId(2), next)));
    }
}

#[test]
fn a_removed_node_is_reached_for_as_long_as_raft_counts_on_it() {
    let nodes = || vec![node(1, false), node(2, true), node(3, true)];
    let reached = |members: &[u64]| addresses(nodes(), &ids(members)).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(reached(&[1, 2]), ids(&[1, 2]));
    assert_eq!(reached(&[1]), ids(&[1]));
    assert_eq!(reached(&[]), ids(&[1]));
}

#[test]
fn a_replacement_takes_the_vote_over_in_one_change() {
    let mut old = node(2, true);
    old.region = RegionId(2);
    let mut new = node(4, false);
    new.region = RegionId(2);
    let nodes = [node(1, false), old, node(3, false), new];
    let regions = [region(1, RegionState::Ready), region(2, RegionState::Joining), region(3, RegionState::Ready)];
    let next = |members: &Members| plan(&nodes, &regions, &[], members);
    assert_eq!(next(&members(&[1, 2, 3], &[4], &[])), None, "the old vote stays until the new node keeps up");
    assert_eq!(next(&members(&[1, 2, 3], &[4], &[4])), Some(Duty::Promote(ids(&[1, 3, 4]))));
    assert_eq!(next(&members(&[1, 3, 4], &[], &[])), Some(Duty::Backfill(RegionId(2))));
}
