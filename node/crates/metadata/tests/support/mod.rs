//! Nodes in one process, on real disks and real loopback connections.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod network;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use domain::{Durability, NodeId, Place, RegionName, StoreId};
use kv::ledger::Ledger;
use metadata::Handle;
use metadata::birth::{self, Config, Opened, Profile};
use metadata::command::NewNode;
use metadata::handle::Origin;
use runtime::{TaskKind, Tasks};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

/// Longest wait of a test for something that must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Longest stop of a node: none waits for a quiet leader's next entry, nor for a quorum that is gone.
const STOP: Duration = Duration::from_secs(20);

/// One node with its folder; stop and start it at will.
pub(crate) struct TestNode {
    pub(crate) address: SocketAddr,
    pub(crate) region: String,
    pub(crate) config: Config,
    running: Option<(Handle, Tasks)>,
}

pub(crate) fn origin() -> Origin {
    Origin { actor: "test".to_owned() }
}

fn new_node(region: &str, address: SocketAddr) -> NewNode {
    NewNode {
        region: RegionName::parse(region).unwrap(),
        place: Place::default(),
        public_url: format!("http://{region}.example.com"),
        peer_address: address.to_string(),
        certificate: Vec::new(),
    }
}

async fn bind(address: &str) -> TcpListener {
    let deadline = runtime::clock::now() + LIMIT;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if runtime::clock::now() > deadline => panic!("{address} cannot be bound: {error}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

impl TestNode {
    pub(crate) fn handle(&self) -> &Handle {
        &self.running.as_ref().expect("the node runs").0
    }

    fn config(folder: PathBuf, address: SocketAddr) -> Config {
        Config {
            data: folder,
            peer_address: address.to_string(),
            via: std::collections::BTreeMap::new(),
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

    fn store(&self) -> StoreId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&u64::from(self.address.port()).to_be_bytes());
        StoreId(id)
    }

    /// A folder and an address, nothing born yet.
    pub(crate) async fn unborn(root: &std::path::Path, region: &str) -> (Self, TcpListener) {
        let listener = bind("127.0.0.1:0").await;
        let address = listener.local_addr().unwrap();
        let folder = root.join(region);
        let config = Self::config(folder, address);
        (TestNode { address, region: region.to_owned(), config, running: None }, listener)
    }

    fn serve(&mut self, handle: Handle, tasks: Tasks, listener: TcpListener) {
        let mut routes = tonic::service::RoutesBuilder::default();
        handle.add_services(&mut routes);
        let stop = tasks.token();
        tasks.spawn(TaskKind::Door, "peer-door", async move {
            let server = tonic::transport::Server::builder().add_routes(routes.routes());
            let incoming = TcpListenerStream::new(listener);
            server.serve_with_incoming_shutdown(incoming, stop.cancelled()).await.unwrap();
        });
        self.running = Some((handle, tasks));
    }

    pub(crate) async fn init(&mut self, listener: TcpListener, durability: Durability) {
        let tasks = Tasks::new();
        let store = self.store();
        let node = new_node(&self.region, self.address);
        let format = Box::new(move |_| Ok(store));
        let handle = birth::init(self.config.clone(), node, durability, format, tasks.clone()).await.unwrap();
        self.serve(handle, tasks, listener);
    }

    pub(crate) async fn join(&mut self, listener: TcpListener, member: SocketAddr, replace: Option<NodeId>) {
        let tasks = Tasks::new();
        let store = self.store();
        let node = new_node(&self.region, self.address);
        let format = Box::new(move |_| Ok(store));
        let joining = birth::join(self.config.clone(), member.to_string(), node, replace, format, tasks.clone());
        let handle = joining.await.unwrap();
        self.serve(handle, tasks, listener);
    }

    /// Starts a born node again.
    pub(crate) async fn start(&mut self) {
        let listener = bind(&self.address.to_string()).await;
        let tasks = Tasks::new();
        // In one process the files of the stopped node are free once its last connection has ended.
        let deadline = runtime::clock::now() + LIMIT;
        let opened = loop {
            match birth::open(self.config.clone(), Some(self.store()), tasks.clone()).await {
                Ok(opened) => break opened,
                Err(error) if runtime::clock::now() > deadline => panic!("the node does not start: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let Opened::Member(handle) = opened else { panic!("the node was never born") };
        self.serve(handle, tasks, listener);
    }

    /// Stops the node; all its tasks have ended and its files are free when this returns.
    pub(crate) async fn stop(&mut self) {
        if let Some((handle, tasks)) = self.running.take() {
            handle.shutdown().await;
            tasks.cancel();
            drop(handle);
            assert!(tasks.drain(STOP).await, "every task ends");
            // The thread of the log ends a moment later, and connections of others may hold the state for another.
            for name in ["raft.redb", "state.redb"] {
                let path = self.config.data.join(name);
                until("the files are free", async || Ledger::open(&path, 1 << 20, &[]).is_ok()).await;
            }
        }
    }
}

/// `full` in a full run, `small` unless `LONGSHORE_TEST_SCALE` (percent) says otherwise.
pub(crate) fn scaled(small: u64, full: u64) -> u64 {
    let scale = std::env::var("LONGSHORE_TEST_SCALE").ok();
    let percent = scale.and_then(|value| value.trim_end_matches('%').parse::<u64>().ok()).unwrap_or(0);
    (full * percent.min(100) / 100).max(small)
}

/// A seed for this run, printed with the words that repeat it.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("LONGSHORE_TEST_SEED").ok().and_then(|value| value.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{test}: seed {seed}; repeat with LONGSHORE_TEST_SEED={seed}");
    seed
}

/// Polls until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = runtime::clock::now() + LIMIT;
    while !condition().await {
        assert!(runtime::clock::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A cluster of so many regions, all of them voters.
pub(crate) async fn cluster(root: &std::path::Path, regions: usize) -> Vec<TestNode> {
    cluster_with(root, regions, |_| {}).await
}

/// As [`cluster`], with settings of its own.
pub(crate) async fn cluster_with(root: &std::path::Path, regions: usize, set: impl Fn(&mut Config)) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for at in 0..regions {
        let (mut node, listener) = TestNode::unborn(root, &format!("r{}", at + 1)).await;
        set(&mut node.config);
        match nodes.first() {
            None => node.init(listener, Durability::Local).await,
            Some(first) => {
                let first: &TestNode = first;
                node.join(listener, first.address, None).await;
                until("the new node votes", async || node.handle().is_voter()).await;
            }
        }
        until("the node's store is open", async || node.handle().claim().is_some()).await;
        nodes.push(node);
    }
    nodes
}

/// The place of the leader among the nodes that run.
pub(crate) async fn leader(nodes: &[TestNode]) -> usize {
    let mut found = None;
    until("somebody leads", async || {
        found = nodes.iter().position(|node| {
            node.running.as_ref().is_some_and(|(handle, _)| {
                let quorum = handle.quorum();
                quorum.is_leader && quorum.heard
            })
        });
        found.is_some()
    })
    .await;
    found.expect("found above")
}
