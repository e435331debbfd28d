//! The mark of a diverged node: kept over restarts, gone with the state it was put on.

use std::path::Path;

use domain::{NodeId, RegionId, StoreId};

use super::*;
use crate::raft::types::LeaderId;

fn open(path: &Path) -> StateFile {
    let ledger = Ledger::open(path, 1 << 20, TABLES).unwrap();
    let own = (RegionId(1), StoreId([1; 16]));
    StateFile::new(path.to_path_buf(), 1 << 20, ledger, own, b"whose".to_vec()).unwrap()
}

/// A state that recorded its hash at `index`, as after a tick.
fn recorded(folder: &Path, name: &str, index: u64) -> StateFile {
    let file = open(&folder.join(name));
    let mut batch = Batch::begin(&file.ledger()).unwrap();
    let id = LogId::new(LeaderId { term: 1, node_id: 1 }, index);
    batch.set_last_applied(&wire::encode_log_id(&id)).unwrap();
    batch.record_hash(Revision(index));
    batch.commit(Sync::Durable).unwrap();
    file
}

fn mark(file: &StateFile, index: u64) -> DivergedRow {
    let ours = file.last_tick().unwrap().1;
    DivergedRow { index: Revision(index), ours, theirs: [7; 32], right: vec![NodeId(2), NodeId(3)] }
}

fn agreement(file: &StateFile) -> Agreement {
    file.agreement().borrow().clone()
}

fn diverged(index: u64) -> Agreement {
    Agreement::Diverged { index: Revision(index), right: [NodeId(2), NodeId(3)].into() }
}

#[test]
fn a_mark_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(folder.path(), "state.redb", 5);
    assert_eq!(agreement(&file), Agreement::Agrees);
    assert!(file.mark_diverged(&mark(&file, 5)).unwrap());
    assert_eq!(agreement(&file), diverged(5));
    drop(file);
    assert_eq!(agreement(&open(&folder.path().join("state.redb"))), diverged(5));
}

#[test]
fn only_the_state_that_was_judged_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(folder.path(), "state.redb", 5);
    assert!(!file.mark_diverged(&mark(&file, 4)).unwrap(), "nothing is recorded at 4");
    let other = DivergedRow { ours: [1; 32], ..mark(&file, 5) };
    assert!(!file.mark_diverged(&other).unwrap(), "another hash is recorded at 5");
    assert_eq!(agreement(&file), Agreement::Agrees);
}

#[test]
fn a_snapshot_of_a_peer_takes_the_mark_away_for_good() {
    let folder = tempfile::tempdir().unwrap();
    drop(recorded(folder.path(), "received.state", 9));
    let file = recorded(folder.path(), "state.redb", 5);
    assert!(file.mark_diverged(&mark(&file, 5)).unwrap());
    file.install(&folder.path().join("received.state")).unwrap();
    assert_eq!(agreement(&file), Agreement::Agrees);
    assert_eq!(file.last_tick().map(|(index, _)| index), Some(Revision(9)));
    drop(file);
    assert_eq!(agreement(&open(&folder.path().join("state.redb"))), Agreement::Agrees);
}
