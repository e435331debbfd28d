//! A world for the tests: real blob stores and real gRPC between nodes, over rows kept in plain maps instead of Raft.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use blobs::handle::{SessionKey, UploadError};
use bytes::Bytes;
use domain::{Boot, ClusterId, CopyId, Digest, NodeId, RegionId, RepositoryName, Revision, StoreId};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use metadata::command::{Command, HeldCopy, StoreClaim};
use metadata::handle::{Applied, ChannelClass, ProposeError, Watched};
use metadata::outcome::Outcome;
use metadata::{rows, view};
use runtime::{TaskKind, Tasks};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::{Below, Cluster, Facts, Peer};
use crate::config::Config;
use crate::core::Core;
use crate::losses::Count;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The rows, and where the nodes are.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) blobs: HashMap<Digest, rows::Blob>,
    pub(crate) holders: BTreeMap<(Digest, NodeId), CopyId>,
    pub(crate) wanted: BTreeSet<(NodeId, Digest)>,
    pub(crate) addresses: BTreeMap<NodeId, SocketAddr>,
    /// Every report, in order.
    pub(crate) reports: Vec<Command>,
    /// Reports are answered as unavailable.
    pub(crate) cut: bool,
    /// So many reports get lost and are answered as unknown.
    pub(crate) unknown: usize,
    /// Cluster time. Unit: milliseconds.
    pub(crate) time_ms: u64,
    /// What a node once more believes to be its copy, when it looks the next time.
    pub(crate) outdated: BTreeMap<(Digest, NodeId), CopyId>,
    /// Nodes whose state lags: they do not know what they hold. And how often each looked for a blob.
    pub(crate) blind: BTreeSet<NodeId>,
    pub(crate) looks: BTreeMap<(Digest, NodeId), usize>,
    /// Round trips to nodes; a millisecond where none is given.
    pub(crate) round_trips: BTreeMap<NodeId, Duration>,
    /// Between two nodes there is one connection for each duty, as in a cluster; none = one for each request, so that no
    /// request goes on with a node that was ended.
    pub(crate) connections: Option<HashMap<(NodeId, NodeId, ChannelClass), Channel>>,
}

pub(crate) struct World {
    rows: Mutex<Rows>,
    changes: watch::Sender<u64>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(World { rows: Mutex::default(), changes: watch::Sender::new(0) })
    }

    pub(crate) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    pub(crate) fn change<T>(&self, with: impl FnOnce(&mut Rows) -> T) -> T {
        let result = with(&mut self.rows());
        self.changes.send_modify(|count| *count += 1);
        result
    }

    pub(crate) fn want(&self, node: &Node, digest: Digest) {
        self.change(|rows| rows.wanted.insert((node.id, digest)));
    }

    pub(crate) fn holder(&self, node: &Node, digest: &Digest) -> Option<CopyId> {
        self.rows().holders.get(&(*digest, node.id)).copied()
    }

    /// Waits until the rows say so.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Rows) -> bool) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !holds(&self.rows()) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Decides a report as `apply` does, as far as these tests go.
    fn apply(&self, node: NodeId, command: &Command) -> Revision {
        self.change(|rows| {
            rows.reports.push(command.clone());
            match command {
                Command::Held { copies, .. } => {
                    for HeldCopy { digest, copy } in copies {
                        if rows.blobs.contains_key(digest) {
                            rows.holders.insert((*digest, node), *copy);
                            rows.wanted.remove(&(node, *digest));
                        }
                    }
                }
                Command::Lost { copies, .. } => {
                    for HeldCopy { digest, copy } in copies {
                        if rows.holders.get(&(*digest, node)) == Some(copy) {
                            rows.holders.remove(&(*digest, node));
                            rows.wanted.insert((node, *digest));
                        }
                    }
                }
                other => panic!("not a report of transfers: {other:?}"),
            }
            Revision(rows.reports.len() as u64)
        })
    }
}

struct Port {
    world: Arc<World>,
    node: NodeId,
    store: StoreId,
}

