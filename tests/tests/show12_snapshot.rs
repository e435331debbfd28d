//! A large state goes to a region that fell behind, by snapshot; the transfer is killed once and goes on; memory stays flat
//! and writes go on meanwhile.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tests::cluster::{Cluster, Options, PATIENCE, Region};
use tests::content::{Content, PIECE, Random};
use tests::image::{INDEX, Manifest};
use tests::registry::Registry;
use tests::{scale, wait};
use tokio::time::Instant;

/// A manifest of about `len` bytes that does not compress.
fn bulky(seed: u64, len: u64) -> Manifest {
    let mut random = Random::new(seed);
    let words: String = (0..len / 16).map(|_| format!("{:016x}", random.next())).collect();
    let body =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"org.example.words": words}});
    Manifest::new(INDEX, Bytes::from(body.to_string()))
}

async fn fill(registry: &Registry, seed: u64, mebibytes: u64) {
    for number in 0..mebibytes {
        let manifest = bulky(seed + number, PIECE);
        let put = registry.put_manifest("bulk/app", &format!("m{number}"), &manifest).await;
        put.unwrap_or_else(|trouble| panic!("manifest {number}: {trouble:?}"));
    }
}

/// Bytes of a snapshot that is on its way into a region.
fn incoming(region: &Region) -> u64 {
    region.files("incoming").iter().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_fell_behind_gets_a_snapshot_though_its_transfer_is_killed() {
    let seed = scale::seed("show12");
    let mebibytes = scale::scaled(40, 1024);
    let settings = vec![("raft.snapshot_every", "20".to_owned()), ("raft.log_entries_kept", "10".to_owned())];
    // The link of the region is slow enough that its transfer can be killed in the middle.
    let mut cluster = Cluster::start(3, Options { settings, ..Options::default() }).await;
    let behind = cluster.follower().await;
    cluster.kill(behind);
    let leader = cluster.leader().await;
    let registry = cluster.at(leader);
    fill(&registry, seed, mebibytes).await;

    let region = &cluster.regions[leader];
    region.process().reset_peak();
    let idle = region.process().resident();
    cluster.restart(behind);
    let arriving = &cluster.regions[behind];
    let first = wait::until("the snapshot to be on its way", PATIENCE, || async {
        let came = incoming(arriving);
        let has_caught_up = arriving.status().await.is_ok_and(|status| status.applied > mebibytes);
        if came > 0 || has_caught_up { Ok(came) } else { Err("nothing has come".to_owned()) }
    })
    .await;
    cluster.kill(behind);
    let kept = incoming(&cluster.regions[behind]);
    println!("killed after {first} bytes had come, {kept} were kept");
    cluster.restart(behind);

    let mut times = Vec::new();
    let arriving = &cluster.regions[behind];
    let mut number = 0;
    loop {
        let started = Instant::now();
        let put = registry.put_manifest("bulk/app", "meanwhile", &bulky(seed + 50_000 + number, 500)).await;
        put.unwrap_or_else(|trouble| panic!("a write during the transfer: {trouble:?}"));
        times.push(started.elapsed());
        number += 1;
        let target = cluster.regions[leader].status().await.expect("the leader answers").applied;
        let reached = arriving.status().await.is_ok_and(|status| status.applied + 100 >= target);
        if reached || number > 5000 {
            break;
        }
    }
    println!(
        "{number} writes meanwhile, median {:?}, p99 {:?}",
        percentile(&mut times, 50),
        percentile(&mut times, 99)
    );
    let peak = cluster.regions[leader].process().peak();
    println!("sender: idle {} MiB, peak {} MiB", idle / PIECE, peak / PIECE);
    assert!(peak.saturating_sub(idle) <= 64 * PIECE, "the sender rose {} MiB above idle", (peak - idle) / PIECE);
    cluster.await_ready().await;
    cluster.assert_same_state(PATIENCE).await;
    let manifest = bulky(seed, PIECE);
    let got = cluster.at(behind).manifest("bulk/app", "m0").await.expect("the state arrived");
    assert!(got.body == manifest.body, "the state has other bytes");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_long_log_stays_flat() {
    let seed = scale::seed("show12 log");
    let mut cluster = Cluster::start(1, Options::default()).await;
    cluster.at(0).put_manifest("bulk/app", "first", &bulky(seed, 1000)).await.expect("a write is taken");
    fill(&cluster.at(0), seed + 1, scale::scaled(100, 500)).await;
    // The caches of log and state are as full now as they will be after the start.
    let idle = cluster.regions[0].process().resident();
    cluster.kill(0);
    cluster.restart(0);
    cluster.await_pushable(&cluster.regions[0]).await;
    let peak = cluster.regions[0].process().peak();
    println!("start with a long log: idle {} MiB, peak {} MiB", idle / PIECE, peak / PIECE);
    assert!(peak.saturating_sub(idle) <= 64 * PIECE, "the start rose {} MiB above idle", (peak - idle) / PIECE);
    let last = Content::new(1, 10);
    cluster.at(0).push_blob("bulk/app", &tests::image::Blob::Generated(last)).await.expect("writes go on");
    cluster.finish().await;
}
