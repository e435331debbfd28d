//! Verified transfers: only proved groups are written or read, breaks are taken up, the digest has the last word.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use blobs::Reserve;
use blobs::handle::{Ingest, ReadError, UploadError};
use bytes::Bytes;
use common::{MIB, Room, content, sha256, sha512, stored, values};
use domain::{ByteRange, Digest};

async fn begin(room: &Room, digest: Digest, bytes: &[u8]) -> Result<Ingest, UploadError> {
    let (root, values) = values(bytes);
    room.handle.ingest(digest, bytes.len() as u64, root, values).await
}

async fn feed(ingest: &mut Ingest, bytes: &[u8], upto: usize) {
    let written = ingest.written() as usize;
    for group in bytes[written..upto].chunks(MIB) {
        ingest.write_group(Bytes::copy_from_slice(group)).await.unwrap();
    }
    assert_eq!(ingest.written(), upto as u64);
}

fn staged(room: &Room) -> std::path::PathBuf {
    room.root().join("staging").join(&room.staging()[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_read_behind_and_then_placed() {
    let room = Room::new().await;
    for size in [0, 1, MIB, MIB + 1, 4 * MIB + 5] {
        let bytes = content(size, size as u64);
        for digest in [sha256(&bytes), sha512(&bytes)] {
            let mut ingest = begin(&room, digest, &bytes).await.unwrap();
            let reader = ingest.reader();
            let mut read = Vec::new();
            for group in bytes.chunks(MIB) {
                let ahead = ByteRange { start: ingest.written(), end: ingest.written() + 1 };
                assert!(matches!(reader.read(ahead).await, Err(ReadError::Missing)));
                ingest.write_group(Bytes::copy_from_slice(group)).await.unwrap();
                for (start, end) in [(0, group.len() / 3), (group.len() / 3, group.len())] {
                    let from = read.len() as u64;
                    let range = ByteRange { start: from, end: from + (end - start) as u64 };
                    read.extend_from_slice(&reader.read(range).await.unwrap());
                }
            }
            assert!(read == bytes);
            let (placed, pin) = ingest.finish().await.unwrap();
            assert_eq!((placed.digest, placed.size, placed.root), (digest, size as u64, values(&bytes).0));
            assert!(room.read_all(&placed).await.unwrap() == bytes);
            assert_eq!(room.handle.group_values(stored(&placed)).await.unwrap(), values(&bytes).1);
            assert!(!room.handle.delete_copy(placed.digest, placed.copy).await.unwrap(), "pinned");
            drop(pin);
            assert!(room.handle.delete_copy(placed.digest, placed.copy).await.unwrap());
            // A slow client reads on behind what has moved, and even behind what is deleted.
            if size > 2 * MIB {
                let across = ByteRange { start: MIB as u64 - 10, end: 2 * MIB as u64 - 10 };
                assert!(reader.read(across).await.unwrap() == bytes[MIB - 10..2 * MIB - 10]);
            }
        }
    }
    assert_eq!(room.staging(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_unproved_is_written() {
    let room = Room::new().await;
    let bytes = content(3 * MIB, 1);
    let (root, values) = values(&bytes);
    let mut wrong = values.to_vec();
    wrong[0] ^= 1;
    for bad in [Bytes::from(wrong), values.slice(..64), Bytes::new()] {
        assert!(room.handle.ingest(sha256(&bytes), bytes.len() as u64, root, bad).await.is_err());
    }
    let mut ingest = begin(&room, sha256(&bytes), &bytes).await.unwrap();
    let mut flipped = bytes[..MIB].to_vec();
    flipped[77] ^= 1;
    for bad in [flipped, bytes[MIB..2 * MIB].to_vec(), bytes[..MIB - 1].to_vec(), bytes[..MIB + 1].to_vec(), vec![]] {
        let refused = ingest.write_group(Bytes::from(bad)).await;
        assert!(matches!(refused, Err(ReadError::Damaged { .. })));
        assert_eq!(ingest.written(), 0);
    }
    feed(&mut ingest, &bytes, bytes.len()).await;
    assert!(matches!(ingest.write_group(Bytes::from_static(b"x")).await, Err(ReadError::Damaged { .. })));
    let (placed, _pin) = ingest.finish().await.unwrap();
    assert!(room.read_all(&placed).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_taken_up_where_its_bytes_are_proved() {
    let bytes = content(5 * MIB + 9, 2);
    let digest = sha256(&bytes);
    let mut room = Room::new().await;
    // Dropped in the middle, then after a crash that tore the third group, then after one that cut the file.
    for (torn, cut, expected) in [(None, None, 4), (Some(2 * MIB + 1), None, 2), (None, Some(MIB + 7), 1)] {
        let mut ingest = begin(&room, digest, &bytes).await.unwrap();
        feed(&mut ingest, &bytes, 4 * MIB).await;
        drop(ingest);
        room = room.reopen().await;
        let file = OpenOptions::new().write(true).open(staged(&room)).unwrap();
        if let Some(at) = torn {
            file.write_all_at(&[!bytes[at]], at as u64).unwrap();
        }
        if let Some(length) = cut {
            file.set_len(length as u64).unwrap();
        }
        let ingest = begin(&room, digest, &bytes).await.unwrap();
        assert_eq!(ingest.written(), (expected * MIB) as u64);
    }
    let mut ingest = begin(&room, digest, &bytes).await.unwrap();
    feed(&mut ingest, &bytes, 3 * MIB).await;
    // Finished too early: refused, and nothing is lost.
    assert!(matches!(ingest.finish().await, Err(UploadError::Length { .. })));
    let mut ingest = begin(&room, digest, &bytes).await.unwrap();
    assert_eq!(ingest.written(), 3 * MIB as u64);
    feed(&mut ingest, &bytes, bytes.len()).await;
    let (placed, _pin) = ingest.finish().await.unwrap();
    assert!(room.read_all(&placed).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_lies_about_its_digest_is_found_out() {
    let room = Room::new().await;
    let bytes = content(2 * MIB, 3);
    let claimed = sha256(b"something else");
    for resumed in [false, true] {
        let mut ingest = begin(&room, claimed, &bytes).await.unwrap();
        feed(&mut ingest, &bytes, if resumed { MIB } else { 2 * MIB }).await;
        if resumed {
            drop(ingest);
            ingest = begin(&room, claimed, &bytes).await.unwrap();
            feed(&mut ingest, &bytes, 2 * MIB).await;
        }
        let refused = ingest.finish().await;
        assert!(matches!(refused, Err(UploadError::DigestMismatch { actual, .. }) if actual == sha256(&bytes)));
        assert_eq!(room.staging(), Vec::<String>::new());
    }
    assert_eq!(room.handle.inventory(None, 10).await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_and_upload_of_one_digest_do_not_meet() {
    let room = Room::new().await;
    let bytes = content(2 * MIB + 1, 4);
    let digest = sha256(&bytes);
    let mut ingest = begin(&room, digest, &bytes).await.unwrap();
    feed(&mut ingest, &bytes, MIB).await;
    assert!(matches!(begin(&room, digest, &bytes).await, Err(UploadError::Busy { .. })), "one flight per digest");
    let (pushed, _pin) = room.push(&bytes).await;
    feed(&mut ingest, &bytes, bytes.len()).await;
    let (fetched, _pin) = ingest.finish().await.unwrap();
    assert_ne!(pushed.copy, fetched.copy);
    for copy in [&pushed, &fetched] {
        assert!(room.read_all(copy).await.unwrap() == bytes);
    }
    // The flight whose local copy was recorded meanwhile is given up; its readers stay.
    let mut ingest = begin(&room, digest, &bytes).await.unwrap();
    feed(&mut ingest, &bytes, MIB).await;
    let reader = ingest.reader();
    ingest.discard().await;
    assert_eq!(room.staging(), Vec::<String>::new());
    assert!(reader.read(ByteRange { start: 5, end: MIB as u64 }).await.unwrap() == bytes[5..MIB]);
    let again = begin(&room, digest, &bytes).await.unwrap();
    assert_eq!(again.written(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_staging_is_seen_by_readers() {
    let room = Room::new().await;
    let bytes = content(2 * MIB, 5);
    let mut ingest = begin(&room, sha256(&bytes), &bytes).await.unwrap();
    feed(&mut ingest, &bytes, MIB).await;
    let file = OpenOptions::new().write(true).open(staged(&room)).unwrap();
    file.write_all_at(&[!bytes[9]], 9).unwrap();
    let read = ingest.reader().read(ByteRange { start: 100, end: 200 }).await;
    assert!(matches!(read, Err(ReadError::Damaged { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_transfers() {
    let room = Room::new().await;
    let bytes = content(2 * MIB, 6);
    let mut ingest = begin(&room, sha256(&bytes), &bytes).await.unwrap();
    room.handle.set_reserve(Reserve::Bytes(u64::MAX));
    let refused = ingest.write_group(Bytes::copy_from_slice(&bytes[..MIB])).await;
    assert!(matches!(refused, Err(ReadError::Storage { .. })));
    drop(ingest);
    assert!(matches!(begin(&room, sha256(&bytes), &bytes).await, Err(UploadError::Full { .. })));
    room.handle.set_reserve(Reserve::Bytes(0));
    let mut ingest = begin(&room, sha256(&bytes), &bytes).await.unwrap();
    feed(&mut ingest, &bytes, bytes.len()).await;
    let (placed, _pin) = ingest.finish().await.unwrap();
    assert!(fs::read(room.blob_path(&placed)).unwrap() == bytes);
}
