//! The room over real metadata, real blob stores and real connections, several nodes in one process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use blobs::handle::UploadError;
use bytes::Bytes;
use domain::{ByteRange, Digest, Durability, Place, RegionName, RepositoryName};
use futures_util::{StreamExt, stream};
use metadata::View;
use metadata::birth::{self, Profile};
use metadata::command::{Command, NewNode};
use metadata::handle::{Demand, Origin};
use metadata::rows::RegionState;
use runtime::{TaskKind, Tasks, clock};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

const LIMIT: Duration = Duration::from_secs(90);

struct Node {
    metadata: metadata::Handle,
    blobs: blobs::Handle,
    replication: replication::Handle,
    tasks: Tasks,
    address: String,
    root: std::path::PathBuf,
}

fn origin() -> Origin {
    Origin { actor: "test".to_owned() }
}

fn birth_config(root: &Path, address: &str) -> birth::Config {
    birth::Config {
        data: root.join("metadata"),
        peer_address: address.to_owned(),
        via: BTreeMap::new(),
        profile: Profile::Lan,
        strict_wait_ms_max: None,
        failover_wait_ms_max: None,
        log_cache_bytes: 4 << 20,
        state_cache_bytes: 16 << 20,
        log_entries_kept: 10_000,
        snapshot_every: 10_000,
        log_bytes_max: 512 << 20,
        insecure: false,
    }
}

impl Node {
    /// Starts a node: the first of a cluster, or one that joins `member`.
    async fn start(folder: &Path, region: &str, member: Option<&str>, config: replication::Config) -> Node {
        let root = folder.join(region);
        std::fs::create_dir_all(&root).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let node = NewNode {
            region: RegionName::parse(region).unwrap(),
            place: Place::default(),
            public_url: format!("http://{region}.example.com"),
            peer_address: address.clone(),
            certificate: Vec::new(),
        };
        let (tasks, birth, stored) = (Tasks::new(), birth_config(&root, &address), root.join("blobs"));
        let formatting = stored.clone();
        let format: birth::FormatStore =
            Box::new(move |cluster| blobs::format(&formatting, cluster, false).map_err(|error| error.to_string()));
        let metadata = match member {
            None => birth::init(birth, node, Durability::Majority, format, tasks.clone()).await.unwrap(),
            Some(member) => birth::join(birth, member.to_owned(), node, None, format, tasks.clone()).await.unwrap(),
        };
        let opening = blobs::Config::new(&stored, metadata.identity().cluster, root.join("index"));
        let blobs = blobs::Handle::open(opening, tasks.clone()).await.unwrap();
        let replication = replication::Handle::start(config, metadata.clone(), blobs.clone(), tasks.clone());
        let mut routes = tonic::service::RoutesBuilder::default();
        metadata.add_services(&mut routes);
        replication.add_services(&mut routes);
        let stop = tasks.token();
        tasks.spawn(TaskKind::Door, "peer door", async move {
            let server = tonic::transport::Server::builder().add_routes(routes.routes());
            let incoming = TcpListenerStream::new(listener);
            tokio::select! {
                () = stop.cancelled() => {}
                result = server.serve_with_incoming(incoming) => result.unwrap(),
            }
        });
        Node { metadata, blobs, replication, tasks, address, root }
    }

    /// Pushes a blob as the registry does: staged, placed, recorded.
    async fn push(&self, bytes: &Bytes) -> Digest {
        let repository = RepositoryName::parse("team/app").unwrap();
        let upload = async || {
            let session = self.blobs.create_upload(repository.clone()).await.unwrap();
            let body = bytes.clone();
            let body = stream::once(async move { Ok::<_, std::io::Error>(body) }).boxed();
            self.blobs.append(session, Some(0), Some(bytes.len() as u64), body).await.unwrap();
            session
        };
        let digest = match self.blobs.complete(upload().await, Digest::Sha256([0; 32])).await {
            Err(UploadError::DigestMismatch { actual, .. }) => actual,
            other => panic!("{other:?}"),
        };
        let session = upload().await;
        let (placed, pin) = self.blobs.complete(session, digest).await.unwrap();
        let claim = self.metadata.opened().await;
        let (size, root, copy) = (placed.size, placed.root, placed.copy);
        let command = Command::RecordBlob { repository: repository.clone(), digest, size, root, claim, copy };
        self.metadata.propose(origin(), command).await.unwrap();
        drop(pin);
        self.blobs.finish_upload(session).await;
        digest
    }

