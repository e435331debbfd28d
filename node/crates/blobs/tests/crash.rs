//! Crashes at every step of an upload: the store is dropped, its files are brought to what a power cut may leave, and
//! it is opened again.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use blobs::handle::{SessionKey, UploadError};
use common::{MIB, Room, content, names, sha256};

fn staging(directory: &Path) -> PathBuf {
    directory.join("blobs/staging")
}

/// The one upload in staging and its record.
fn upload_files(directory: &Path) -> (PathBuf, PathBuf) {
    let names = names(&staging(directory));
    let upload = names.iter().find(|name| !name.ends_with(".record")).unwrap();
    (staging(directory).join(upload), staging(directory).join(format!("{upload}.record")))
}

async fn assert_continues(room: &Room, session: SessionKey, offset: usize, bytes: &[u8]) {
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, offset as u64);
    room.append(session, &bytes[offset..]).await.unwrap();
    let (placed, _pin) = room.handle.complete(session, sha256(bytes)).await.unwrap();
    assert!(room.read_all(&placed).await.unwrap() == bytes);
}

async fn assert_gone(room: &Room, session: SessionKey) {
    assert!(matches!(room.append(session, b"x").await, Err(UploadError::Unknown)));
    assert!(matches!(room.handle.upload_status(session).await, Err(UploadError::Unknown)));
    assert_eq!(room.staging(), Vec::<String>::new());
    assert_eq!(room.handle.uploads_open(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_continues_at_its_record() {
    let bytes = content(3 * MIB, 1);
    let room = Room::new().await;
    let session = room.create().await;
    let room = room.reopen().await;
    assert_eq!(room.handle.uploads_open(), 1);
    room.append(session, &bytes[..MIB]).await.unwrap();
    let room = room.reopen().await;
    room.append(session, &bytes[MIB..2 * MIB]).await.unwrap();
    // Bytes that reached the disk without being acknowledged may be anything.
    let room = room
        .reopen_after(|directory| {
            let file = OpenOptions::new().write(true).open(upload_files(directory).0).unwrap();
            file.write_all_at(&content(MIB, 99), 2 * MIB as u64).unwrap();
        })
        .await;
    assert_continues(&room, session, 2 * MIB, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_or_staging_that_is_gone_ends_the_session() {
    type Damage = fn(&Path);
    let damages: [Damage; 5] = [
        |directory| fs::remove_file(upload_files(directory).0).unwrap(),
        |directory| fs::remove_file(upload_files(directory).1).unwrap(),
        |directory| {
            let file = OpenOptions::new().write(true).open(upload_files(directory).0).unwrap();
            file.set_len(MIB as u64 - 1).unwrap();
        },
        |directory| fs::write(upload_files(directory).1, b"").unwrap(),
        |directory| fs::write(upload_files(directory).1, [0xFF; 8192]).unwrap(),
    ];
    let mut room = Room::new().await;
    for damage in damages {
        let session = room.create().await;
        room.append(session, &content(MIB, 2)).await.unwrap();
        room = room.reopen_after(damage).await;
        assert_gone(&room, session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_record_falls_back_to_the_one_before() {
    let bytes = content(2 * MIB, 3);
    let room = Room::new().await;
    let session = room.create().await;
    room.append(session, &bytes[..1000]).await.unwrap();
    // The second append was being recorded, in the slot of sequence 2, when the power went.
    room.append(session, &bytes[1000..MIB]).await.unwrap();
    let room = room
        .reopen_after(|directory| {
            let file = OpenOptions::new().write(true).open(upload_files(directory).1).unwrap();
            file.write_all_at(&[0x55; 20], 5).unwrap();
        })
        .await;
    assert_continues(&room, session, 1000, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_session_answers_the_same_after_a_crash() {
    for size in [1000, 2 * MIB + 1] {
        let bytes = content(size, 4);
        let room = Room::new().await;
        let session = room.create().await;
        room.append(session, &bytes).await.unwrap();
        let (placed, pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
        drop(pin);
        let room = room.reopen().await;
        assert_eq!(room.handle.upload_status(session).await.unwrap().placed, Some(placed));
        let (again, pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
        assert_eq!(again, placed);
        assert!(matches!(
            room.handle.complete(session, sha256(b"other")).await,
            Err(UploadError::DigestMismatch { .. })
        ));
        drop(pin);

        // The record was written, the rename was lost.
        let (from, to) = (room.blob_path(&placed), room.root().join("staging"));
        let room = room
            .reopen_after(move |_| {
                let record = names(&to).into_iter().find(|name| name.ends_with(".record")).unwrap();
                fs::rename(from, to.join(record.trim_end_matches(".record"))).unwrap();
            })
            .await;
        let (again, pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
        assert_eq!(again, placed);
        assert!(room.read_all(&placed).await.unwrap() == bytes);
        drop(pin);

        // The copy was swept while nobody knew of it: the client must send it again.
        assert!(room.handle.delete_copy(placed.digest, placed.copy).await.unwrap());
        assert!(matches!(room.handle.complete(session, sha256(&bytes)).await, Err(UploadError::Unknown)));
        assert_gone(&room, session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_placed_copy_is_gone_after_a_crash_is_not_known() {
    let room = Room::new().await;
    let session = room.create().await;
    room.append(session, b"bytes").await.unwrap();
    let (placed, pin) = room.handle.complete(session, sha256(b"bytes")).await.unwrap();
    drop(pin);
    let blob = room.blob_path(&placed);
    let room = room.reopen_after(|_| fs::remove_file(blob).unwrap()).await;
    assert!(matches!(room.handle.complete(session, placed.digest).await, Err(UploadError::Unknown)));
    assert_gone(&room, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_that_belongs_to_nobody_is_swept() {
    let room = Room::new().await;
    let session = room.create().await;
    let room = room
        .reopen_after(|directory| {
            let lost = staging(directory).join("5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");
            fs::write(lost, b"no record").unwrap();
            fs::write(staging(directory).join(format!("regroup-{}", "00".repeat(16))), b"half").unwrap();
            fs::write(staging(directory).join("note.txt"), b"of the operator").unwrap();
        })
        .await;
    let left = room.staging();
    assert_eq!(left.len(), 3, "the session, its record and what is not ours: {left:?}");
    assert!(left.contains(&"note.txt".to_owned()));
    assert!(room.handle.cancel_upload(session).await.unwrap());
}
