//! Manifests: what a put needs, what it writes, what deleting takes away.

use domain::{Durability, RegionId, Revision};

use super::world::{World, digest, only_if, put, repo, tag};
use crate::command::{Command, Precondition, PutManifest};
use crate::outcome::{Outcome, Refusal};
use crate::rows::RegionState;

fn policy(durability: Durability) -> Command {
    Command::SetPolicy { prefix: String::new(), durability: Some(durability), sparse: None, immutable_tags: None }
}

fn sparse(sparse: bool) -> Command {
    Command::SetPolicy { prefix: "r".to_owned(), durability: None, sparse: Some(sparse), immutable_tags: None }
}

fn unknown(numbers: &[u8]) -> Refusal {
    Refusal::Unknown { digests: numbers.iter().map(|number| digest(*number)).collect() }
}

fn index(number: u8, children: &[u8], tags: &[&str]) -> PutManifest {
    let mut put = put("r", number, children, tags);
    put.children.iter_mut().for_each(|child| child.may_be_manifest = true);
    put
}

fn delete(number: u8) -> Command {
    Command::DeleteManifest { repository: repo("r"), digest: digest(number) }
}

fn references(world: &World, number: u8) -> Option<u64> {
    world.view().link(&repo("r"), &digest(number)).unwrap().map(|link| link.references)
}

#[test]
fn a_put_names_everything_that_is_unknown_in_its_repository() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.record("other", 2, 1);
    assert_eq!(world.not_stored(put("r", 100, &[1, 2, 3], &["t"])), unknown(&[2, 3]));
    assert_eq!(world.view().tag(&repo("r"), &tag("t")).unwrap(), None);
}

#[test]
fn bytes_that_no_open_store_holds_are_unknown_so_that_a_push_heals_them() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.open(20, 1, 1);
    assert_eq!(world.not_stored(put("r", 100, &[1], &[])), unknown(&[1]));
}

#[test]
fn a_put_writes_manifest_references_and_all_tags_at_one_revision() {
    let mut world = World::one();
    world.record("r", 1, 1);
    let revision = world.stored(put("r", 100, &[1, 1], &["a", "b", "a"]));
    assert_eq!(revision, Revision(world.index));
    let view = world.view();
    let manifest = view.manifest(&repo("r"), &digest(100)).unwrap().unwrap();
    assert_eq!((manifest.revision, manifest.body.len(), manifest.actor.as_str()), (revision, 10, "anonymous"));
    for name in ["a", "b"] {
        let row = view.tag(&repo("r"), &tag(name)).unwrap().unwrap();
        assert_eq!((row.digest, row.revision), (digest(100), revision));
        assert_eq!(view.tag_history(&repo("r"), &tag(name), 9).unwrap().len(), 1);
    }
    assert_eq!(references(&world, 1), Some(1), "named twice counts once");
    let repository = view.repository(&repo("r")).unwrap().unwrap();
    assert_eq!((repository.manifests, repository.tags, repository.links), (1, 2, 1));
}

#[test]
fn the_same_put_again_keeps_its_revision() {
    let mut world = World::one();
    world.record("r", 1, 1);
    let first = world.stored(put("r", 100, &[1], &["a"]));
    assert_eq!(world.stored(put("r", 100, &[1], &["a"])), first);
    assert_eq!(world.stored(put("r", 100, &[1], &[])), first);
    assert_eq!(world.view().tag_history(&repo("r"), &tag("a"), 9).unwrap().len(), 1);
    let second = world.stored(put("r", 100, &[1], &["a", "b"]));
    assert_eq!(second, Revision(world.index), "one tag moved");
    assert_eq!(world.stored(put("r", 100, &[1], &["b", "a"])), second);
    assert_eq!(references(&world, 1), Some(1));
}

