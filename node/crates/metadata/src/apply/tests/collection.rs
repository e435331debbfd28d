//! Collection: exactly what is unreferenced past its grace.

use domain::{NodeId, RegionId};

use super::world::{World, digest, new_node, put, repo, store_id};
use crate::command::Command;

const GRACE_MS: u64 = 100_000;

fn links(numbers: &[u8]) -> Command {
    let links = numbers.iter().map(|number| (repo("r"), digest(*number))).collect();
    Command::Collect { grace_ms: GRACE_MS, links, blobs: Vec::new() }
}

fn blobs(numbers: &[u8]) -> Command {
    let blobs = numbers.iter().map(|number| digest(*number)).collect();
    Command::Collect { grace_ms: GRACE_MS, links: Vec::new(), blobs }
}

fn exists(world: &World, number: u8) -> bool {
    world.view().blob(&digest(number)).unwrap().is_some()
}

#[test]
fn the_last_link_past_its_grace_takes_the_blob_and_condemns_every_copy() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.held(2, &[1]);
    world.pass(GRACE_MS - 1);
    world.done(links(&[1]));
    assert!(exists(&world, 1), "its grace is not over");
    world.pass(1);
    world.done(links(&[1]));
    assert!(!exists(&world, 1));
    let view = world.view();
    assert_eq!(view.link(&repo("r"), &digest(1)).unwrap(), None);
    for store in [1, 2] {
        assert_eq!(view.condemned(store_id(store), 9).unwrap()[0].index.0, world.index);
        assert_eq!(view.held_by(store_id(store), None, 9).unwrap(), []);
    }
    assert_eq!(view.condemned(store_id(3), 9).unwrap(), [], "region c never held it");
    assert_eq!(view.wanted(RegionId(3), None, 9).unwrap(), [], "nor does it want it any more");
    assert_eq!(world.touched.condemned.len(), 2);
    // A push brings it back as something new.
    world.record("r", 1, 3);
    assert!(exists(&world, 1));
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn what_is_referenced_or_was_renewed_stays() {
    let mut world = World::one();
    for number in [1, 2, 3] {
        world.record("r", number, 1);
    }
    world.stored(put("r", 100, &[1], &[]));
    world.pass(GRACE_MS);
    world.done(Command::MountBlob { from: None, to: repo("r"), digest: digest(2) });
    world.done(links(&[1, 2, 3]));
    world.done(blobs(&[1, 2, 3]));
    assert_eq!([1, 2, 3].map(|number| exists(&world, number)), [true, true, false]);
    world.done(Command::DeleteManifest { repository: repo("r"), digest: digest(100) });
    world.done(links(&[1]));
    assert!(exists(&world, 1), "grace begins when the last manifest goes");
}

#[test]
fn after_an_explicit_delete_the_blob_has_a_grace_of_its_own() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.pass(GRACE_MS * 2);
    world.done(Command::UnlinkBlob { repository: repo("r"), digest: digest(1) });
    world.done(blobs(&[1]));
    assert!(exists(&world, 1));
    world.pass(GRACE_MS);
    world.done(blobs(&[1]));
    assert!(!exists(&world, 1));
}

#[test]
fn a_link_elsewhere_keeps_the_blob() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.record("other", 1, 1);
    world.stored(put("other", 100, &[1], &[]));
    world.pass(GRACE_MS);
    world.done(links(&[1]));
    assert!(exists(&world, 1));
    assert_eq!(world.view().link(&repo("r"), &digest(1)).unwrap(), None);
}

#[test]
fn copies_in_a_lost_store_are_condemned_until_the_store_is_forgotten() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.held(2, &[1]);
    world.done(Command::MintNode { node: new_node("b"), replace: Some(NodeId(2)) });
    world.pass(GRACE_MS);
    world.done(links(&[1]));
    assert_eq!(world.view().condemned(store_id(2), 9).unwrap().len(), 1);
    world.done(Command::ForgetStore { store: store_id(2) });
    assert_eq!(world.view().condemned(store_id(2), 9).unwrap(), []);
}

#[test]
fn the_collector_is_told_what_is_idle_oldest_first() {
    let mut world = World::one();
    world.record("r", 9, 1);
    world.pass(1000);
    world.record("r", 1, 1);
    world.record("r", 2, 1);
    world.stored(put("r", 100, &[2], &[]));
    world.pass(1000);
    world.record("r", 3, 1);
    world.done(Command::UnlinkBlob { repository: repo("r"), digest: digest(3) });
    let view = world.view();
    let found = view.collectable(2000, 9).unwrap();
    assert_eq!(found.links, [(repo("r"), digest(9)), (repo("r"), digest(1))]);
    assert_eq!(found.blobs, []);
    assert_eq!(view.collectable(2001, 1).unwrap().links.len(), 1);
    assert_eq!(view.collectable(2001, 9).unwrap().blobs, [digest(3)]);
    assert_eq!(view.collectable(0, 9).unwrap(), Default::default());
}
