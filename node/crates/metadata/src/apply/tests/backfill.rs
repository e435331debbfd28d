//! Backfill of a new or wiped region, and its counters.

use domain::{Algorithm, Blake3Root, CopyId, Digest, NodeId, RegionId};

use super::world::{World, digest, new_node, put, repo};
use crate::command::Command;
use crate::outcome::Refusal;
use crate::rows::{Region, RegionState};

const B: RegionId = RegionId(2);

fn region(world: &World) -> Region {
    world.view().region(B).unwrap().unwrap()
}

pub(super) fn numbered(number: u32) -> Digest {
    let mut raw = [0; 32];
    raw[..4].copy_from_slice(&number.to_be_bytes());
    Digest::from_raw(Algorithm::Sha256, &raw).unwrap()
}

/// One region with `blobs` blobs of 10 bytes, and a second one that begins to fill.
fn filling(blobs: u32) -> World {
    let mut world = World::one();
    for number in 0..blobs {
        record(&mut world, number, 1);
    }
    world.done(Command::MintNode { node: new_node("b"), replace: None });
    world.open(2, 2, 2);
    world.set_state(2, RegionState::Backfilling);
    world
}

pub(super) fn record(world: &mut World, number: u32, store: u8) {
    let claim = world.claim(store);
    let mut copy = [0; 16];
    copy[..8].copy_from_slice(&world.index.to_be_bytes());
    world.done(Command::RecordBlob {
        repository: repo("r"),
        digest: numbered(number),
        size: 10,
        root: Blake3Root([1; 32]),
        claim,
        copy: CopyId(copy),
    });
}

fn advance(world: &mut World) {
    let from = region(world).backfill_cursor;
    world.done(Command::AdvanceBackfill { region: B, from });
}

#[test]
fn a_joining_region_wants_nothing_yet() {
    let mut world = World::one();
    world.done(Command::MintNode { node: new_node("b"), replace: None });
    world.record("r", 1, 1);
    assert_eq!((region(&world).wanted_blobs, region(&world).backfill_blobs), (0, 0));
    let refused = world.refused(Command::AdvanceBackfill { region: B, from: None });
    assert!(matches!(refused, Refusal::Invalid { .. }));
    world.set_state(2, RegionState::Backfilling);
    assert_eq!((region(&world).backfill_blobs, region(&world).backfill_bytes), (1, 1001));
}

