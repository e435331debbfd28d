//! A region leaves for good, whatever rows of it are left.

use domain::{Algorithm, Blake3Root, CopyId, Digest, RegionId, RepositoryName, limits};
use metadata::command::StoreClaim;
use metadata::{Command, Handle};

use super::support::{TestNode, cluster, until};
use super::write;

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
