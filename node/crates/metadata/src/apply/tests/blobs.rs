//! Blobs recorded, held, lost, mounted, unlinked.

use domain::RegionId;

use super::world::{World, copy, digest, put, repo, size, store_id};
use crate::command::{Command, HeldCopy};
use crate::outcome::Refusal;

fn wanted(world: &World, region: u32) -> Vec<u8> {
    world.view().wanted(RegionId(region), None, 999).unwrap().iter().map(|row| row.digest.raw()[0]).collect()
}

fn unknown(number: u8) -> Refusal {
    Refusal::Unknown { digests: vec![digest(number)] }
}

#[test]
fn a_recorded_blob_is_held_linked_and_wanted_everywhere_else() {
    let mut world = World::three();
    world.record("r", 1, 1);
    assert_eq!(world.touched.wanted.iter().copied().collect::<Vec<_>>(), [RegionId(2), RegionId(3)]);
    assert!(world.touched.holders && !world.touched.cluster);
    let view = world.view();
    let blob = view.blob(&digest(1)).unwrap().unwrap();
    assert_eq!((blob.size, blob.references, blob.unreferenced_since_ms), (1001, 1, None));
    let link = view.link(&repo("r"), &digest(1)).unwrap().unwrap();
    assert_eq!((link.present, link.references, link.unreferenced_since_ms), (true, 0, Some(0)));
    assert_eq!(view.repository(&repo("r")).unwrap().unwrap().links, 1);
    assert_eq!(view.holders(&digest(1)).unwrap()[0].store, store_id(1));
    assert_eq!((wanted(&world, 1), wanted(&world, 2), wanted(&world, 3)), (vec![], vec![1], vec![1]));
    let region = view.region(RegionId(2)).unwrap().unwrap();
    assert_eq!((region.wanted_blobs, region.wanted_bytes), (1, size(&digest(1))));
}

#[test]
fn holding_a_blob_ends_the_want_and_losing_it_begins_it_again() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.held(2, &[1]);
    assert_eq!((wanted(&world, 2), wanted(&world, 3)), (vec![], vec![1]));
    let held = world.view().copy_in(&digest(1), store_id(2)).unwrap().unwrap();
    let lost = |copy| HeldCopy { digest: digest(1), copy };
    world.done(Command::Lost { claim: world.claim(2), copies: vec![lost(copy(777))] });
    assert!(wanted(&world, 2).is_empty(), "another copy than the one held says nothing");
    world.done(Command::Lost { claim: world.claim(2), copies: vec![lost(held)] });
    assert_eq!(wanted(&world, 2), [1]);
    assert_eq!(world.view().holders(&digest(1)).unwrap().len(), 1);
}

#[test]
fn presence_never_creates_a_blob() {
    let mut world = World::three();
    world.held(2, &[1]);
    assert_eq!(world.view().blob(&digest(1)).unwrap(), None);
    assert_eq!(world.view().held_by(store_id(2), None, 9).unwrap(), []);
}

#[test]
fn the_newest_copy_of_a_store_wins_and_the_older_is_condemned() {
    let mut world = World::one();
    let first = world.record_command("r", 1, 1, 71);
    let second = world.record_command("r", 1, 1, 72);
    world.done(first.clone());
    world.done(second);
    assert_eq!(world.view().copy_in(&digest(1), store_id(1)).unwrap(), Some(copy(72)));
    let condemned = world.view().condemned(store_id(1), 9).unwrap();
    assert_eq!(condemned.iter().map(|row| row.copy).collect::<Vec<_>>(), [copy(71)]);
    assert!(world.touched.condemned.contains(&store_id(1)));
    // Neither an upload nor a report may speak for a condemned copy.
    assert!(matches!(world.refused(first), Refusal::Invalid { .. }));
    world.done(world.held_command(1, &[1], 71));
    assert_eq!(world.view().copy_in(&digest(1), store_id(1)).unwrap(), Some(copy(72)));
    world.done(world.held_command(1, &[1], 73));
    assert_eq!(world.view().condemned(store_id(1), 9).unwrap().len(), 2);
    let copies = vec![HeldCopy { digest: digest(1), copy: copy(71) }];
    world.done(Command::Deleted { claim: world.claim(1), copies });
    assert_eq!(world.view().condemned(store_id(1), 9).unwrap()[0].copy, copy(72));
}

#[test]
fn the_same_record_again_renews_the_link_and_nothing_else() {
    let mut world = World::one();
    let record = world.record_command("r", 1, 1, 71);
    world.done(record.clone());
    world.pass(60_000);
    world.done(record);
    let view = world.view();
    assert_eq!(view.link(&repo("r"), &digest(1)).unwrap().unwrap().unreferenced_since_ms, Some(60_000));
    assert_eq!(view.blob(&digest(1)).unwrap().unwrap().references, 1);
    assert_eq!(view.condemned(store_id(1), 9).unwrap(), []);
}

#[test]
fn a_blob_is_never_known_with_two_sizes() {
    let mut world = World::one();
    world.record("r", 1, 1);
    let mut other = world.record_command("r", 1, 1, 5);
    if let Command::RecordBlob { size, .. } = &mut other {
        *size += 1;
    }
    assert!(matches!(world.refused(other), Refusal::Invalid { .. }));
}

#[test]
fn reports_are_bounded() {
    let mut world = World::one();
    let copies = vec![HeldCopy { digest: digest(1), copy: copy(1) }; domain::limits::REPORT_DIGESTS_MAX + 1];
    assert!(matches!(world.refused(Command::Held { claim: world.claim(1), copies }), Refusal::Invalid { .. }));
}

#[test]
fn a_mount_needs_the_link_and_an_open_store_with_the_bytes() {
    let mut world = World::three();
    world.record("r", 1, 1);
    let mount = |from: Option<&str>, number| Command::MountBlob {
        from: from.map(repo),
        to: repo("to"),
        digest: digest(number),
    };
    assert_eq!(world.refused(mount(Some("other"), 1)), unknown(1));
    assert_eq!(world.refused(mount(None, 2)), unknown(2));
    assert_eq!(world.view().repository(&repo("to")).unwrap(), None, "a refused mount makes no repository");
    world.done(mount(Some("r"), 1));
    world.done(mount(None, 1));
    assert_eq!(world.view().blob(&digest(1)).unwrap().unwrap().references, 2);
    // The only holder is lost: mounting would promise bytes that nobody has.
    world.open(20, 1, 1);
    assert_eq!(world.refused(mount(Some("r"), 1)), unknown(1));
}

#[test]
fn unlinking_is_refused_while_a_manifest_there_names_the_blob() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.record("r", 2, 1);
    world.stored(put("r", 100, &[1], &[]));
    let unlink =
        |repository: &str, number| Command::UnlinkBlob { repository: repo(repository), digest: digest(number) };
    assert_eq!(world.refused(unlink("r", 1)), Refusal::Referenced);
    assert_eq!(world.refused(unlink("nobody", 1)), Refusal::UnknownRepository);
    world.pass(1000);
    world.done(unlink("r", 2));
    assert_eq!(world.refused(unlink("r", 2)), unknown(2));
    let blob = world.view().blob(&digest(2)).unwrap().unwrap();
    assert_eq!((blob.references, blob.unreferenced_since_ms), (0, Some(1000)));
}
