//! Genesis, time, requests, regions, nodes, policies.

use domain::{ClusterId, Durability, NodeId, RegionId, Revision};

use super::world::{World, digest, new_node, put, repo, store_id, tag};
use crate::command::Command;
use crate::outcome::{Outcome, Refusal};
use crate::rows::RegionState;

fn genesis() -> Command {
    Command::Genesis {
        cluster: ClusterId([9; 16]),
        mac_key: [8; 32],
        node: new_node("a"),
        durability: Durability::AtLeast(2),
    }
}

fn invalid(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Invalid { .. })
}

#[test]
fn nothing_is_applied_before_genesis_and_nothing_recorded() {
    let mut world = World::unborn();
    let early = world.proposal(Command::DeleteTag { repository: repo("a"), tag: tag("t"), precondition: None });
    assert!(matches!(world.propose(&early).outcome, Outcome::Refused(Refusal::Lifecycle { .. })));
    assert!(world.view().meta().unwrap().is_none());
    world.done(genesis());
    assert_eq!(world.propose(&early).outcome, Outcome::Refused(Refusal::UnknownRepository));
}

#[test]
fn genesis_makes_node_1_of_region_1_and_happens_once() {
    let mut world = World::unborn();
    let birth = world.proposal(genesis());
    assert_eq!(world.propose(&birth).outcome, Outcome::Done);
    let view = world.view();
    let meta = view.meta().unwrap().unwrap();
    assert_eq!((meta.cluster, meta.incarnation, meta.mac_key), (ClusterId([9; 16]), 1, [8; 32]));
    let region = view.region(RegionId(1)).unwrap().unwrap();
    assert_eq!((region.name.as_str(), region.state), ("a", RegionState::Ready));
    assert_eq!(view.node(NodeId(1)).unwrap().unwrap().region, RegionId(1));
    let (prefix, policy) = view.policy(&repo("any/thing")).unwrap();
    assert_eq!((prefix.as_str(), policy.durability), ("", Durability::AtLeast(2)));
    // The same request again finds its outcome; another one comes too late.
    assert_eq!(world.propose(&birth).outcome, Outcome::Done);
    assert!(matches!(world.refused(genesis()), Refusal::Lifecycle { .. }));
}

#[test]
fn cluster_time_advances_by_ticks_and_a_long_step_is_capped() {
    let mut world = World::one();
    world.tick(10_000);
    world.tick(u64::MAX);
    assert_eq!(world.view().meta().unwrap().unwrap().cluster_time_ms, 130_000);
}

#[test]
fn a_request_happens_once_and_its_retry_finds_the_first_revision() {
    let mut world = World::one();
    world.record("r", 1, 1);
    let first = world.proposal(Command::PutManifest(Box::new(put("r", 100, &[1], &["t"]))));
    let answer = world.propose(&first);
    world.stored(put("r", 101, &[1], &["t"]));
    assert_eq!(world.propose(&first), answer);
    assert_eq!(answer.revision, Revision(world.index - 2));
    let now = world.view().tag(&repo("r"), &tag("t")).unwrap().unwrap();
    assert_eq!(now.digest, digest(101), "the retry moved nothing");
}

#[test]
fn a_refusal_is_recorded_too() {
    let mut world = World::one();
    world.record("r", 1, 1);
    let early = world.proposal(Command::PutManifest(Box::new(put("r", 100, &[2], &[]))));
    let refused = world.propose(&early);
    world.record("r", 2, 1);
    assert_eq!(world.propose(&early), refused, "though it would succeed now");
    assert!(matches!(refused.outcome, Outcome::Refused(Refusal::Unknown { .. })));
}

#[test]
fn requests_below_the_horizon_are_too_old_and_their_rows_are_pruned_a_few_at_a_time() {
    let mut world = World::one();
    let mut old = world.proposal(Command::SetCordoned { region: RegionId(1), cordoned: true });
    for _ in 0..12 {
        world.done(Command::SetCordoned { region: RegionId(1), cordoned: false });
    }
    world.pass(10_000);
    let horizon = world.index;
    world.pass(110_000);
    assert_eq!(world.view().meta().unwrap().unwrap().horizon, Revision(1), "only birth is 120 s ago");
    world.pass(20_000);
    assert_eq!(world.view().meta().unwrap().unwrap().horizon, Revision(horizon));
    assert_eq!(world.propose(&old).outcome, Outcome::Refused(Refusal::TooOld));
    old.as_of = Revision(horizon);
    assert_eq!(world.propose(&old).outcome, Outcome::Done);
    let below = |world: &World| {
        use crate::state::read::Read;
        let rows = world.ledger.read().unwrap();
        let keys = rows.under(&crate::state::space::single(crate::state::space::Space::Requests), None, 999).unwrap();
        keys.iter().filter(|(key, _)| key[1..9] < horizon.to_be_bytes()[..]).count()
    };
    let mut left = below(&world);
    assert!(left > 4, "{left} rows to prune");
    while left > 0 {
        world.tick(0);
        assert_eq!(below(&world), left.saturating_sub(4));
        left = below(&world);
    }
}