    async fn read(&self, digest: Digest) -> Vec<u8> {
        let blob = self.metadata.view(Demand::Strict, None).await.unwrap().blob(&digest).unwrap().unwrap();
        let range = ByteRange { start: 0, end: blob.size };
        let mut body = self.replication.read(digest, blob, range).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        bytes
    }

    /// Waits until the rows here say so.
    async fn until(&self, what: &str, mut holds: impl FnMut(&View) -> bool) {
        let deadline = clock::now() + LIMIT;
        while !holds(&self.metadata.local().unwrap()) {
            assert!(clock::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(self) {
        self.tasks.cancel();
        self.metadata.shutdown().await;
        assert!(self.tasks.drain(Duration::from_secs(10)).await, "a task outlives the node");
    }
}

fn content(size: usize, seed: u8) -> Bytes {
    (0..size).map(|at| (at / 4096 + at * usize::from(seed) + usize::from(seed)) as u8).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn holders(view: &View, digest: &Digest) -> usize {
    view.holders(digest).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joined_region_backfills_turns_ready_and_makes_pushes_durable() {
    let folder = folder();
    let a = Node::start(folder.path(), "paris", None, replication::Config::default()).await;
    let mut pushed = Vec::new();
    for seed in 0..12u8 {
        let size = if seed % 6 == 0 { 3 * 1024 * 1024 + 5 } else { usize::from(seed) * 1000 };
        let bytes = content(size, seed);
        pushed.push((a.push(&bytes).await, bytes));
    }
    let b = Node::start(folder.path(), "tokyo", Some(&a.address), replication::Config::default()).await;
    let tokyo = b.metadata.identity().region;
    let ready = |view: &View| view.region(tokyo).unwrap().is_some_and(|row| row.state == RegionState::Ready);
    b.until("tokyo is ready", ready).await;
    for (digest, bytes) in &pushed {
        assert_eq!(holders(&b.metadata.local().unwrap(), digest), 2, "{digest} before tokyo turned ready");
        assert!(b.read(*digest).await == *bytes, "{digest}");
    }
    assert!(b.replication.progress().fetched_blobs >= pushed.len() as u64 - 1, "one content may occur twice");

    let late = content(2 * 1024 * 1024, 77);
    let digest = a.push(&late).await;
    assert!(b.read(digest).await == late, "at once, wherever its bytes are");
    assert!(a.replication.await_durable(&[digest], 2, None, clock::now() + LIMIT).await);
    assert!(!a.replication.await_durable(&[digest], 3, None, clock::now() + LIMIT).await, "there are two regions");

    // A copy that vanishes behind the node's back is read from elsewhere, reported and brought back.
    let view = b.metadata.local().unwrap();
    let gone = view.copy_in(&digest, b.blobs.store()).unwrap().unwrap();
    drop(view);
    let hex = digest.hex();
    let file = b.root.join("blobs/data/sha256").join(&hex[..3]).join(format!("{hex}-{gone}"));
    std::fs::remove_file(file).unwrap();
    assert!(b.read(digest).await == late);
    let store = b.blobs.store();
    b.until("a new copy", |view| view.copy_in(&digest, store).unwrap().is_some_and(|copy| copy != gone)).await;
    b.stop().await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_refers_to_is_collected_and_its_bytes_deleted() {
    let folder = folder();
    let config = replication::Config { grace_ms: 1_000, collect_every_ms: Some(50), ..replication::Config::default() };
    let a = Node::start(folder.path(), "paris", None, config).await;
    let bytes = content(2 * 1024 * 1024, 1);
    let digest = a.push(&bytes).await;
    assert!(a.read(digest).await == bytes);
    let store = a.blobs.store();
    let deadline = clock::now() + LIMIT;
    // Cluster time is advanced by hand: nothing waits for the leader's next tick.
    while a.metadata.local().unwrap().blob(&digest).unwrap().is_some() {
        assert!(clock::now() < deadline, "never collected");
        let tick = Command::Tick { elapsed_ms: 5_000, hash_index: domain::Revision(0), hash: [0; 32] };
        a.metadata.propose(origin(), tick).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    a.until("the condemned row is worked off", |view| view.condemned(store, 10).unwrap().is_empty()).await;
    assert_eq!(a.blobs.inventory(None, 10).await.unwrap(), [], "the bytes are gone");
    a.stop().await;
}
