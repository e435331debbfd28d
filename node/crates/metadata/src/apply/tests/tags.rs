//! Tags: moves, history, immutability, pages.

use domain::limits::TAG_HISTORY_MAX;

use super::world::{World, digest, put, repo, tag};
use crate::command::{Command, Precondition};
use crate::outcome::Refusal;

fn delete_tag(name: &str) -> Command {
    Command::DeleteTag { repository: repo("r"), tag: tag(name), precondition: None }
}

fn delete_tag_if(name: &str, precondition: Precondition) -> Command {
    Command::DeleteTag { repository: repo("r"), tag: tag(name), precondition: Some(precondition) }
}

#[test]
fn deleting_a_tag_keeps_the_manifest_and_the_history() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.stored(put("r", 100, &[1], &["t"]));
    world.stored(put("r", 101, &[1], &["t"]));
    world.done(delete_tag("t"));
    assert_eq!(world.refused(delete_tag("t")), Refusal::UnknownManifest);
    world.stored(put("r", 100, &[1], &["t"]));
    let moves = world.view().tag_history(&repo("r"), &tag("t"), 9).unwrap();
    let named: Vec<_> = moves.iter().map(|row| row.digest.map(|digest| digest.raw()[0])).collect();
    assert_eq!(named, [Some(100), None, Some(101), Some(100)], "newest first");
    assert!(moves.is_sorted_by(|newer, older| newer.revision > older.revision));
    assert!(world.view().manifest(&repo("r"), &digest(101)).unwrap().is_some());
    let nobody = Command::DeleteTag { repository: repo("nobody"), tag: tag("t"), precondition: None };
    assert_eq!(world.refused(nobody), Refusal::UnknownRepository);
}

#[test]
fn a_tag_is_deleted_only_while_its_condition_holds() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.stored(put("r", 100, &[1], &["t"]));
    let stays = Refusal::Precondition { current: Some(digest(100)) };
    let (one, other) = (vec![digest(100)], vec![digest(101)]);
    for condition in [
        Precondition::Matches(other.clone()),
        Precondition::Matches(Vec::new()),
        Precondition::Differs(one.clone()),
        Precondition::Differs(vec![digest(101), digest(100)]),
        Precondition::Absent,
    ] {
        assert_eq!(world.refused(delete_tag_if("t", condition)), stays);
        assert_eq!(world.view().tag(&repo("r"), &tag("t")).unwrap().unwrap().digest, digest(100));
    }
    for condition in [
        Precondition::Matches(one),
        Precondition::Matches(vec![digest(101), digest(100)]),
        Precondition::Differs(other),
    ] {
        world.done(delete_tag_if("t", condition.clone()));
        assert_eq!(world.refused(delete_tag_if("t", condition)), Refusal::UnknownManifest, "nothing is there");
        world.stored(put("r", 100, &[1], &["t"]));
    }
}

#[test]
fn the_history_keeps_the_newest_thousand_moves() {
    let mut world = World::one();
    world.record("r", 1, 1);
    let other = world.stored(put("r", 102, &[1], &["t2"]));
    for number in 0..TAG_HISTORY_MAX + 5 {
        world.stored(put("r", 100 + (number % 2) as u8, &[1], &["t"]));
    }
    let moves = world.view().tag_history(&repo("r"), &tag("t"), TAG_HISTORY_MAX * 2).unwrap();
    assert_eq!(moves.len(), TAG_HISTORY_MAX);
    assert_eq!(moves[0].revision.0, world.index);
    let neighbour = world.view().tag_history(&repo("r"), &tag("t2"), 9).unwrap();
    assert_eq!(neighbour[0].revision, other, "a tag whose name begins alike keeps its own");
}

#[test]
fn an_immutable_tag_is_set_once_and_neither_moves_nor_goes() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.done(Command::SetPolicy {
        prefix: "r".to_owned(),
        durability: None,
        sparse: None,
        immutable_tags: Some(vec!["v*".to_owned()]),
    });
    world.stored(put("r", 100, &[1], &["v1", "latest"]));
    world.stored(put("r", 100, &[1], &["v1"]));
    let immutable = Refusal::Immutable { tag: "v1".to_owned(), prefix: "r".to_owned() };
    assert_eq!(world.not_stored(put("r", 101, &[1], &["latest", "v1"])), immutable);
    assert_eq!(world.view().tag(&repo("r"), &tag("latest")).unwrap().unwrap().digest, digest(100));
    assert_eq!(world.refused(delete_tag("v1")), immutable);
    assert_eq!(world.refused(delete_tag_if("v1", Precondition::Absent)), immutable, "whatever the condition");
    let manifest = Command::DeleteManifest { repository: repo("r"), digest: digest(100) };
    assert_eq!(world.refused(manifest), immutable);
    world.stored(put("r", 101, &[1], &["latest"]));
}

#[test]
fn pages_begin_after_any_text_and_end_at_the_limit() {
    let mut world = World::one();
    world.record("r", 1, 1);
    world.record("r/sub", 1, 1);
    world.record("q", 1, 1);
    world.record("r-2", 1, 1);
    world.stored(put("r", 100, &[1], &["a", "b", "b.1", "c"]));
    world.stored(put("r/sub", 100, &[1], &["z"]));
    let tags = |last, limit| {
        let page = world.view().tags(&repo("r"), last, limit).unwrap();
        page.iter().map(|(tag, _)| tag.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(tags(None, 99), ["a", "b", "b.1", "c"]);
    assert_eq!(tags(Some("b"), 99), ["b.1", "c"]);
    assert_eq!(tags(Some("aa"), 1), ["b"]);
    assert_eq!(tags(Some("zz"), 9), Vec::<String>::new());
    let repositories = |last, limit| {
        let page = world.view().repositories(last, limit).unwrap();
        page.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(repositories(None, 99), ["q", "r", "r-2", "r/sub"]);
    assert_eq!(repositories(Some("r"), 1), ["r-2"]);
    assert_eq!(repositories(Some("q0"), 1), ["r"]);
}
