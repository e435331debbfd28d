//! The disk of log or state fails, or is full: pulls go on, writes are refused as certainly not done or reported as
//! unknown, and everything acknowledged is there once the disk answers again.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tests::client::{Ask, Payload};
use tests::cluster::{Cluster, Options, PATIENCE, Region};
use tests::content::{Content, PIECE};
use tests::image::{Blob, INDEX, Image, Manifest};
use tests::power::Disk;
use tests::registry::{Registry, Trouble};
use tests::skip::skipped;
use tests::strace::Strace;
use tests::{scale, wait};

/// Exit code of a node that wants to be started again.
const START_AGAIN: i32 = 75;

fn failing() -> Options {
    let allowed = vec!["raft", "storage", "replicated state", "a part of the node failed", "leader could not"];
    Options { allowed, ..Options::default() }
}

/// Every kind of write is refused as certainly not done, or reported as unknown.
async fn assert_writes_are_refused(registry: &Registry, image: &Image) {
    let opened = registry.begin("team/app").await;
    assert!(matches!(opened, Err(Trouble::NotNow(_))), "POST uploads: {opened:?}");
    let put = registry.put_manifest("team/app", "late", &image.manifest).await;
    assert!(matches!(put, Err(Trouble::NotNow(_) | Trouble::Unknown(_))), "PUT manifest: {put:?}");
    let ask = Ask::new(Method::DELETE, "/v2/team/app/manifests/v1").payload(Payload::Empty);
    let deleted = registry.expect(ask, StatusCode::ACCEPTED).await;
    assert!(matches!(deleted, Err(Trouble::NotNow(_) | Trouble::Unknown(_))), "DELETE: {deleted:?}");
}

/// Pulls are served from local state, and say that they may be stale.
async fn assert_pulls_go_on(registry: &Registry, image: &Image) {
    wait::until("pulls to be marked stale", PATIENCE, || async {
        let pulled = registry.pull_image("team/app", "v1", image).await.map_err(|trouble| format!("{trouble:?}"))?;
        if pulled.is_stale { Ok(()) } else { Err("they look fresh".to_owned()) }
    })
    .await;
}

/// Waits until a region has found that its disk does not take its writes.
async fn await_probe(region: &Region) {
    wait::until("the node to look at its disk", PATIENCE, || async {
        let log = std::fs::read_to_string(region.process().log()).unwrap_or_default();
        let found = log.contains("storage of raft does not answer yet");
        if found { Ok(()) } else { Err("it has not looked yet".to_owned()) }
    })
    .await;
}

/// Waits for the end of a node whose disk answers again, and starts it anew.
async fn start_again(cluster: &mut Cluster, index: usize) {
    let status = cluster.regions[index].process_mut().exit(PATIENCE).await;
    assert_eq!(status.code(), Some(START_AGAIN), "{status}");
    cluster.kill(index);
    cluster.restart(index);
}