#[test]
fn a_tick_with_a_foreign_hash_is_noticed() {
    let mut world = World::one();
    world.tick(1000);
    let (hash_index, hash) = world.view().recorded_hash().unwrap().unwrap();
    assert_eq!(hash_index, Revision(world.index));
    assert_eq!(hash, world.view().recompute_hash().unwrap());
    world.done(Command::Tick { elapsed_ms: 1000, hash_index, hash });
    assert_eq!(world.touched.divergence, None);
    world.done(Command::Tick { elapsed_ms: 1000, hash_index, hash: [1; 32] });
    let divergence = world.touched.divergence.unwrap();
    assert_eq!((divergence.index, divergence.ours, divergence.theirs), (hash_index, hash, [1; 32]));
}

#[test]
fn ids_are_minted_once_per_request_and_never_again() {
    let mut world = World::one();
    let join = world.proposal(Command::MintNode { node: new_node("b"), replace: None });
    let minted = Outcome::Minted { node: NodeId(2), region: RegionId(2) };
    assert_eq!(world.propose(&join).outcome, minted);
    assert_eq!(world.propose(&join).outcome, minted);
    assert!(invalid(&world.refused(Command::MintNode { node: new_node("b"), replace: None })));
    assert!(invalid(&world.refused(Command::MintNode { node: new_node("b"), replace: Some(NodeId(1)) })));
    let minted = world.run(Command::MintNode { node: new_node("b"), replace: Some(NodeId(2)) });
    assert_eq!(minted, Outcome::Minted { node: NodeId(3), region: RegionId(2) });
    let view = world.view();
    assert!(view.node(NodeId(2)).unwrap().unwrap().removed);
    assert_eq!(view.region(RegionId(2)).unwrap().unwrap().state, RegionState::Joining);
}

#[test]
fn a_minted_node_has_the_level_in_force_whatever_who_applies_it_understands() {
    use crate::state::space::{Space, single};
    let mut world = World::one();
    let mut meta = world.view().meta().unwrap().unwrap();
    meta.format_level = 7;
    let mut batch = crate::state::Batch::begin(&world.ledger).unwrap();
    batch.put(single(Space::Meta), &meta).unwrap();
    batch.commit(kv::ledger::Sync::Visible).unwrap();
    world.done(Command::MintNode { node: new_node("b"), replace: None });
    assert_eq!(world.view().node(NodeId(2)).unwrap().unwrap().format_level_max, 7);
}

#[test]
fn a_store_opens_under_the_index_of_its_entry_and_older_boots_are_fenced() {
    let mut world = World::one();
    let old = world.claim(1);
    let outcome = world.open(1, 1, 1);
    assert_eq!(outcome, Outcome::StoreOpened { boot: domain::Boot(world.index) });
    assert_eq!(world.refused(Command::Held { claim: old, copies: vec![] }), Refusal::Fenced);
    assert_eq!(world.refused(Command::Lost { claim: old, copies: vec![] }), Refusal::Fenced);
    assert_eq!(world.refused(Command::Deleted { claim: old, copies: vec![] }), Refusal::Fenced);
    let mut foreign = world.claim(1);
    foreign.node = NodeId(7);
    assert_eq!(world.refused(Command::Held { claim: foreign, copies: vec![] }), Refusal::Fenced);
    world.done(Command::Held { claim: world.claim(1), copies: vec![] });
}

#[test]
fn a_second_store_of_a_node_closes_the_first_and_the_region_fills_again() {
    let mut world = World::three();
    world.record("r", 1, 1);
    world.held(2, &[1]);
    let old = world.claim(2);
    world.open(20, 2, 2);
    let view = world.view();
    assert!(!view.store(store_id(2)).unwrap().unwrap().open);
    let region = view.region(RegionId(2)).unwrap().unwrap();
    assert_eq!((region.state, region.backfill_blobs), (RegionState::Backfilling, 1));
    assert_eq!(view.holders(&digest(1)).unwrap().len(), 1, "rows of a lost store count as absent");
    assert_eq!(world.refused(Command::Held { claim: old, copies: vec![] }), Refusal::Fenced);
}

#[test]
fn a_store_opens_only_for_a_live_node_of_its_region_that_understands_the_format() {
    let mut world = World::three();
    let open = |store: u8, node: u64, region: u32, level: u32| Command::OpenStore {
        store: store_id(store),
        node: NodeId(node),
        region: RegionId(region),
        format_level_max: level,
    };
    for command in [open(9, 9, 1, 1), open(9, 1, 2, 1), open(9, 1, 1, 0), open(2, 1, 1, 1)] {
        assert!(invalid(&world.refused(command)));
    }
}

