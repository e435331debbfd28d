//! Three nodes: writes from everywhere, strict reads, transfer of leadership, restarts, catching up by snapshot.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cluster/author.rs"]
mod author;
#[path = "cluster/every_kind.rs"]
mod every_kind;
#[path = "cluster/files.rs"]
mod files;
#[path = "cluster/leaving.rs"]
mod leaving;
mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use domain::{Algorithm, Digest, NodeId, RegionId, RepositoryName, RequestId, Tag, limits};
use futures_util::FutureExt;
use kv::ledger::{Ledger, Sync};
use metadata::command::{ManifestChild, Proposal, PutManifest};
use metadata::handle::{Agreement, Applied, Demand, ProposeError, ReadError, TransferError};
use metadata::view::Freshness;
use metadata::{Command, wire};
use support::network::{Door, Said};
use support::{TestNode, cluster, leader, origin, until};
use tokio::task::JoinSet;

fn put(number: u64, tag: &str, body: usize) -> Command {
    let mut raw = [0; 32];
    raw[..8].copy_from_slice(&number.to_be_bytes());
    Command::PutManifest(Box::new(PutManifest {
        repository: RepositoryName::parse("team/api").unwrap(),
        digest: Digest::from_raw(Algorithm::Sha256, &raw).unwrap(),
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        body: Bytes::from(vec![b'x'; body]),
        children: Vec::new(),
        subject: None,
        artifact_type: None,
        annotations: Vec::new(),
        tags: vec![Tag::parse(tag).unwrap()],
        precondition: None,
    }))
}

/// Writes, trying again while a write is certainly not applied (elections take their time on a busy machine).
async fn write(node: &TestNode, command: Command) -> Applied {
    let mut done = None;
    until("the write is acknowledged", async || {
        match node.handle().propose(origin(), command.clone()).await {
            Ok(applied) => done = Some(applied),
            Err(error) => assert!(error.is_retryable() && error.has_no_side_effects(), "{error}"),
        }
        done.is_some()
    })
    .await;
    done.expect("acknowledged above")
}

async fn tag_at(node: &TestNode, tag: &str) -> Option<Digest> {
    let mut view = None;
    until("a quorum confirms the read", async || {
        view = node.handle().view(Demand::Strict, None).await.ok();
        view.is_some()
    })
    .await;
    let view = view.expect("confirmed above");
    assert_eq!(view.freshness(), Freshness::Strict);
    view.tag(&RepositoryName::parse("team/api").unwrap(), &Tag::parse(tag).unwrap()).unwrap().map(|row| row.digest)
}

async fn same_state(nodes: &[TestNode]) {
    until("all nodes have the same state", async || {
        let mut seen = Vec::new();
        for node in nodes {
            let view = node.handle().local().unwrap();
            seen.push((view.revision(), view.state_hash().unwrap()));
        }
        seen.windows(2).all(|pair| pair[0] == pair[1])
    })
    .await;
    for node in nodes {
        let view = node.handle().local().unwrap();
        assert_eq!(view.recompute_hash().unwrap(), view.state_hash().unwrap());
    }
}

