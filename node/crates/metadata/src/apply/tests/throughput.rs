//! How fast entries are applied; a measurement, run by hand in a release build:
//! `cargo test -p metadata --release apply_throughput -- --ignored --nocapture`.

use domain::Revision;
use kv::ledger::Sync;

use super::world::{World, put};
use crate::apply::apply;
use crate::command::{Command, Proposal};
use crate::state::Batch;

fn rate(world: &mut World, name: &str, entries: Vec<Proposal>) {
    let count = entries.len();
    let began = runtime::clock::now();
    for chunk in entries.chunks(64) {
        let mut batch = Batch::begin(&world.ledger).unwrap();
        for proposal in chunk {
            world.index += 1;
            let answer = apply(&mut batch, world.index, proposal).unwrap();
            assert!(!super::world::is_refused(&answer.outcome), "{answer:?}");
        }
        batch.set_last_applied(&world.index.to_be_bytes()).unwrap();
        batch.commit(Sync::Visible).unwrap();
    }
    let elapsed = runtime::clock::now() - began;
    println!("{name}: {:.0} entries/s", count as f64 / elapsed.as_secs_f64());
}

#[test]
#[ignore = "a measurement"]
fn apply_throughput() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::three();
    let file = kv::ledger::Ledger::open(&folder.path().join("state"), 64 << 20, &[crate::state::TABLE]).unwrap();
    let mut builder = kv::ledger::Builder::over(file);
    for item in world.ledger.read().unwrap().scan_all(crate::state::TABLE).unwrap() {
        let (key, value) = item.unwrap();
        builder.push(crate::state::TABLE, key, value).unwrap();
    }
    world.ledger = builder.finish().unwrap();
    for number in 1..=10 {
        world.record("r", number, 1);
        world.held(2, &[number]);
    }
    let mut later = |command: Command| {
        let mut proposal = world.proposal(command);
        proposal.as_of = Revision(world.index + world.requests);
        proposal
    };
    let ticks = (0..20_000).map(|_| later(Command::Tick { elapsed_ms: 1, hash_index: Revision(0), hash: [0; 32] }));
    let ticks = ticks.collect();
    let manifests = (0..20_000_u32).map(|number| {
        let mut put = put("r", 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[&format!("t{}", number % 500)]);
        let mut raw = [7; 32];
        raw[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        put.digest = domain::Digest::Sha256(raw);
        put.body = vec![1; 2000].into();
        later(Command::PutManifest(Box::new(put)))
    });
    let manifests = manifests.collect();
    rate(&mut world, "ticks", ticks);
    rate(&mut world, "manifest puts of 10 layers", manifests);
}
