//! Memory does not grow with what is moved: one large blob, many uploads at once, a slow reader.

use std::time::Duration;

use http::{Method, StatusCode};
use tests::client::{Ask, Client, Payload};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::{Content, PIECE};
use tests::image::Blob;
use tests::registry::{Registry, Trouble};
use tests::scale;
use tokio::task::JoinSet;
use tokio::time::Instant;

const MIB: f64 = PIECE as f64;

/// Resident sets before the work; peaks are forgotten.
fn idle(cluster: &Cluster) -> Vec<u64> {
    let measure = |region: &tests::cluster::Region| {
        region.process().reset_peak();
        region.process().resident()
    };
    cluster.regions.iter().map(measure).collect()
}

/// How far each region rose above idle. Unit: bytes.
fn rises(cluster: &Cluster, idle: &[u64], what: &str) -> Vec<u64> {
    let mut rises = Vec::new();
    for (region, idle) in cluster.regions.iter().zip(idle) {
        let peak = region.process().peak();
        let rise = peak.saturating_sub(*idle);
        println!("{what}: {} idle {:.1} MiB, peak {:.1} MiB", region.name, *idle as f64 / MIB, peak as f64 / MIB);
        rises.push(rise);
    }
    rises
}

fn assert_flat(rises: &[u64], what: &str) {
    let max = scale::above_idle_max();
    for rise in rises {
        assert!(*rise <= max, "{what}: {:.1} MiB above idle", *rise as f64 / MIB);
    }
}

fn wide_area() -> Options {
    Options { profile: "wan", meshed: true, round_trip: Duration::from_millis(50), ..Options::default() }
}

/// Windows of the wan profile are sized for long fat links: they are bounded, and larger.
fn assert_bounded(rises: &[u64]) {
    let max = 4 * scale::above_idle_max();
    for rise in rises {
        assert!(*rise <= max, "wan: {:.1} MiB above idle", *rise as f64 / MIB);
    }
}