/// Syncs of one file of the leader fail for a while: another region leads, and the region serves pulls.
async fn sync_of_the_leader_fails(name: &str) {
    let seed = scale::seed("disk fails");
    let mut cluster = Cluster::start(3, failing()).await;
    let first = Image::new(seed, &[2000, PIECE + 5]);
    cluster.at(0).push_image("team/app", "v1", &first).await.expect("a healthy region takes a push");
    cluster.await_quiet(PATIENCE).await;
    let victim = cluster.leader().await;
    let other = (victim + 1) % 3;
    let registry = cluster.at(victim);

    let data = cluster.regions[victim].data();
    let (file, probe) = (data.join(name).display().to_string(), data.join("probe").display().to_string());
    let inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-o", "/dev/null"];
    let arguments = [&["-P", &file, "-P", &probe][..], &inject].concat();
    let strace = match Strace::attach(&cluster.regions[victim], &arguments).await {
        Ok(strace) => strace,
        Err(reason) => {
            skipped(&reason);
            return;
        }
    };
    // The others go on; what they decide makes the region write.
    let second = Image::new(seed + 1, &[3000, 17]);
    let pushed = cluster.at(other).push_image_patiently("team/app", "v2", &second, PATIENCE).await;
    pushed.expect("two of three regions take pushes");
    assert_pulls_go_on(&registry, &first).await;
    assert_writes_are_refused(&registry, &second).await;
    await_probe(&cluster.regions[victim]).await;
    assert_pulls_go_on(&registry, &first).await;
    assert!(cluster.regions[victim].process_mut().ended().is_none(), "pulls go on while the disk fails");

    drop(strace);
    start_again(&mut cluster, victim).await;
    cluster.await_ready().await;
    for (tag, image) in [("v1", &first), ("v2", &second)] {
        let pulled = registry.pull_image_patiently("team/app", tag, image, PATIENCE).await;
        pulled.unwrap_or_else(|trouble| panic!("{tag} was acknowledged: {trouble:?}"));
    }
    registry.push_image_patiently("team/app", "v3", &second, PATIENCE).await.expect("writes go on");
    cluster.assert_same_state(PATIENCE).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_log_cannot_be_synced_serves_pulls_and_starts_again() {
    sync_of_the_leader_fails("raft.redb").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_state_cannot_be_synced_gives_way_and_starts_again() {
    sync_of_the_leader_fails("state.redb").await;
}

/// Free bytes of a file system, to everybody.
fn free(directory: &Path) -> u64 {
    let space = rustix::fs::statvfs(directory).expect("the file system answers");
    space.f_bavail * space.f_frsize
}

/// Takes room from a file system until only `left` bytes are free; none at all for 0.
fn take_room(file: &Path, left: u64) {
    let directory = file.parent().expect("a file lies in a folder");
    let mut ballast = File::options().append(true).create(true).open(file).expect("the ballast can be made");
    for piece in [PIECE, 4096] {
        let block = vec![7; usize::try_from(piece).expect("a piece fits into memory")];
        while free(directory) >= left + piece {
            if ballast.write_all(&block).and_then(|()| ballast.sync_data()).is_err() {
                break;
            }
        }
    }
}

async fn on_a_small_disk() -> Option<(Cluster, Disk)> {
    let mut cluster = Cluster::unborn(1, failing()).await;
    let image = cluster.directory().join("disk.img");
    match Disk::mount(&image, &cluster.regions[0].data(), 256) {
        Ok(disk) => {
            cluster.restart(0);
            cluster.init(0).await;
            cluster.await_ready().await;
            Some((cluster, disk))
        }
        Err(reason) => {
            skipped(&reason);
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_down_to_its_reserve_refuses_uploads_and_says_so() {
    let seed = scale::seed("disk full");
    let Some((mut cluster, disk)) = on_a_small_disk().await else { return };
    let registry = cluster.at(0);
    let image = Image::new(seed, &[2000, PIECE + 5]);
    registry.push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    let ballast = cluster.regions[0].data().join("ballast");
    // The harness keeps a reserve of 64 MiB.
    take_room(&ballast, 32 * PIECE);

    let more = Content::new(seed + 1, 3 * PIECE);
    let what = wait::until("uploads to be refused", PATIENCE, || async {
        match registry.push_blob("team/app", &Blob::Generated(more.clone())).await {
            Err(Trouble::NotNow(what)) => Ok(what),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(what.contains("full"), "the answer does not say that the disk is full: {what}");
    let pulled = registry.pull_image("team/app", "v1", &image).await.expect("pulls go on");
    assert!(!pulled.is_stale, "a full blob store is no doubt about tags");
    registry.put_manifest("team/app", "v2", &image.manifest).await.expect("names fit into the reserve");
    // The space that is told was looked at within the last second.
    wait::until("the region to say that its disk is full", PATIENCE, || async {
        let ready = registry.send(Ask::new(Method::GET, "/readyz?for=push")).await;
        let ready = ready.map_err(|failure| format!("{failure:?}"))?;
        let says_so = ready.status == StatusCode::SERVICE_UNAVAILABLE && ready.text().contains("full");
        if says_so { Ok(()) } else { Err(ready.text()) }
    })
    .await;

    std::fs::remove_file(&ballast).expect("the ballast can be removed");
    let pushed = || async {
        let pushed = registry.push_blob("team/app", &Blob::Generated(more.clone())).await;
        pushed.map_err(|trouble| format!("{trouble:?}"))
    };
    wait::until("uploads to go on by themselves", PATIENCE, pushed).await;
    registry.pull_blob("team/app", more.digest(), more.len()).await.expect("the bytes are right");
    cluster.stop(0).await;
    drop(disk);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_for_the_log_serves_pulls_and_the_node_starts_again() {
    let seed = scale::seed("disk brimful");
    let Some((mut cluster, disk)) = on_a_small_disk().await else { return };
    let registry = cluster.at(0);
    let image = Image::new(seed, &[2000, PIECE + 5]);
    registry.push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    let ballast = cluster.regions[0].data().join("ballast");
    take_room(&ballast, 0);
    // The files hold some room of their own: manifests fill it.
    let mut acknowledged = Vec::new();
    let refused = loop {
        let number = acknowledged.len() as u64;
        let tag = format!("m{number}");
        let bare = Manifest::new(INDEX, bare_index(seed + number, 200_000));
        match registry.put_manifest("team/app", &tag, &bare).await {
            Ok(_) => acknowledged.push((tag, bare)),
            Err(trouble) => break trouble,
        }
        assert!(number < 2000, "the disk never ran full");
    };
    println!("{} manifests were taken on the full disk, then: {refused:?}", acknowledged.len());
    assert!(!matches!(refused, Trouble::Wrong(_)), "a full disk is no fault of the client's: {refused:?}");
    assert_pulls_go_on(&registry, &image).await;
    assert_writes_are_refused(&registry, &image).await;
    await_probe(&cluster.regions[0]).await;

    std::fs::remove_file(&ballast).expect("the ballast can be removed");
    start_again(&mut cluster, 0).await;
    cluster.await_pushable(&cluster.regions[0]).await;
    registry.pull_image_patiently("team/app", "v1", &image, PATIENCE).await.expect("it was acknowledged");
    for (tag, manifest) in &acknowledged {
        let got = registry.manifest("team/app", tag).await;
        assert!(got.is_ok_and(|got| got.body == manifest.body), "{tag} was acknowledged");
    }
    let last = tokio::time::timeout(Duration::from_secs(60), registry.push_image("team/app", "last", &image)).await;
    last.expect("an answer in time").expect("writes go on");
    cluster.stop(0).await;
    drop(disk);
    cluster.finish().await;
}

/// An index of about `len` bytes, without children.
fn bare_index(number: u64, len: usize) -> Bytes {
    let words = format!("{number:016x}").repeat(len / 16);
    Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[],"annotations":{{"org.example.words":"{words}"}}}}"#
    ))
}
