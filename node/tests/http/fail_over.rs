//! Uploads that are begun while no leader is known.

use tokio::task::JoinSet;

use crate::client::Answer;
use crate::rows_blobs::{digest, push};
use crate::world::World;

/// Others are answered meanwhile, these are not.
async fn assert_waiting(world: &World, region: usize, begun: &mut JoinSet<Answer>) {
    for _ in 0..50 {
        world.ask_at(region, "GET", "/v2/").send().await.expect(200);
    }
    assert!(begun.try_join_next().is_none(), "a request that may still succeed is answered");
}

/// Every way to begin an upload, sent to a region that hears no leader. None is answered yet.
async fn begin_unheard(world: &World, region: usize) -> JoinSet<Answer> {
    world.until_unheard(region).await;
    let (path, mut begun) = ("/v2/f/one/blobs/uploads/", JoinSet::new());
    begun.spawn(world.ask_at(region, "POST", path).send());
    begun.spawn(world.ask_at(region, "POST", &format!("{path}?digest={}", digest(b"whole"))).body("whole").send());
    begun.spawn(world.ask_at(region, "POST", &format!("{path}?mount={}", digest(b"known"))).send());
    begun.spawn(world.ask_at(region, "POST", &format!("{path}?mount={}", digest(b"nowhere"))).send());
    assert_waiting(world, region, &mut begun).await;
    begun
}

/// Nobody is elected while votes lie; a client that begins an upload meanwhile does not notice.
pub(crate) async fn begun_without_a_leader(world: &World) {
    push(world, "f/known", b"known", &digest(b"known")).await;
    let leads = |at: &usize| world.metadata(*at).quorum().is_leader;
    let leader = (0..world.regions()).find(leads).unwrap();
    let (asked, other) = ((leader + 1) % 3, (leader + 2) % 3);
    for region in 0..world.regions() {
        world.hold(region, "Vote");
    }
    world.kill(leader).await;
    let mut begun = begin_unheard(world, asked).await;
    world.hold(asked, "");
    world.hold(other, "");
    let mut statuses = Vec::new();
    while let Some(answer) = begun.join_next().await {
        statuses.push(answer.unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 202, 202]);
}

/// A node that stops answers those who wait for a quorum.
pub(crate) async fn begun_while_the_node_stops(world: &World) {
    push(world, "f/known", b"known", &digest(b"known")).await;
    world.kill(1).await;
    world.until_unheard(0).await;
    let post = world.ask_at(0, "POST", "/v2/f/one/blobs/uploads/").send();
    let mut begun = JoinSet::new();
    begun.spawn(post);
    assert_waiting(world, 0, &mut begun).await;
    world.kill(0).await;
    begun.join_next().await.unwrap().unwrap().error(503, "UNAVAILABLE");
}