#[test]
fn the_cursor_moves_a_thousand_rows_at_a_time_and_counts_down_exactly() {
    let mut world = filling(1500);
    let at = region(&world);
    assert_eq!((at.backfill_blobs, at.backfill_bytes, at.backfill_blobs_total), (1500, 15_000, 1500));
    advance(&mut world);
    let at = region(&world);
    assert_eq!((at.wanted_blobs, at.wanted_bytes, at.backfill_blobs, at.backfill_bytes), (1000, 10_000, 500, 5000));
    assert_eq!(at.backfill_cursor, Some(numbered(999)));
    let again = world.refused(Command::AdvanceBackfill { region: B, from: None });
    assert!(matches!(again, Refusal::Invalid { .. }), "compare and set");
    advance(&mut world);
    let at = region(&world);
    assert_eq!((at.wanted_blobs, at.backfill_blobs, at.backfill_bytes), (1500, 0, 0));
    world.set_state(2, RegionState::Ready);
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn pushes_fetches_and_collection_meanwhile_are_counted_once() {
    let mut world = filling(1200);
    advance(&mut world);
    // A new blob beyond the cursor is wanted at once, and was never counted as outstanding.
    record(&mut world, 5000, 1);
    assert_eq!((region(&world).wanted_blobs, region(&world).backfill_blobs), (1001, 200));
    // One that was outstanding is uploaded again: wanted from now on, outstanding no more.
    record(&mut world, 1100, 1);
    assert_eq!((region(&world).wanted_blobs, region(&world).backfill_blobs), (1002, 199));
    // One is uploaded in the region itself.
    record(&mut world, 1101, 2);
    assert_eq!((region(&world).wanted_blobs, region(&world).backfill_blobs), (1002, 198));
    // One goes.
    world.pass(1000);
    let links = vec![(repo("r"), numbered(1102)), (repo("r"), numbered(3))];
    world.done(Command::Collect { grace_ms: 1000, links, blobs: Vec::new() });
    assert_eq!((region(&world).wanted_blobs, region(&world).backfill_blobs), (1001, 197));
    super::invariants::check(world.ledger.read().unwrap(), false);
    advance(&mut world);
    assert_eq!((region(&world).wanted_blobs, region(&world).backfill_blobs), (1198, 0));
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn the_window_holds_the_cursor_back_until_workers_catch_up() {
    let mut world = filling(0);
    // Ten thousand wanted rows by pushes; the backfill of what came before must wait.
    world.record("r", 255, 1);
    world.done(Command::MintNode { node: new_node("b"), replace: Some(NodeId(2)) });
    world.open(20, 3, 2);
    world.set_state(2, RegionState::Backfilling);
    for number in 0..10_000 {
        record(&mut world, number, 1);
    }
    assert_eq!((region(&world).wanted_blobs, region(&world).backfill_blobs), (10_001, 1));
    let before = region(&world).backfill_cursor;
    advance(&mut world);
    assert_eq!(region(&world).backfill_cursor, before);
}

#[test]
fn what_nobody_holds_is_passed_by_until_somebody_holds_it_again() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.record("r", 2, 3);
    // The only copy of 1 is gone, and region b begins anew.
    world.open(10, 1, 1);
    world.done(Command::MintNode { node: new_node("b"), replace: Some(NodeId(2)) });
    world.open(20, 4, 2);
    world.pass(1000);
    world.set_state(2, RegionState::Backfilling);
    let at = region(&world);
    assert_eq!((at.wanted_blobs, at.backfill_blobs), (2, 1), "rows of before are kept");
    let held = world.claim(20);
    assert_eq!(held.node, NodeId(4));
    world.held(20, &[2]);
    world.done(Command::MintNode { node: new_node("d"), replace: None });
    world.open(40, 5, 4);
    world.set_state(4, RegionState::Backfilling);
    world.done(Command::AdvanceBackfill { region: RegionId(4), from: None });
    let d = world.view().region(RegionId(4)).unwrap().unwrap();
    assert_eq!((d.wanted_blobs, d.backfill_blobs), (1, 0), "only 2 can arrive");
    world.set_state(4, RegionState::Ready);
    super::invariants::check(world.ledger.read().unwrap(), false);
    world.held(10, &[1]);
    assert!(world.view().is_wanted(RegionId(4), &digest(1)).unwrap());
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn a_disk_that_outlived_its_node_counts_again() {
    let mut world = World::three();
    world.record("r", 1, 2);
    world.record("r", 2, 1);
    world.done(Command::MintNode { node: new_node("b"), replace: Some(NodeId(2)) });
    assert!(world.view().holders(&digest(1)).unwrap().is_empty(), "the only copy is in the lost store");
    world.set_state(2, RegionState::Backfilling);
    advance(&mut world);
    world.open(2, 4, 2);
    assert_eq!(world.view().holders(&digest(1)).unwrap().len(), 1);
    advance(&mut world);
    world.held(2, &[2]);
    world.set_state(2, RegionState::Ready);
    assert_eq!(region(&world).wanted_blobs, 0);
    super::invariants::check(world.ledger.read().unwrap(), true);
}

#[test]
fn a_region_without_a_store_leaves_in_steps() {
    let mut world = World::one();
    for number in 0..1200 {
        record(&mut world, number, 1);
    }
    world.done(Command::MintNode { node: new_node("b"), replace: None });
    world.set_state(2, RegionState::Backfilling);
    advance(&mut world);
    advance(&mut world);
    assert_eq!(region(&world).wanted_blobs, 1200);
    let leave = || Command::RemoveRegion { region: B, force: true };
    world.done(leave());
    assert_eq!(region(&world).wanted_blobs, 200);
    world.done(leave());
    assert_eq!(world.view().region(B).unwrap(), None);
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn a_replaced_region_begins_again_and_a_ready_region_misses_nothing() {
    let mut world = World::three();
    for number in 1..=20 {
        world.record("r", number, 1);
        world.held(3, &[number]);
    }
    world.held(2, &[1, 2, 3]);
    world.done(Command::MintNode { node: new_node("b"), replace: Some(NodeId(2)) });
    assert_eq!(world.view().holders(&digest(1)).unwrap().len(), 2);
    world.record("r", 21, 1);
    world.held(3, &[21]);
    world.stored(put("r", 100, &[21], &[]));
    world.open(20, 4, 2);
    world.set_state(2, RegionState::Backfilling);
    let at = region(&world);
    assert_eq!((at.wanted_blobs, at.backfill_blobs), (17, 4), "1, 2, 3 and 21 are neither held nor wanted");
    advance(&mut world);
    world.set_state(2, RegionState::Ready);
    assert_eq!(region(&world).wanted_blobs, 21);
    super::invariants::check(world.ledger.read().unwrap(), false);
}
