//! A region leaves: judged by a cursor, and never with the last copy of anything.

use domain::{CopyId, Digest, Durability, NodeId, RegionId, limits};

use super::backfill::{numbered, record};
use super::world::{World, digest, new_node, put, repo, store_id};
use crate::command::{Command, HeldCopy};
use crate::outcome::{Outcome, Refusal};
use crate::rows::{Departure, RegionState};
use crate::view::View;

const A: RegionId = RegionId(1);
const B: RegionId = RegionId(2);

fn leave(region: RegionId, force: bool) -> Command {
    Command::RemoveRegion { region, force }
}

fn departure(world: &World) -> Option<Departure> {
    world.view().region(A).unwrap().unwrap().departure
}

fn next(world: &World) -> Option<Digest> {
    departure(world).expect("region a is on its way out").next
}

/// The next step, of `blobs` blobs.
fn step(world: &mut World, blobs: u32) -> Outcome {
    let from = next(world);
    world.run(Command::AdvanceDeparture { region: A, from, blobs })
}

fn last_copy(number: u8) -> Outcome {
    let bytes = super::world::size(&digest(number));
    Outcome::Stays(Refusal::LastCopies { count: 1, bytes, digests: vec![digest(number)] })
}

fn invalid(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Invalid { .. })
}

fn is_removed(view: &View) -> bool {
    let state = view.region(A).unwrap().map(|region| region.state);
    let store = view.store(store_id(1)).unwrap().is_some_and(|store| store.open);
    state == Some(RegionState::Leaving) && view.node(NodeId(1)).unwrap().unwrap().removed && !store
}

/// Blobs 1 to 9 in `a` and `b`, and the cursor of the departure of `a` stands at 6.
fn halfway() -> World {
    let mut world = World::three();
    for number in 1..=9 {
        world.record("r", number, 1);
        world.held(2, &[number]);
    }
    world.done(leave(A, false));
    assert_eq!(step(&mut world, 5), Outcome::Done);
    assert_eq!(next(&world), Some(digest(6)));
    world
}

/// The rest of the departure, in steps of two blobs: its last outcome.
fn to_the_end(world: &mut World) -> Outcome {
    for _ in 0..20 {
        super::invariants::check(world.ledger.read().unwrap(), false);
        let outcome = step(world, 2);
        if outcome != Outcome::Done || is_removed(&world.view()) {
            return outcome;
        }
    }
    panic!("the departure does not end");
}

fn lose(world: &mut World, store: u8, number: u8) {
    let copy = world.view().copy_in(&digest(number), store_id(store)).unwrap().expect("the store holds it");
    let copies = vec![HeldCopy { digest: digest(number), copy }];
    world.done(Command::Lost { claim: world.claim(store), copies });
}

#[test]
fn a_region_leaves_when_the_cursor_found_no_last_copy() {
    let mut world = halfway();
    assert_eq!(world.view().region(A).unwrap().unwrap().state, RegionState::Ready, "it serves until the end");
    assert_eq!(to_the_end(&mut world), Outcome::Done);
    assert!(is_removed(&world.view()));
    assert_eq!(departure(&world), None);
    assert_eq!(world.run(Command::ForgetStore { store: store_id(1) }), Outcome::StoreForgotten { done: true });
    let view = world.view();
    assert_eq!((view.region(A).unwrap(), view.store(store_id(1)).unwrap()), (None, None));
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn a_last_copy_ends_the_departure_and_the_region_stays() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.record("r", 2, 1);
    world.held(2, &[2]);
    world.done(leave(A, false));
    assert_eq!(step(&mut world, 9), last_copy(1));
    assert_eq!(departure(&world), None);
    assert_eq!(world.view().region(A).unwrap().unwrap().state, RegionState::Ready);
    world.held(3, &[1]);
    world.done(leave(A, false));
    assert_eq!(step(&mut world, 9), Outcome::Done);
    assert!(is_removed(&world.view()));
    world.done(leave(B, true));
    assert!(invalid(&world.refused(leave(RegionId(3), true))), "nobody else is ready");
}

#[test]
fn no_step_judges_more_than_its_limit() {
    let mut world = World::three();
    let blobs = u32::try_from(limits::COMMAND_ROWS_MAX).unwrap() + 200;
    for number in 0..blobs {
        record(&mut world, number, 1);
        let copies = vec![HeldCopy { digest: numbered(number), copy: CopyId([7; 16]) }];
        world.done(Command::Held { claim: world.claim(2), copies });
    }
    world.done(leave(A, false));
    for expected in [500, 1000] {
        assert_eq!(step(&mut world, u32::MAX), Outcome::Done);
        assert_eq!(next(&world), Some(numbered(expected)));
    }
    assert_eq!(step(&mut world, u32::MAX), Outcome::Done);
    assert!(is_removed(&world.view()));
}

#[test]
fn steps_are_compared_with_the_row_and_repeating_the_wish_keeps_it() {
    let mut world = halfway();
    world.done(leave(A, false));
    assert_eq!(next(&world), Some(digest(6)), "asked again, it goes on");
    let stale = Command::AdvanceDeparture { region: A, from: None, blobs: 9 };
    assert!(invalid(&world.refused(stale)));
    assert!(invalid(&world.refused(Command::AdvanceDeparture { region: B, from: None, blobs: 9 })));
    assert!(invalid(&world.refused(Command::RemoveRegion { region: RegionId(9), force: false })));
}