/// A strict read through any node sees the write that was acknowledged through another, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_from_every_node_are_read_strictly_from_every_other() {
    let root = tempfile::tempdir().unwrap();
    let nodes = cluster(root.path(), 3).await;
    for round in 0..60_u64 {
        let writer = &nodes[usize::try_from(round % 3).unwrap()];
        let reader = &nodes[usize::try_from((round + 1) % 3).unwrap()];
        let applied = write(writer, put(round, "latest", 100)).await;
        let mut raw = [0; 32];
        raw[..8].copy_from_slice(&round.to_be_bytes());
        assert_eq!(tag_at(reader, "latest").await, Some(Digest::Sha256(raw)), "round {round}");
        assert!(applied.revision.0 > round);
    }
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_without_an_election_timeout() {
    let root = tempfile::tempdir().unwrap();
    let nodes = cluster(root.path(), 3).await;
    let old = leader(&nodes).await;
    let to = nodes[(old + 1) % 3].handle().identity().node;
    until("leadership is handed over", async || nodes[old].handle().transfer_leadership(Some(to)).await == Ok(to))
        .await;
    until("the named node leads", async || nodes[(old + 1) % 3].handle().quorum().is_leader).await;
    write(&nodes[old], put(1, "latest", 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_that_cannot_be_handed_over_is_not_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    let leading = leader(&nodes).await;
    let id = |at: usize| nodes[at % 3].handle().identity().node;
    let (me, to) = (id(leading), id(leading + 2));
    let follower = nodes[(leading + 1) % 3].handle();
    let not_mine = Err(TransferError::NotLeader(Some(me)));
    until("a follower names who leads", async || follower.transfer_leadership(Some(to)).await == not_mine).await;
    let stranger = NodeId(99);
    let no_vote = Err(TransferError::NoVote(stranger));
    let handle = nodes[leading].handle().clone();
    until("a stranger is refused", async || handle.transfer_leadership(Some(stranger)).await == no_vote).await;
    for at in [leading + 1, leading + 2] {
        nodes[at % 3].stop().await;
    }
    until("no quorum is heard", async || !handle.quorum().heard).await;
    assert_eq!(handle.transfer_leadership(Some(to)).await, Err(TransferError::NoQuorum));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_that_was_lost_for_longer_than_a_fail_over_takes_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    let leading = leader(&nodes).await;
    let (handle, others) = (nodes[(leading + 1) % 3].handle().clone(), [leading, (leading + 2) % 3]);
    for at in others {
        nodes[at].stop().await;
    }
    until("no quorum is heard", async || !handle.quorum().heard).await;
    // The first wait may have begun a moment before the loss was noted.
    assert!(!handle.hear_quorum().await && !handle.hear_quorum().await);
    assert_eq!(handle.hear_quorum().now_or_never(), Some(false), "answered without a wait");
    nodes[others[0]].start().await;
    until("a quorum is heard", async || handle.hear_quorum().await).await;
}

/// More than a node may have in flight, and less than the leader admits: it is the node that refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_beyond_the_bytes_of_a_node_are_refused_as_busy() {
    let root = tempfile::tempdir().unwrap();
    let nodes = cluster(root.path(), 1).await;
    let handle = nodes[0].handle().clone();
    let writes = (0..12_u64).map(|number| {
        let handle = handle.clone();
        async move { handle.propose(origin(), put(number, "latest", 4 * 1024 * 1024 - 1024)).await }
    });
    let results = futures_util::future::join_all(writes).await;
    let busy = results.iter().filter(|result| matches!(result, Err(ProposeError::Busy))).count();
    let done = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(busy + done, 12, "{results:?}");
    assert!(busy > 0 && done >= 3, "{busy} busy, {done} done");
}

/// What the followers forward is bounded at the leader as well. These commands take longer to apply than to arrive: each
/// looks for thousands of children.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_beyond_the_bytes_of_the_leader_are_refused_as_busy() {
    let root = tempfile::tempdir().unwrap();
    let nodes = cluster(root.path(), 1).await;
    let doors: Vec<Door> = (0..8).map(|_| Door::of(&nodes[0])).collect();
    let bytes = 4 * 1024 * 1024 - 1024;
    let count = 3 * limits::PROPOSAL_BYTES_LEADER_MAX / bytes;
    let mut forwarded = JoinSet::new();
    for number in 0..count {
        let mut command = put(number as u64, "latest", bytes);
        if let Command::PutManifest(put) = &mut command {
            let child = |child: usize| ManifestChild {
                digest: Digest::from_raw(Algorithm::Sha256, &[child.to_be_bytes(); 4].concat()).unwrap(),
                exempt: false,
                may_be_manifest: true,
            };
            put.children = (0..limits::MANIFEST_CHILDREN_MAX).map(child).collect();
        }
        let proposal = Proposal {
            request: RequestId((number as u128).to_be_bytes()),
            as_of: nodes[0].handle().quorum().applied,
            wall_ms: 0,
            actor: "test".to_owned(),
            region: RegionId(1),
            command,
        };
        let (door, proposal) = (doors[number % doors.len()].clone(), wire::encode_proposal(&proposal));
        forwarded.spawn(async move { door.propose(proposal).await });
    }
    let (mut busy, mut decided) = (0, 0);
    while let Some(said) = forwarded.join_next().await {
        match said.unwrap() {
            Said::Busy => busy += 1,
            Said::Applied { .. } => decided += 1,
            // Longer on its way than its sender waited.
            Said::NotLeader(_) | Said::Unknown => {}
        }
    }
    println!("{busy} of {count} busy, {decided} decided");
    assert!(busy > 0, "{busy} of {count} busy, {decided} decided");
}

