//! Verified reads: exactly the bytes asked for, or an error; never a clean end of something else.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use blobs::handle::{ReadError, Stored};
use bytes::Bytes;
use common::{MIB, Room, content, stored};
use domain::{Blake3Root, ByteRange, CopyId};
use futures_util::TryStreamExt;

/// Bytes of a piece of a read.
const BLOCK: usize = 128 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_slices_at_every_edge() {
    let room = Room::new().await;
    for size in [1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 17] {
        let bytes = content(size, size as u64);
        let (placed, _pin) = room.push(&bytes).await;
        let mut edges: Vec<usize> = (0..=4)
            .flat_map(|group| {
                let edge = group * MIB;
                [edge.saturating_sub(1), edge, edge + 1]
            })
            .chain([size / 2, size - 1, size])
            .filter(|edge| *edge <= size)
            .collect();
        edges.sort_unstable();
        edges.dedup();
        for (at, &start) in edges.iter().enumerate() {
            for &end in &edges[at + 1..] {
                let read = room.read(stored(&placed), start as u64..end as u64).await.unwrap();
                assert!(read == bytes[start..end], "{start}..{end} of {size}");
            }
        }
        // A range beyond the end is cut to it.
        assert_eq!(room.read(stored(&placed), size as u64 - 1..u64::MAX).await.unwrap(), &bytes[size - 1..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_ranges_are_slices() {
    let room = Room::new().await;
    let seed = u64::from_le_bytes(runtime::random::bytes());
    println!("seed {seed}");
    let bytes = content(4 * MIB + 99, seed);
    let (placed, _pin) = room.push(&bytes).await;
    let draws = content(64 * 16, seed ^ 1);
    for draw in draws.chunks(16) {
        let number = |at: usize| u64::from_le_bytes(draw[at..at + 8].try_into().unwrap()) % placed.size;
        let (start, end) = (number(0).min(number(8)), number(0).max(number(8)) + 1);
        let read = room.read(stored(&placed), start..end).await.unwrap();
        assert!(read == bytes[start as usize..end as usize], "{start}..{end}, seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_reads_as_nothing_and_only_when_it_is_there() {
    let room = Room::new().await;
    let (placed, pin) = room.push(b"").await;
    assert_eq!(room.read_all(&placed).await.unwrap(), b"");
    fs::write(room.blob_path(&placed), b"x").unwrap();
    assert!(matches!(room.read_all(&placed).await, Err(ReadError::Damaged { .. })));
    drop(pin);
    room.handle.delete_copy(placed.digest, placed.copy).await.unwrap();
    assert!(matches!(room.read_all(&placed).await, Err(ReadError::Missing)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_never_leaves() {
    let room = Room::new().await;
    for size in [10, MIB, 3 * MIB] {
        let bytes = content(size, 5);
        let (placed, _pin) = room.push(&bytes).await;
        for at in [0, size / 2, size - 1] {
            let file = fs::OpenOptions::new().write(true).open(room.blob_path(&placed)).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
            let whole = ByteRange { start: 0, end: placed.size };
            let opened = room.handle.read(stored(&placed), whole).await;
            if at < MIB {
                assert!(matches!(opened, Err(ReadError::Damaged { .. })), "the first group is checked before the body");
            } else {
                // Later damage: every byte before the group, then an error, then nothing.
                let mut stream = opened.unwrap();
                let mut got = 0;
                let error = loop {
                    match stream.try_next().await {
                        Ok(Some(chunk)) => {
                            assert!(chunk == bytes[got..got + chunk.len()]);
                            got += chunk.len();
                        }
                        Ok(None) => panic!("a clean end after {got} bytes"),
                        Err(error) => break error,
                    }
                };
                assert!(matches!(error, ReadError::Damaged { .. }));
                assert_eq!(got, at / MIB * MIB);
                assert!(matches!(stream.try_next().await, Ok(None)));
            }
            // A range of other groups is still served.
            if at >= MIB {
                assert!(room.read(stored(&placed), 0..MIB as u64).await.is_ok());
            }
            file.write_all_at(&[bytes[at]], at as u64).unwrap();
            assert!(room.read_all(&placed).await.unwrap() == bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_grown_and_deleted_files_are_told_apart() {
    let room = Room::new().await;
    for size in [100usize, 2 * MIB + 100] {
        let bytes = content(size, 6);
        let (placed, pin) = room.push(&bytes).await;
        let file = fs::OpenOptions::new().write(true).open(room.blob_path(&placed)).unwrap();
        file.set_len(size as u64 - 50).unwrap();
        let damaged = |result: Result<Vec<u8>, ReadError>| matches!(result, Err(ReadError::Damaged { .. }));
        assert!(damaged(room.read_all(&placed).await));
        assert!(!room.handle.probe(placed.digest, placed.copy, placed.size).await.unwrap());
        file.set_len(0).unwrap();
        assert!(damaged(room.read_all(&placed).await));
        fs::remove_file(room.blob_path(&placed)).unwrap();
        assert!(matches!(room.read_all(&placed).await, Err(ReadError::Missing)));
        assert!(!room.handle.probe(placed.digest, placed.copy, placed.size).await.unwrap());
        drop(pin);
    }
    // On a disk that is not there absence proves nothing.
    let (placed, _pin) = room.push(b"kept").await;
    fs::rename(room.root(), room.directory.path().join("unmounted")).unwrap();
    assert!(matches!(room.handle.probe(placed.digest, placed.copy, 4).await, Err(ReadError::Storage { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_or_bad_group_values_are_rebuilt() {
    let room = Room::new().await;
    let bytes = content(3 * MIB + 1, 7);
    let (placed, _pin) = room.push(&bytes).await;
    let good = fs::read(room.groups_path(&placed)).unwrap();
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    for bad in [None, Some(flipped), Some(good[..good.len() - 1].to_vec()), Some(Vec::new())] {
        match &bad {
            Some(bad) => fs::write(room.groups_path(&placed), bad).unwrap(),
            None => fs::remove_file(room.groups_path(&placed)).unwrap(),
        }
        assert!(matches!(room.read_all(&placed).await, Err(ReadError::NoGroups)), "{:?}", bad.map(|bad| bad.len()));
        assert!(matches!(room.handle.group_values(stored(&placed)).await, Err(ReadError::NoGroups)));
        room.handle.rebuild_groups(stored(&placed)).await.unwrap();
        assert_eq!(fs::read(room.groups_path(&placed)).unwrap(), good);
        fs::remove_file(room.groups_path(&placed)).unwrap();
        room.handle.rebuild_groups(stored(&placed)).await.unwrap();
    }
    assert!(room.read_all(&placed).await.unwrap() == bytes);

    // Damage below is found by the rebuild, and so is a root that was never theirs.
    let false_root = Stored { root: Blake3Root([9; 32]), ..stored(&placed) };
    assert!(matches!(room.handle.rebuild_groups(false_root).await, Err(ReadError::Damaged { .. })));
    assert!(matches!(room.read(false_root, 0..1).await, Err(ReadError::NoGroups)));
    let file = fs::OpenOptions::new().write(true).open(room.blob_path(&placed)).unwrap();
    file.write_all_at(&[!bytes[MIB]], MIB as u64).unwrap();
    assert!(matches!(room.handle.rebuild_groups(stored(&placed)).await, Err(ReadError::Damaged { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_keeps_the_bytes_and_frees_the_name() {
    let room = Room::new().await;
    let bytes = content(2 * MIB, 8);
    let (placed, pin) = room.push(&bytes).await;
    assert!(!room.handle.quarantine(placed.digest, placed.copy).await.unwrap(), "pinned");
    drop(pin);
    assert!(room.handle.quarantine(placed.digest, placed.copy).await.unwrap());
    assert!(room.handle.quarantine(placed.digest, placed.copy).await.unwrap(), "absent is fine");
    assert!(matches!(room.read_all(&placed).await, Err(ReadError::Missing)));
    let kept = room.root().join("quarantine").join(format!("sha256-{}-{}", placed.digest.hex(), placed.copy));
    assert!(fs::read(kept).unwrap() == bytes);
    assert!(!room.groups_path(&placed).exists());
    assert!(room.handle.delete_copy(placed.digest, CopyId([1; 16])).await.unwrap(), "absent is fine");
    assert_eq!(room.handle.inventory(None, 10).await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_large_and_no_byte_is_copied_together() {
    let room = Room::new().await;
    let bytes = content(5 * MIB, 9);
    let (placed, _pin) = room.push(&bytes).await;
    let range = ByteRange { start: 10, end: placed.size - 10 };
    let chunks: Vec<Bytes> = room.handle.read(stored(&placed), range).await.unwrap().try_collect().await.unwrap();
    let lengths: Vec<usize> = chunks.iter().map(Bytes::len).collect();
    let whole = [BLOCK; 5 * MIB / BLOCK - 2];
    assert_eq!(lengths, [&[BLOCK - 10], &whole[..], &[BLOCK - 10]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_outlives_the_copy_it_began_with() {
    let room = Room::new().await;
    let bytes = content(6 * MIB, 10);
    let (placed, pin) = room.push(&bytes).await;
    let whole = ByteRange { start: 0, end: placed.size };
    let stream = room.handle.read(stored(&placed), whole).await.unwrap();
    drop(pin);
    assert!(room.handle.delete_copy(placed.digest, placed.copy).await.unwrap());
    assert!(common::collect(stream).await.unwrap() == bytes);
}

/// A file of 4 KiB that opens and fails every read with EIO; none where the kernel offers none.
fn unreadable() -> Option<std::path::PathBuf> {
    let candidates =
        ["software/power", "pnp0/power", "system/cpu/power", "system/cpu/cpu0/power", "virtual/mem/null/power"];
    let mut files = candidates.iter().map(|device| Path::new("/sys/devices").join(device).join("autosuspend_delay_ms"));
    files.find(|file| {
        let failed = |error: std::io::Error| error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        fs::metadata(file).is_ok_and(|metadata| metadata.len() == 4096) && fs::read(file).is_err_and(failed)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_medium_is_not_called_damage() {
    let room = Room::new().await;
    let (placed, _pin) = room.push(&content(4096, 11)).await;
    let Some(unreadable) = unreadable() else {
        println!("SKIPPED: no file here fails every read");
        return;
    };
    fs::remove_file(room.blob_path(&placed)).unwrap();
    std::os::unix::fs::symlink(unreadable, room.blob_path(&placed)).unwrap();
    let read = room.read_all(&placed).await;
    assert!(matches!(read, Err(ReadError::Unreadable { .. })), "{read:?}");
    let examined = room.handle.rebuild_groups(stored(&placed)).await;
    assert!(matches!(examined, Err(ReadError::Unreadable { .. })), "{examined:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_nothing_cost_little_and_stop_nobody() {
    const READERS: usize = 40;
    const READY_MAX: usize = 4 * MIB;
    const SLICE: usize = 64 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let mut config = common::config(directory.path());
    config.client_read_bytes_max = READY_MAX;
    blobs::format(&config.root, config.cluster, false).unwrap();
    let handle = blobs::Handle::open(config, runtime::Tasks::new()).await.unwrap();
    let bytes = content(3 * MIB + 17, 11);
    let session = handle.create_upload(common::repository()).await.unwrap();
    handle.append(session, None, None, common::body(&bytes, MIB)).await.unwrap();
    let (placed, _pin) = handle.complete(session, common::sha256(&bytes)).await.unwrap();
    let range = ByteRange { start: 10, end: placed.size };
    let read = async || handle.read_for_client(stored(&placed), range).await.unwrap();
    // Each has a group or a slice with it, as the door has what its client does not take.
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let mut stream = read().await;
        let pieces = vec![stream.try_next().await.unwrap().unwrap()];
        stalled.push((pieces, stream));
    }
    let ready: usize = stalled.iter().flat_map(|(pieces, _)| pieces).map(Bytes::len).sum();
    assert!(ready > MIB && ready <= READY_MAX + READERS * SLICE, "{ready} bytes lie ready");
    assert!(common::collect(read().await).await.unwrap() == bytes[10..], "another pull ends");
    // One that takes bytes again goes on where it was.
    let (pieces, stream) = stalled.pop().unwrap();
    assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [SLICE]);
    let rest = common::collect(stream).await.unwrap();
    assert!([&pieces[0][..], &rest].concat() == bytes[10..]);
    drop(stalled);
    let chunks: Vec<Bytes> = read().await.try_collect().await.unwrap();
    let lengths: Vec<usize> = chunks.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [MIB - 10, MIB, MIB, 17], "there is room again");
}