#[test]
fn a_copy_elsewhere_that_is_lost_behind_the_cursor_is_judged_again() {
    let mut world = halfway();
    lose(&mut world, 2, 3);
    assert_eq!(next(&world), Some(digest(3)));
    assert_eq!(to_the_end(&mut world), last_copy(3));

    // Healed in time, nothing is lost.
    let mut world = halfway();
    lose(&mut world, 2, 3);
    world.held(3, &[3]);
    assert_eq!(to_the_end(&mut world), Outcome::Done);
}

#[test]
fn what_another_region_holds_too_does_not_set_the_cursor_back() {
    let mut world = halfway();
    world.held(3, &[3]);
    lose(&mut world, 2, 3);
    lose(&mut world, 1, 4);
    world.record("r", 5, 1);
    assert_eq!(next(&world), Some(digest(6)));
}

#[test]
fn a_push_through_the_leaving_region_behind_the_cursor_is_judged_again() {
    let mut world = World::three();
    for number in (1..=9).filter(|number| *number != 2) {
        world.record("r", number, 1);
        world.held(2, &[number]);
    }
    world.done(leave(A, false));
    step(&mut world, 4);
    world.record("r", 2, 1);
    assert_eq!(next(&world), Some(digest(2)));
    assert_eq!(to_the_end(&mut world), last_copy(2));
}

#[test]
fn a_copy_that_the_leaving_region_finds_behind_the_cursor_is_judged_again() {
    let mut world = halfway();
    lose(&mut world, 1, 3);
    lose(&mut world, 2, 3);
    assert_eq!(next(&world), Some(digest(6)), "nobody holds it");
    world.held(1, &[3]);
    assert_eq!(to_the_end(&mut world), last_copy(3));
}

#[test]
fn a_blob_that_is_linked_again_behind_the_cursor_is_judged_again() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.record("r", 2, 1);
    world.held(2, &[2]);
    world.done(Command::UnlinkBlob { repository: repo("r"), digest: digest(1) });
    world.done(leave(A, false));
    assert_eq!(step(&mut world, 1), Outcome::Done, "nothing refers to it");
    world.done(Command::MountBlob { from: None, to: repo("s"), digest: digest(1) });
    assert_eq!(to_the_end(&mut world), last_copy(1));
}

#[test]
fn a_store_elsewhere_that_closes_begins_the_departure_anew() {
    let close: [fn(&mut World); 3] = [
        |world| drop(world.open(20, 2, 2)),
        |world| drop(world.run(Command::MintNode { node: new_node("b"), replace: Some(NodeId(2)) })),
        |world| world.done(leave(B, true)),
    ];
    for close in close {
        let mut world = halfway();
        close(&mut world);
        assert_eq!(departure(&world), Some(Departure::default()));
        assert!(matches!(to_the_end(&mut world), Outcome::Stays(Refusal::LastCopies { .. })));
    }
}

#[test]
fn a_store_of_the_leaving_region_that_comes_back_begins_the_departure_anew() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.open(10, 1, 1);
    world.record("r", 2, 2);
    world.record("r", 3, 2);
    world.done(leave(A, false));
    assert_eq!(step(&mut world, 2), Outcome::Done, "what a lost store held is given up by a leave");
    world.open(1, 1, 1);
    assert_eq!(step(&mut world, 9), last_copy(1));
}

#[test]
fn one_region_departs_at_a_time_and_nobody_joins_it() {
    let mut world = halfway();
    assert!(invalid(&world.refused(leave(B, false))));
    let replaced = Command::MintNode { node: new_node("a"), replace: Some(NodeId(1)) };
    assert!(invalid(&world.refused(replaced)));
    // By force it is removed at once, and the next one can go.
    world.done(leave(A, true));
    assert_eq!(departure(&world), None);
    assert!(is_removed(&world.view()));
    world.done(leave(B, false));
}

#[test]
fn the_last_ready_region_stays() {
    let mut world = World::one();
    for name in ["b", "c"] {
        world.done(Command::MintNode { node: new_node(name), replace: None });
    }
    world.open(2, 2, 2);
    assert!(invalid(&world.refused(leave(A, false))));
    world.set_state(2, RegionState::Backfilling);
    world.set_state(2, RegionState::Ready);
    world.done(leave(A, false));
    world.open(20, 2, 2);
    let outcome = step(&mut world, 9);
    assert!(matches!(&outcome, Outcome::Stays(refusal) if invalid(refusal)), "{outcome:?}");
    assert_eq!(departure(&world), None);
}

#[test]
fn copies_of_a_leaving_region_do_not_count_for_durability() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.held(2, &[1]);
    world.done(leave(A, false));
    let waits = world.not_stored(put("r", 100, &[1], &["t"]));
    assert_eq!(waits, Refusal::NotYetDurable { digests: vec![digest(1)], have: 1, need: 2 });
    let three = Command::SetPolicy {
        prefix: String::new(),
        durability: Some(Durability::AtLeast(3)),
        sparse: None,
        immutable_tags: None,
    };
    assert!(invalid(&world.refused(three)), "two regions stay");
    world.held(3, &[1]);
    world.stored(put("r", 100, &[1], &["t"]));
}