/// A follower proves a strict read by the leader; nobody to ask is no proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_the_others_gives_no_strict_read() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    write(&nodes[0], put(1, "latest", 10)).await;
    let follower = (leader(&nodes).await + 1) % 3;
    assert!(tag_at(&nodes[follower], "latest").await.is_some());
    for at in [(follower + 1) % 3, (follower + 2) % 3] {
        nodes[at].stop().await;
    }
    let read = nodes[follower].handle().view(Demand::Strict, None).await;
    assert!(matches!(read, Err(ReadError::Unavailable { .. })), "a strict read without a leader");
    let pull = nodes[follower].handle().view(Demand::Pull, None).await.unwrap();
    assert_eq!(pull.freshness(), Freshness::Stale);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_leader_is_replaced_and_catches_up_when_it_returns() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    write(&nodes[0], put(1, "a", 10)).await;
    let old = leader(&nodes).await;
    nodes[old].stop().await;
    let other = (old + 1) % 3;
    write(&nodes[other], put(2, "b", 10)).await;
    nodes[old].start().await;
    assert!(tag_at(&nodes[old], "b").await.is_some());
    assert!(tag_at(&nodes[old], "a").await.is_some());
    same_state(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_the_purged_log_catches_up_by_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    let behind = (leader(&nodes).await + 1) % 3;
    nodes[behind].stop().await;
    for (at, node) in nodes.iter_mut().enumerate() {
        if at != behind {
            node.stop().await;
            node.config.log_entries_kept = 20;
            node.config.snapshot_every = 20;
        }
    }
    for (at, node) in nodes.iter_mut().enumerate() {
        if at != behind {
            node.start().await;
        }
    }
    let up = (behind + 1) % 3;
    for number in 0..200 {
        write(&nodes[up], put(number, &format!("t{number}"), 1000)).await;
    }
    until("the log is purged", async || nodes[up].handle().log_bytes() < 150_000).await;
    nodes[behind].start().await;
    assert!(tag_at(&nodes[behind], "t199").await.is_some());
    assert!(tag_at(&nodes[behind], "t0").await.is_some());
    same_state(&nodes).await;
    write(&nodes[behind], put(999, "after", 10)).await;
    nodes[behind].stop().await;
    nodes[behind].start().await;
    assert!(tag_at(&nodes[behind], "after").await.is_some());
}

/// Key of the state hash: its space alone. Its value is a version byte, the hash, and what the last ticks recorded.
const HASH_KEY: &[u8] = &[0x02];

/// Alters one byte of a row of a stopped node's state behind its back.
fn alter(node: &TestNode, key: &[u8], byte: impl Fn(usize) -> usize, by: u8) {
    let ledger = Ledger::open(&node.config.data.join("state.redb"), 1 << 20, &["rows", "stamp"]).unwrap();
    let write = ledger.write().unwrap();
    {
        let mut rows = write.table("rows").unwrap();
        let mut value = rows.get(key).unwrap().expect("the row is there");
        let at = byte(value.len());
        value[at] ^= by;
        rows.put(key, &value).unwrap();
    }
    write.commit(Sync::Durable).unwrap();
}