#[test]
fn the_same_bytes_under_another_type_are_of_the_newest_type() {
    let mut world = World::one();
    world.record("r", 1, 1);
    let typed = |name: &str| {
        let mut put = put("r", 100, &[1], &["a"]);
        put.media_type = name.to_owned();
        put.subject = Some(digest(50));
        put.annotations = vec![("k".to_owned(), "v".to_owned())];
        put
    };
    let first = world.stored(typed("application/x"));
    let second = world.stored(typed("application/y"));
    assert_eq!(second, Revision(world.index), "who asks for this revision gets the new type, from any region");
    assert_eq!(world.stored(typed("application/y")), second);
    let view = world.view();
    let row = view.manifest(&repo("r"), &digest(100)).unwrap().unwrap();
    assert_eq!((row.media_type.as_str(), row.revision), ("application/y", second));
    let listed = view.referrers(&repo("r"), &digest(50), None, None, 9).unwrap();
    assert_eq!((listed.len(), listed[0].media_type.as_str(), listed[0].annotations.len()), (1, "application/y", 1));
    assert_eq!(view.tag(&repo("r"), &tag("a")).unwrap().unwrap().revision, first, "the tag did not move");
    assert_eq!(references(&world, 1), Some(1));
    assert_eq!(view.repository(&repo("r")).unwrap().unwrap().manifests, 1);
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn conditions_hold_for_every_named_tag_or_for_the_manifest() {
    let mut world = World::one();
    world.record("r", 1, 1);
    let matches = |numbers: &[u8]| Precondition::Matches(numbers.iter().map(|number| digest(*number)).collect());
    let failed = |current: Option<u8>| Refusal::Precondition { current: current.map(digest) };
    let conditional = |number, tags: &[&str], condition| only_if(put("r", number, &[1], tags), condition);
    assert_eq!(world.not_stored(conditional(100, &["a"], matches(&[100]))), failed(None));
    world.stored(conditional(100, &["a"], Precondition::Absent));
    assert_eq!(world.not_stored(conditional(101, &["a"], Precondition::Absent)), failed(Some(100)));
    assert_eq!(world.not_stored(conditional(101, &["new", "a"], Precondition::Absent)), failed(Some(100)));
    assert_eq!(world.not_stored(conditional(101, &["a"], matches(&[101, 102]))), failed(Some(100)));
    world.stored(conditional(101, &["a"], matches(&[99, 100])));
    assert_eq!(world.not_stored(conditional(101, &[], Precondition::Absent)), failed(Some(101)));
    world.stored(conditional(102, &[], Precondition::Absent));
    let differs = |number| Precondition::Differs(vec![digest(number)]);
    assert_eq!(world.not_stored(conditional(102, &[], differs(102))), failed(Some(102)));
    world.stored(conditional(101, &["unheard"], differs(101)));
    assert_eq!(world.not_stored(conditional(102, &["new", "unheard"], differs(101))), failed(Some(101)));
    world.stored(conditional(102, &["unheard"], differs(102)));
    world.stored(conditional(102, &[], matches(&[102])));
}

/// Durability, regions that hold the blob beside `a` (1), accepted in, what `apply` says: wait with (have, need).
type Row = (Durability, &'static [u8], u32, Option<(u32, u32)>);

#[test]
fn a_put_waits_until_its_blobs_are_durable_in_enough_ready_regions() {
    let table: &[Row] = &[
        (Durability::Local, &[], 1, None),
        (Durability::Local, &[], 2, Some((0, 1))),
        (Durability::Local, &[2], 2, None),
        (Durability::Majority, &[], 1, Some((1, 2))),
        (Durability::Majority, &[3], 1, None),
        (Durability::All, &[3], 1, Some((2, 3))),
        (Durability::All, &[2, 3], 1, None),
        (Durability::AtLeast(1), &[], 2, None),
        (Durability::AtLeast(3), &[2], 1, Some((2, 3))),
    ];
    for (durability, holders, accepted, expected) in table {
        let mut world = World::three();
        world.done(policy(*durability));
        world.record("r", 1, 1);
        holders.iter().for_each(|store| world.held(*store, &[1]));
        world.region = RegionId(*accepted);
        let outcome = world.put(put("r", 100, &[1], &["t"]));
        let waits = expected.map(|(have, need)| Refusal::NotYetDurable { digests: vec![digest(1)], have, need });
        match waits {
            Some(refusal) => assert_eq!(outcome, Outcome::Refused(refusal), "{durability} {holders:?}"),
            None => assert!(matches!(outcome, Outcome::ManifestPut { .. }), "{durability} {holders:?}: {outcome:?}"),
        }
    }
}

#[test]
fn cordoned_regions_count_and_regions_that_are_not_ready_do_not() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.held(2, &[1]);
    world.done(Command::SetCordoned { region: RegionId(2), cordoned: true });
    world.stored(put("r", 100, &[1], &[]));
    // Region 2 begins anew: two regions are ready, both are needed, one holds.
    world.done(Command::MintNode { node: super::world::new_node("b"), replace: Some(domain::NodeId(2)) });
    let waits = Refusal::NotYetDurable { digests: vec![digest(1)], have: 1, need: 2 };
    assert_eq!(world.not_stored(put("r", 101, &[1], &[])), waits);
    world.open(20, 4, 2);
    world.held(20, &[1]);
    assert_eq!(world.not_stored(put("r", 101, &[1], &[])), waits, "a joining region never counts");
    world.set_state(2, RegionState::Backfilling);
    assert_eq!(world.not_stored(put("r", 101, &[1], &[])), waits, "nor a backfilling one");
    world.done(Command::AdvanceBackfill { region: RegionId(2), from: None });
    world.set_state(2, RegionState::Ready);
    world.stored(put("r", 101, &[1], &[]));
}

#[test]
fn children_of_an_index_are_manifests_or_blobs_as_the_repository_knows_them() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.stored(put("r", 100, &[1], &[]));
    world.record("r", 2, 1);
    assert_eq!(world.not_stored(index(110, &[100, 2, 3], &[])), unknown(&[3]));
    assert_eq!(world.not_stored(put("r", 110, &[100], &[])), unknown(&[100]), "a layer is never a manifest");
    world.stored(index(110, &[100, 2], &["multi"]));
    assert_eq!((references(&world, 2), references(&world, 100)), (Some(1), None));
    // The same bytes pushed as a blob later: the index keeps them from then on.
    world.record("r", 100, 1);
    world.stored(index(110, &[100, 2], &["multi"]));
    assert_eq!(references(&world, 100), Some(1));
    world.done(delete(100));
    assert!(world.view().manifest(&repo("r"), &digest(110)).unwrap().is_some(), "the index stays");
    world.done(delete(110));
    assert_eq!((references(&world, 2), references(&world, 100)), (Some(0), Some(0)));
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn sparse_children_are_counted_and_become_present_when_recorded() {
    let mut world = World::three();
    assert_eq!(world.not_stored(put("r", 100, &[1], &[])), unknown(&[1]));
    world.done(sparse(true));
    world.stored(put("r", 100, &[1], &["t"]));
    let link = world.view().link(&repo("r"), &digest(1)).unwrap().unwrap();
    assert_eq!((link.present, link.references), (false, 1));
    assert_eq!(world.view().blob(&digest(1)).unwrap(), None, "blob rows exist only for recorded bytes");
    let unlink = Command::UnlinkBlob { repository: repo("r"), digest: digest(1) };
    assert_eq!(world.refused(unlink), unknown(&[1]));
    world.record("r", 1, 1);
    let link = world.view().link(&repo("r"), &digest(1)).unwrap().unwrap();
    assert_eq!((link.present, link.references), (true, 1));
    assert_eq!(world.view().blob(&digest(1)).unwrap().unwrap().references, 1);
    world.done(sparse(true));
    world.stored(put("r", 101, &[2], &[]));
    world.done(delete(101));
    assert_eq!(world.view().link(&repo("r"), &digest(2)).unwrap(), None, "nothing was ever there");
}

#[test]
fn an_exempt_layer_needs_no_bytes_unless_it_is_also_named_without_exemption() {
    let mut world = World::one();
    let mut foreign = put("r", 100, &[1, 1], &[]);
    foreign.children.iter_mut().for_each(|child| child.exempt = true);
    world.stored(foreign.clone());
    foreign.digest = digest(101);
    foreign.children[1].exempt = false;
    assert_eq!(world.not_stored(foreign), unknown(&[1]));
}

#[test]
fn referrers_are_listed_by_subject_and_type_whether_or_not_the_subject_exists() {
    let mut world = World::one();
    world.record("r", 1, 1);
    for (number, kind) in [(100, "sbom"), (101, "signature"), (102, "sbom")] {
        let mut put = put("r", number, &[1], &[]);
        put.subject = Some(digest(50));
        put.artifact_type = Some(kind.to_owned());
        put.annotations = vec![("k".to_owned(), kind.to_owned())];
        world.stored(put);
    }
    let list = |kind, last: Option<u8>, limit| {
        let last = last.map(digest);
        let rows = world.view().referrers(&repo("r"), &digest(50), kind, last.as_ref(), limit).unwrap();
        rows.iter().map(|row| row.digest.raw()[0]).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 9), [100, 101, 102]);
    assert_eq!(list(Some("sbom"), None, 2), [100, 102]);
    assert_eq!(list(None, Some(100), 1), [101]);
    assert!(list(Some("none"), None, 9).is_empty());
    let row = world.view().referrers(&repo("r"), &digest(50), Some("signature"), None, 1).unwrap().remove(0);
    assert_eq!((row.size, row.annotations), (10, vec![("k".to_owned(), "signature".to_owned())]));
    world.done(delete(101));
    assert_eq!(world.view().referrers(&repo("r"), &digest(50), None, None, 9).unwrap().len(), 2);
}

