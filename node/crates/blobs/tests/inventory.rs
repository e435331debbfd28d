//! The inventory says what lies on the disk, whatever happened to its cache.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use blobs::handle::PlacedBlob;
use common::{MIB, Room, content, sha512};
use domain::{CopyId, Digest};

type Rows = Vec<(Digest, CopyId, u64)>;

async fn all(room: &Room, page: usize) -> Rows {
    let mut rows = Rows::new();
    loop {
        let last = rows.last().map(|(digest, copy, _)| (*digest, *copy));
        let more = room.handle.inventory(last, page).await.unwrap();
        assert!(more.len() <= page);
        if more.is_empty() {
            return rows;
        }
        rows.extend(more);
    }
}

async fn until_cached(room: &Room) {
    let cached = async {
        while !room.handle.inventory_is_cached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), cached).await.expect("the disk is walked");
}

fn row(placed: &PlacedBlob) -> (Digest, CopyId, u64) {
    (placed.digest, placed.copy, placed.size)
}

async fn fill(room: &Room) -> Rows {
    let mut rows = BTreeSet::new();
    for seed in 0..12 {
        let (placed, _pin) = room.push(&content(if seed == 0 { MIB + 1 } else { 100 }, seed)).await;
        rows.insert(row(&placed));
    }
    // Two copies of one blob, and one under sha512.
    let (placed, _pin) = room.push(&content(100, 1)).await;
    rows.insert(row(&placed));
    let bytes = content(50, 50);
    let session = room.create().await;
    room.append(session, &bytes).await.unwrap();
    let (placed, _pin) = room.handle.complete(session, sha512(&bytes)).await.unwrap();
    room.handle.finish_upload(session).await;
    rows.insert(row(&placed));
    rows.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_list_every_copy_in_order_before_and_after_the_cache_is_there() {
    let room = Room::new().await;
    let mut rows = fill(&room).await;
    for cached in [false, true] {
        if cached {
            until_cached(&room).await;
        }
        for page in [1, 3, 1000] {
            assert_eq!(all(&room, page).await, rows, "pages of {page}, cached {cached}");
        }
        let (digest, copy, _) = rows.remove(rows.len() / 2);
        assert!(room.handle.delete_copy(digest, copy).await.unwrap());
        assert_eq!(all(&room, 5).await, rows);
    }
    // Added and removed while cached.
    let (placed, pin) = room.push(&content(10, 777)).await;
    assert!(all(&room, 100).await.contains(&row(&placed)));
    drop(pin);
    room.handle.quarantine(placed.digest, placed.copy).await.unwrap();
    assert_eq!(all(&room, 100).await, rows);
    assert_eq!(room.handle.rescan().await.unwrap(), 0, "the cache kept up by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_ruined_cache_is_made_again() {
    type Damage = fn(&Path);
    let damages: [Damage; 5] = [
        |_| {},
        |index| fs::remove_dir_all(index).unwrap(),
        |index| fs::remove_file(index.join("CLEAN")).unwrap(),
        |index| fs::write(index.join("tree/db"), content(50_000, 1)).unwrap(),
        |index| {
            fs::remove_dir_all(index).unwrap();
            fs::write(index, b"a file where the directory was").unwrap();
        },
    ];
    let mut room = Room::new().await;
    let mut rows = fill(&room).await;
    let bytes = content(3 * MIB, 123);
    let (large, pin) = room.push(&bytes).await;
    drop(pin);
    rows.push(row(&large));
    rows.sort_unstable();
    for (turn, damage) in damages.into_iter().enumerate() {
        until_cached(&room).await;
        room = room.reopen_after(|directory| damage(&directory.join("index"))).await;
        assert!(room.read_all(&large).await.unwrap() == bytes, "reads never wait for the cache");
        assert_eq!(all(&room, 4).await, rows, "damage {turn}, walked");
        let (digest, copy, size) = rows[0];
        assert!(room.handle.probe(digest, copy, size).await.unwrap());
    }
    // The last damage leaves no cache at all: directories are walked, and stay right.
    let (placed, _pin) = room.push(b"one more").await;
    assert!(all(&room, 4).await.contains(&row(&placed)));
    room.handle.rescan().await.unwrap();
    assert!(!room.handle.inventory_is_cached());
    // A disk that is not there has no inventory, rather than an empty one.
    fs::rename(room.root(), room.directory.path().join("unmounted")).unwrap();
    assert!(room.handle.inventory(None, 4).await.is_err());
    assert!(room.handle.rescan().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_under_a_stopped_node_is_found() {
    let room = Room::new().await;
    let mut rows = fill(&room).await;
    until_cached(&room).await;
    let (placed, pin) = room.push(&content(2 * MIB, 9)).await;
    drop(pin);
    let (blob, groups) = (room.blob_path(&placed), room.groups_path(&placed));
    let (gone, _, _) = rows.remove(3);
    let lost = room.root().join("data/sha256").join(&gone.hex()[..3]);
    let room = room
        .reopen_after(|_| {
            fs::remove_file(&blob).unwrap();
            fs::remove_dir_all(&lost).unwrap();
        })
        .await;
    assert_eq!(all(&room, 100).await, rows);
    until_cached(&room).await;
    assert_eq!(all(&room, 100).await, rows);
    assert!(!groups.exists(), "values whose blob is gone are swept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_look_corrects_what_was_changed_underneath() {
    let room = Room::new().await;
    let rows = fill(&room).await;
    until_cached(&room).await;
    let (placed, _pin) = room.push(b"short-lived").await;
    fs::remove_file(room.blob_path(&placed)).unwrap();
    assert_eq!(room.handle.rescan().await.unwrap(), 1);
    assert_eq!(all(&room, 100).await, rows);
}