#[test]
fn regions_change_only_along_their_life() {
    use RegionState::{Backfilling, Joining, Leaving, Ready};
    let mut world = World::one();
    world.record("r", 1, 1);
    world.done(Command::MintNode { node: new_node("b"), replace: None });
    let set = |state| Command::SetRegionState { region: RegionId(2), state };
    for state in [Ready, Leaving] {
        assert!(invalid(&world.refused(set(state))));
    }
    world.done(set(Joining));
    world.done(set(Backfilling));
    assert!(invalid(&world.refused(set(Ready))), "one blob is not considered yet");
    world.done(Command::AdvanceBackfill { region: RegionId(2), from: None });
    world.done(set(Ready));
    for state in [Joining, Backfilling, Leaving] {
        assert!(invalid(&world.refused(set(state))));
    }
    assert!(invalid(&world.refused(Command::SetRegionState { region: RegionId(9), state: Ready })));
}

#[test]
fn a_store_is_forgotten_in_steps_and_never_while_it_is_open() {
    let mut world = World::three();
    for number in 0..=255 {
        world.record("r", number, 1);
        world.held(2, &[number]);
    }
    let forget = || Command::ForgetStore { store: store_id(1) };
    assert!(invalid(&world.refused(forget())));
    world.done(Command::RemoveRegion { region: RegionId(1), force: true });
    assert_eq!(world.run(forget()), Outcome::StoreForgotten { done: false });
    assert_eq!(world.view().held_by(store_id(1), None, 999).unwrap().len(), 6);
    assert_eq!(world.run(forget()), Outcome::StoreForgotten { done: true });
    assert_eq!(world.run(forget()), Outcome::StoreForgotten { done: true });
    super::invariants::check(world.ledger.read().unwrap(), false);
}

#[test]
fn the_longest_policy_prefix_of_whole_components_wins() {
    let mut world = World::three();
    let set = |prefix: &str, durability, sparse| Command::SetPolicy {
        prefix: prefix.to_owned(),
        durability,
        sparse,
        immutable_tags: None,
    };
    world.done(set("team", Some(Durability::All), None));
    world.done(set("team/api", None, Some(true)));
    let of = |name: &str| world.view().policy(&repo(name)).unwrap();
    assert_eq!(of("team/api/v2").0, "team/api");
    assert_eq!((of("team/api").1.durability, of("team/api").1.sparse), (Durability::All, true));
    assert_eq!(of("team/apix").0, "team");
    assert_eq!(of("teams").0, "");
    assert!(invalid(&world.refused(set("team/", None, None))));
    assert!(invalid(&world.refused(set("", Some(Durability::AtLeast(4)), None))), "three regions hold three copies");
    world.done(set("", Some(Durability::AtLeast(3)), None));
}

#[test]
fn globs_of_a_policy_are_few_and_well_formed() {
    let mut world = World::one();
    let set = |globs: &[&str]| Command::SetPolicy {
        prefix: "team".to_owned(),
        durability: None,
        sparse: None,
        immutable_tags: Some(globs.iter().map(|glob| (*glob).to_owned()).collect()),
    };
    world.done(set(&["v*"; 16]));
    for wrong in [&["v*"; 17][..], &["v*", ""], &["a/b"]] {
        assert!(invalid(&world.refused(set(wrong))), "{wrong:?}");
    }
    assert_eq!(world.view().policy(&repo("team")).unwrap().1.immutable_tags.len(), 16);
    world.done(set(&[]));
    assert!(world.view().policy(&repo("team")).unwrap().1.immutable_tags.is_empty());
}

#[test]
fn cordons_and_addresses_are_kept() {
    let mut world = World::one();
    world.done(Command::SetCordoned { region: RegionId(1), cordoned: true });
    world.done(Command::SetNodeAddress { node: NodeId(1), peer_address: "x.example.com:1".to_owned() });
    assert!(world.touched.cluster);
    let view = world.view();
    assert!(view.region(RegionId(1)).unwrap().unwrap().cordoned);
    assert_eq!(view.node(NodeId(1)).unwrap().unwrap().peer_address, "x.example.com:1");
    assert!(invalid(&world.refused(Command::SetNodeAddress { node: NodeId(9), peer_address: String::new() })));
}

#[test]
fn refusals_change_nothing_but_their_record() {
    let mut world = World::three();
    world.record("r", 1, 1);
    let rows = |world: &World| {
        let all = world.ledger.read().unwrap().scan_all(crate::state::TABLE).unwrap();
        let kept = all.map(Result::unwrap).filter(|(key, _)| ![2, 3, 6].contains(&key[0]));
        kept.collect::<Vec<_>>()
    };
    let before = rows(&world);
    world.refused(Command::UnlinkBlob { repository: repo("r"), digest: digest(9) });
    world.not_stored(put("r", 100, &[1], &["t"]));
    world.not_stored(put("r", 100, &[7], &["t"]));
    world.refused(Command::DeleteTag { repository: repo("r"), tag: tag("t"), precondition: None });
    world.refused(Command::RemoveRegion { region: RegionId(9), force: false });
    world.refused(Command::AdvanceDeparture { region: RegionId(1), from: None, blobs: 9 });
    assert_eq!(rows(&world), before);
}
