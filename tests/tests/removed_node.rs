//! A node that was down while it was removed or replaced starts again on its old data: it learns what became of it, serves
//! nothing, and disturbs nobody.

use std::time::Duration;

use http::{Method, StatusCode};
use tests::client::{Answer, Ask, Client};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::image::Image;
use tests::network::Admin;
use tests::{scale, wait};

/// What the log of a node that was taken out says.
const ALLOWED: [&str; 2] = ["this node was taken out of the cluster", "the registry is closed"];

async fn get(cluster: &Cluster, index: usize, path: &str) -> Result<Answer, String> {
    let client = Client::new(cluster.regions[index].http.to_string());
    let ask = Ask::new(Method::GET, path).within(Duration::from_secs(5));
    client.send(ask).await.map_err(|failure| format!("{failure:?}"))
}

/// Waits until `/readyz` says what became of the node, and nothing else.
async fn await_word(cluster: &Cluster, index: usize, word: &str) {
    let started = tokio::time::Instant::now();
    wait::until(&format!("node {} to say `{word}`", cluster.regions[index].node), PATIENCE, || async {
        let answer = get(cluster, index, "/readyz").await?;
        let said = answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.text().contains(word);
        if said { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
    })
    .await;
    println!("`{word}` after {} ms", started.elapsed().as_millis());
}

/// A node that was taken out says so in status too, and answers no client.
async fn assert_out(cluster: &Cluster, index: usize, word: &str) {
    for path in ["/v2/", "/v2/team/app/manifests/v1", "/v2/team/app/tags/list"] {
        let answer = get(cluster, index, path).await.expect("it answers");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {}", answer.text());
        assert!(answer.text().contains(word), "{path}: {}", answer.text());
    }
    let status = cluster.regions[index].status().await.expect("its admin door is open");
    assert!(status.impaired.iter().any(|impaired| impaired.contains(word)), "{:?}", status.impaired);
    assert!(!status.is_leader && !status.is_quorum_heard && !status.is_store_open, "{status:?}");
}

async fn term(cluster: &Cluster, index: usize) -> u64 {
    cluster.regions[index].status().await.expect("it runs").term
}

/// Three regions with an image in each, and one of them dead.
async fn two_of_three(seed: u64, slots: usize) -> (Cluster, usize, Image) {
    let options = Options { allowed: ALLOWED.to_vec(), ..Options::default() };
    let mut cluster = Cluster::unborn(slots, options).await;
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster.init(0).await;
    for index in 1..3 {
        cluster.join(index, 0, None).await;
    }
    cluster.await_ready().await;
    let image = Image::new(seed, &[500_000]);
    cluster.at(0).push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    cluster.await_quiet(PATIENCE).await;
    let victim = cluster.follower().await;
    cluster.kill(victim);
    (cluster, victim, image)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_replaced_while_it_was_down_says_so_and_keeps_out() {
    let (mut cluster, victim, image) = two_of_three(scale::seed("replaced node"), 4).await;
    let leader = cluster.leader().await;
    let (name, old) = (cluster.regions[victim].name, cluster.regions[victim].node);
    // Another machine takes the region over; the old one stays as it was.
    cluster.restart(3);
    let member = cluster.regions[leader].peer.to_string();
    let node = wait::until("the replacement to join", PATIENCE, || async {
        let mut admin: Admin = cluster.regions[3].admin().await?;
        let status = admin.node_status().await?;
        if status.is_member { Ok(status.node) } else { admin.join(&member, name, Some(old)).await }
    })
    .await;
    wait::until("the region to be ready again", PATIENCE, || async {
        let status = cluster.regions[leader].admin().await?.cluster_status().await?;
        let is_ready = status.regions.iter().any(|row| row.name == name && row.is_ready);
        if is_ready { Ok(()) } else { Err(format!("{:?}", status.regions)) }
    })
    .await;
    let before = term(&cluster, leader).await;

    cluster.restart(victim);
    let word = format!("node {old} was replaced by node {node}");
    await_word(&cluster, victim, &word).await;
    assert_out(&cluster, victim, &word).await;
    let next = Image::new(7, &[1000]);
    for index in (0..4).filter(|index| *index != victim) {
        cluster.at(index).pull_image("team/app", "v1", &image).await.expect("the others serve on");
    }
    cluster.at(leader).push_image("team/app", "v2", &next).await.expect("the others take pushes");
    assert_eq!(term(&cluster, leader).await, before, "nobody campaigned");
    assert!(cluster.regions[leader].status().await.expect("it runs").is_leader);

    // The next start needs nobody to say so.
    cluster.stop(victim).await;
    for index in (0..4).filter(|index| *index != victim) {
        cluster.stop(index).await;
    }
    cluster.restart(victim);
    await_word(&cluster, victim, &word).await;
    assert_out(&cluster, victim, &word).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_region_left_while_it_was_down_says_so() {
    let (mut cluster, victim, _) = two_of_three(scale::seed("removed node"), 3).await;
    let leader = cluster.leader().await;
    let (name, old) = (cluster.regions[victim].name, cluster.regions[victim].node);
    let peer = cluster.regions[leader].peer.to_string();
    let left = std::process::Command::new(&tests::binaries::binaries().cli)
        .args(["leave", name, "--yes", "--endpoint", &peer])
        .output()
        .expect("cluster-cli runs");
    assert!(left.status.success(), "nothing would be lost: {}", String::from_utf8_lossy(&left.stderr));
    wait::until("the region to be gone", PATIENCE, || async {
        let status = cluster.regions[leader].admin().await?.cluster_status().await?;
        if status.regions.iter().any(|row| row.name == name) { Err(format!("{:?}", status.regions)) } else { Ok(()) }
    })
    .await;
    let before = term(&cluster, leader).await;
    cluster.restart(victim);
    let word = format!("node {old} was removed from the cluster");
    await_word(&cluster, victim, &word).await;
    assert_out(&cluster, victim, &word).await;
    assert_eq!(term(&cluster, leader).await, before, "nobody campaigned");
    cluster.finish().await;
}