/// As if `apply` had once decided otherwise on these nodes: their hashes are others from now on. All nodes are stopped
/// meanwhile, so that no tick finds one out before the next is altered.
async fn misjudge(nodes: &mut [TestNode], wrong: &[usize]) {
    same_state(nodes).await;
    for node in nodes.iter_mut() {
        node.stop().await;
    }
    for (by, &at) in (1..).zip(wrong) {
        alter(&nodes[at], HASH_KEY, |_| 1, by);
    }
    for node in nodes.iter_mut() {
        node.start().await;
    }
}

/// Has the leader compare its state with the others', as it does by itself every ten seconds: a tick records hashes,
/// the one after it carries the leader's.
async fn compare(nodes: &[TestNode]) {
    for _ in 0..2 {
        until("a tick is acknowledged", async || {
            let leading = nodes[leader(nodes).await].handle();
            let recorded = leading.local().unwrap().recorded_hash().unwrap();
            let (hash_index, hash) = recorded.unwrap_or_default();
            leading.propose(origin(), Command::Tick { elapsed_ms: 1, hash_index, hash }).await.is_ok()
        })
        .await;
    }
}

fn agrees(node: &TestNode) -> bool {
    node.handle().agreement() == Agreement::Agrees
}

/// A node that a majority contradicts refuses everything and names the remedy; `right` are the others.
async fn assert_out_of_service(node: &TestNode, right: &[&TestNode]) {
    let handle = node.handle();
    let right: BTreeSet<NodeId> = right.iter().map(|node| node.handle().identity().node).collect();
    assert!(matches!(handle.agreement(), Agreement::Diverged { right: found, .. } if found == right));
    for demand in [Demand::Local, Demand::Pull, Demand::Strict] {
        let refused = handle.view(demand, None).await.err().expect("nothing is served").to_string();
        let remedy = format!("`cluster-cli join --replace {}`", handle.identity().node);
        assert!(refused.contains(&remedy), "{refused}");
    }
    assert!(!handle.quorum().heard, "it takes no part in writes of its clients");
    let error = handle.propose(origin(), put(900, "refused", 10)).await.expect_err("nothing is accepted");
    assert!(error.is_retryable() && error.has_no_side_effects(), "{error}");
    assert!(error.to_string().contains("join --replace"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_wrong_state_stops_for_good_and_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    let wrong = (leader(&nodes).await + 1) % 3;
    write(&nodes[0], put(1, "moves", 10)).await;
    same_state(&nodes).await;
    nodes[wrong].stop().await;
    // The region of a tag: what the row was is subtracted from the hash when the tag moves.
    alter(&nodes[wrong], b"\x14team/api\0moves", |length| length - 1, 4);
    nodes[wrong].start().await;
    compare(&nodes).await;
    assert!(nodes.iter().all(agrees), "nothing has touched the row yet");
    write(&nodes[0], put(2, "moves", 10)).await;
    compare(&nodes).await;
    until("the follower finds itself wrong", async || !agrees(&nodes[wrong])).await;
    let right: Vec<usize> = (0..3).filter(|at| *at != wrong).collect();
    assert_out_of_service(&nodes[wrong], &[&nodes[right[0]], &nodes[right[1]]]).await;
    for &at in &right {
        write(&nodes[at], put(10 + at as u64, "goes-on", 10)).await;
        assert!(tag_at(&nodes[at], "goes-on").await.is_some());
        assert!(agrees(&nodes[at]));
    }

    nodes[wrong].stop().await;
    nodes[wrong].start().await;
    assert_out_of_service(&nodes[wrong], &[&nodes[right[0]], &nodes[right[1]]]).await;

    let lost = nodes[wrong].handle().identity().node;
    nodes[wrong].stop().await;
    nodes[wrong] = replace(&nodes[right[0]], &root.path().join("anew"), &nodes[wrong].region, lost).await;
    compare(&nodes).await;
    same_state(&nodes).await;
    write(&nodes[wrong], put(20, "anew", 10)).await;
    assert!(nodes.iter().all(agrees));
}

/// The remedy: a node with an empty data directory takes the place of `lost`, and votes.
async fn replace(member: &TestNode, root: &std::path::Path, region: &str, lost: NodeId) -> TestNode {
    let (mut node, listener) = TestNode::unborn(root, region).await;
    node.join(listener, member.address, Some(lost)).await;
    until("the new node votes", async || node.handle().is_voter()).await;
    until("its store is open", async || node.handle().claim().is_some()).await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_wrong_state_silences_itself_and_not_the_others() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    write(&nodes[0], put(1, "a", 10)).await;
    let wrong = 1;
    misjudge(&mut nodes, &[wrong]).await;
    let to = nodes[wrong].handle().identity().node;
    until("the node that will be wrong leads", async || {
        let leading = leader(&nodes).await;
        if leading != wrong {
            // Not taken by a node that has to catch up first.
            drop(nodes[leading].handle().transfer_leadership(Some(to)).await);
        }
        leading == wrong
    })
    .await;
    compare(&nodes).await;
    until("the leader finds itself wrong", async || !agrees(&nodes[wrong])).await;
    until("another leads", async || {
        let leading = leader(&nodes).await;
        leading != wrong && nodes[leading].handle().quorum().heard
    })
    .await;
    assert_out_of_service(&nodes[wrong], &[&nodes[0], &nodes[2]]).await;
    for at in [0, 2] {
        write(&nodes[at], put(10 + at as u64, "goes-on", 10)).await;
        assert!(tag_at(&nodes[at], "goes-on").await.is_some());
        assert!(agrees(&nodes[at]), "the right ones are never silenced");
    }
    // Asked for it, it does not lead again.
    let leading = leader(&nodes).await;
    let refused = nodes[leading].handle().transfer_leadership(Some(to)).await;
    assert_eq!(refused, Err(TransferError::NotTaken(to)));
    write(&nodes[0], put(20, "still", 10)).await;
    assert_ne!(leader(&nodes).await, wrong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_of_equal_states_writes_stop_and_pulls_go_on() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    write(&nodes[0], put(1, "served", 10)).await;
    misjudge(&mut nodes, &[1, 2]).await;
    let suspended = |node: &TestNode| matches!(node.handle().agreement(), Agreement::Undecided { .. });
    compare(&nodes).await;
    until("nobody knows who is right", async || nodes.iter().all(suspended)).await;
    for node in &nodes {
        let error = node.handle().propose(origin(), put(2, "refused", 10)).await.expect_err("no writes");
        assert!(error.is_retryable() && error.has_no_side_effects(), "{error}");
        assert!(error.to_string().contains("differ in state"), "{error}");
        for demand in [Demand::Local, Demand::Pull, Demand::Strict] {
            let name = RepositoryName::parse("team/api").unwrap();
            let view = node.handle().view(demand, None).await.unwrap();
            assert!(view.tag(&name, &Tag::parse("served").unwrap()).unwrap().is_some());
            assert!(view.tag(&name, &Tag::parse("refused").unwrap()).unwrap().is_none());
        }
    }
    // Still so when one of them starts again.
    nodes[1].stop().await;
    nodes[1].start().await;
    until("it learns of it again", async || suspended(&nodes[1])).await;

    // A node without a past agrees with whoever is right, and that makes a majority.
    let lost = nodes[2].handle().identity().node;
    nodes[2].stop().await;
    nodes[2] = replace(&nodes[0], &root.path().join("anew"), &nodes[2].region, lost).await;
    until("a majority agrees", async || agrees(&nodes[0]) && agrees(&nodes[2])).await;
    until("the last wrong one is found out", async || !agrees(&nodes[1]) && !suspended(&nodes[1])).await;
    assert_out_of_service(&nodes[1], &[&nodes[0], &nodes[2]]).await;
    for at in [0, 2] {
        write(&nodes[at], put(10 + at as u64, "goes-on", 10)).await;
    }
}
