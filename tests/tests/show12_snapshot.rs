//! A large state goes to an empty region by snapshot; the transfer is killed once and goes on where it was; memory stays
//! flat on both ends, and writes go on meanwhile. A start with a long log stays flat as well.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tests::cluster::{Cluster, Options, PATIENCE, Region};
use tests::content::{Content, PIECE, Random};
use tests::image::{INDEX, Manifest};
use tests::metrics::metric;
use tests::registry::Registry;
use tests::{scale, wait};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a large transfer, or a long replay, may take on a slow machine.
const LONG: Duration = Duration::from_secs(900);
/// Clients that write at once.
const WRITERS: u64 = 4;

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

/// Bytes of a region's largest file of this name; 0 without one.
fn len_of(region: &Region, name: &str) -> u64 {
    region.files(name).first().and_then(|path| fs::metadata(path).ok()).map_or(0, |metadata| metadata.len())
}

/// Writers that put small manifests until they are told to stop, and how long each put took.
struct Load {
    times: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    writers: JoinSet<()>,
}

impl Load {
    fn begin(cluster: &Cluster, region: usize, seed: u64) -> Load {
        let mut load = Load { times: Arc::default(), stop: Arc::default(), writers: JoinSet::new() };
        let number = Arc::new(AtomicU64::new(seed << 20));
        for writer in 0..WRITERS {
            let registry = cluster.at(region);
            let (times, stop, number) = (load.times.clone(), load.stop.clone(), number.clone());
            load.writers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let manifest = bulky(number.fetch_add(1, Ordering::Relaxed), 500);
                    let started = Instant::now();
                    let put = registry.put_manifest("bulk/app", &format!("w{writer}"), &manifest).await;
                    put.unwrap_or_else(|trouble| panic!("a write of writer {writer}: {trouble:?}"));
                    times.lock().unwrap_or_else(PoisonError::into_inner).push(started.elapsed());
                }
            });
        }
        load
    }

    fn count(&self) -> u64 {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Ends the writers; prints and gives the 99th percentile.
    async fn end(mut self, when: &str) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.writers.join_next().await {
            done.expect("every write is taken");
        }
        let mut times = std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(times.len() >= 100, "{when}: only {} puts, their percentiles say nothing", times.len());
        times.sort_unstable();
        let percentile = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        let (median, p99) = (percentile(50), percentile(99));
        println!("{when}: {} manifest puts by {WRITERS} writers, median {median:?}, p99 {p99:?}", times.len());
        p99
    }
}

fn assert_flat(region: &Region, before: u64, what: &str) {
    let peak = region.process().peak();
    println!("{what}: before {} MiB, peak {} MiB", before / PIECE, peak / PIECE);
    let rise = peak.saturating_sub(before);
    assert!(rise <= scale::above_idle_max(), "{what} rose {} MiB above what it used before", rise / PIECE);
}