#[test]
fn deleting_a_manifest_takes_its_tags_and_references() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.stored(put("r", 100, &[1], &["a", "b"]));
    world.stored(put("r", 101, &[1], &["b", "c"]));
    world.pass(500);
    world.done(delete(100));
    let view = world.view();
    assert_eq!(view.tag(&repo("r"), &tag("a")).unwrap(), None);
    assert!(view.tag(&repo("r"), &tag("b")).unwrap().is_some());
    assert_eq!(references(&world, 1), Some(1));
    assert_eq!(view.tag_history(&repo("r"), &tag("a"), 9).unwrap()[0].digest, None);
    assert_eq!(world.refused(delete(100)), Refusal::UnknownManifest);
    world.done(delete(101));
    assert_eq!(references(&world, 1), Some(0));
    let view = world.view();
    let repository = view.repository(&repo("r")).unwrap().unwrap();
    assert_eq!((repository.manifests, repository.tags), (0, 0), "an empty repository stays");
    assert_eq!(view.link(&repo("r"), &digest(1)).unwrap().unwrap().unreferenced_since_ms, Some(500));
    let nobody = Command::DeleteManifest { repository: repo("nobody"), digest: digest(1) };
    assert_eq!(world.refused(nobody), Refusal::UnknownRepository);
}
