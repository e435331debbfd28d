//! The room in trouble: what it keeps, gives up and waits for is bounded, and bytes are served all the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blobs::Reserve;
use blobs::handle::{ReadError, Stored};
use bytes::Bytes;
use domain::{CopyId, Digest};
use futures_util::future::join_all;
use metadata::command::Command;
use metadata::rows;

use crate::config::UNSETTLED_MAX;
use crate::core::{lock, stored};
use crate::doubt;
use crate::room_test::{MIB, content, read, received, two, until};
use crate::world_test::{Node, World};

/// Files of a store that this process has open.
fn open_files(root: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.unwrap().path().read_link().ok());
    links.filter(|file| file.starts_with(root.join("data")) || file.starts_with(root.join("staging"))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_pulls_go_on_and_only_so_much_is_kept() {
    let (world, a, b) = two().await;
    let mut pushed = Vec::new();
    for number in 0..UNSETTLED_MAX + 100 {
        let bytes = Bytes::from(format!("blob number {number}"));
        let (digest, blob) = a.push(&world, &bytes).await;
        world.want(&b, digest);
        pushed.push((digest, blob, bytes));
    }
    world.change(|rows| rows.cut = true);
    for some in pushed.chunks(16) {
        let reads = some.iter().map(async |(digest, blob, bytes)| {
            assert!(read(&b, *digest, blob, 0, bytes.len()).await.unwrap() == *bytes, "{digest}");
        });
        join_all(reads).await;
    }
    let flights = &b.core.flights;
    until("all have landed", || flights.unsettled() == flights.digests().len()).await;
    let kept = flights.digests().len();
    let most = UNSETTLED_MAX + b.core.config.flights_max;
    assert!((UNSETTLED_MAX..=most).contains(&kept), "{kept} landed flights wait for a quorum");
    until("nobody reads, no file is open", || open_files(&b.root) == 0).await;
    // What was kept is served without anybody else.
    a.server.cancel();
    let (digest, blob, bytes) = &pushed[0];
    assert!(b.core.landed(digest).is_some());
    assert!(read(&b, *digest, blob, 0, bytes.len()).await.unwrap() == *bytes);
    world.change(|rows| rows.cut = false);
    world.until("all are reported", |rows| rows.holders.keys().filter(|(_, node)| *node == b.id).count() == kept).await;
    until("all are settled", || b.core.flights.unsettled() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_nothing_and_passes_everything_through() {
    let (world, a, b) = two().await;
    let bytes = content(2 * MIB + 5, 40);
    let (digest, blob) = a.push(&world, &bytes).await;
    world.want(&b, digest);
    b.core.blobs.set_reserve(Reserve::Bytes(u64::MAX));
    assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
    assert_eq!(b.core.blobs.inventory(None, 10).await.unwrap(), []);
}

/// A file of 4 KiB that opens and fails every read with EIO; none where the kernel offers none.
fn failing_file() -> Option<PathBuf> {
    let devices =
        ["software/power", "pnp0/power", "system/cpu/power", "system/cpu/cpu0/power", "virtual/mem/null/power"];
    let mut files = devices.iter().map(|device| Path::new("/sys/devices").join(device).join("autosuspend_delay_ms"));
    files.find(|file| {
        let is_large = std::fs::metadata(file).is_ok_and(|metadata| metadata.len() == 4096);
        is_large && std::fs::read(file).is_err_and(|error| error.raw_os_error() == Some(5))
    })
}

/// Blobs that A and B hold, and B's copies of them.
async fn shared(world: &World, a: &Node, b: &Node, count: u8) -> Vec<(Stored, rows::Blob, Bytes)> {
    let mut shared = Vec::new();
    for seed in 0..count {
        let bytes = content(4096, seed);
        let (digest, blob) = a.push(world, &bytes).await;
        b.push(world, &bytes).await;
        shared.push((stored(digest, world.holder(b, &digest).unwrap(), &blob), blob, bytes));
    }
    shared
}

fn quarantined(node: &Node) -> usize {
    std::fs::read_dir(node.root.join("quarantine")).unwrap().count()
}

/// All copies of B are bad: ten are given up, the others stay until the operator confirms; every read gets its bytes.
async fn a_disk_goes_bad(spoil: impl Fn(&Node, &Digest, CopyId)) {
    let (world, a, b) = two().await;
    let shared = shared(&world, &a, &b, 15).await;
    for (stored, ..) in &shared {
        spoil(&b, &stored.digest, stored.copy);
    }
    let read_all = async || {
        for (stored, blob, bytes) in &shared {
            let got = read(&b, stored.digest, blob, 0, bytes.len()).await;
            assert!(got.unwrap() == *bytes, "{}", stored.digest);
        }
    };
    read_all().await;
    until("the operator is asked", || lock(&b.core.health).losses.is_stopped()).await;
    read_all().await;
    let lost = |rows: &crate::world_test::Rows| {
        let all = rows.reports.iter().map(|report| match report {
            Command::Lost { copies, .. } => copies.len(),
            _ => 0,
        });
        all.sum::<usize>()
    };
    world.until("ten are reported", |rows| lost(rows) == 10).await;
    assert_eq!(quarantined(&b), 10);
    assert_eq!(b.core.counters.damaged.load(std::sync::atomic::Ordering::Relaxed), 10);
    b.core.confirm_loss();
    assert!(!lock(&b.core.health).losses.is_stopped());
    b.work();
    read_all().await;
    let healed = |rows: &crate::world_test::Rows| {
        let is_new =
            |stored: &Stored| rows.holders.get(&(stored.digest, b.id)).is_some_and(|copy| *copy != stored.copy);
        shared.iter().all(|(stored, ..)| is_new(stored))
    };
    world.until("all are fetched again", healed).await;
    assert_eq!(lost(&world.rows()), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_gives_wrong_bytes_everywhere_asks_the_operator() {
    a_disk_goes_bad(|node, digest, copy| node.damage(digest, copy, 99)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_every_read_asks_the_operator() {
    let Some(failing) = failing_file() else {
        println!("SKIPPED: no file here fails every read");
        return;
    };
    a_disk_goes_bad(|node, digest, copy| {
        std::fs::remove_file(node.file(digest, copy)).unwrap();
        std::os::unix::fs::symlink(&failing, node.file(digest, copy)).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_medium_that_passes_gives_nothing_up() {
    let (world, a, b) = two().await;
    let shared = shared(&world, &a, &b, 1).await;
    let (stored, blob, bytes) = &shared[0];
    let failure = ReadError::Unreadable { detail: "a moment's error".to_owned() };
    b.core.heal(*stored, &failure).await;
    until("the copy is examined", || !b.core.is_suspect(stored.copy)).await;
    assert!(read(&b, stored.digest, blob, 0, bytes.len()).await.unwrap() == *bytes);
    assert_eq!((world.rows().reports.len(), quarantined(&b)), (0, 0));
    assert_eq!(world.holder(&b, &stored.digest), Some(stored.copy));
}

/// A copy that a newer push has just replaced: the rows were read before, the file was gone after.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_replaced_between_rows_and_read_is_read_where_it_is_now() {
    let (world, a, b) = two().await;
    let bytes = content(2 * MIB, 41);
    let (digest, blob) = b.push(&world, &bytes).await;
    let older = world.holder(&b, &digest).unwrap();
    b.push(&world, &bytes).await;
    assert!(b.core.blobs.delete_copy(digest, older).await.unwrap());
    let outdated = || world.change(|rows| rows.outdated.insert((digest, b.id), older));
    outdated();
    assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
    // As a source for others too.
    outdated();
    assert!(read(&a, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
    until("the transfer is measured", || received(&a, b.id.0) == bytes.len() as u64).await;
    assert_eq!(b.core.counters.damaged.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(world.rows().reports, []);
}

/// A report whose first proposal ended without an answer: that one may be applied after its repetition.
async fn in_doubt() -> (Arc<World>, Node, Node, Digest, CopyId) {
    let (world, a, b) = two().await;
    let (digest, _) = a.push(&world, &content(1000, 42)).await;
    world.change(|rows| (rows.unknown, rows.time_ms) = (1, 1_000_000));
    world.want(&b, digest);
    b.work();
    world.until("B holds it", |rows| rows.holders.contains_key(&(digest, b.id))).await;
    until("the report is settled", || b.core.flights.digests().is_empty()).await;
    let copy = world.holder(&b, &digest).unwrap();
    (world, a, b, digest, copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stays_pinned_while_a_proposal_of_it_is_in_doubt() {
    let (world, _a, b, digest, copy) = in_doubt().await;
    assert!(!b.core.blobs.delete_copy(digest, copy).await.unwrap(), "the lost proposal may still be applied");
    let horizon_ms = domain::limits::REQUEST_HORIZON_MS;
    world.change(|rows| rows.time_ms += 2 * horizon_ms);
    doubt::settle(&b.core).await;
    assert!(!b.core.blobs.delete_copy(digest, copy).await.unwrap());
    world.change(|rows| (rows.time_ms, rows.cut) = (rows.time_ms + 1, true));
    doubt::settle(&b.core).await;
    assert!(!b.core.blobs.delete_copy(digest, copy).await.unwrap(), "without a quorum nothing is proved");
    world.change(|rows| rows.cut = false);
    doubt::settle(&b.core).await;
    assert!(b.file(&digest, copy).exists(), "the rows name it");
    assert!(b.core.blobs.delete_copy(digest, copy).await.unwrap(), "`apply` refuses it by now");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_doubt_and_no_row_names_is_deleted() {
    let (world, _a, b, digest, copy) = in_doubt().await;
    world.change(|rows| {
        rows.holders.remove(&(digest, b.id));
        rows.time_ms += 2 * domain::limits::REQUEST_HORIZON_MS + 1;
    });
    doubt::settle(&b.core).await;
    assert!(!b.file(&digest, copy).exists());
}
