//! The leader dies during a stream of pushes to all regions: nothing acknowledged is lost, and pushes resume by themselves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tests::cluster::{Cluster, Options, PATIENCE};
use tests::image::Image;
use tests::registry::{Registry, Trouble};
use tests::{scale, wait};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// An acknowledged push.
struct Acknowledged {
    region: usize,
    tag: String,
    image: Image,
    at: Instant,
}

/// How long so many pushes may take over long round trips.
const LONG: Duration = Duration::from_secs(600);

type Journal = Arc<Mutex<Vec<Acknowledged>>>;

fn count(journal: &Journal) -> usize {
    journal.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Pushes images under ever new tags to one region until it is aborted.
async fn push_on(registry: Registry, region: usize, seed: u64, journal: Journal) {
    for number in 0.. {
        let tag = format!("r{region}-{number}");
        let image = Image::new(seed.wrapping_mul(977) + number, &[3000 + number]);
        match registry.push_image("stream/app", &tag, &image).await {
            Ok(_) => {
                let done = Acknowledged { region, tag, image, at: Instant::now() };
                journal.lock().unwrap_or_else(PoisonError::into_inner).push(done);
            }
            Err(Trouble::Wrong(what)) => panic!("a push met an answer it must never get: {what}"),
            // Not now, or unknown: a client goes on with its next push.
            Err(_) => wait::breath().await,
        }
    }
}

async fn leader_is_killed_during_pushes(options: Options) {
    let profile = options.profile;
    let seed = scale::seed("show02");
    let pushes = scale::scaled(10, 200) as usize;
    let mut cluster = Cluster::start(3, options).await;
    let journal = Journal::default();
    let mut writers = JoinSet::new();
    for region in 0..3 {
        writers.spawn(push_on(cluster.at(region), region, seed + region as u64, journal.clone()));
    }
    let acknowledged = |least: usize| {
        let journal = journal.clone();
        async move {
            let count = count(&journal);
            if count >= least { Ok(()) } else { Err(format!("{count} of {least}")) }
        }
    };
    wait::until("pushes before the kill", LONG, || acknowledged(pushes)).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let killed = Instant::now();
    let before = count(&journal);
    let first_after = wait::until("the first push to another region after the kill", PATIENCE, || async {
        let journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        let after = journal.iter().filter(|push| push.at > killed && push.region != leader).map(|push| push.at);
        after.min().ok_or_else(|| format!("{} before it", journal.len()))
    })
    .await;
    wait::until("pushes to go on by themselves", LONG, || acknowledged(before + pushes)).await;
    cluster.restart(leader);
    writers.shutdown().await;

    let journal = std::mem::take(&mut *journal.lock().unwrap_or_else(PoisonError::into_inner));
    let pause = first_after - killed;
    println!("{profile}: leader killed during pushes, the first push after it was acknowledged after {pause:?}");
    cluster.await_ready().await;
    for region in 0..3 {
        for push in &journal {
            let pulled = cluster.at(region).pull_image_patiently("stream/app", &push.tag, &push.image, PATIENCE).await;
            pulled.unwrap_or_else(|trouble| panic!("region {region}, tag {}: {trouble:?}", push.tag));
        }
    }
    println!("{profile}: {} acknowledged pushes, all of them there in all regions", journal.len());
    cluster.await_quiet(PATIENCE).await;
    cluster.assert_same_state(PATIENCE).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_pushes_survive_the_leader_at_lan_settings() {
    leader_is_killed_during_pushes(Options::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_pushes_survive_the_leader_at_wan_settings() {
    let round_trip = Duration::from_millis(100);
    leader_is_killed_during_pushes(Options { profile: "wan", meshed: true, round_trip, ..Options::default() }).await;
}
