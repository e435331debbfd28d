//! A region leaves for good, whatever rows of it are left.

use domain::{Algorithm, Blake3Root, CopyId, Digest, RegionId, RepositoryName, limits};
use metadata::command::{HeldCopy, StoreClaim};
use metadata::rows::RegionState;
use metadata::{Command, Handle};

use super::support::{TestNode, cluster, leader, until};
use super::{same_state, write};

fn record(number: usize, claim: StoreClaim) -> Command {
    let mut raw = [0; 32];
    raw[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let mut copy = [0; 16];
    copy[..8].copy_from_slice(&raw[..8]);
    Command::RecordBlob {
        repository: RepositoryName::parse("team/api").unwrap(),
        digest: Digest::from_raw(Algorithm::Sha256, &raw).unwrap(),
        size: 10,
        root: Blake3Root([1; 32]),
        claim,
        copy: CopyId(copy),
    }
}

fn is_gone(handle: &Handle, region: RegionId) -> bool {
    handle.local().unwrap().region(region).unwrap().is_none()
}

/// The last page of a store's rows may be full, and what follows it empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_left_is_gone_and_its_name_is_free() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    let mut burned = nodes.pop().unwrap();
    let region = burned.handle().identity().region;
    let claim = burned.handle().claim().unwrap();
    for number in 0..limits::COMMAND_ROWS_MAX / 4 {
        write(&nodes[0], record(number, claim)).await;
    }
    burned.stop().await;
    write(&nodes[0], Command::RemoveRegion { region, force: true }).await;
    until("the region is gone", async || is_gone(nodes[0].handle(), region)).await;

    // Another one of its name joins, and leaves before it holds anything.
    let (mut again, listener) = TestNode::unborn(&root.path().join("again"), "r3").await;
    again.join(listener, nodes[0].address, None).await;
    until("the store is open", async || again.handle().claim().is_some()).await;
    let region = again.handle().identity().region;
    again.stop().await;
    write(&nodes[0], Command::RemoveRegion { region, force: true }).await;
    until("the empty region is gone", async || is_gone(nodes[0].handle(), region)).await;
    for node in &mut nodes {
        node.stop().await;
    }
}

fn copies(numbers: std::ops::Range<usize>) -> Vec<HeldCopy> {
    let one = |number| {
        let nobody = StoreClaim { store: domain::StoreId([0; 16]), node: domain::NodeId(0), boot: domain::Boot(0) };
        let Command::RecordBlob { digest, copy, .. } = record(number, nobody) else { unreachable!("it records") };
        HeldCopy { digest, copy }
    };
    numbers.map(one).collect()
}

/// More blobs than one command may judge: the row drives the departure, whoever leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_of_many_blobs_is_judged_in_steps_and_leaves_without_a_last_copy() {
    const BLOBS: usize = limits::COMMAND_ROWS_MAX + 200;
    let root = tempfile::tempdir().unwrap();
    let mut nodes = cluster(root.path(), 3).await;
    let region = nodes[2].handle().identity().region;
    let (staying, leaving) = (nodes[0].handle().claim().unwrap(), nodes[2].handle().claim().unwrap());
    for first in (0..BLOBS).step_by(100) {
        let writes = (first..first + 100).map(|number| write(&nodes[0], record(number, leaving)));
        futures_util::future::join_all(writes).await;
    }
    for first in (0..BLOBS - 1).step_by(400) {
        let copies = copies(first..(first + 400).min(BLOBS - 1));
        write(&nodes[0], Command::Held { claim: staying, copies }).await;
    }
    let leave = || Command::RemoveRegion { region, force: false };
    let row = || nodes[0].handle().local().unwrap().region(region).unwrap();
    let begun = write(&nodes[0], leave()).await.revision;
    until("the departure ends", async || row().is_some_and(|row| row.departure.is_none())).await;
    assert_ne!(row().map(|row| row.state), Some(RegionState::Leaving), "it holds the last copy of the last blob");
    let ended = nodes[0].handle().local().unwrap().revision();
    assert!(ended.0 >= begun.0 + 3, "{BLOBS} blobs were judged in {} commands", ended.0 - begun.0);

    write(&nodes[0], Command::Held { claim: staying, copies: copies(BLOBS - 1..BLOBS) }).await;
    write(&nodes[0], leave()).await;
    let old = leader(&nodes).await;
    let next = (0..2).find(|at| *at != old).unwrap();
    drop(nodes[old].handle().transfer_leadership(Some(nodes[next].handle().identity().node)).await);
    until("the region is gone", async || is_gone(nodes[0].handle(), region)).await;
    nodes.pop().unwrap().stop().await;
    same_state(&nodes).await;
    let view = nodes[0].handle().local().unwrap();
    assert_eq!(view.held_by(leaving.store, None, 9).unwrap(), []);
    assert!(view.stores().unwrap().iter().all(|store| store.id != leaving.store));
    // A view holds its file open.
    drop(view);
    for node in &mut nodes {
        node.stop().await;
    }
}
