//! The node's own index is a cache: deleted or filled with garbage while the node is stopped, reads start at once and
//! uploads resume.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use tests::client::{Ask, Client, Payload};
use tests::cluster::{Cluster, Options, PATIENCE, Region};
use tests::content::{Content, PIECE};
use tests::image::Blob;
use tests::registry::patiently;
use tests::scale;
use tokio::time::Instant;

/// Directories of the index: those with the files that sled keeps.
fn index_directories(region: &Region) -> Vec<PathBuf> {
    let named_db = region.files("/db").into_iter().filter(|path| path.ends_with("db"));
    named_db.filter_map(|path| path.parent().map(PathBuf::from)).filter(|folder| folder.join("conf").exists()).collect()
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    Deleted,
    Garbled,
}

fn lose(directory: &PathBuf, loss: Loss) {
    match loss {
        Loss::Deleted => fs::remove_dir_all(directory).expect("a stopped node's index can be removed"),
        Loss::Garbled => {
            for entry in fs::read_dir(directory).expect("the index is there").flatten() {
                if entry.path().is_file() {
                    let len = entry.metadata().map_or(4096, |metadata| metadata.len()).clamp(4096, 64 * PIECE);
                    fs::write(entry.path(), Content::new(5, len).bytes()).expect("the index can be written");
                }
            }
        }
    }
}

async fn index_is_lost(loss: Loss) {
    let seed = scale::seed("show15");
    let allowed = vec!["index", "inventory", "cache"];
    let mut cluster = Cluster::start(1, Options { allowed, ..Options::default() }).await;
    let registry = cluster.at(0);
    let large = Content::new(seed, scale::scaled(48, 2048) * PIECE);
    registry.push_blob("team/app", &Blob::Generated(large.clone())).await.expect("a large blob is taken");
    let mut uploads = Vec::new();
    for number in 0..4 {
        let content = Content::new(seed + 1 + number, 3 * PIECE + number);
        let location = registry.begin("team/app").await.expect("an upload is opened");
        let location = registry.patch(&location, 0, content.slice(0..2 * PIECE)).await.expect("a chunk is taken");
        uploads.push((content, location));
    }
    cluster.stop(0).await;
    let directories = index_directories(&cluster.regions[0]);
    assert!(!directories.is_empty(), "the node keeps an index");
    directories.iter().for_each(|directory| lose(directory, loss));
    cluster.restart(0);
    cluster.await_pushable(&cluster.regions[0]).await;

    let started = Instant::now();
    let client = Client::new(cluster.regions[0].http.to_string());
    let mut open =
        client.open(Ask::new(Method::GET, format!("/v2/team/app/blobs/{}", large.digest()))).await.expect("an answer");
    assert_eq!(open.status, StatusCode::OK);
    let first = open.next().await.expect("a body").expect("the right bytes");
    let waited = started.elapsed();
    assert!(first == large.slice(0..first.len() as u64), "other bytes");
    println!("{loss:?}: the first verified bytes came after {waited:?}");
    assert!(waited < Duration::from_secs(1), "{loss:?}: the first bytes came after {waited:?}");
    drop(open);
    registry.pull_blob("team/app", large.digest(), large.len()).await.expect("all bytes are right");
    for (content, location) in uploads {
        let status = registry.expect(Ask::new(Method::GET, &location), StatusCode::NO_CONTENT).await;
        assert_eq!(status.expect("the session is known").header("range"), format!("0-{}", 2 * PIECE - 1));
        let location = registry.patch(&location, 2 * PIECE, content.slice(2 * PIECE..content.len())).await;
        let location = location.expect("the upload goes on");
        registry.finish(&location, content.digest(), Payload::Empty).await.expect("the upload is closed");
        let pulled = || registry.pull_blob("team/app", content.digest(), content.len());
        patiently(Instant::now() + PATIENCE, pulled).await.expect("the bytes are right");
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_index_delays_no_read_and_loses_no_upload() {
    index_is_lost(Loss::Deleted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_garbage_delays_no_read_and_loses_no_upload() {
    index_is_lost(Loss::Garbled).await;
}
