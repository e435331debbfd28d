//! Slow clients and forgetful holders: neither stands in the way of the others.

use std::time::Duration;

use domain::{ByteRange, CopyId};
use futures_util::StreamExt;
use metadata::handle::ChannelClass;

use crate::reader;
use crate::room_test::{MIB, collect, content, read, two};
use crate::world_test::{Node, World};

/// More than a connection's window has room for, and more than a holder serves at once.
const STALLED: usize = 80;

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_nothing_hold_up_nobody_else() {
    let (world, a, b) = two().await;
    world.change(|rows| rows.connections = Some(Default::default()));
    let bytes = content(12 * MIB, 31);
    let (digest, blob) = a.push(&world, &bytes).await;
    let range = ByteRange { start: 9 * MIB as u64, end: bytes.len() as u64 };
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut body = reader::read(&b.core, digest, blob.clone(), range).await.unwrap();
        let first = body.next().await.unwrap().unwrap();
        assert!(bytes[9 * MIB..].starts_with(&first));
        stalled.push((first.len(), body));
    }
    let used =
        |class| world.rows().connections.iter().flatten().any(|((_, to, duty), _)| *to == a.id && *duty == class);
    assert!(used(ChannelClass::Direct) && !used(ChannelClass::Bulk), "clients have a connection of their own");

    let (large, _) = a.push(&world, &content(9 * MIB, 32)).await;
    world.want(&b, large);
    for seed in 33..36 {
        let (small, _) = a.push(&world, &content(1000, seed)).await;
        world.want(&b, small);
    }
    b.work();
    world.until("the backlog is worked off", |rows| rows.wanted.is_empty()).await;
    assert!(read(&b, digest, &blob, 10 * MIB, 12 * MIB).await.unwrap() == bytes[10 * MIB..], "another client's read");
    let (length, body) = stalled.pop().unwrap();
    assert!(collect(body).await.unwrap() == bytes[9 * MIB + length..], "a slow one goes on where it stood");
    assert_eq!(b.core.sources()[&a.id].failures, 0, "its node is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_answers_without_small_blobs_is_asked_once_for_each() {
    let world = World::new();
    let (near, far, here) = (Node::start(&world, 1).await, Node::start(&world, 2).await, Node::start(&world, 3).await);
    world.change(|rows| {
        rows.blind.insert(near.id);
        rows.round_trips.insert(far.id, Duration::from_millis(500));
    });
    let mut digests = Vec::new();
    for seed in 0..150 {
        let (digest, _) = far.push(&world, &content(500, seed)).await;
        world.change(|rows| rows.holders.insert((digest, near.id), CopyId([9; 16])));
        world.want(&here, digest);
        digests.push(digest);
    }
    here.work();
    world.until("all have come", |rows| rows.wanted.is_empty()).await;
    let looks = |digest| world.rows().looks.get(&(digest, near.id)).copied().unwrap_or(0);
    let asked: Vec<usize> = digests.into_iter().map(looks).collect();
    assert!(asked.iter().sum::<usize>() > 0, "the near one was asked first");
    assert!(asked.iter().all(|times| *times <= 1), "{asked:?}");
}
