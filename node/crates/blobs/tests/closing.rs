//! The closing request that brings the last bytes: all of it is done, or the session is where it was.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use blobs::Reserve;
use blobs::handle::{Pin, PlacedBlob, SessionKey, UploadError};
use bytes::Bytes;
use common::{MIB, Room, body, broken, content, names, sha256, sha512, values};
use futures_util::{StreamExt, stream};

async fn close(room: &Room, session: SessionKey, part: &[u8], whole: &[u8]) -> Result<(PlacedBlob, Pin), UploadError> {
    room.handle.append_and_complete(session, None, None, body(part, 70_000), sha256(whole)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_bytes_come_with_the_closing_request() {
    let room = Room::new().await;
    for (seed, size) in [0, 1, MIB, MIB + 1, 3 * MIB + 5].into_iter().enumerate() {
        let bytes = content(size, seed as u64);
        for first in [0, size / 2, size] {
            let session = room.create().await;
            room.append(session, &bytes[..first]).await.unwrap();
            let (placed, pin) = close(&room, session, &bytes[first..], &bytes).await.unwrap();
            assert_eq!((placed.size, placed.root), (size as u64, values(&bytes).0));
            let status = room.handle.upload_status(session).await.unwrap();
            assert_eq!((status.offset, status.placed), (size as u64, Some(placed)));
            assert!(room.read_all(&placed).await.unwrap() == bytes);
            // Again, as a client does whose answer was lost, with or without the bytes.
            let (again, _pin) = close(&room, session, b"not read", &bytes).await.unwrap();
            assert_eq!(again, placed);
            assert_eq!(room.handle.complete(session, sha256(&bytes)).await.unwrap().0, placed);
            room.handle.finish_upload(session).await;
            drop(pin);
        }
    }
    assert_eq!(room.staging(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_algorithm_is_checked_by_one_more_read() {
    let room = Room::new().await;
    let bytes = content(2 * MIB + 5, 1);
    let session = room.create().await;
    room.append(session, &bytes[..MIB]).await.unwrap();
    let rest = body(&bytes[MIB..], 100_000);
    let (placed, _pin) = room.handle.append_and_complete(session, None, None, rest, sha512(&bytes)).await.unwrap();
    assert!(room.read_all(&placed).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_the_session_where_it_was() {
    let room = Room::new().await;
    let bytes = content(2 * MIB, 2);
    let session = room.create().await;
    room.append(session, &bytes[..MIB]).await.unwrap();
    let (at, digest) = (MIB as u64, sha256(&bytes));
    let close = |offset, length, part| room.handle.append_and_complete(session, offset, length, part, digest);
    let offset = close(Some(at - 1), None, body(b"x", 1)).await.unwrap_err();
    assert!(matches!(offset, UploadError::Offset { .. }), "{offset}");
    let length = close(Some(at), Some(at + 1), body(&bytes[MIB..], 100_000)).await.unwrap_err();
    assert!(matches!(length, UploadError::Length { .. }), "{length}");
    let torn =
        room.handle.append_and_complete(session, Some(at), Some(at), broken(&bytes[MIB..MIB + 9], "reset"), digest);
    assert!(matches!(torn.await, Err(UploadError::Body { .. })));
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, at);
    let (placed, _pin) = close(Some(at), Some(at), body(&bytes[MIB..], 100_000)).await.unwrap();
    assert!(room.read_all(&placed).await.unwrap() == bytes);

    // Without an announced length a client may ask how far it got; a wrong digest ends the session.
    let session = room.create().await;
    let torn = room.handle.append_and_complete(session, None, None, broken(&bytes[..9], "reset"), digest).await;
    assert!(matches!(torn, Err(UploadError::Body { .. })));
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, 9);
    let wrong = room.handle.append_and_complete(session, None, None, body(b"other", 5), digest).await.unwrap_err();
    assert!(matches!(wrong, UploadError::DigestMismatch { .. }), "{wrong}");
    assert!(matches!(room.handle.upload_status(session).await, Err(UploadError::Unknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_at_the_last_step_lets_the_request_be_repeated() {
    let room = Room::new().await;
    let bytes = content(3 * MIB, 3);
    let session = room.create().await;
    room.append(session, &bytes[..MIB]).await.unwrap();
    let (filling, root) = (room.handle.clone(), room.root());
    let rest = Bytes::copy_from_slice(&bytes[MIB..]);
    // Every byte finds its place, and then the group values find none.
    let full = stream::once(async move {
        let staging = root.join("staging");
        let upload = names(&staging).into_iter().find(|name| !name.ends_with(".record")).unwrap();
        while fs::metadata(staging.join(&upload)).unwrap().len() < 3 * MIB as u64 {
            tokio::task::yield_now().await;
        }
        filling.set_reserve(Reserve::Bytes(u64::MAX));
        Ok::<_, String>(Bytes::new())
    });
    let rest = stream::iter([Ok(rest)]).chain(full).boxed();
    let refused = room.handle.append_and_complete(session, None, None, rest, sha256(&bytes)).await.unwrap_err();
    assert!(matches!(refused, UploadError::Full { .. }), "{refused}");
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, MIB as u64);
    room.handle.set_reserve(Reserve::Bytes(0));
    let (placed, _pin) = close(&room, session, &bytes[MIB..], &bytes).await.unwrap();
    assert!(room.read_all(&placed).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_record_brings_the_offset_of_before_and_one_after_it_the_copy() {
    for first in [0, MIB] {
        let bytes = content(2 * MIB + 1, 4);
        let room = Room::new().await;
        let session = room.create().await;
        room.append(session, &bytes[..first]).await.unwrap();
        let (placed, pin) = close(&room, session, &bytes[first..], &bytes).await.unwrap();
        drop(pin);
        // The rename was lost.
        let (blob, staging) = (room.blob_path(&placed), room.root().join("staging"));
        let (from, to) = (blob.clone(), staging.clone());
        let record = move || to.join(names(&to).into_iter().find(|name| name.ends_with(".record")).unwrap());
        let lost = record.clone();
        let room = room.reopen_after(move |_| fs::rename(from, lost().with_extension("")).unwrap()).await;
        let (again, pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
        assert_eq!(again, placed);
        drop(pin);
        // And the record too, as it was written: its slot is the other than that of the record before.
        let room = room
            .reopen_after(move |_| {
                fs::rename(blob, record().with_extension("")).unwrap();
                let slot = if first == 0 { 4096 } else { 0 };
                OpenOptions::new().write(true).open(record()).unwrap().write_all_at(&[0x55; 20], slot + 5).unwrap();
            })
            .await;
        assert_eq!(room.handle.upload_status(session).await.unwrap().offset, first as u64);
        let (placed, _pin) = close(&room, session, &bytes[first..], &bytes).await.unwrap();
        assert!(room.read_all(&placed).await.unwrap() == bytes);
    }
}
