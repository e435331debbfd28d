//! Seeded runs of every command: equal states on every road, and every invariant at the end.
//!
//! Another seed: `LONGSHORE_SEED=7 cargo test -p metadata random_`.

use domain::limits::{COMMAND_ROWS_MAX, PAGE_ROWS_MAX};
use domain::{Boot, Durability, NodeId, RegionId, Revision};
use kv::ledger::{Builder, Ledger, Sync};

use super::invariants;
use super::world::{World, copy, digest, is_refused, new_node, only_if, put, repo, store_id, tag};
use crate::apply::{Answer, apply};
use crate::command::{Command, HeldCopy, ManifestChild, Precondition, Proposal, StoreClaim};
use crate::outcome::{Outcome, Refusal};
use crate::rows::{RegionState, Store};
use crate::state::{Batch, TABLE};
use crate::view::{Freshness, View};

const COMMANDS: usize = 10_000;
const REPOSITORIES: [&str; 3] = ["a", "team/api", "team/web"];
const TAGS: [&str; 4] = ["latest", "v1", "v2", "rc"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn once_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.roll(from.len())) }
    }

    fn number(&mut self) -> u8 {
        self.roll(60) as u8
    }

    fn name(&mut self) -> &'static str {
        REPOSITORIES[self.roll(REPOSITORIES.len())]
    }
}

