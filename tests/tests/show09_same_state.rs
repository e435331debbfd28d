//! Equal index, equal state hash: after a random run of whatever clients and operators do, with restarts, changes of the
//! leader and catch-ups by snapshot. (Commands of every kind, retries across a change of the leader and requests that are
//! too old: beside the code, in `node/crates/metadata/tests/cluster`.)

use bytes::Bytes;
use http::Method;
use tests::client::{Ask, Payload};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::{Content, Random, sha256};
use tests::image::{Image, MANIFEST};
use tests::metrics::metric;
use tests::registry::Registry;
use tests::{scale, wait};
use tokio::task::JoinSet;

/// Statuses that a registry may give to anything that is asked of it while regions come and go.
fn is_honest(status: u16) -> bool {
    [200, 201, 202, 204, 400, 403, 404, 405, 412, 416, 429, 503, 504].contains(&status)
}

/// Sends requests of every kind, sensible or not, until `steps` of them were answered.
async fn act(registry: Registry, seed: u64, steps: u64) {
    let mut random = Random::new(seed);
    let mut answered = 0;
    while answered < steps {
        let ask = random_request(&registry, &mut random).await;
        let what = format!("{} {}", ask.method, ask.path);
        match registry.send(ask).await {
            Ok(answer) => {
                assert!(is_honest(answer.status.as_u16()), "{what}: {} {}", answer.status, answer.text());
                answered += 1;
            }
            // The region of this turn is down.
            Err(_) => wait::breath().await,
        }
    }
}

async fn random_request(registry: &Registry, random: &mut Random) -> Ask {
    let repository = format!("chaos/app-{}", random.below(4));
    let other = format!("chaos/app-{}", random.below(4));
    let tag = format!("t{}", random.below(12));
    let content = Content::new(random.below(40), 64 + random.below(2000));
    let image = Image::over(random.below(6), &[Content::new(random.below(40), 64)]);
    let digest = content.digest().to_owned();
    let put = |reference: &str| {
        Ask::new(Method::PUT, format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", MANIFEST)
            .payload(Payload::Given(image.manifest.body.clone()))
    };
    match random.below(12) {
        0 | 1 => Ask::new(Method::POST, format!("/v2/{repository}/blobs/uploads/?digest={digest}"))
            .payload(Payload::Given(content.bytes())),
        2 => Ask::new(Method::POST, format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={other}")),
        3 => Ask::new(Method::DELETE, format!("/v2/{repository}/blobs/{digest}")),
        4 | 5 => {
            // Most of these find their blobs; what does not is a refusal, which is a command of its own.
            registry.push_image(&repository, &tag, &image).await.ok();
            put(&tag)
        }
        6 => put(&tag).header("if-none-match", "*"),
        7 => put(&tag).header("if-match", format!("\"{}\"", sha256(b"another"))),
        8 => put(&image.manifest.digest.clone()),
        9 => Ask::new(Method::DELETE, format!("/v2/{repository}/manifests/{tag}")),
        10 => Ask::new(Method::DELETE, format!("/v2/{repository}/manifests/{}", image.manifest.digest)),
        _ => put(&tag).payload(Payload::Given(Bytes::from_static(b"{}"))),
    }
}

async fn act_together(cluster: &Cluster, seed: u64, steps: u64) {
    let mut actors = JoinSet::new();
    for actor in 0..4 {
        actors.spawn(act(cluster.rotating(), seed.wrapping_mul(31).wrapping_add(actor), steps / 4));
    }
    while let Some(done) = actors.join_next().await {
        done.expect("an actor met only honest answers");
    }
}

/// What operators do meanwhile: a policy, and another leader.
async fn rule(cluster: &Cluster, durability: &str) {
    wait::until("a policy to be set", PATIENCE, || async {
        let leader = &cluster.regions[cluster.leader().await];
        leader.admin().await?.set_durability("chaos/app-1", durability).await
    })
    .await;
    wait::until("leadership to be handed on", PATIENCE, || async {
        let leader = &cluster.regions[cluster.leader().await];
        leader.admin().await?.transfer_leader("").await
    })
    .await;
}

/// Waits until no running region's log holds what comes after `index` any more.
async fn await_purged(cluster: &Cluster, index: u64) {
    wait::until("the log behind the missing region to be purged", PATIENCE, || async {
        for region in cluster.regions.iter().filter(|region| region.is_running()) {
            let purged = metric(region, "longshore_log_purged_revision").await?;
            if purged <= index {
                return Err(format!("{}: purged up to {purged}, {index} is missing", region.name));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_are_equal_after_random_commands_restarts_and_snapshots() {
    let seed = scale::seed("show09");
    let steps = scale::scaled(320, 10_000) / 8;
    let kept = (steps / 4).max(20);
    let settings = vec![("raft.snapshot_every", kept.to_string()), ("raft.log_entries_kept", (kept / 2).to_string())];
    let mut cluster = Cluster::start(3, Options { settings, ..Options::default() }).await;
    act_together(&cluster, seed, steps).await;
    cluster.assert_same_state(PATIENCE).await;
    // Each region misses more than the log keeps, the leader of the moment among them: it catches up by snapshot.
    let mut caught_up = 0;
    for victim in 0..3 {
        let behind = cluster.regions[victim].status().await.expect("it answers").applied;
        cluster.kill(victim);
        let durability = if victim == 1 { "local" } else { "majority" };
        let acting = act_together(&cluster, seed + 100 + victim as u64, 2 * steps);
        tokio::join!(acting, rule(&cluster, durability));
        await_purged(&cluster, behind).await;
        cluster.restart(victim);
        cluster.await_ready().await;
        cluster.assert_same_state(PATIENCE).await;
        let installed = metric(&cluster.regions[victim], "longshore_snapshots_installed_total").await;
        let installed = installed.expect("a running region has metrics");
        assert!(installed >= 1, "region {victim} caught up without a snapshot");
        caught_up += installed;
    }
    act_together(&cluster, seed + 1000, steps).await;
    for victim in 0..3 {
        cluster.stop(victim).await;
        cluster.restart(victim);
        cluster.await_pushable(&cluster.regions[victim]).await;
    }
    cluster.await_quiet(PATIENCE).await;
    cluster.assert_same_state(PATIENCE).await;
    let index = cluster.regions[0].status().await.expect("it answers").applied;
    println!("equal states at index {index}, after {caught_up} catch-ups by snapshot");
    cluster.finish().await;
}
