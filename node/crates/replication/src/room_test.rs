//! The room at work: real stores, real streams, rows in a map.

use std::sync::Arc;
use std::time::Duration;

use blobs::handle::ByteStream;
use bytes::Bytes;
use domain::{ByteRange, Digest, NodeId};
use futures_util::StreamExt;
use futures_util::future::join_all;
use metadata::command::Command;
use metadata::rows;
use runtime::clock;

use crate::core::stored;
use crate::handle::FetchError;
use crate::world_test::{DEADLINE, Node, World};
use crate::{durable, reader};

pub(crate) const MIB: usize = 1024 * 1024;

pub(crate) fn content(size: usize, seed: u8) -> Bytes {
    let mut state = u64::from(seed) << 32 | 0x9e37_79b9;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

pub(crate) async fn collect(mut stream: ByteStream<FetchError>) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(piece) = tokio::time::timeout(DEADLINE, stream.next()).await.expect("the stream moves") {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

pub(crate) async fn read(
    node: &Node,
    digest: Digest,
    blob: &rows::Blob,
    start: usize,
    end: usize,
) -> Result<Vec<u8>, FetchError> {
    let range = ByteRange { start: start as u64, end: end as u64 };
    collect(reader::read(&node.core, digest, blob.clone(), range).await?).await
}

pub(crate) async fn two() -> (Arc<World>, Node, Node) {
    let world = World::new();
    let (a, b) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    (world, a, b)
}

pub(crate) fn received(node: &Node, from: u64) -> u64 {
    node.core.sources().get(&NodeId(from)).map_or(0, |source| source.bytes)
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_blob_is_fetched_through_once_for_all_readers_and_kept() {
    let (world, a, b) = two().await;
    let bytes = content(5 * MIB + 77, 1);
    let (digest, blob) = a.push(&world, &bytes).await;
    world.want(&b, digest);
    let whole = || read(&b, digest, &blob, 0, bytes.len());
    let part = read(&b, digest, &blob, MIB - 3, 3 * MIB + 5);
    let (reads, part) = tokio::join!(join_all((0..8).map(|_| whole())), part);
    for got in reads {
        assert!(got.unwrap() == bytes);
    }
    assert!(part.unwrap() == bytes[MIB - 3..3 * MIB + 5]);
    world.until("B holds it", |rows| rows.holders.contains_key(&(digest, b.id))).await;
    until("the transfer is measured", || received(&b, 1) == bytes.len() as u64).await;
    // From now on without A.
    a.server.cancel();
    until("the flight is over", || b.core.flights.get(&digest).is_none()).await;
    assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_nobody_here_wants_is_served_and_not_kept() {
    let (world, a, b) = two().await;
    let bytes = content(2 * MIB, 2);
    let (digest, blob) = a.push(&world, &bytes).await;
    assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
    until("the flight is over", || b.core.flights.get(&digest).is_none()).await;
    assert_eq!(world.rows().reports, []);
    assert_eq!(b.core.blobs.inventory(None, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_far_ahead_comes_directly() {
    let (world, a, b) = two().await;
    let bytes = content(20 * MIB + 9, 3);
    let (digest, blob) = a.push(&world, &bytes).await;
    world.want(&b, digest);
    let (start, end) = (15 * MIB + 5, 17 * MIB + 6);
    assert!(read(&b, digest, &blob, start, end).await.unwrap() == bytes[start..end]);
    assert!(read(&b, digest, &blob, bytes.len() - 9, bytes.len()).await.unwrap() == bytes[bytes.len() - 9..]);
    assert!(b.core.flights.get(&digest).is_none(), "no flight was needed");
    assert_eq!(received(&b, 1), (3 * MIB + 9) as u64, "the groups that the ranges touch, no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_damage_is_never_served_and_heals() {
    let (world, a, b) = two().await;
    let bytes = content(3 * MIB, 4);
    let (digest, blob) = a.push(&world, &bytes).await;
    b.push(&world, &bytes).await;
    b.work();
    let bad = world.holder(&b, &digest).unwrap();
    b.damage(&digest, bad, 17);
    assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes, "damage at the front: fetched through");
    let healed = |rows: &crate::world_test::Rows| {
        rows.holders.get(&(digest, b.id)).is_some_and(|copy| *copy != bad) && rows.wanted.is_empty()
    };
    world.until("B holds a new copy", healed).await;
    until("the flight is over", || b.core.flights.get(&digest).is_none()).await;
    assert!(!b.file(&digest, bad).exists(), "the bad copy is out of the way");
    assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);

    let second = world.holder(&b, &digest).unwrap();
    b.damage(&digest, second, 2 * MIB as u64 + 1);
    match read(&b, digest, &blob, 0, bytes.len()).await {
        Err(FetchError::Local { .. }) => {}
        other => panic!("a body with damage in the middle ends with an error, got {:?}", other.map(|b| b.len())),
    }
    let healed = |rows: &crate::world_test::Rows| {
        rows.holders.get(&(digest, b.id)).is_some_and(|copy| *copy != second) && rows.wanted.is_empty()
    };
    world.until("the backlog row brings it back", healed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_reported_and_fetched_again() {
    let (world, a, b) = two().await;
    let bytes = content(10, 5);
    let (digest, blob) = a.push(&world, &bytes).await;
    b.push(&world, &bytes).await;
    let gone = world.holder(&b, &digest).unwrap();
    std::fs::remove_file(b.file(&digest, gone)).unwrap();
    assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
    world.until("B holds a new copy", |rows| rows.holders.get(&(digest, b.id)).is_some_and(|copy| *copy != gone)).await;
    assert!(matches!(world.rows().reports.first(), Some(Command::Lost { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_source_is_passed_by_and_heals_itself() {
    let world = World::new();
    let (a, b, c) = (Node::start(&world, 1).await, Node::start(&world, 2).await, Node::start(&world, 3).await);
    let bytes = content(4 * MIB, 6);
    let (digest, blob) = a.push(&world, &bytes).await;
    b.push(&world, &bytes).await;
    world.want(&c, digest);
    let bad = world.holder(&a, &digest).unwrap();
    a.damage(&digest, bad, 3 * MIB as u64);
    // C believes that A is by far the better source.
    for _ in 0..8 {
        c.core.source_failed(b.id, &digest, &crate::network::SourceError::Unreachable("test".to_owned()));
    }
    assert!(read(&c, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
    until("both are measured", || received(&c, 1) + received(&c, 2) >= bytes.len() as u64).await;
    assert_eq!((received(&c, 1), received(&c, 2)), (3 * MIB as u64, MIB as u64), "resumed at the verified offset");
    world.until("A reports its loss", |rows| !rows.holders.contains_key(&(digest, a.id))).await;
}

/// A node that was killed between the last byte and its place found nothing left to ask for, and asked for it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_was_cut_off_after_its_last_byte_is_finished() {
    for (size, seed) in [(176, 16), (2 * MIB, 17), (2 * MIB + 176, 18)] {
        let (world, a, b) = two().await;
        let bytes = content(size, seed);
        let (digest, blob) = a.push(&world, &bytes).await;
        let copy = world.holder(&a, &digest).unwrap();
        let values = match size {
            176 => Bytes::copy_from_slice(blob.root.as_bytes()),
            _ => a.core.blobs.group_values(stored(digest, copy, &blob)).await.unwrap(),
        };
        let mut staged = b.core.blobs.ingest(digest, blob.size, blob.root, values).await.unwrap();
        for group in bytes.chunks(MIB) {
            staged.write_group(Bytes::copy_from_slice(group)).await.unwrap();
        }
        drop(staged);
        assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_groups_file_is_made_anew_and_reads_go_on() {
    let (world, a, b) = two().await;
    let bytes = content(3 * MIB, 7);
    let (digest, blob) = a.push(&world, &bytes).await;
    let copy = world.holder(&a, &digest).unwrap();
    let groups = a.file(&digest, copy).with_extension("groups");
    // A restart forgets cached values; a second store over the same files stands for it.
    std::fs::remove_file(&groups).unwrap();
    assert!(read(&a, digest, &blob, 0, bytes.len()).await.unwrap() == bytes, "the only holder hashes and serves");
    drop(b);
    let values = a.core.blobs.group_values(stored(digest, copy, &blob)).await.unwrap();
    assert!(blobs::Groups::prove(blob.size, &blob.root, values).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_holders_and_without_reachable_ones_the_errors_differ() {
    let (world, a, b) = two().await;
    let bytes = content(100, 8);
    let (digest, blob) = a.push(&world, &bytes).await;
    a.server.cancel();
    let closed = || std::net::TcpStream::connect(a.address).is_err();
    until("A's door is closed", closed).await;
    let begun = clock::now();
    assert!(matches!(read(&b, digest, &blob, 0, 100).await, Err(FetchError::Unreachable { .. })));
    assert!(begun.elapsed() < DEADLINE);
    until("the flight is over", || b.core.flights.get(&digest).is_none()).await;
    world.change(|rows| rows.holders.clear());
    assert!(matches!(read(&b, digest, &blob, 0, 100).await, Err(FetchError::NoHolder { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_holder_is_passed_by() {
    let world = World::new();
    let a = Node::start(&world, 1).await;
    let b = Node::start_with(&world, 2, Duration::from_secs(2)).await;
    let bytes = content(3 * MIB, 13);
    let (digest, blob) = a.push(&world, &bytes).await;
    world.want(&b, digest);
    // Takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lazy = NodeId(9);
    world.change(|rows| {
        rows.addresses.insert(lazy, silent.local_addr().unwrap());
        rows.holders.insert((digest, lazy), domain::CopyId([9; 16]));
    });
    // Of all holders the silent one looks best.
    b.core.source_failed(a.id, &digest, &crate::network::SourceError::Unreachable("test".to_owned()));
    assert!(read(&b, digest, &blob, 0, bytes.len()).await.unwrap() == bytes);
    assert!(b.core.sources()[&lazy].failures > 0, "it was asked first");
    world.until("B holds it", |rows| rows.holders.contains_key(&(digest, b.id))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_node_serves_what_it_fetched_and_could_not_report() {
    let (world, a, b) = two().await;
    let bytes = content(3 * MIB, 14);
    let (digest, blob) = a.push(&world, &bytes).await;
    world.change(|rows| rows.cut = true);
    world.want(&b, digest);
    b.work();
    until("the bytes are here", || b.core.counters.fetched_blobs.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
    a.server.cancel();
    assert!(read(&b, digest, &blob, 5, bytes.len()).await.unwrap() == bytes[5..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_quicker_wins_and_the_readers_are_served_to_the_end() {
    let (world, a, b) = two().await;
    let bytes = content(12 * MIB, 9);
    let (digest, blob) = a.push(&world, &bytes).await;
    world.want(&b, digest);
    let range = ByteRange { start: 0, end: bytes.len() as u64 };
    let reading = reader::read(&b.core, digest, blob, range).await.unwrap();
    // The reader has its first bytes; now the upload is recorded. The flight may have landed by then, but not settled
    // twice: exactly one copy stays.
    world.change(|rows| rows.cut = true);
    let (_, _) = b.push(&world, &bytes).await;
    let uploaded = world.holder(&b, &digest);
    world.change(|rows| rows.cut = false);
    assert!(collect(reading).await.unwrap() == bytes);
    until("the flight is over", || b.core.flights.get(&digest).is_none()).await;
    assert!(uploaded.is_some() && world.holder(&b, &digest).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_bring_the_whole_backlog_small_and_large() {
    let (world, a, b) = two().await;
    let mut pushed = Vec::new();
    for seed in 0..40u8 {
        let size = if seed % 10 == 0 { MIB + usize::from(seed) } else { usize::from(seed) * 100 };
        let bytes = content(size, seed);
        pushed.push((a.push(&world, &bytes).await, bytes));
    }
    for ((digest, _), _) in &pushed {
        world.want(&b, *digest);
    }
    b.work();
    world.until("nothing is wanted", |rows| rows.wanted.is_empty()).await;
    until("all flights are over", || b.core.flights.digests().is_empty()).await;
    a.server.cancel();
    for ((digest, blob), bytes) in &pushed {
        assert!(read(&b, *digest, blob, 0, bytes.len()).await.unwrap() == *bytes, "{digest}");
    }
    let held: usize = world
        .rows()
        .reports
        .iter()
        .map(|report| match report {
            Command::Held { copies, .. } => copies.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(held, 40, "each was reported once");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_survive_a_cut() {
    let (world, a, b) = two().await;
    let bytes = content(1000, 10);
    let (digest, _) = a.push(&world, &bytes).await;
    world.change(|rows| rows.cut = true);
    world.want(&b, digest);
    b.work();
    until("the bytes are here", || b.core.counters.fetched_blobs.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
    let (_, copy, _) = b.core.blobs.inventory(None, 1).await.unwrap()[0];
    assert!(!b.core.blobs.delete_copy(digest, copy).await.unwrap(), "pinned until it is settled");
    world.change(|rows| rows.cut = false);
    world.until("B is a holder", |rows| rows.holders.get(&(digest, b.id)) == Some(&copy)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durability_is_waited_for_while_bytes_arrive() {
    let (world, a, b) = two().await;
    let bytes = content(2 * MIB, 11);
    let (digest, _) = a.push(&world, &bytes).await;
    world.want(&b, digest);
    let deadline = clock::now() + DEADLINE;
    let begun = clock::now();
    assert!(!durable::wait(&a.core, &[digest], 2, None, deadline).await, "B does not fetch: no bytes arrive");
    assert!(begun.elapsed() < DEADLINE / 2, "given up by the stall, not by the deadline");
    assert!(b.core.is_urgent(&digest), "B was told that somebody waits");
    assert!(!durable::wait(&a.core, &[digest], 3, None, deadline).await, "there are only two regions");
    b.work();
    assert!(durable::wait(&a.core, &[digest], 2, None, deadline).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_does_not_end_a_wanted_flight() {
    let (world, a, b) = two().await;
    let bytes = content(9 * MIB, 12);
    let (digest, blob) = a.push(&world, &bytes).await;
    world.want(&b, digest);
    let range = ByteRange { start: 0, end: 10 };
    drop(reader::read(&b.core, digest, blob, range).await.unwrap());
    world.until("B holds it", |rows| rows.holders.contains_key(&(digest, b.id))).await;
}