fn seed() -> u64 {
    let seed = std::env::var("LONGSHORE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_240);
    println!("seed {seed}; replay: LONGSHORE_SEED={seed} cargo test -p metadata random_ -- --nocapture");
    seed
}

/// Draws commands that are mostly sensible for the state as it is.
struct Author {
    dice: Dice,
    copies: u64,
    stores: u8,
    /// Lost stores may come back under another node.
    reopen: bool,
    came_back: bool,
}

impl Author {
    fn claim(&mut self, view: &View) -> StoreClaim {
        let stores: Vec<Store> = view.stores().unwrap();
        let open: Vec<&Store> = stores.iter().filter(|store| store.open).collect();
        let Some(store) = self.dice.pick(&open).copied().or(stores.first()) else {
            return StoreClaim { store: store_id(0), node: NodeId(1), boot: Boot(0) };
        };
        let boot = if self.dice.once_in(30) { Boot(store.boot.0 - 1) } else { store.boot };
        StoreClaim { store: store.id, node: store.node, boot }
    }

    fn fresh_copy(&mut self) -> domain::CopyId {
        self.copies += 1;
        copy(self.copies)
    }

    fn region(&mut self, view: &View) -> RegionId {
        let regions = view.regions().unwrap();
        self.dice.pick(&regions).map_or(RegionId(77), |region| region.id)
    }

    fn command(&mut self, world: &World) -> Command {
        let view = world.view();
        match self.dice.roll(100) {
            0..=17 => self.record(&view),
            18..=27 => self.fetch(&view),
            28..=30 => self.lose(&view),
            31..=33 => self.delete_copies(&view),
            34..=37 => self.mount(),
            38..=40 => Command::UnlinkBlob { repository: repo(self.dice.name()), digest: digest(self.dice.number()) },
            41..=59 => self.put(),
            60..=64 => self.delete_manifest(&view),
            65..=66 => self.delete_tag(),
            67..=72 => Command::Tick {
                elapsed_ms: self.dice.roll(70_000) as u64,
                hash_index: view.recorded_hash().unwrap().map_or(Revision(0), |(index, _)| index),
                hash: view.recorded_hash().unwrap().map_or([0; 32], |(_, hash)| hash),
            },
            73..=78 => self.collect(&view),
            79..=83 if self.dice.once_in(2) => self.depart(&view),
            79..=83 => self.advance(&view),
            _ => self.rare(&view),
        }
    }

    fn record(&mut self, view: &View) -> Command {
        let number = self.dice.number();
        let size = if self.dice.once_in(50) { 1 } else { super::world::size(&digest(number)) };
        Command::RecordBlob {
            repository: repo(self.dice.name()),
            digest: digest(number),
            size,
            root: domain::Blake3Root([number; 32]),
            claim: self.claim(view),
            copy: self.fresh_copy(),
        }
    }

    fn fetch(&mut self, view: &View) -> Command {
        let claim = self.claim(view);
        let region = view.store(claim.store).unwrap().map_or(RegionId(1), |store| store.region);
        let mut copies: Vec<HeldCopy> = Vec::new();
        for row in view.wanted(region, None, self.dice.roll(8) + 1).unwrap() {
            copies.push(HeldCopy { digest: row.digest, copy: self.fresh_copy() });
        }
        copies.push(HeldCopy { digest: digest(self.dice.number()), copy: self.fresh_copy() });
        Command::Held { claim, copies }
    }

    fn lose(&mut self, view: &View) -> Command {
        let claim = self.claim(view);
        let held = view.held_by(claim.store, None, PAGE_ROWS_MAX).unwrap();
        let mut copies = vec![HeldCopy { digest: digest(self.dice.number()), copy: copy(1) }];
        copies.extend(self.dice.pick(&held).map(|(digest, copy)| HeldCopy { digest: *digest, copy: *copy }));
        Command::Lost { claim, copies }
    }

    fn delete_copies(&mut self, view: &View) -> Command {
        let claim = self.claim(view);
        let rows = view.condemned(claim.store, self.dice.roll(6)).unwrap();
        let copies = rows.iter().map(|row| HeldCopy { digest: row.digest, copy: row.copy }).collect();
        Command::Deleted { claim, copies }
    }

    fn mount(&mut self) -> Command {
        let from = if self.dice.once_in(2) { Some(repo(self.dice.name())) } else { None };
        Command::MountBlob { from, to: repo(self.dice.name()), digest: digest(self.dice.number()) }
    }

    fn put(&mut self) -> Command {
        let number = 100 + self.dice.roll(20) as u8;
        // Children follow from the digest, as bytes do.
        let mut like_the_digest = Dice(u64::from(number));
        let children: Vec<u8> = (0..like_the_digest.roll(3)).map(|_| like_the_digest.number()).collect();
        let tags: Vec<&str> = (0..self.dice.roll(3)).map(|_| TAGS[self.dice.roll(4)]).collect();
        let mut put = put(self.dice.name(), number, &children, &tags);
        if number > 115 {
            let index = |digest| ManifestChild { digest, exempt: false, may_be_manifest: true };
            put.children = vec![index(digest(number - 10)), index(digest(children.first().copied().unwrap_or(1)))];
        }
        put.subject = number.is_multiple_of(5).then(|| digest(number - 3));
        match self.dice.roll(12) {
            0 => put = only_if(put, Precondition::Absent),
            1 => put = only_if(put, Precondition::Matches(vec![digest(100 + self.dice.roll(20) as u8)])),
            2 => put = only_if(put, Precondition::Differs(vec![digest(100 + self.dice.roll(20) as u8)])),
            3 => put.children.iter_mut().for_each(|child| child.exempt = true),
            _ => {}
        }
        Command::PutManifest(Box::new(put))
    }

    fn delete_tag(&mut self) -> Command {
        let current = vec![digest(100 + self.dice.roll(20) as u8)];
        let precondition = match self.dice.roll(4) {
            0 => Some(Precondition::Matches(current)),
            1 => Some(Precondition::Differs(current)),
            _ => None,
        };
        Command::DeleteTag { repository: repo(self.dice.name()), tag: tag(TAGS[self.dice.roll(4)]), precondition }
    }

    fn delete_manifest(&mut self, view: &View) -> Command {
        let repository = repo(self.dice.name());
        let tags = view.tags(&repository, None, 9).unwrap();
        let named = self.dice.pick(&tags).map(|(_, row)| row.digest);
        let digest = named.unwrap_or(digest(100 + self.dice.roll(20) as u8));
        Command::DeleteManifest { repository, digest }
    }

    fn collect(&mut self, view: &View) -> Command {
        let grace_ms = 200_000;
        let now_ms = view.meta().unwrap().unwrap().cluster_time_ms;
        let found = view.collectable(now_ms.saturating_sub(grace_ms / 2), 20).unwrap();
        Command::Collect { grace_ms, links: found.links, blobs: found.blobs }
    }

    fn advance(&mut self, view: &View) -> Command {
        let regions = view.regions().unwrap();
        let filling: Vec<_> = regions.iter().filter(|region| region.state == RegionState::Backfilling).collect();
        match self.dice.pick(&filling) {
            Some(region) => {
                let from = if self.dice.once_in(9) { None } else { region.backfill_cursor };
                Command::AdvanceBackfill { region: region.id, from }
            }
            None => Command::AdvanceBackfill { region: RegionId(1), from: None },
        }
    }

    /// Few blobs at a time, so that much happens behind the cursor.
    fn depart(&mut self, view: &View) -> Command {
        let region = view.regions().unwrap().into_iter().find(|region| region.departure.is_some());
        match region {
            Some(region) => {
                let next = region.departure.and_then(|departure| departure.next);
                let from = if self.dice.once_in(9) { None } else { next };
                Command::AdvanceDeparture { region: region.id, from, blobs: 1 + self.dice.roll(9) as u32 }
            }
            None if self.dice.once_in(4) => Command::RemoveRegion { region: self.region(view), force: false },
            None => self.advance(view),
        }
    }

    fn rare(&mut self, view: &View) -> Command {
        let region = self.region(view);
        match self.dice.roll(20) {
            0..=6 => {
                let state = match view.region(region).unwrap().map(|region| region.state) {
                    Some(RegionState::Joining) => RegionState::Backfilling,
                    _ => RegionState::Ready,
                };
                Command::SetRegionState { region, state }
            }
            7 => Command::SetCordoned { region, cordoned: self.dice.once_in(2) },
            8 if self.dice.once_in(4) => Command::RemoveRegion { region, force: self.dice.once_in(2) },
            9 | 10 => {
                let stores: Vec<Store> = view.stores().unwrap().into_iter().filter(|store| !store.open).collect();
                Command::ForgetStore { store: self.dice.pick(&stores).map_or(store_id(1), |store| store.id) }
            }
            11 => self.policy(),
            12 => {
                // One of the newest nodes: most of the older ones are removed.
                let newest = view.meta().unwrap().map_or(0, |meta| meta.next_node);
                let node = NodeId(newest.saturating_sub(self.dice.roll(5) as u64));
                Command::SetNodeAddress { node, peer_address: format!("{}.example.com:1", self.copies) }
            }
            13 | 14 => {
                let name = NAMES[self.dice.roll(4)];
                let nodes = view.nodes().unwrap();
                let region = view.regions().unwrap().into_iter().find(|region| region.name.as_str() == name);
                let old = nodes.iter().rfind(|node| Some(node.region) == region.as_ref().map(|region| region.id));
                let replace = if self.dice.once_in(6) { old.map(|node| node.id) } else { None };
                Command::MintNode { node: new_node(name), replace }
            }
            15 => Command::Genesis {
                cluster: domain::ClusterId([1; 16]),
                mac_key: [1; 32],
                node: new_node("z"),
                durability: Durability::Local,
            },
            _ => self.open(view),
        }
    }

    fn policy(&mut self) -> Command {
        let prefixes = ["", "team", "team/api", "a", "no such/"];
        let durabilities = [Durability::Local, Durability::Majority, Durability::AtLeast(2), Durability::All];
        Command::SetPolicy {
            prefix: prefixes[self.dice.roll(5)].to_owned(),
            durability: Some(durabilities[self.dice.roll(4)]),
            sparse: Some(self.dice.once_in(3)),
            immutable_tags: Some(if self.dice.once_in(4) { vec!["v?".to_owned()] } else { Vec::new() }),
        }
    }

    fn open(&mut self, view: &View) -> Command {
        let nodes: Vec<_> = view.nodes().unwrap().into_iter().filter(|node| !node.removed).collect();
        let Some(node) = self.dice.pick(&nodes) else { return self.policy() };
        let stores = view.stores().unwrap();
        let own = stores.iter().find(|store| store.node == node.id && store.open).map(|store| store.id);
        let lost: Vec<&Store> = stores.iter().filter(|store| !store.open && store.region == node.region).collect();
        let returning = if self.reopen && self.dice.once_in(4) { self.dice.pick(&lost).copied() } else { None };
        let store = match (returning, own) {
            (Some(lost), _) => {
                self.came_back = true;
                lost.id
            }
            (None, Some(own)) if !self.dice.once_in(6) => own,
            (None, _) => {
                self.stores += 1;
                store_id(self.stores)
            }
        };
        Command::OpenStore { store, node: node.id, region: node.region, format_level_max: 1 }
    }
}

/// Writes a log of `COMMANDS` entries with retries and stale requests among them, and its answers.
fn write_log(world: &mut World, author: &mut Author) -> Vec<(Proposal, Answer)> {
    let mut log: Vec<(Proposal, Answer)> = Vec::new();
    while log.len() < COMMANDS {
        let proposal = match author.dice.roll(40) {
            0 if !log.is_empty() => {
                let back = author.dice.roll(log.len().min(400)) + 1;
                log[log.len() - back].0.clone()
            }
            1 => {
                let mut proposal = world.proposal(Command::Held { claim: author.claim(&world.view()), copies: vec![] });
                proposal.as_of = Revision(world.index.saturating_sub(author.dice.roll(400) as u64));
                proposal
            }
            _ => {
                let command = author.command(world);
                world.region = author.region(&world.view());
                world.proposal(command)
            }
        };
        let answer = world.propose(&proposal);
        log.push((proposal, answer));
        let departs = matches!(log[log.len() - 1].0.command, Command::AdvanceDeparture { .. });
        if departs || log.len().is_multiple_of(500) {
            invariants::check(world.ledger.read().unwrap(), author.came_back);
        }
    }
    log
}

fn run(seed: u64, reopen: bool) -> (World, Vec<(Proposal, Answer)>) {
    let mut world = World::three();
    let mut author = Author { dice: Dice(seed), copies: 1000, stores: 10, reopen, came_back: false };
    let log = write_log(&mut world, &mut author);
    (world, log)
}

/// Applies a log in batches of random size to another state file: stopped and opened again now and then, and once
/// rebuilt from its rows as a snapshot does.
fn replay(seed: u64, log: &[(Proposal, Answer)], first: &World) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut ledger = Ledger::open(&path, 4 << 20, &[TABLE]).unwrap();
    // Both begin from the same three regions.
    let mut twin = World::three();
    std::mem::swap(&mut twin.ledger, &mut ledger);
    let mut ledger = copy_rows(&ledger, Builder::over(twin.ledger.clone()));
    let (mut dice, mut at, mut index, mut rebuilt) = (Dice(!seed), 0, twin.index, false);
    drop(twin);
    while at < log.len() {
        let mut batch = Batch::begin(&ledger).unwrap();
        for (proposal, expected) in log.iter().skip(at).take(dice.roll(64) + 1) {
            (at, index) = (at + 1, index + 1);
            assert_eq!(apply(&mut batch, index, proposal).unwrap(), *expected, "entry {index}");
            batch.set_last_applied(&index.to_be_bytes()).unwrap();
        }
        batch.commit(Sync::Visible).unwrap();
        if dice.once_in(40) {
            ledger.sync().unwrap();
            drop(ledger);
            ledger = Ledger::open(&path, 4 << 20, &[TABLE]).unwrap();
        }
        if !rebuilt && at > log.len() / 2 {
            rebuilt = true;
            let copy = folder.path().join("copy");
            ledger = copy_rows(&ledger, Builder::create(&copy, 4 << 20, &[TABLE]).unwrap());
            drop(ledger);
            std::fs::rename(&copy, &path).unwrap();
            ledger = Ledger::open(&path, 4 << 20, &[TABLE]).unwrap();
        }
    }
    let view = View::new(ledger.read().unwrap(), Revision(index), Freshness::Local);
    assert_eq!(view.state_hash().unwrap(), first.view().state_hash().unwrap());
    assert_eq!(view.recompute_hash().unwrap(), first.view().recompute_hash().unwrap());
}