impl Cluster for Port {
    fn opened(&self) -> BoxFuture<'_, StoreClaim> {
        Box::pin(async { StoreClaim { store: self.store, node: self.node, boot: Boot(1) } })
    }

    fn facts(&self, digest: &Digest) -> Result<Facts, view::Error> {
        let mut rows = self.world.rows();
        let outdated = rows.outdated.remove(&(*digest, self.node));
        let is_blind = rows.blind.contains(&self.node);
        if is_blind {
            *rows.looks.entry((*digest, self.node)).or_default() += 1;
        }
        let holding = rows.holders.range((*digest, NodeId(0))..=(*digest, NodeId(u64::MAX)));
        Ok(Facts {
            blob: rows.blobs.get(digest).cloned(),
            copy_here: outdated.or_else(|| rows.holders.get(&(*digest, self.node)).copied()).filter(|_| !is_blind),
            holders: holding.map(|((_, node), _)| *node).filter(|node| *node != self.node).collect(),
            wanted: rows.wanted.contains(&(self.node, *digest)),
            revision: Revision(rows.reports.len() as u64),
        })
    }

    fn wanted(&self, last: Option<&Digest>, limit: usize) -> Result<Vec<rows::Wanted>, view::Error> {
        let rows = self.world.rows();
        let own =
            rows.wanted.iter().filter(|(node, digest)| *node == self.node && last.is_none_or(|last| digest > last));
        let row = |digest: &Digest| rows::Wanted { digest: *digest, size: rows.blobs[digest].size, since_ms: 0 };
        Ok(own.take(limit).map(|(_, digest)| row(digest)).collect())
    }

    fn below(&self, digests: &[Digest], need: u32, _only: Option<RegionId>) -> Result<Below, view::Error> {
        let rows = self.world.rows();
        let holding = |digest: &Digest| rows.holders.keys().filter(|(held, _)| held == digest).count();
        let digests = digests.iter().filter(|digest| holding(digest) < need as usize).copied().collect();
        Ok(Below { digests, hopeless: rows.addresses.len() < need as usize })
    }

    fn count_held(&self, most: u64) -> Result<Count, view::Error> {
        let held = self.world.rows().holders.keys().filter(|(_, node)| *node == self.node).count() as u64;
        Ok(Count { held: held.min(most), whole: held < most })
    }

    fn peers(&self) -> Result<Vec<Peer>, view::Error> {
        let rows = self.world.rows();
        let others = rows.addresses.keys().filter(|node| **node != self.node);
        Ok(others.map(|node| Peer { node: *node, is_ready: true }).collect())
    }

    fn time_ms(&self) -> Result<u64, view::Error> {
        Ok(self.world.rows().time_ms)
    }

    fn proved_time_ms(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(async {
            let rows = self.world.rows();
            (!rows.cut).then_some(rows.time_ms)
        })
    }

    fn channel(&self, node: NodeId, class: ChannelClass) -> Option<Channel> {
        let mut rows = self.world.rows();
        let address = *rows.addresses.get(&node)?;
        // The windows of a LAN.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let endpoint = endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(8 << 20);
        let connect = || endpoint.connect_lazy();
        match &mut rows.connections {
            Some(open) => Some(open.entry((self.node, node, class)).or_insert_with(connect).clone()),
            None => Some(connect()),
        }
    }

    fn round_trip(&self, node: NodeId) -> Option<Duration> {
        Some(self.world.rows().round_trips.get(&node).copied().unwrap_or(Duration::from_millis(1)))
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        Box::pin(async move {
            if self.world.rows().cut {
                return Err(ProposeError::Unavailable { detail: "cut off".to_owned() });
            }
            let is_lost = self.world.change(|rows| match rows.unknown.checked_sub(1) {
                Some(left) => {
                    rows.unknown = left;
                    true
                }
                None => false,
            });
            if is_lost {
                return Err(ProposeError::Unknown);
            }
            let revision = self.world.apply(self.node, &command);
            Ok(Applied { revision, outcome: Outcome::Done })
        })
    }

    fn watch(&self, _space: Watched) -> watch::Receiver<u64> {
        self.world.changes.subscribe()
    }
}

