//! A region that is cut off serves pulls and says that they may be stale, refuses pushes so that they can be retried, and
//! catches up after the heal.

use std::time::Duration;

use http::{Method, StatusCode};
use tests::client::{Ask, Payload};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::PIECE;
use tests::image::Image;
use tests::registry::{Registry, Trouble};
use tests::{scale, wait};
use tokio::time::Instant;

/// `strict_wait_ms_max` of the lan profile.
const STRICT_WAIT: Duration = Duration::from_secs(1);
/// What a busy machine may add to an answer.
const SLACK: Duration = Duration::from_secs(2);

/// Every kind of write is refused as certainly not done, or reported as unknown: never as an error of the client's.
async fn assert_pushes_are_refused(region: &Registry, image: &Image) {
    let opened = region.begin("team/app").await;
    assert!(matches!(opened, Err(Trouble::NotNow(_))), "POST uploads without a quorum: {opened:?}");
    let put = region.put_manifest("team/app", "cut", &image.manifest).await;
    assert!(matches!(put, Err(Trouble::NotNow(_) | Trouble::Unknown(_))), "PUT manifest without a quorum: {put:?}");
    let ask = Ask::new(Method::DELETE, "/v2/team/app/manifests/v1").payload(Payload::Empty);
    let deleted = region.expect(ask, StatusCode::ACCEPTED).await;
    assert!(matches!(deleted, Err(Trouble::NotNow(_) | Trouble::Unknown(_))), "DELETE without a quorum: {deleted:?}");
}

/// What cannot be proved absent is not called absent.
async fn assert_nothing_is_denied(region: &Registry) {
    for path in ["/v2/team/app/manifests/nowhere", "/v2/nobody/nothing/tags/list"] {
        let answer = region.send(Ask::new(Method::GET, path)).await.expect("the region answers");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "GET {path} without a quorum");
        assert!(!answer.header("retry-after").is_empty(), "GET {path}: no Retry-After");
    }
}

async fn a_region_is_cut_off(cut_the_leader: bool) {
    let seed = scale::seed("show03");
    let image = Image::new(seed, &[PIECE + 9, 100]);
    let cluster = Cluster::start(3, Options::meshed()).await;
    cluster.at(0).push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    cluster.await_quiet(PATIENCE).await;
    let victim = if cut_the_leader { cluster.leader().await } else { cluster.follower().await };
    let others: Vec<usize> = (0..3).filter(|index| *index != victim).collect();
    let cut = cluster.at(victim);
    cut.pull_image("team/app", "v1", &image).await.expect("served before the cut");

    cluster.cut(victim);
    let started = Instant::now();
    let first = cut.manifest("team/app", "v1").await.expect("a pull is served without a quorum");
    let waited = started.elapsed();
    println!("the first pull after the cut waited {waited:?}");
    assert!(waited <= STRICT_WAIT + SLACK, "the first pull after the cut waited {waited:?}");
    // A leader that lost its peers may still hold its lease's last round; from the first doubt on answers are marked.
    if !first.is_marked_stale() {
        let is_marked = || async {
            let again = cut.manifest("team/app", "v1").await.map_err(|trouble| format!("{trouble:?}"))?;
            if again.is_marked_stale() { Ok(()) } else { Err("pulls are not marked stale".to_owned()) }
        };
        wait::until("pulls to be marked stale", PATIENCE, is_marked).await;
    }
    let pulled = cut.pull_image("team/app", "v1", &image).await.expect("served without a quorum");
    assert!(pulled.is_stale);
    assert_pushes_are_refused(&cut, &image).await;
    assert_nothing_is_denied(&cut).await;

    let newer = Image::new(seed + 1, &[PIECE + 1]);
    let majority = cluster.at(others[0]);
    majority.push_image_patiently("team/app", "v1", &newer, PATIENCE).await.expect("the majority takes pushes");
    let pulled = cut.pull_image("team/app", "v1", &image).await.expect("the old image is served meanwhile");
    assert!(pulled.is_stale, "an old image must not look fresh");

    cluster.heal(victim);
    wait::until("the region to catch up", PATIENCE, || async {
        let pulled = cut.pull_image("team/app", "v1", &newer).await.map_err(|trouble| format!("{trouble:?}"))?;
        if pulled.is_stale { Err("still marked".to_owned()) } else { Ok(()) }
    })
    .await;
    let pushed = cut.push_image_patiently("team/app", "v2", &image, PATIENCE).await;
    pushed.expect("the healed region takes pushes");
    cluster.await_quiet(PATIENCE).await;
    cluster.assert_same_state(PATIENCE).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_cut_off_serves_pulls_and_refuses_pushes() {
    a_region_is_cut_off(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_serves_pulls_and_refuses_pushes() {
    a_region_is_cut_off(true).await;
}