fn copy_rows(from: &Ledger, mut to: Builder) -> Ledger {
    for item in from.read().unwrap().scan_all(TABLE).unwrap() {
        let (key, value) = item.unwrap();
        to.push(TABLE, key, value).unwrap();
    }
    to.finish().unwrap()
}

#[test]
fn random_commands_leave_equal_states_on_every_road() {
    let seed = seed();
    let (world, log) = run(seed, false);
    replay(seed, &log, &world);
    // A run that refused everything, or nothing, would prove little.
    let refused = log.iter().filter(|(_, answer)| is_refused(&answer.outcome)).count();
    let too_old = log.iter().filter(|(_, answer)| answer.outcome == Outcome::Refused(Refusal::TooOld)).count();
    let put = log.iter().filter(|(_, answer)| matches!(answer.outcome, Outcome::ManifestPut { .. })).count();
    println!("{refused} refused, {too_old} of them too old, {put} manifests put");
    assert!(refused > COMMANDS / 20 && refused < COMMANDS * 3 / 4, "{refused} refused");
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for (proposal, _) in log.iter().filter(|(_, answer)| !is_refused(&answer.outcome)) {
        let text = format!("{:?}", proposal.command);
        let kind = text.split([' ', '(']).next().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    assert_eq!(kinds.len(), 21, "every command but a second Genesis was applied: {kinds:?}");
    let stays = log.iter().filter(|(_, answer)| matches!(answer.outcome, Outcome::Stays(_))).count();
    assert!(stays > 0, "no departure found a last copy");
    assert!(too_old > 0 && put > COMMANDS / 50, "{too_old} too old, {put} put");
}

#[test]
fn random_commands_with_lost_stores_that_come_back_keep_the_invariants() {
    let seed = seed().wrapping_add(1);
    let (world, log) = run(seed, true);
    replay(seed, &log, &world);
}

#[test]
fn random_commands_of_one_seed_are_the_same_commands() {
    let first = World::three();
    let mut again = Author { dice: Dice(5), copies: 0, stores: 10, reopen: false, came_back: false };
    let mut author = Author { dice: Dice(5), copies: 0, stores: 10, reopen: false, came_back: false };
    for _ in 0..COMMAND_ROWS_MAX {
        assert_eq!(author.command(&first), again.command(&first));
    }
}
