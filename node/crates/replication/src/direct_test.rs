//! Slow clients do not stand in the way of the others.

use domain::ByteRange;
use futures_util::StreamExt;
use metadata::handle::ChannelClass;

use crate::reader;
use crate::room_test::{MIB, collect, content, read, two};

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