async fn one_large_blob(options: Options) -> Vec<u64> {
    let what = format!("one large blob, {}", options.profile);
    let seed = scale::seed("show05");
    let content = Content::new(seed, scale::scaled(160, 2048) * PIECE);
    let cluster = Cluster::start(3, options).await;
    // The first blob of a process touches code and caches that stay.
    let first = Content::new(seed + 1, 2 * PIECE);
    cluster.at(0).push_blob("team/app", &Blob::Generated(first)).await.expect("a healthy region takes a blob");
    cluster.await_quiet(PATIENCE).await;
    let idle = idle(&cluster);
    let pushed = cluster.at(0).push_blob("team/app", &Blob::Generated(content.clone())).await;
    pushed.expect("a healthy region takes a large blob");
    cluster.await_quiet(Duration::from_secs(600)).await;
    cluster.at(2).pull_blob("team/app", content.digest(), content.len()).await.expect("the bytes are right");
    let rises = rises(&cluster, &idle, &what);
    cluster.finish().await;
    rises
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_large_blob_pushed_and_replicated_at_lan_settings() {
    assert_flat(&one_large_blob(Options::default()).await, "lan");
}

async fn many_uploads(options: Options) -> Vec<u64> {
    let what = format!("64 uploads, {}", options.profile);
    let seed = scale::seed("show05 uploads");
    let len = scale::scaled(2, 32) * PIECE + 17;
    let cluster = Cluster::start(3, options).await;
    cluster.at(0).push_blob("team/app", &Blob::Generated(Content::new(seed, PIECE))).await.expect("a blob is taken");
    cluster.await_quiet(PATIENCE).await;
    let idle = idle(&cluster);
    let mut uploads = JoinSet::new();
    for number in 0..64 {
        let registry = cluster.at(0);
        let content = Content::new(seed + 1 + number, len);
        uploads.spawn(async move { registry.push_chunks("team/app", &content, PIECE).await.map(drop) });
    }
    while let Some(done) = uploads.join_next().await {
        match done.expect("an upload does not panic") {
            Ok(()) | Err(Trouble::NotNow(_)) => {}
            Err(trouble) => panic!("an upload among many: {trouble:?}"),
        }
    }
    cluster.await_quiet(Duration::from_secs(600)).await;
    let rises = rises(&cluster, &idle, &what);
    cluster.finish().await;
    rises
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_uploads_at_once() {
    assert_flat(&many_uploads(Options::default()).await, "64 uploads at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_uploads_at_once_at_wan_settings() {
    assert_bounded(&many_uploads(wide_area()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_through_with_a_client_that_reads_one_megabyte_a_second() {
    let seed = scale::seed("show05 slow");
    let content = Content::new(seed, scale::scaled(120, 512) * PIECE);
    let read_mib = scale::scaled(5, 60);
    let cluster = Cluster::start(3, Options::default()).await;
    cluster
        .at(0)
        .push_blob("team/app", &Blob::Generated(Content::new(seed + 1, PIECE)))
        .await
        .expect("a blob is taken");
    cluster.await_quiet(PATIENCE).await;
    let idle = idle(&cluster);
    cluster.at(0).push_blob("team/app", &Blob::Generated(content.clone())).await.expect("a large blob is taken");
    let client = Client::new(cluster.regions[2].http.to_string());
    let ask = Ask::new(Method::GET, format!("/v2/team/app/blobs/{}", content.digest()));
    let mut open = client.open(ask).await.expect("fetched through at once");
    assert_eq!(open.status.as_u16(), 200);
    let started = Instant::now();
    let mut came = 0_u64;
    while came < read_mib * PIECE {
        let bytes = open.next().await.expect("the body goes on").expect("the body is whole");
        assert!(bytes == content.slice(came..came + bytes.len() as u64), "other bytes at {came}");
        came += bytes.len() as u64;
        tokio::time::sleep_until(started + Duration::from_micros(came)).await;
    }
    cluster.await_quiet(Duration::from_secs(600)).await;
    assert_flat(&rises(&cluster, &idle, "slow reader"), "a slow reader of a fetch-through");
    drop(open);
    cluster.finish().await;
}

/// One of many uploads whose session another region owns: its body goes over the slow link.
async fn pass_on(owner: Registry, here: Registry, content: Content) -> Result<(), Trouble> {
    let location = owner.begin("team/app").await?;
    let body =
        Ask::new(Method::PATCH, location).payload(Payload::Generated(content.clone())).within(Duration::from_secs(300));
    let location = here.expect(body, StatusCode::ACCEPTED).await?.header("location").to_owned();
    here.finish(&location, content.digest(), Payload::Empty).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_passed_on_over_a_slow_link() {
    let seed = scale::seed("show05 passed on");
    let mut cluster = Cluster::start(3, Options::meshed()).await;
    for region in 0..2 {
        let first = Blob::Generated(Content::new(seed + region as u64, PIECE));
        cluster.at(region).push_blob("team/app", &first).await.expect("a healthy region takes a blob");
    }
    cluster.await_quiet(PATIENCE).await;
    // Each connection of the owner takes a sixteenth of what its clients have for it.
    cluster.mesh.as_mut().expect("meshed").slow_down(0, 8 * PIECE);
    let waiting = cluster.at(0).begin("team/app").await.expect("a session that nobody writes to");
    let idle = idle(&cluster);
    let mut uploads = JoinSet::new();
    for number in 0..16 {
        let content = Content::new(seed + 2 + number, scale::scaled(8, 32) * PIECE + 17);
        uploads.spawn(pass_on(cluster.at(0), cluster.at(1), content));
    }
    // What is short is not held up behind what is long, though both go to the same node.
    let mut asked = 0;
    while !uploads.is_empty() {
        let status = Ask::new(Method::GET, waiting.as_str());
        cluster.at(1).expect(status, StatusCode::NO_CONTENT).await.expect("the session answers through the slow link");
        asked += 1;
        while let Some(done) = uploads.try_join_next() {
            done.expect("an upload does not panic").expect("a slow link is no fault");
        }
    }
    println!("a session's status was asked {asked} times meanwhile");
    assert!(asked > 1, "the uploads were over before anything was asked");
    assert_flat(&rises(&cluster, &idle, "16 uploads passed on"), "16 uploads passed on over a slow link");
    cluster.at(1).expect(Ask::new(Method::DELETE, waiting), StatusCode::NO_CONTENT).await.expect("it is cancelled");
    cluster.await_quiet(Duration::from_secs(600)).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_large_blob_pushed_and_replicated_at_wan_settings() {
    assert_bounded(&one_large_blob(wide_area()).await);
}