/// A node: a store, a core, a server.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) core: Arc<Core>,
    pub(crate) root: PathBuf,
    /// What its peers dial.
    pub(crate) address: SocketAddr,
    /// Ends the server alone.
    pub(crate) server: Tasks,
    pub(crate) tasks: Tasks,
    _directory: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.cancel();
        self.tasks.cancel();
    }
}

impl Node {
    /// One that waits for others longer than a busy machine holds them up.
    pub(crate) async fn start(world: &Arc<World>, id: u64) -> Node {
        Node::start_with(world, id, DEADLINE / 2).await
    }

    /// One that gives up on a holder that is silent for so long.
    pub(crate) async fn start_with(world: &Arc<World>, id: u64, patience: Duration) -> Node {
        let first_byte_ms_max = u64::try_from(patience.as_millis()).unwrap();
        let config = Config { first_byte_ms_max, durability_stall_ms: 2_000, ..Config::default() };
        // In memory where there is such a place: what is on the disk after a power cut is the blob room's promise.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let cluster = ClusterId([9; 16]);
        let root = directory.path().join("blobs");
        std::fs::create_dir(&root).unwrap();
        let store = blobs::format(&root, cluster, false).unwrap();
        let (tasks, server) = (Tasks::new(), Tasks::new());
        let opening = blobs::Config::new(&root, cluster, directory.path().join("index"));
        let blobs = blobs::Handle::open(opening, tasks.clone()).await.unwrap();
        let id = NodeId(id);
        let port = Port { world: world.clone(), node: id, store };
        let core = Core::new(config, Arc::new(port), blobs, tasks.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        world.change(|rows| rows.addresses.insert(id, address));
        let (service, ending) = (crate::server::service(core.clone()), server.token());
        server.spawn(TaskKind::Door, "test server", async move {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
            tokio::select! {
                () = ending.cancelled() => {}
                result = serving => result.unwrap(),
            }
        });
        Node { id, core, root, address, server, tasks, _directory: directory }
    }

    /// Starts the workers of the backlog.
    pub(crate) fn work(&self) {
        self.tasks.spawn(TaskKind::Worker, "backlog", crate::worker::run(self.core.clone()));
    }

    pub(crate) async fn upload(&self, bytes: &Bytes) -> SessionKey {
        let repository = RepositoryName::parse("test").unwrap();
        let session = self.core.blobs.create_upload(repository).await.unwrap();
        let body = bytes.clone();
        let body = stream::once(async move { Ok::<_, std::io::Error>(body) }).boxed();
        self.core.blobs.append(session, Some(0), Some(bytes.len() as u64), body).await.unwrap();
        session
    }

    /// Uploads `bytes` and records them as `RecordBlob` does, without wanted rows.
    pub(crate) async fn push(&self, world: &World, bytes: &Bytes) -> (Digest, rows::Blob) {
        // The store knows sha256, this crate does not: a wrong digest is answered with the right one.
        let wrong = self.upload(bytes).await;
        let digest = match self.core.blobs.complete(wrong, Digest::Sha256([0; 32])).await {
            Err(UploadError::DigestMismatch { actual, .. }) => actual,
            other => panic!("{other:?}"),
        };
        let session = self.upload(bytes).await;
        let (placed, _pin) = self.core.blobs.complete(session, digest).await.unwrap();
        let blob = rows::Blob { size: placed.size, root: placed.root, references: 1, unreferenced_since_ms: None };
        world.change(|rows| {
            rows.blobs.insert(digest, blob.clone());
            rows.holders.insert((digest, self.id), placed.copy);
            rows.wanted.remove(&(self.id, digest));
        });
        self.core.blobs.finish_upload(session).await;
        (digest, blob)
    }

    /// Where a copy lies.
    pub(crate) fn file(&self, digest: &Digest, copy: CopyId) -> PathBuf {
        let hex = digest.hex();
        self.root.join("data").join(digest.algorithm().name()).join(&hex[..3]).join(format!("{hex}-{copy}"))
    }

    /// Flips one byte of a copy.
    pub(crate) fn damage(&self, digest: &Digest, copy: CopyId, at: u64) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(self.file(digest, copy)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
}
