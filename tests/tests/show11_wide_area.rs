//! Round trips of 100 ms between the regions: what a write, many writes, a HEAD and a push of known layers take.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tests::client::Ask;
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::image::{INDEX, Image, Manifest};
use tests::registry::Registry;
use tests::scale;
use tokio::task::JoinSet;
use tokio::time::Instant;

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// A manifest without blobs: putting it is one write and waits for no bytes.
fn bare(number: u64) -> Manifest {
    let body =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"number": number.to_string()}});
    Manifest::new(INDEX, Bytes::from(body.to_string()))
}

async fn put(registry: &Registry, number: u64) {
    let put = registry.put_manifest("wide/app", &format!("t{number}"), &bare(number)).await;
    put.unwrap_or_else(|trouble| panic!("write {number}: {trouble:?}"));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn times(count: u64, mut once: impl AsyncFnMut(u64)) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let started = Instant::now();
        once(number).await;
        times.push(started.elapsed());
    }
    times
}

/// 64 writers at once, each writing `each` times. Writes a second.
async fn many(cluster: &Cluster, region: usize, each: u64) -> f64 {
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..64 {
        let registry = cluster.at(region);
        writers.spawn(async move {
            for number in 0..each {
                put(&registry, 1_000_000 + writer * 1000 + number).await;
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("a writer's writes are taken");
    }
    (64 * each) as f64 / started.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_overlap_and_reads_of_followers_are_proved_over_long_round_trips() {
    let seed = scale::seed("show11");
    let options = Options { profile: "wan", meshed: true, round_trip: ROUND_TRIP, ..Options::default() };
    let cluster = Cluster::start(3, options).await;
    let image = Image::new(seed, &[1000; 10]);
    cluster.at(0).push_image("wide/app", "v1", &image).await.expect("a push over long round trips");
    cluster.await_quiet(PATIENCE).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let writes = scale::scaled(10, 50);

    let near = cluster.at(leader);
    let alone = median(times(writes, async |number| put(&near, number).await).await);
    println!("one write at the leader: {alone:?}, {:.2} round trips", alone.as_secs_f64() / ROUND_TRIP.as_secs_f64());
    let far = cluster.at(follower);
    let forwarded = median(times(writes, async |number| put(&far, 10_000 + number).await).await);
    println!("one write at a follower: {forwarded:?}");
    let rate = many(&cluster, leader, scale::scaled(3, 10)).await;
    let gain = rate * alone.as_secs_f64();
    println!("64 writers: {rate:.0} writes/s, {gain:.1} times one writer");
    assert!(gain >= 8.0, "64 writers are only {gain:.1} times as fast as one: writes do not overlap");

    let path = format!("/v2/wide/app/blobs/{}", image.blobs[1].digest());
    let head = async |_| {
        far.expect(Ask::new(Method::HEAD, &path), StatusCode::OK).await.expect("the blob is there");
    };
    println!("a blob HEAD at a follower: {:?}", median(times(writes, head).await));
    let again = async |number: u64| {
        for blob in &image.blobs {
            let path = format!("/v2/wide/app/blobs/{}", blob.digest());
            far.expect(Ask::new(Method::HEAD, path), StatusCode::OK).await.expect("the layer is known");
        }
        far.put_manifest("wide/app", &format!("again-{number}"), &image.manifest).await.expect("the manifest is taken");
    };
    println!("a push of 10 layers that exist, one after the other, at a follower: {:?}", median(times(3, again).await));
    cluster.assert_same_state(PATIENCE).await;
    cluster.finish().await;
}
