//! Upload sessions: what is acknowledged stays, what is not never counts, whatever happens in between.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use blobs::handle::UploadError;
use blobs::{OpenError, Reserve};
use bytes::Bytes;
use common::{MIB, Room, body, broken, content, names, repository, sha256, sha512, stored, values};
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_parts_reads_back() {
    let room = Room::new().await;
    for (seed, size) in [0, 1, 4095, MIB, MIB + 1, 3 * MIB, 5 * MIB + 777].into_iter().enumerate() {
        let bytes = content(size, seed as u64);
        let session = room.create().await;
        let mut offset = 0;
        for part in bytes.chunks((size / 3).max(1)) {
            let end =
                room.handle.append(session, Some(offset), Some(part.len() as u64), body(part, 9000)).await.unwrap();
            assert_eq!(end, offset + part.len() as u64);
            offset = end;
            assert_eq!(room.handle.upload_status(session).await.unwrap().offset, offset);
        }
        let (placed, pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
        assert_eq!((placed.size, placed.root), (size as u64, values(&bytes).0));
        assert_eq!(room.handle.upload_status(session).await.unwrap().placed, Some(placed));
        assert_eq!(room.read_all(&placed).await.unwrap(), bytes);
        assert_eq!(room.handle.group_values(stored(&placed)).await.unwrap(), values(&bytes).1);
        // Again, as a client does whose answer was lost: the same copy.
        let (again, _pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
        assert_eq!(again, placed);
        assert!(!room.handle.delete_copy(placed.digest, placed.copy).await.unwrap(), "pinned");
        room.handle.finish_upload(session).await;
        assert!(matches!(room.handle.upload_status(session).await, Err(UploadError::Unknown)));
        drop((pin, _pin));
        assert!(room.handle.delete_copy(placed.digest, placed.copy).await.unwrap());
        assert!(!room.blob_path(&placed).exists() && !room.groups_path(&placed).exists());
    }
    assert_eq!(room.staging(), Vec::<String>::new());
    assert_eq!(room.handle.uploads_open(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sha512_is_checked_by_one_more_read() {
    let room = Room::new().await;
    let bytes = content(2 * MIB + 5, 1);
    let session = room.create().await;
    room.append(session, &bytes).await.unwrap();
    let (placed, _pin) = room.handle.complete(session, sha512(&bytes)).await.unwrap();
    assert_eq!(placed.digest, sha512(&bytes));
    assert_eq!(room.read_all(&placed).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_ends_the_session() {
    let room = Room::new().await;
    for wrong in [sha256(b"other"), sha512(b"other")] {
        let session = room.create().await;
        room.append(session, b"bytes").await.unwrap();
        let error = room.handle.complete(session, wrong).await.unwrap_err();
        assert!(matches!(error, UploadError::DigestMismatch { expected, .. } if expected == wrong), "{error}");
        assert!(matches!(room.handle.upload_status(session).await, Err(UploadError::Unknown)));
    }
    assert_eq!(room.staging(), Vec::<String>::new());
    assert_eq!(room.handle.inventory(None, 10).await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_bodies_change_nothing() {
    let room = Room::new().await;
    let bytes = content(3 * MIB, 2);
    let session = room.create().await;
    room.append(session, &bytes[..MIB + 10]).await.unwrap();
    let at = (MIB + 10) as u64;
    let append = |offset, length, part: &[u8]| room.handle.append(session, offset, length, body(part, 100_000));
    assert!(matches!(
        append(Some(at - 1), None, &bytes[..5]).await,
        Err(UploadError::Offset { offset, given }) if offset == at && given == at - 1
    ));
    let more = &bytes[MIB + 10..];
    assert!(matches!(append(Some(at), Some(more.len() as u64 - 1), more).await, Err(UploadError::Length { .. })));
    assert!(matches!(append(Some(at), Some(more.len() as u64 + 1), more).await, Err(UploadError::Length { .. })));
    let torn = room.handle.append(session, Some(at), Some(more.len() as u64), broken(&more[..MIB], "reset")).await;
    assert!(matches!(torn, Err(UploadError::Body { .. })));
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, at);
    assert_eq!(append(Some(at), None, b"").await.unwrap(), at);
    // The hashes went back too: the same session still completes.
    append(Some(at), Some(more.len() as u64), more).await.unwrap();
    let (placed, _pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
    assert_eq!(room.read_all(&placed).await.unwrap(), bytes);
    assert!(matches!(append(None, None, b"late").await, Err(UploadError::Offset { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_break_is_kept_when_no_length_was_announced() {
    let room = Room::new().await;
    let bytes = content(2 * MIB, 3);
    let session = room.create().await;
    let torn = room.handle.append(session, None, None, broken(&bytes[..MIB + 3], "reset")).await;
    assert!(matches!(torn, Err(UploadError::Body { detail }) if detail == "reset"));
    let room = room.reopen().await;
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, (MIB + 3) as u64);
    room.append(session, &bytes[MIB + 3..]).await.unwrap();
    let (placed, _pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
    assert_eq!(room.read_all(&placed).await.unwrap(), bytes);
}

/// A link between nodes that broke: whoever sends is told that nothing was done.
struct Link;

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("link broke")
    }
}

impl blobs::handle::BodyFault for Link {
    fn keeps_what_came(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_break_goes_when_its_sender_does_not_count_on_it() {
    let room = Room::new().await;
    let bytes = content(2 * MIB, 4);
    let session = room.create().await;
    room.append(session, &bytes[..MIB]).await.unwrap();
    let torn = room.handle.append(session, None, None, broken(&bytes[MIB..2 * MIB - 5], Link)).await;
    assert!(matches!(torn, Err(UploadError::Body { detail }) if detail == "link broke"));
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, MIB as u64);
    // The same again, and the hashes are right, so they went back too.
    assert_eq!(room.append(session, &bytes[MIB..]).await.unwrap(), 2 * MIB as u64);
    let (placed, _pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
    assert_eq!(room.read_all(&placed).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_leaves_a_session_at_its_acknowledged_offset() {
    let room = Room::new().await;
    let session = room.create().await;
    room.append(session, b"before").await.unwrap();
    let tasks = room.tasks.clone();
    let endless = stream::iter([Ok::<_, String>(Bytes::from_static(b"more"))]).chain(stream::once(async move {
        tasks.cancel();
        std::future::pending().await
    }));
    let stopped = room.handle.append(session, None, None, endless.boxed()).await;
    assert!(matches!(stopped, Err(UploadError::Stopping)), "{stopped:?}");
    let room = room.reopen().await;
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_writers_wins() {
    let room = Room::new().await;
    let session = room.create().await;
    let (begin, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, wait) = (Arc::clone(&begin), Arc::clone(&go_on));
    let slow = stream::once(async move {
        begun.notify_one();
        wait.notified().await;
        Ok::<_, String>(Bytes::from_static(b"first"))
    });
    let first = room.handle.append(session, Some(0), None, slow.boxed());
    let second = async {
        begin.notified().await;
        let busy = room.append(session, b"second").await;
        assert!(matches!(busy, Err(UploadError::Busy { offset: 0 })));
        assert!(matches!(room.handle.cancel_upload(session).await, Err(UploadError::Busy { .. })));
        assert_eq!(room.handle.upload_status(session).await.unwrap().offset, 0);
        go_on.notify_one();
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.unwrap(), 5);
    let (placed, _pin) = room.handle.complete(session, sha256(b"first")).await.unwrap();
    assert_eq!(room.read_all(&placed).await.unwrap(), b"first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_the_session_whole() {
    let room = Room::new().await;
    let session = room.create().await;
    let (begin, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, wait) = (Arc::clone(&begin), Arc::clone(&go_on));
    let slow = stream::iter([Ok::<_, String>(Bytes::from_static(b"abc"))]).chain(stream::once(async move {
        begun.notify_one();
        wait.notified().await;
        Err("the client went away".to_owned())
    }));
    tokio::select! {
        _ = room.handle.append(session, None, None, slow.boxed()) => panic!("the body has not ended"),
        () = begin.notified() => {}
    }
    go_on.notify_one();
    // The step ends by itself; until then the session is busy.
    let deadline = std::time::Duration::from_secs(30);
    let joined = tokio::time::timeout(deadline, async {
        loop {
            match room.append(session, b"def").await {
                Err(UploadError::Busy { .. }) => tokio::task::yield_now().await,
                other => break other,
            }
        }
    });
    assert_eq!(joined.await.unwrap().unwrap(), 6);
    room.handle.complete(session, sha256(b"abcdef")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_before_damage_and_recovers() {
    let room = Room::new().await;
    let session = room.create().await;
    room.append(session, b"before").await.unwrap();
    room.handle.set_reserve(Reserve::Bytes(u64::MAX));
    let full = room.append(session, b"more").await.unwrap_err();
    assert!(matches!(full, UploadError::Full { reserve: u64::MAX, free } if free > 0), "{full}");
    assert!(matches!(room.handle.create_upload(repository()).await, Err(UploadError::Full { .. })));
    // Full in the middle of a body: back to what was acknowledged.
    room.handle.set_reserve(Reserve::Bytes(0));
    let filling = room.handle.clone();
    let chunks = (0..8u64).map(move |turn| {
        if turn == 4 {
            filling.set_reserve(Reserve::Bytes(u64::MAX));
        }
        Ok::<_, String>(Bytes::from(content(MIB, turn)))
    });
    let full = room.handle.append(session, None, None, stream::iter(chunks).boxed()).await.unwrap_err();
    assert!(matches!(full, UploadError::Full { .. }), "{full}");
    room.handle.set_reserve(Reserve::Bytes(0));
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, 6);
    room.append(session, b" and after").await.unwrap();
    let (placed, _pin) = room.handle.complete(session, sha256(b"before and after")).await.unwrap();
    assert_eq!(room.read_all(&placed).await.unwrap(), b"before and after");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_sessions_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = common::config(directory.path());
    blobs::format(&config.root, config.cluster, false).unwrap();
    config.uploads_open_max = 2;
    let handle = blobs::Handle::open(config, runtime::Tasks::new()).await.unwrap();
    let first = handle.create_upload(repository()).await.unwrap();
    handle.create_upload(repository()).await.unwrap();
    assert!(matches!(handle.create_upload(repository()).await, Err(UploadError::TooMany)));
    assert!(handle.cancel_upload(first).await.unwrap());
    assert!(!handle.cancel_upload(first).await.unwrap());
    handle.create_upload(repository()).await.unwrap();
}

/// A store for `open_max` sessions in which those without bytes make room after `idle`.
async fn crowded(directory: &std::path::Path, open_max: usize, idle: Duration) -> (blobs::Handle, runtime::Tasks) {
    let mut config = common::config(directory);
    if !config.root.exists() {
        blobs::format(&config.root, config.cluster, false).unwrap();
    }
    (config.uploads_open_max, config.upload_idle) = (open_max, idle);
    let tasks = runtime::Tasks::new();
    (blobs::Handle::open(config, tasks.clone()).await.unwrap(), tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_sessions_without_bytes_make_room_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let (handle, _tasks) = crowded(directory.path(), 4, Duration::ZERO).await;
    let create = async || handle.create_upload(repository()).await;
    let begun = create().await.unwrap();
    handle.append(begun, None, None, body(b"bytes", 5)).await.unwrap();
    let oldest = create().await.unwrap();
    let used = create().await.unwrap();
    let writing = create().await.unwrap();
    // The first body of a session is on its way, and nothing is acknowledged yet.
    let hold = Arc::new(Notify::new());
    let held = Arc::clone(&hold);
    let late = stream::once(async move {
        held.notified().await;
        Ok::<_, std::io::Error>(Bytes::from_static(b"late"))
    });
    let appending = handle.append(writing, None, None, late.boxed());
    let crowd = async {
        let probe = async || handle.append(writing, None, Some(0), body(b"", 1)).await;
        while !matches!(probe().await, Err(UploadError::Busy { .. })) {
            tokio::task::yield_now().await;
        }
        handle.upload_status(oldest).await.unwrap();
        handle.upload_status(used).await.unwrap();
        let first = create().await.unwrap();
        let gone = handle.append(oldest, None, None, body(b"late", 4)).await;
        assert!(matches!(gone, Err(UploadError::Unknown)), "{gone:?}");
        assert!(matches!(handle.upload_status(oldest).await, Err(UploadError::Unknown)));
        let second = create().await.unwrap();
        assert!(matches!(handle.upload_status(used).await, Err(UploadError::Unknown)));
        for session in [first, second] {
            handle.append(session, None, None, body(b"x", 1)).await.unwrap();
        }
        let refused = create().await;
        assert!(matches!(refused, Err(UploadError::TooMany)), "nobody loses what was acknowledged or is being sent");
        hold.notify_one();
    };
    let (appended, ()) = tokio::join!(appending, crowd);
    assert_eq!(appended.unwrap(), 4);
    assert_eq!(handle.upload_status(begun).await.unwrap().offset, 5);
    assert_eq!(handle.uploads_open(), 4);
    let left = names(&directory.path().join("blobs/staging"));
    assert_eq!(left.len(), 8, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_make_room_only_when_idle_for_long_and_after_a_restart_too() {
    let directory = tempfile::tempdir().unwrap();
    let (handle, tasks) = crowded(directory.path(), 2, Duration::from_secs(3600)).await;
    let create = async |handle: &blobs::Handle| handle.create_upload(repository()).await;
    let begun = create(&handle).await.unwrap();
    handle.append(begun, None, None, body(b"bytes", 5)).await.unwrap();
    let empty = create(&handle).await.unwrap();
    assert!(matches!(create(&handle).await, Err(UploadError::TooMany)), "left alone for long enough");
    tasks.cancel();
    assert!(tasks.drain(Duration::from_secs(30)).await, "tasks end");
    drop(handle);
    // What is known of a session now is its name.
    let (handle, _tasks) = crowded(directory.path(), 2, Duration::ZERO).await;
    create(&handle).await.unwrap();
    assert!(matches!(handle.upload_status(empty).await, Err(UploadError::Unknown)));
    assert_eq!(handle.upload_status(begun).await.unwrap().offset, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_expire_on_the_callers_clock() {
    let room = Room::new().await;
    room.handle.note_cluster_time(1_000);
    let old = room.create().await;
    let kept = room.create().await;
    room.handle.note_cluster_time(5_000);
    room.append(kept, b"progress").await.unwrap();
    assert_eq!(room.handle.expire_uploads(5_500, 4_500).await, 0);
    // The clock survives a restart in the records.
    let room = room.reopen().await;
    assert_eq!(room.handle.expire_uploads(5_501, 4_500).await, 1);
    assert!(matches!(room.handle.upload_status(old).await, Err(UploadError::Unknown)));
    assert_eq!(room.handle.upload_status(kept).await.unwrap().offset, 8);
    assert_eq!(room.handle.expire_uploads(20_000, 4_500).await, 1);
    assert_eq!(room.staging(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_opened_before_the_clock_is_known_is_not_expired_at_once() {
    let room = Room::new().await;
    let session = room.create().await;
    assert_eq!(room.handle.expire_uploads(10_000_000, 1_000).await, 0);
    assert_eq!(room.handle.upload_status(session).await.unwrap().offset, 0);
    assert_eq!(room.handle.expire_uploads(10_001_001, 1_000).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_opened_once_and_only_by_its_cluster() {
    let room = Room::new().await;
    let second = common::try_open(room.directory.path()).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    let directory = room.crash().await;
    let mut config = common::config(directory.path());
    config.cluster = domain::ClusterId([8; 16]);
    let other = blobs::Handle::open(config, runtime::Tasks::new()).await;
    assert!(matches!(other, Err(OpenError::OtherCluster { .. })));
    fs::remove_file(directory.path().join("blobs/STORE")).unwrap();
    let unmounted = common::try_open(directory.path()).await;
    assert!(matches!(unmounted, Err(OpenError::NotFormatted { .. })));
    assert!(names(&directory.path().join("blobs")).contains(&"data".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_before_the_last_step_keeps_the_session() {
    let room = Room::new().await;
    let bytes = content(2 * MIB, 11);
    let session = room.create().await;
    room.append(session, &bytes).await.unwrap();
    room.handle.set_reserve(Reserve::Bytes(u64::MAX));
    assert!(matches!(room.handle.complete(session, sha256(&bytes)).await, Err(UploadError::Full { .. })));
    room.handle.set_reserve(Reserve::Bytes(0));
    let (placed, _pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
    assert!(room.read_all(&placed).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_hashes_are_kept_all_complete() {
    let room = Room::new().await;
    let bytes = content(MIB + 5, 12);
    let session = room.create().await;
    room.append(session, &bytes[..1000]).await.unwrap();
    for _ in 0..260 {
        room.create().await;
    }
    // Its hashes were dropped; the bytes are read once more instead.
    room.append(session, &bytes[1000..]).await.unwrap();
    let (placed, _pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
    assert!(room.read_all(&placed).await.unwrap() == bytes);
    assert_eq!(placed.root, values(&bytes).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_at_once_do_not_mix() {
    let room = Arc::new(Room::new().await);
    let pushes = (0..24u64).map(|turn| {
        let room = Arc::clone(&room);
        async move {
            // Every third pushes the same bytes: each gets a copy of its own.
            let bytes = content(700_000 + 90_001 * (turn % 16) as usize, if turn % 3 == 0 { 0 } else { turn });
            let session = room.create().await;
            for part in bytes.chunks(300_001) {
                room.append(session, part).await.unwrap();
            }
            let (placed, pin) = room.handle.complete(session, sha256(&bytes)).await.unwrap();
            assert!(room.read_all(&placed).await.unwrap() == bytes);
            room.handle.finish_upload(session).await;
            drop(pin);
            (placed.digest, placed.copy, placed.size)
        }
    });
    let mut placed = futures_util::future::join_all(pushes).await;
    placed.sort_unstable();
    placed.dedup();
    assert_eq!(placed.len(), 24);
    assert_eq!(room.handle.inventory(None, 100).await.unwrap(), placed);
    assert_eq!(room.staging(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_stand_still_keep_no_memory_from_others() {
    const STALLED: usize = 6;
    let directory = tempfile::tempdir().unwrap();
    let mut config = common::config(directory.path());
    config.upload_bytes_max = 2 * 128 * 1024;
    blobs::format(&config.root, config.cluster, false).unwrap();
    let handle = blobs::Handle::open(config, runtime::Tasks::new()).await.unwrap();
    let (begun, go_on) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(Notify::new()));
    let bytes = content(2 * MIB, 21);
    let mut stalled = tokio::task::JoinSet::new();
    for _ in 0..STALLED {
        let (handle, begun, go_on) = (handle.clone(), Arc::clone(&begun), Arc::clone(&go_on));
        stalled.spawn(async move {
            let session = handle.create_upload(repository()).await.unwrap();
            let head = stream::iter([Ok::<_, String>(Bytes::from_static(b"some"))]);
            let tail = stream::once(async move {
                begun.add_permits(1);
                go_on.notified().await;
                Ok(Bytes::from_static(b" more"))
            });
            handle.append(session, None, None, head.chain(tail).boxed()).await.unwrap();
            handle.complete(session, sha256(b"some more")).await.unwrap();
        });
    }
    // Each has sent some bytes and sends nothing more for now.
    let all = begun.acquire_many(STALLED as u32);
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .expect("no upload keeps another waiting")
        .unwrap()
        .forget();
    let session = handle.create_upload(repository()).await.unwrap();
    let append = handle.append(session, None, None, body(&bytes, 70_000));
    tokio::time::timeout(Duration::from_secs(30), append).await.expect("nor a fast one").unwrap();
    let (placed, _pin) = handle.complete(session, sha256(&bytes)).await.unwrap();
    let read = handle.read(stored(&placed), domain::ByteRange { start: 0, end: placed.size }).await.unwrap();
    assert!(common::collect(read).await.unwrap() == bytes);
    for _ in 0..STALLED {
        go_on.notify_one();
        stalled.join_next().await.unwrap().unwrap();
    }
}
