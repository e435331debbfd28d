//! Durable before acknowledged: the syncs of a push come before its answers, and a power cut loses nothing acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, StatusCode};
use tests::client::{Ask, Payload};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::{Content, PIECE, Random};
use tests::image::{Image, Manifest};
use tests::power::Disk;
use tests::registry::{Registry, patiently};
use tests::skip::skipped;
use tests::strace::Strace;
use tests::{scale, wait};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Paths whose sync was complete before the answer with `status` began to leave, out of a trace.
fn synced_before(trace: &str, status: &str) -> Vec<String> {
    let answer = format!("HTTP/1.1 {status}");
    let mut open: BTreeMap<&str, String> = BTreeMap::new();
    let mut synced = Vec::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        let call = call.trim_start();
        if call.contains(&answer) {
            return synced;
        }
        let is_sync = call.starts_with("fsync(") || call.starts_with("fdatasync(");
        let path = call.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned());
        if is_sync && call.contains("unfinished") {
            open.insert(thread, path.unwrap_or_default());
        } else if is_sync && call.ends_with("= 0") {
            synced.extend(path);
        } else if call.contains("sync resumed>") && call.ends_with("= 0") {
            synced.extend(open.remove(thread));
        }
    }
    panic!("no answer {status} in the trace");
}

/// What a trace shows after the last rename to a path that contains `name`.
fn after_last_rename<'a>(trace: &'a str, name: &str) -> &'a str {
    let (blob, _) = trace.split_once("HTTP/1.1 201").expect("the blob was answered");
    let renames = blob.match_indices("rename").filter(|(at, _)| {
        let line = blob[*at..].lines().next().unwrap_or_default();
        line.rsplit(", ").take(2).any(|argument| argument.contains(name))
    });
    let (at, _) = renames.last().expect("the blob got its name by a rename");
    &trace[at..]
}

