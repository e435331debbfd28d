//! Regions in one process: real disks, real Raft, real connections.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::{Durability, Place, RegionName};
use metadata::birth::{self, Profile};
use metadata::command::{Command, NewNode};
use metadata::handle::Origin;
use node::http::Settings;
use runtime::{TaskKind, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;

use crate::client::{Answer, Asking};

/// Longest wait for the regions to be ready.
const LIMIT: Duration = Duration::from_secs(60);
const NAMES: [&str; 3] = ["paris", "tokyo", "lima"];

struct Node {
    door: SocketAddr,
    peer: SocketAddr,
    metadata: metadata::Handle,
    blobs: blobs::Handle,
    /// The end of the path of calls between nodes that it takes in and leaves lying.
    held: watch::Sender<&'static str>,
    tasks: Tasks,
}

/// How the regions behave.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    pub(crate) door: Settings,
    pub(crate) registry: registry::Config,
    pub(crate) replication: replication::Config,
    /// Longest wait through a fail-over; that of the profile when none. Unit: milliseconds.
    pub(crate) failover_wait_ms_max: Option<u64>,
}

/// The regions, and whose turn it is.
pub(crate) struct World {
    nodes: Vec<Node>,
    next: AtomicUsize,
    client: Tasks,
    _root: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start(regions: usize) -> Self {
        World::start_with(regions, Settings::default()).await
    }

    /// Regions whose HTTP doors have these limits.
    pub(crate) async fn start_with(regions: usize, door: Settings) -> Self {
        World::start_as(regions, Manner { door, ..Manner::default() }).await
    }

