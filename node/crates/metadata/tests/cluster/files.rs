//! Log and state that do not fit together, as a disk may leave them: the node starts and comes to the state of the others.

use std::path::{Path, PathBuf};

use kv::ledger::{Ledger, Sync};

use super::{put, same_state, tag_at, write};
use crate::support::network::at_index;
use crate::support::{TestNode, cluster, leader, until};

const LOG_TABLES: &[&str] = &["entries", "facts"];

fn file(node: &TestNode, name: &str) -> PathBuf {
    node.config.data.join(name)
}

async fn write_tags(node: &TestNode, numbers: std::ops::Range<u64>) {
    for number in numbers {
        write(node, put(number, &format!("t{number}"), 200)).await;
    }
}

/// A follower, and a copy of its file as it was before twenty more writes.
async fn behind_the_others(nodes: &mut [TestNode], name: &str) -> usize {
    write_tags(&nodes[0], 0..10).await;
    let victim = (leader(nodes).await + 1) % nodes.len();
    let other = (victim + 1) % nodes.len();
    nodes[victim].stop().await;
    std::fs::copy(file(&nodes[victim], name), file(&nodes[victim], "copy")).unwrap();
    nodes[victim].start().await;
    write_tags(&nodes[other], 10..30).await;
    let target = nodes[other].handle().quorum().applied;
    until("the node applies what the others have", async || nodes[victim].handle().quorum().applied >= target).await;
    nodes[victim].stop().await;
    victim
}

/// Moves the committed index of a stopped node's log beyond the log's end.
fn commit_beyond_the_log(path: &Path, beyond: u64) {
    let log = Ledger::open(path, 1 << 20, LOG_TABLES).unwrap();
    let (last, committed) = {
        let rows = log.read().unwrap();
        let (last, _) = rows.scan_all("entries").unwrap().next_back().expect("entries are there").unwrap();
        let committed = rows.get("facts", b"committed").unwrap().expect("a committed index");
        (u64::from_be_bytes(last.try_into().unwrap()), committed)
    };
    let write = log.write().unwrap();
    write.table("facts").unwrap().put(b"committed", &at_index(&committed, last + beyond)).unwrap();
    write.commit(Sync::Durable).unwrap();
    println!("committed index {}, log up to {last}", last + beyond);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_index_above_the_flushed_log_is_caught_up() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    write_tags(&nodes[0], 0..10).await;
    let victim = (leader(&nodes).await + 1) % 3;
    nodes[victim].stop().await;
    // The others commit what the node never flushed, and never acknowledged.
    write_tags(&nodes[(victim + 1) % 3], 10..30).await;
    commit_beyond_the_log(&file(&nodes[victim], "raft.redb"), 12);
    nodes[victim].start().await;
    same_state(&nodes).await;
    assert!(tag_at(&nodes[victim], "t29").await.is_some());
    write(&nodes[victim], put(99, "after", 10)).await;
    nodes[victim].stop().await;
    nodes[victim].start().await;
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_starts_with_a_committed_index_above_its_log() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 1).await;
    write_tags(&nodes[0], 0..10).await;
    nodes[0].stop().await;
    commit_beyond_the_log(&file(&nodes[0], "raft.redb"), 12);
    nodes[0].start().await;
    write_tags(&nodes[0], 10..20).await;
    nodes[0].stop().await;
    nodes[0].start().await;
    for tag in ["t0", "t9", "t10", "t19"] {
        assert!(tag_at(&nodes[0], tag).await.is_some(), "{tag}");
    }
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_ahead_of_the_log_is_believed_and_caught_up() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    let victim = behind_the_others(&mut nodes, "raft.redb").await;
    std::fs::rename(file(&nodes[victim], "copy"), file(&nodes[victim], "raft.redb")).unwrap();
    let other = (victim + 1) % 3;
    write_tags(&nodes[other], 30..35).await;
    nodes[victim].start().await;
    same_state(&nodes).await;
    assert!(tag_at(&nodes[victim], "t34").await.is_some());
    write(&nodes[victim], put(99, "after", 10)).await;
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_starts_with_a_state_ahead_of_its_log() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 1).await;
    behind_the_others(&mut nodes, "raft.redb").await;
    std::fs::rename(file(&nodes[0], "copy"), file(&nodes[0], "raft.redb")).unwrap();
    nodes[0].start().await;
    for tag in ["t0", "t9", "t10", "t29"] {
        assert!(tag_at(&nodes[0], tag).await.is_some(), "{tag}");
    }
    write_tags(&nodes[0], 30..33).await;
    // Log and state agree from now on.
    nodes[0].stop().await;
    nodes[0].start().await;
    assert!(tag_at(&nodes[0], "t32").await.is_some());
    same_state(&nodes).await;
}
