//! A stop at any step of `init` and `join` is repaired by the same verb, and a restart at any time starts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::PIECE;
use tests::image::Image;
use tests::{scale, wait};

/// Files and folders below a directory: every step of a birth leaves more of them.
fn entries(directory: &Path) -> usize {
    let mut count = 0;
    let mut open = vec![directory.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            count += 1;
            // Fan-out directories are made by the thousand in one step.
            if entry.path().is_dir() && !entry.path().ends_with("data/sha256") && !entry.path().ends_with("data/sha512")
            {
                open.push(entry.path());
            }
        }
    }
    count
}

/// Begins a birth and kills the node as soon as it has left `step` entries; false when the birth was through before.
async fn stop_at(cluster: &mut Cluster, index: usize, member: Option<usize>, step: usize) -> bool {
    cluster.regions[index].start();
    let region = &cluster.regions[index];
    let data = region.data();
    let mut admin = wait::until("the admin door to open", PATIENCE, || region.admin()).await;
    let member = member.map(|member| cluster.regions[member].peer.to_string());
    let birth = async {
        match &member {
            Some(member) => admin.join(member, region.name, None).await,
            None => admin.init(region.name, "majority").await,
        }
    };
    let reached = async {
        loop {
            if entries(&data) >= step {
                return;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    let was_born = tokio::select! {
        born = birth => born.is_ok(),
        () = reached => false,
    };
    cluster.kill(index);
    !was_born
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_any_step_of_init_is_repaired_by_init() {
    let mut was_stopped = 0;
    for step in (1..).step_by(2) {
        let mut cluster = Cluster::unborn(1, Options::default()).await;
        let stopped = stop_at(&mut cluster, 0, None, step).await;
        was_stopped += u32::from(stopped);
        cluster.restart(0);
        cluster.init(0).await;
        cluster.await_ready().await;
        let image = Image::new(step as u64, &[100]);
        cluster.at(0).push_image("team/app", "v1", &image).await.expect("the repaired region takes a push");
        cluster.finish().await;
        if !stopped || step > 40 {
            break;
        }
    }
    println!("init was stopped {was_stopped} times");
    assert!(was_stopped >= 2, "init leaves at least a log and a state before its identity");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_any_step_of_join_is_repaired_by_join() {
    let mut was_stopped = 0;
    for step in (1..).step_by(3) {
        let mut cluster = Cluster::unborn(2, Options::default()).await;
        cluster.restart(0);
        cluster.init(0).await;
        let image = Image::new(step as u64, &[PIECE + 1]);
        cluster.await_ready().await;
        cluster.at(0).push_image("team/app", "v1", &image).await.expect("the first region takes a push");
        let stopped = stop_at(&mut cluster, 1, Some(0), step).await;
        was_stopped += u32::from(stopped);
        cluster.restart(1);
        cluster.join(1, 0, None).await;
        cluster.await_ready().await;
        cluster.at(1).pull_image("team/app", "v1", &image).await.expect("the repaired region serves");
        cluster.finish().await;
        if !stopped || step > 40 {
            break;
        }
    }
    println!("join was stopped {was_stopped} times");
    assert!(was_stopped >= 2, "join leaves at least a log and a state before its identity");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_regions_killed_at_once_start_again_with_everything_acknowledged() {
    let seed = scale::seed("show14");
    let mut cluster = Cluster::start(3, Options::default()).await;
    let mut images = Vec::new();
    for round in 0..scale::scaled(3, 20) {
        let tag = format!("t{round}");
        let image = Image::new(seed + round, &[2000, PIECE + round]);
        let region = usize::try_from(round % 3).expect("below three");
        let pushed = cluster.at(region).push_image_patiently("team/app", &tag, &image, PATIENCE).await;
        pushed.expect("healthy regions take pushes");
        images.push((tag, image));
        for index in 0..3 {
            cluster.kill(index);
        }
        for index in 0..3 {
            cluster.restart(index);
        }
        cluster.await_ready().await;
        for (tag, image) in &images {
            for index in 0..3 {
                let pulled = cluster.at(index).pull_image_patiently("team/app", tag, image, PATIENCE).await;
                pulled.unwrap_or_else(|trouble| panic!("region {index}, {tag}: {trouble:?}"));
            }
        }
        cluster.assert_same_state(PATIENCE).await;
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_blobs_that_outlived_its_node_counts_again() {
    let seed = scale::seed("show14 disk");
    // Only what somebody waits for leaves the region: its copy is the last one.
    let settings = vec![("replication.bandwidth", "\"1MiB/s\"".to_owned())];
    let mut cluster = Cluster::unborn(3, Options { durability: "local", settings, ..Options::default() }).await;
    let disk = cluster.directory().join("disk");
    cluster.configure(2, &[("storage.blobs", format!("{:?}", disk.display().to_string()))]);
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster.init(0).await;
    cluster.join(1, 0, None).await;
    cluster.join(2, 0, None).await;
    cluster.await_ready().await;
    let image = Image::new(seed, &[32 * PIECE, 1000]);
    cluster.at(2).push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    cluster.destroy(2);
    let status = cluster.cluster_status().await.expect("two regions answer");
    let lacking = |name: &str| status.regions.iter().any(|row| row.name == name && row.backlog_bytes >= 32 * PIECE);
    assert!(lacking("paris") && lacking("virginia"), "the copy is the last one: {:?}", status.regions);
    // Minted, and away again: the others do all that they would do about a lost store.
    cluster.rejoin(2, 0).await;
    cluster.kill(2);
    for round in 0..scale::scaled(20, 50) {
        let other = Image::new(seed + 1 + round, &[1000]);
        let pushed = cluster.at(0).push_image_patiently("team/other", "v1", &other, PATIENCE).await;
        pushed.expect("two of three regions take pushes");
        wait::breath().await;
    }
    cluster.restart(2);
    cluster.await_ready().await;
    for index in 0..3 {
        let pulled = cluster.at(index).pull_image_patiently("team/app", "v1", &image, PATIENCE).await;
        pulled.unwrap_or_else(|trouble| panic!("region {index}: {trouble:?}"));
    }
    cluster.finish().await;
}
