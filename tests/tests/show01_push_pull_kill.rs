//! What is pushed to one region is pulled from the others: at once, after replication, and when its region is gone for good.

use std::time::Duration;

use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::PIECE;
use tests::image::Image;
use tests::scale;

/// An image of several layers, `mebibytes` in all.
fn image(seed: u64, mebibytes: u64) -> Image {
    let eighth = (mebibytes * PIECE / 8).max(1);
    Image::new(seed, &[4 * eighth, 2 * eighth, eighth + 1, eighth - 1, 17])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_pushed_to_one_region_is_served_by_all_and_outlives_its_region() {
    let seed = scale::seed("show01");
    let mebibytes = scale::scaled(16, 200);
    let image = image(seed, mebibytes);
    let mut cluster = Cluster::start(3, Options::default()).await;
    let regions = [cluster.at(0), cluster.at(1), cluster.at(2)];

    regions[0].push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    let started = tokio::time::Instant::now();
    let (second, third) = tokio::join!(
        regions[1].pull_image("team/app", "v1", &image),
        regions[2].pull_image("team/app", &image.manifest.digest, &image),
    );
    assert!(!second.expect("pulled through at once, by tag").is_stale);
    assert!(!third.expect("pulled through at once, by digest").is_stale);
    println!("{mebibytes} MiB pulled through by two regions at once in {:?}", started.elapsed());

    cluster.await_quiet(PATIENCE).await;
    for region in &regions {
        region.pull_image("team/app", "v1", &image).await.expect("pulled after replication");
    }

    cluster.destroy(0);
    let patience = Duration::from_secs(60);
    for (index, region) in regions.iter().enumerate().skip(1) {
        region.pull_image_patiently("team/app", "v1", &image, patience).await.expect("pulled without its first region");
        let next = Image::new(seed + index as u64, &[2 * PIECE, 5]);
        let tag = format!("after-{index}");
        region.push_image_patiently("team/app", &tag, &next, patience).await.expect("pushed without the first region");
        let other = &regions[3 - index];
        other.pull_image_patiently("team/app", &tag, &next, patience).await.expect("pulled from the other survivor");
    }
    let mut tags = regions[1].tags("team/app").await.expect("tags are listed");
    tags.sort();
    assert_eq!(tags, ["after-1", "after-2", "v1"]);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_region_comes_back_as_a_new_node_and_is_filled_again() {
    let seed = scale::seed("show01 wipe");
    let image = image(seed, scale::scaled(4, 64));
    let mut cluster = Cluster::start(3, Options::default()).await;
    cluster.at(0).push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    cluster.await_quiet(PATIENCE).await;
    cluster.destroy(2);
    let more = Image::new(seed + 1, &[PIECE + 3]);
    let pushed = cluster.at(0).push_image_patiently("team/app", "v2", &more, PATIENCE).await;
    pushed.expect("two of three regions take pushes");

    cluster.rejoin(2, 0).await;
    cluster.await_ready().await;
    cluster.await_quiet(PATIENCE).await;
    // Its own disk serves now: the others are gone.
    cluster.kill(0);
    cluster.kill(1);
    let back = cluster.at(2);
    let pulled = back.pull_image_patiently("team/app", "v1", &image, PATIENCE).await.expect("served alone");
    assert!(pulled.is_stale, "a region alone cannot prove that a tag is fresh");
    back.pull_image_patiently("team/app", "v2", &more, PATIENCE).await.expect("served alone");
    cluster.finish().await;
}