/// Kills a region in the midst of the snapshot that it receives; how many of how many bytes it keeps.
async fn kill_in_the_midst(cluster: &mut Cluster, arriving: usize, leader: usize) -> (u64, u64) {
    let total = wait::until("a part of the snapshot to be there", LONG, || async {
        let total = len_of(&cluster.regions[leader], ".spool");
        let came = len_of(&cluster.regions[arriving], "incoming.part");
        if total > 0 && came > total / 8 { Ok(total) } else { Err(format!("{came} of {total} bytes")) }
    })
    .await;
    cluster.kill(arriving);
    let kept = len_of(&cluster.regions[arriving], "incoming.part");
    println!("killed after {kept} of {total} bytes had come");
    assert!(0 < kept && kept < total, "the transfer was killed in its midst");
    (kept, total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_region_gets_a_snapshot_though_its_transfer_is_killed() {
    let seed = scale::seed("show12");
    let mebibytes = scale::scaled(40, 1024);
    // Small caches: what fills them is no part of a transfer, and an empty region begins with empty ones.
    let settings = vec![
        ("raft.snapshot_every", "20".to_owned()),
        ("raft.log_entries_kept", "10".to_owned()),
        ("raft.state_cache_bytes", "\"16MiB\"".to_owned()),
        ("raft.log_cache_bytes", "\"4MiB\"".to_owned()),
    ];
    let mut cluster = Cluster::unborn(3, Options { settings, ..Options::meshed() }).await;
    cluster.restart(0);
    cluster.restart(1);
    cluster.init(0).await;
    cluster.join(1, 0, None).await;
    cluster.await_ready().await;
    let leader = cluster.leader().await;
    fill(&cluster.at(leader), seed, mebibytes).await;

    let load = Load::begin(&cluster, leader, seed + 1);
    let enough = scale::scaled(400, 4000);
    wait::until("writes before the transfer", LONG, || async {
        let count = load.count();
        if count >= enough { Ok(()) } else { Err(format!("{count} of {enough}")) }
    })
    .await;
    let p99_before = load.end("before").await;
    wait::until("the log to end after the large writes, so that only a snapshot holds them", LONG, || async {
        let purged = metric(&cluster.regions[leader], "longshore_log_purged_revision").await?;
        if purged > mebibytes { Ok(()) } else { Err(format!("purged up to {purged}")) }
    })
    .await;
    let sender_before = cluster.regions[leader].process().resident();
    cluster.regions[leader].process().reset_peak();

    // Slow enough that the transfer can be killed in its midst, and that writes go on beside it for a while.
    cluster.mesh.as_mut().expect("meshed").slow_down(2, mebibytes * PIECE / 10);
    let load = Load::begin(&cluster, leader, seed + 2);
    cluster.restart(2);
    cluster.join(2, leader, None).await;
    let (kept, total) = kill_in_the_midst(&mut cluster, 2, leader).await;
    cluster.cut(2);
    cluster.restart(2);
    wait::until("the region to start again", PATIENCE, || cluster.regions[2].status()).await;
    let receiver_before = cluster.regions[2].process().resident();
    cluster.regions[2].process().reset_peak();
    cluster.heal(2);
    wait::until("the snapshot to be in place", LONG, || async {
        let installed = metric(&cluster.regions[2], "longshore_snapshots_installed_total").await?;
        if installed > 0 { Ok(()) } else { Err("it is on its way".to_owned()) }
    })
    .await;
    let counted = async |name: &str| metric(&cluster.regions[2], name).await.expect("a running region has metrics");
    let resumed = counted("longshore_snapshot_resumed_bytes_total").await;
    let received = counted("longshore_snapshot_received_bytes_total").await;
    println!("resumed at byte {resumed}, {received} more came");
    assert_eq!((resumed, received), (kept, total - kept), "what was kept is not sent again");
    let p99 = load.end("meanwhile").await;
    println!("p99 meanwhile is {:.2} times p99 before", p99.as_secs_f64() / p99_before.as_secs_f64().max(1e-9));
    assert_flat(&cluster.regions[leader], sender_before, "the sender");
    assert_flat(&cluster.regions[2], receiver_before, "the receiver");

    cluster.await_ready().await;
    cluster.assert_same_state(PATIENCE).await;
    for number in [0, mebibytes - 1] {
        let got = cluster.at(2).manifest("bulk/app", &format!("m{number}")).await.expect("the state arrived");
        assert!(got.body == bulky(seed + number, PIECE).body, "the state has other bytes");
    }
    cluster.finish().await;
}

/// The longest way from a log to a state: a state from the very beginning beside a log that holds everything since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_long_log_stays_flat() {
    let seed = scale::seed("show12 log");
    let mebibytes = scale::scaled(100, 511);
    let mut cluster = Cluster::start(1, Options::default()).await;
    cluster.at(0).put_manifest("bulk/app", "first", &bulky(seed, 1000)).await.expect("a write is taken");
    cluster.stop(0).await;
    let state = cluster.regions[0].data().join("state.redb");
    let early = cluster.directory().join("early-state");
    fs::copy(&state, &early).expect("a stopped region's state can be copied");
    cluster.restart(0);
    cluster.await_pushable(&cluster.regions[0]).await;
    fill(&cluster.at(0), seed + 1, mebibytes).await;
    // The caches of log and state are as full now as they will be after the start.
    let idle = cluster.regions[0].process().resident();
    cluster.kill(0);
    fs::rename(&early, &state).expect("a dead region's state can be replaced");

    cluster.restart(0);
    wait::until("the region to start", LONG, || async {
        let status = cluster.regions[0].status().await?;
        if status.is_store_open { Ok(()) } else { Err(format!("applied {}", status.applied)) }
    })
    .await;
    let log = metric(&cluster.regions[0], "longshore_log_bytes").await.expect("a running region has metrics");
    let purged = metric(&cluster.regions[0], "longshore_log_purged_revision").await;
    println!("started with a log of {:.1} MiB, all of it applied again", log as f64 / PIECE as f64);
    assert!(log >= mebibytes * PIECE && purged == Ok(0), "the log holds {log} bytes, purged up to {purged:?}");
    assert_flat(&cluster.regions[0], idle, "a start with a long log");
    let got = cluster.at(0).manifest("bulk/app", &format!("m{}", mebibytes - 1)).await.expect("the state is back");
    assert!(got.body == bulky(seed + mebibytes, PIECE).body, "the state has other bytes");
    let last = Content::new(1, 10);
    cluster.at(0).push_blob("bulk/app", &tests::image::Blob::Generated(last)).await.expect("writes go on");
    cluster.finish().await;
}
