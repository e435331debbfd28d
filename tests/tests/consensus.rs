//! What the consensus settings buy: each test fails with its setting switched off. (Pipelined appends, transfer of
//! leadership, strict reads of followers and admission by bytes have theirs beside the code, in the metadata room.)

use tests::cluster::{Cluster, Options, PATIENCE};
use tests::registry::Trouble;
use tests::wait;

/// A region that is cut off must not raise its term: it would depose a healthy leader when it returns (pre-vote).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_cut_off_raises_no_term() {
    let cluster = Cluster::start(3, Options::meshed()).await;
    let victim = cluster.follower().await;
    cluster.cut(victim);
    wait::until("the region to notice that it is cut off", PATIENCE, || async {
        match cluster.at(victim).begin("team/app").await {
            Err(Trouble::NotNow(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let region = &cluster.regions[victim];
    let before = region.status().await.expect("the region answers").term;
    // Every refusal waits through a fail-over, which is the time of several elections.
    for _ in 0..3 {
        let refused =
            cluster.at(victim).put_manifest("team/app", "v1", &tests::image::Image::new(1, &[10]).manifest).await;
        assert!(matches!(refused, Err(Trouble::NotNow(_) | Trouble::Unknown(_))), "{refused:?}");
    }
    assert_eq!(
        region.status().await.expect("the region answers").term,
        before,
        "an election was held without a quorum"
    );
    cluster.heal(victim);
    cluster.assert_same_state(PATIENCE).await;
    cluster.finish().await;
}

/// Leadership is handed on through whichever region is asked, and an answer means that it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_on_through_a_region_that_does_not_lead() {
    let cluster = Cluster::start(3, Options::default()).await;
    let leader = cluster.leader().await;
    let (asked, target) = ((leader + 1) % 3, (leader + 2) % 3);
    wait::until("leadership to be handed on", PATIENCE, || async {
        cluster.regions[asked].admin().await?.transfer_leader(cluster.regions[target].name).await
    })
    .await;
    assert_eq!(cluster.leader().await, target, "the answer said so");
    cluster.finish().await;
}