#[test]
fn a_sync_counts_only_when_it_is_complete_before_the_answer() {
    let trace = "\
1 fsync(7</d/a>) = 0
2 fdatasync(8</d/b> <unfinished ...>
3 fsync(9</d/c> <unfinished ...>
2 <... fdatasync resumed>) = 0
4 fsync(5</d/e>) = -1 EIO (Input/output error)
1 writev(4<socket:[1]>, [{\"HTTP/1.1 201 Created\", 10}], 1) = 10
3 <... fsync resumed>) = 0
";
    assert_eq!(synced_before(trace, "201"), ["/d/a", "/d/b"]);
}

fn assert_synced(synced: &[String], what: &str, is_it: impl Fn(&str) -> bool) {
    assert!(
        synced.iter().any(|path| is_it(path)),
        "{what} was not synced before the answer; synced were:\n{}",
        synced.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_groups_record_and_directories_are_synced_before_the_answers() {
    let cluster = Cluster::start(1, Options::default()).await;
    let registry = cluster.at(0);
    let content = Content::new(scale::seed("show13"), 3 * PIECE + 5);
    let hex = content.digest().trim_start_matches("sha256:").to_owned();
    let output = cluster.directory().join("trace");
    let shown = output.display().to_string();
    let calls = "trace=fsync,fdatasync,rename,renameat,renameat2,write,writev,sendto";
    let trace = match Strace::attach(&cluster.regions[0], &["-y", "-s", "40", "-e", calls, "-o", &shown]).await {
        Ok(trace) => trace,
        Err(reason) => {
            skipped(&reason);
            return;
        }
    };
    let location = registry.begin("team/app").await.expect("an upload is opened");
    let location = registry.patch(&location, 0, content.slice(0..PIECE)).await.expect("a chunk is taken");
    let rest = content.slice(PIECE..content.len());
    registry.finish(&location, content.digest(), Payload::Given(rest)).await.expect("the upload is closed");
    registry.put_manifest("team/app", "v1", &Manifest::index(&[])).await.expect("the manifest is taken");
    drop(trace);
    let trace = fs::read_to_string(&output).expect("strace wrote");

    // The first 202 answers the POST, which acknowledges no byte; the second answers the PATCH.
    let (_, after_post) = trace.split_once("HTTP/1.1 202").expect("the POST was answered");
    let chunk = synced_before(after_post, "202");
    assert_synced(&chunk, "the data of the chunk", |path| path.contains("/staging/") && !path.contains(".record"));
    assert_synced(&chunk, "the session's record", |path| path.contains("/staging/") && path.contains(".record"));
    assert_synced(&chunk, "the directory of the session's record", |path| path.ends_with("/staging"));
    let closed = synced_before(&trace, "201");
    let is_staging_data = |path: &str| path.contains("/staging/") && !path.contains(".record");
    assert_synced(&closed, "the data", |path| {
        is_staging_data(path) || (path.contains(&hex) && !path.contains(".groups"))
    });
    assert_synced(&closed, "the groups file", |path| path.contains(".groups"));
    assert_synced(&closed, "the directory of the data", |path| path.ends_with(&format!("/data/sha256/{}", &hex[..3])));
    assert_synced(&closed, "the Raft log", |path| path.ends_with("/raft.redb"));
    // The names come after the bytes and are synced after them: what follows the last rename into the store's folder.
    let folder = format!("/data/sha256/{}", &hex[..3]);
    let named = after_last_rename(&trace, &format!("{folder}/{hex}"));
    assert_synced(&synced_before(named, "201"), "the directory, after the last rename into it", |path| {
        path.ends_with(&folder)
    });
    let (_, manifest) = trace.split_once("HTTP/1.1 201").expect("the blob was answered");
    assert_synced(&synced_before(manifest, "201"), "the Raft log, for the manifest", |path| {
        path.ends_with("/raft.redb")
    });
    cluster.finish().await;
}

/// What was acknowledged, to be found again.
#[derive(Default)]
struct Acknowledged {
    images: Vec<(String, Image)>,
    /// Location, content, acknowledged offset.
    sessions: Vec<(String, Content, u64)>,
}

type Journal = Arc<Mutex<Acknowledged>>;

fn noted<T>(journal: &Journal, note: impl FnOnce(&mut Acknowledged) -> T) -> T {
    note(&mut journal.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Pushes images and leaves an open session beside each, until it is aborted or the region is gone.
async fn push_on(registry: Registry, seed: u64, journal: Journal) {
    for number in 0.. {
        let own = seed.wrapping_mul(7919).wrapping_add(number);
        let tag = format!("t{own}");
        let image = Image::new(own, &[1500, PIECE + 10]);
        if registry.push_image("team/app", &tag, &image).await.is_err() {
            return;
        }
        noted(&journal, |journal| journal.images.push((tag, image)));
        let content = Content::new(own + 1, 40_000);
        let Ok(location) = registry.begin("team/app").await else { return };
        let Ok(location) = registry.patch(&location, 0, content.slice(0..30_000)).await else { return };
        noted(&journal, |journal| journal.sessions.push((location, content, 30_000)));
    }
}

async fn assert_nothing_is_lost(registry: &Registry, journal: &Journal) {
    let Acknowledged { images, sessions } = noted(journal, std::mem::take);
    for (tag, image) in &images {
        let pulled = registry.pull_image_patiently("team/app", tag, image, PATIENCE).await;
        pulled.unwrap_or_else(|trouble| panic!("{tag} was acknowledged: {trouble:?}"));
    }
    for (location, content, offset) in &sessions {
        let status = registry.expect(Ask::new(Method::GET, location), StatusCode::NO_CONTENT).await;
        let status = status.unwrap_or_else(|trouble| panic!("a session was acknowledged: {trouble:?}"));
        let last: u64 = status.header("range").trim_start_matches("0-").parse().expect("a range");
        assert!(last + 1 >= *offset, "{offset} bytes were acknowledged, the session is at {}", last + 1);
        let rest = content.slice(last + 1..content.len());
        let closing = || registry.finish(location, content.digest(), Payload::Given(rest.clone()));
        patiently(Instant::now() + PATIENCE, closing).await.expect("the upload goes on after the power cut");
        let pulled = registry.pull_blob("team/app", content.digest(), content.len()).await;
        pulled.expect("the resumed upload has the right bytes");
    }
    println!("{} images and {} sessions were there after the power cut", images.len(), sessions.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let seed = scale::seed("show13 power");
    let mut random = Random::new(seed);
    let mut cluster = Cluster::unborn(1, Options::default()).await;
    let image = cluster.directory().join("disk.img");
    let disk = match Disk::mount(&image, &cluster.regions[0].data(), 1024) {
        Ok(disk) => disk,
        Err(reason) => {
            skipped(&reason);
            return;
        }
    };
    cluster.restart(0);
    cluster.init(0).await;
    cluster.await_ready().await;
    for cut in 0..scale::scaled(3, 30) {
        let journal = Journal::default();
        let mut writers = JoinSet::new();
        for writer in 0..3 {
            writers.spawn(push_on(cluster.at(0), seed + 10 * cut + writer, journal.clone()));
        }
        // The cut comes after a different number of acknowledgements each time, in the midst of whatever runs then.
        let enough = 3 + random.below(8) as usize;
        wait::until("pushes before the cut", PATIENCE, || async {
            let count = noted(&journal, |journal| journal.images.len());
            if count >= enough { Ok(()) } else { Err(format!("{count} of {enough}")) }
        })
        .await;
        cluster.regions[0].process().pause();
        disk.cut_power().expect("the power can be cut");
        cluster.kill(0);
        writers.shutdown().await;
        disk.unmount().expect("nothing has a file open");
        disk.power_on().expect("what survived can be mounted");
        cluster.restart(0);
        cluster.await_pushable(&cluster.regions[0]).await;
        assert_nothing_is_lost(&cluster.at(0), &journal).await;
    }
    cluster.stop(0).await;
    drop(disk);
    cluster.finish().await;
}
