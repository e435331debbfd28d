//! `kill -9` during an upload and after a 201: what was acknowledged holds, at the offset that was acknowledged.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tests::client::{Ask, Payload};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::{Content, PIECE};
use tests::registry::{Registry, Trouble, patiently};
use tests::scale;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// The offset a session says it is at: one behind its `Range`'s last byte.
async fn offset(registry: &Registry, location: &str) -> Result<u64, Trouble> {
    let answer = registry.expect(Ask::new(Method::GET, location), StatusCode::NO_CONTENT).await?;
    let range = answer.header("range").to_owned();
    let last = range.strip_prefix("0-").and_then(|last| last.parse::<u64>().ok());
    last.map(|last| last + 1).ok_or_else(|| Trouble::Wrong(format!("session says range {range:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_at_its_acknowledged_offset_after_kill_9() {
    let seed = scale::seed("show04");
    let content = Content::new(seed, scale::scaled(6, 64) * PIECE + 123);
    let mut cluster = Cluster::start(3, Options::default()).await;
    let owner = cluster.at(0);
    let location = owner.begin("team/app").await.expect("a healthy region opens an upload");
    let acknowledged = 2 * PIECE + 77;
    let location = owner.patch(&location, 0, content.slice(0..acknowledged)).await.expect("the first chunk is taken");

    // The second chunk is on its way when the node dies: nobody acknowledged it.
    let (pieces, stream) = mpsc::channel::<Bytes>(1);
    let ask = Ask::new(Method::PATCH, &location).header("content-type", "application/octet-stream");
    let client = tests::client::Client::new(cluster.regions[0].http.to_string());
    let sending = async {
        pieces.send(content.slice(acknowledged..acknowledged + PIECE)).await.expect("the body is read");
        pieces.send(content.slice(acknowledged + PIECE..acknowledged + PIECE + 10)).await.expect("the body is read");
        cluster.kill(0);
        drop(pieces);
    };
    let (broken, ()) = tokio::join!(client.open_stream(ask, ReceiverStream::new(stream)), sending);
    assert!(broken.is_err(), "a killed node answered a chunk that never ended");

    cluster.restart(0);
    let owner = cluster.at(0);
    let resumed =
        patiently(deadline(), || offset(&owner, &location)).await.expect("the session is known after the kill");
    assert!(resumed >= acknowledged, "acknowledged were {acknowledged} bytes, the session is at {resumed}");
    assert!(resumed <= acknowledged + PIECE + 10, "the session is at {resumed}, beyond what was sent");
    let rest = content.slice(resumed..content.len());
    let location = owner.patch(&location, resumed, rest).await.expect("the upload goes on where it was");
    let closing = || owner.finish(&location, content.digest(), Payload::Empty);
    patiently(deadline(), closing).await.expect("the upload is closed");
    for region in 0..3 {
        let pulled = || async { cluster.at(region).pull_blob("team/app", content.digest(), content.len()).await };
        patiently(deadline(), pulled).await.expect("the resumed blob has the right bytes");
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_201_holds_after_kill_9_and_its_closing_put_is_answered_by_every_region() {
    let seed = scale::seed("show04 after 201");
    let mut cluster = Cluster::start(3, Options::default()).await;
    let content = Content::new(seed, PIECE + 5);
    let owner = cluster.at(0);
    let location = owner.begin("team/app").await.expect("a healthy region opens an upload");
    let location = owner.patch(&location, 0, content.bytes()).await.expect("the bytes are taken");
    owner.finish(&location, content.digest(), Payload::Empty).await.expect("the upload is closed");

    let again = cluster.at(1).finish(&location, content.digest(), Payload::Empty).await;
    again.expect("sent again through another region while the owner lives");
    cluster.kill(0);
    for region in [1, 2] {
        let other = cluster.at(region);
        let again = patiently(deadline(), || other.finish(&location, content.digest(), Payload::Empty)).await;
        again.expect("sent again through another region with the owner dead");
    }

    cluster.restart(0);
    let owner = cluster.at(0);
    let pulled = || owner.pull_blob("team/app", content.digest(), content.len());
    patiently(deadline(), pulled).await.expect("the 201 holds after kill -9");
    let again = patiently(deadline(), || owner.finish(&location, content.digest(), Payload::Empty)).await;
    again.expect("sent again to the owner itself");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_begun_in_one_region_is_continued_and_finished_in_others() {
    let seed = scale::seed("show04 across");
    let mut cluster = Cluster::start(3, Options::default()).await;
    let content = Content::new(seed, 3 * PIECE);
    let location = cluster.at(0).begin("team/app").await.expect("a healthy region opens an upload");
    let location = cluster.at(1).patch(&location, 0, content.slice(0..PIECE)).await.expect("continued in the second");
    let location =
        cluster.at(2).patch(&location, PIECE, content.slice(PIECE..2 * PIECE)).await.expect("continued in the third");
    // With the owner away nobody says that the session is unknown.
    cluster.kill(0);
    let other = cluster.at(1);
    let asked =
        tokio::time::timeout(Duration::from_secs(30), offset(&other, &location)).await.expect("an answer in time");
    assert!(matches!(asked, Err(Trouble::NotNow(_))), "the owner is away: {asked:?}");
    cluster.restart(0);
    let at = patiently(deadline(), || offset(&other, &location)).await.expect("the owner is back");
    assert_eq!(at, 2 * PIECE);
    let last = content.slice(2 * PIECE..3 * PIECE);
    let closing = || other.finish(&location, content.digest(), Payload::Given(last.clone()));
    patiently(deadline(), closing).await.expect("closed with its last chunk through another region");
    let third = cluster.at(2);
    let pulled = || third.pull_blob("team/app", content.digest(), content.len());
    patiently(deadline(), pulled).await.expect("the bytes are right");
    cluster.finish().await;
}