    pub(crate) async fn start_as(regions: usize, manner: Manner) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut nodes: Vec<Node> = Vec::new();
        for name in &NAMES[..regions] {
            let member = nodes.first().map(|node| node.peer);
            nodes.push(node(root.path(), name, member, manner.clone()).await);
        }
        let world = World { nodes, next: AtomicUsize::new(0), client: Tasks::new(), _root: root };
        world.until_ready().await;
        world
    }

    async fn until_ready(&self) {
        let deadline = runtime::clock::now() + LIMIT;
        for node in &self.nodes {
            node.metadata.opened().await;
            loop {
                let view = node.metadata.local().unwrap();
                let regions = view.regions().unwrap();
                let ready = regions.iter().filter(|row| row.state == metadata::rows::RegionState::Ready).count();
                if ready == self.nodes.len() && node.metadata.quorum().heard {
                    break;
                }
                assert!(runtime::clock::now() < deadline, "the regions are not ready: {regions:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Waits until a region hears no quorum.
    pub(crate) async fn until_unheard(&self, region: usize) {
        let deadline = runtime::clock::now() + LIMIT;
        while self.metadata(region).quorum().heard {
            assert!(runtime::clock::now() < deadline, "a quorum is heard by region {region}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) {
        for node in &self.nodes {
            node.tasks.cancel();
        }
        for node in &self.nodes {
            node.metadata.shutdown().await;
            assert!(node.tasks.drain(LIMIT).await, "a task of the node does not end: {:?}", node.tasks);
        }
    }

    /// Stops the node of a region for good.
    pub(crate) async fn kill(&self, region: usize) {
        self.nodes[region].tasks.cancel();
        self.nodes[region].metadata.shutdown().await;
    }

    /// Calls whose path ends so lie at a region until the next word; all go on after an empty one.
    pub(crate) fn hold(&self, region: usize, calls: &'static str) {
        self.nodes[region].held.send_replace(calls);
    }

    pub(crate) fn blobs(&self, region: usize) -> &blobs::Handle {
        &self.nodes[region].blobs
    }

    pub(crate) fn metadata(&self, region: usize) -> &metadata::Handle {
        &self.nodes[region].metadata
    }

    pub(crate) fn regions(&self) -> usize {
        self.nodes.len()
    }

    /// Where a region's HTTP door is.
    pub(crate) fn door(&self, region: usize) -> SocketAddr {
        self.nodes[region].door
    }

    /// A request to the next region.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Asking {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len();
        self.ask_at(at, method, path)
    }

    /// A request to one region.
    pub(crate) fn ask_at(&self, region: usize, method: &str, path: &str) -> Asking {
        Asking::new(self.nodes[region].door, method, path, self.client.clone())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send().await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.ask("HEAD", path).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path).send().await
    }

    /// The index that a region has applied.
    pub(crate) fn applied(&self, region: usize) -> u64 {
        self.nodes[region].metadata.quorum().applied.0
    }

    /// Proposes a policy.
    pub(crate) async fn policy(&self, prefix: &str, sparse: bool, immutable: &[&str]) {
        let command = Command::SetPolicy {
            prefix: prefix.to_owned(),
            durability: Some(Durability::Local),
            sparse: Some(sparse),
            immutable_tags: Some(immutable.iter().map(|&glob| glob.to_owned()).collect()),
        };
        self.nodes[0].metadata.propose(Origin { actor: "test".to_owned() }, command).await.unwrap();
    }
}

fn new_node(name: &str, door: SocketAddr, peer: SocketAddr) -> NewNode {
    NewNode {
        region: RegionName::parse(name).unwrap(),
        place: Place::default(),
        public_url: format!("http://{door}"),
        peer_address: peer.to_string(),
        certificate: Vec::new(),
    }
}

async fn node(root: &Path, name: &str, member: Option<SocketAddr>, manner: Manner) -> Node {
    let Manner { door: settings, registry: registry_config, replication, failover_wait_ms_max } = manner;
    let (peers, doors) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (peer, door) = (peers.local_addr().unwrap(), doors.local_addr().unwrap());
    let folder = root.join(name);
    let tasks = Tasks::new();
    let config = birth::Config {
        data: folder.clone(),
        peer_address: peer.to_string(),
        via: std::collections::BTreeMap::new(),
        profile: Profile::Lan,
        strict_wait_ms_max: None,
        failover_wait_ms_max,
        log_cache_bytes: 4 << 20,
        state_cache_bytes: 16 << 20,
        log_entries_kept: 10_000,
        snapshot_every: 10_000,
        log_bytes_max: 512 << 20,
        insecure: false,
    };
    let new = new_node(name, door, peer);
    let store = folder.join("blobs");
    let formatted = store.clone();
    let format: birth::FormatStore =
        Box::new(move |cluster| blobs::format(&formatted, cluster, false).map_err(|error| error.to_string()));
    let metadata = match member {
        None => birth::init(config, new, Durability::Majority, format, tasks.clone()).await.unwrap(),
        Some(member) => birth::join(config, member.to_string(), new, None, format, tasks.clone()).await.unwrap(),
    };
    let store = blobs::Config::new(store, metadata.identity().cluster, folder.join("index"));
    let blobs = blobs::Handle::open(store, tasks.clone()).await.unwrap();
    let replication = replication::Handle::start(replication, metadata.clone(), blobs.clone(), tasks.clone());
    let registry = registry::Handle::start(
        registry_config,
        metadata.clone(),
        blobs.clone(),
        replication.clone(),
        tasks.clone(),
        tasks.clone(),
    );
    let mut routes = tonic::service::RoutesBuilder::default();
    metadata.add_services(&mut routes);
    replication.add_services(&mut routes);
    registry.add_services(&mut routes);
    let (held, holds) = watch::channel("");
    let hold = axum::middleware::from_fn(move |request: axum::extract::Request, next: axum::middleware::Next| {
        let (mut holds, path) = (holds.clone(), request.uri().path().to_owned());
        async move {
            let _ = holds.wait_for(|calls| calls.is_empty() || !path.ends_with(calls)).await;
            next.run(request).await
        }
    });
    let routes = tonic::service::Routes::from(routes.routes().into_axum_router().layer(hold));
    let stop = tasks.token();
    tasks.spawn(TaskKind::Door, "peer door", async move {
        let server = tonic::transport::Server::builder().add_routes(routes);
        server.serve_with_incoming_shutdown(TcpListenerStream::new(peers), stop.cancelled_owned()).await.unwrap();
    });
    let routes = node::http::router(registry, settings, tasks.clone());
    tasks.spawn_fallible(
        TaskKind::Door,
        "http door",
        node::http::serve(doors, routes, settings, tasks.token(), tasks.clone()),
    );
    Node { door, peer, metadata, blobs, held, tasks }
}
