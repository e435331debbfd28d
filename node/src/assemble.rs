//! The wiring: opens the rooms in order, moves a node from unjoined to member, and knows nothing of what rooms do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use domain::{ClusterId, Durability, NodeId};
use metadata::birth;
use metadata::command::NewNode;
use runtime::{TaskKind, Tasks};
use tokio::sync::{Mutex, Semaphore};

use crate::config::value::Count;
use crate::config::{Config, Profile, StaleHead};
use crate::grpc::{AdminService, Switch};
use crate::http;
use crate::phase::{Phase, PhaseCell};
use crate::rooms::Rooms;
use crate::telemetry::{Identity, Metrics};

/// A node: its settings, its rooms once they are open, and what its two doors lead to.
pub struct House {
    config: Config,
    tasks: Tasks,
    requests: Tasks,
    phase: PhaseCell,
    identity: Identity,
    metrics: Metrics,
    /// Routes of the peer door.
    pub peers: Switch,
    /// Routes of the registry's door beside health and metrics.
    pub registry: Switch,
    started: Instant,
    /// Held while the node is born, so that two verbs cannot do it at once.
    birth: Mutex<()>,
}

impl House {
    /// An empty house; nothing is opened yet.
    ///
    /// `tasks` owns the work of the rooms, `requests` that of the clients, which ends first.
    pub fn new(config: Config, tasks: Tasks, requests: Tasks, identity: Identity) -> Arc<Self> {
        let phase = PhaseCell::default();
        let registry = Switch::new(http::closed(http_settings(&config), requests.clone(), http::NO_ROOMS));
        let house = Arc::new(House {
            config,
            tasks,
            requests,
            metrics: Metrics::new(phase.clone()),
            phase,
            identity,
            peers: Switch::new(Router::new()),
            registry,
            started: runtime::clock::now(),
            birth: Mutex::new(()),
        });
        house.peers.set(house.admin_routes());
        house
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Limits of the registry's door.
    pub fn http_settings(&self) -> http::Settings {
        http_settings(&self.config)
    }

    /// Where the node stands.
    pub fn phase(&self) -> &PhaseCell {
        &self.phase
    }

    /// The node's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The profile as written.
    pub fn profile_name(&self) -> &'static str {
        match self.config.raft.profile {
            Profile::Lan => "lan",
            Profile::Wan => "wan",
        }
    }

    /// Since when the process runs. Unit: milliseconds.
    pub fn uptime_ms(&self) -> u64 {
        let elapsed = runtime::clock::now().saturating_duration_since(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// Opens the rooms of a member, or waits for `init` or `join` when there is no identity.
    pub async fn open(self: &Arc<Self>) -> Result<(), birth::Error> {
        let _once = self.birth.lock().await;
        if self.phase.get().rooms().is_some() {
            // The doors are open already, and an operator was faster.
            return Ok(());
        }
        self.phase.set(Phase::Starting);
        let store = blobs::identify(&self.config.blobs_directory());
        let store = store.map_err(|error| birth::Error::Storage { detail: error.to_string() })?.map(|(id, _)| id);
        match birth::open(self.birth_config(), store, self.tasks.clone()).await? {
            birth::Opened::Unjoined => {
                self.phase.set(Phase::Unjoined);
                tracing::info!(peer = %self.config.peer.listen, "node belongs to no cluster yet, waiting for init or join");
                Ok(())
            }
            birth::Opened::Member(handle) => self.move_in(handle).await,
        }
    }

    /// Makes this node the first of a new cluster.
    pub async fn init(self: &Arc<Self>, node: NewNode, durability: Durability) -> Result<(), birth::Error> {
        let _once = self.birth.lock().await;
        self.refuse_member()?;
        self.phase.set(Phase::Starting);
        let born = birth::init(self.birth_config(), node, durability, self.format_store(), self.tasks.clone()).await;
        self.settle(born).await
    }

    /// Makes this node a member of the cluster of `member`.
    pub async fn join(
        self: &Arc<Self>,
        member: String,
        node: NewNode,
        replace: Option<NodeId>,
    ) -> Result<(), birth::Error> {
        let _once = self.birth.lock().await;
        self.refuse_member()?;
        self.phase.set(Phase::Starting);
        let config = self.birth_config();
        let born = birth::join(config, member, node, replace, self.format_store(), self.tasks.clone()).await;
        self.settle(born).await
    }

    /// Hands leadership on, so that writes of the others pause for less than an election.
    pub async fn hand_over(&self, limit: Duration) {
        let Some(rooms) = self.phase.get().rooms().filter(|rooms| rooms.metadata.quorum().is_leader) else { return };
        match tokio::time::timeout(limit, rooms.metadata.transfer_leadership(None)).await {
            Ok(Ok(_)) => tracing::info!("leadership was handed on"),
            // An election does it then.
            Ok(Err(error)) => tracing::debug!(%error, "leadership could not be handed on"),
            Err(_) => tracing::debug!("leadership was not handed on in time"),
        }
    }

    /// Ends Raft after a durable commit; requests were drained before.
    pub async fn close(&self, limit: Duration) {
        let Some(rooms) = self.phase.get().rooms() else { return };
        if tokio::time::timeout(limit, rooms.metadata.shutdown()).await.is_err() {
            tracing::warn!("the metadata did not end in time; the next start replays its log");
        }
    }

    fn refuse_member(&self) -> Result<(), birth::Error> {
        match self.phase.get().rooms() {
            Some(rooms) => {
                let identity = rooms.metadata.identity();
                Err(birth::Error::AlreadyMember { cluster: identity.cluster, node: identity.node })
            }
            None => Ok(()),
        }
    }

    async fn settle(self: &Arc<Self>, born: Result<metadata::Handle, birth::Error>) -> Result<(), birth::Error> {
        let moved = match born {
            Ok(handle) => {
                let moved = self.move_in(handle).await;
                if moved.is_err() {
                    // Born, but without its rooms: the node stops, and the next start says what is wrong.
                    self.tasks.fail();
                }
                moved
            }
            Err(error) => Err(error),
        };
        if moved.is_err() {
            self.phase.set(Phase::Unjoined);
        }
        moved
    }

    /// Opens the rooms above metadata, floor by floor, and switches both doors to them.
    async fn move_in(self: &Arc<Self>, metadata: metadata::Handle) -> Result<(), birth::Error> {
        let identity = metadata.identity().clone();
        self.identity.set(identity.region_name.as_str(), identity.node.0);
        let opened = blobs::Handle::open(self.blobs_config(identity.cluster), self.tasks.clone()).await;
        let blobs = opened.map_err(|error| birth::Error::Storage { detail: error.to_string() })?;
        let replication =
            replication::Handle::start(self.replication_config(), metadata.clone(), blobs.clone(), self.tasks.clone());
        let registry = registry::Handle::start(
            self.registry_config(),
            metadata.clone(),
            blobs.clone(),
            replication.clone(),
            self.tasks.clone(),
            self.requests.clone(),
        );
        let mut routes = tonic::service::Routes::builder();
        metadata.add_services(&mut routes);
        replication.add_services(&mut routes);
        registry.add_services(&mut routes);
        routes.add_service(AdminService::new(Arc::clone(self)).into_server());
        self.peers.set(routes.routes().into_axum_router());
        self.registry.set(http::router(registry.clone(), self.http_settings(), self.requests.clone()));
        self.tasks.spawn(TaskKind::Worker, "removal", Arc::clone(self).close_when_removed(metadata.clone()));
        self.phase.set(Phase::Member(Arc::new(Rooms { metadata, blobs, replication, registry })));
        tracing::info!(cluster = %identity.cluster, url = self.config.public_url(), "node is a member");
        Ok(())
    }

    /// A node that was taken out of the cluster serves no clients: what it holds will never be news again.
    async fn close_when_removed(self: Arc<Self>, metadata: metadata::Handle) {
        let token = self.tasks.token();
        let removal = tokio::select! {
            removal = metadata.removed() => removal,
            () = token.cancelled() => return,
        };
        let why = removal.sentence(metadata.identity().node);
        tracing::warn!(reason = %why, "the registry is closed");
        self.registry.set(http::closed(self.http_settings(), self.requests.clone(), &why));
    }

    fn admin_routes(self: &Arc<Self>) -> Router {
        let admin = AdminService::new(Arc::clone(self)).into_server();
        tonic::service::Routes::new(admin).into_axum_router()
    }

    fn format_store(&self) -> birth::FormatStore {
        let root = self.config.blobs_directory();
        Box::new(move |cluster| blobs::format(&root, cluster, false).map_err(|error| error.to_string()))
    }

    fn blobs_config(&self, cluster: ClusterId) -> blobs::Config {
        let storage = &self.config.storage;
        let mut config = blobs::Config::new(self.config.blobs_directory(), cluster, storage.data.join("index"));
        config.index_cache_bytes = storage.index_cache_bytes.0;
        if let Some(reserve) = storage.reserve_bytes {
            config.reserve = blobs::Reserve::Bytes(reserve.0);
        }
        config
    }

    fn replication_config(&self) -> replication::Config {
        let Config { raft, replication, gc, upload, .. } = &self.config;
        let base = match raft.profile {
            Profile::Lan => replication::Config::default(),
            Profile::Wan => replication::Config::wan(),
        };
        replication::Config {
            fetches_max: usize::try_from(replication.fetches_max.0).unwrap_or(usize::MAX),
            bandwidth: replication.bandwidth.map(|rate| rate.0),
            grace_ms: gc.grace.as_ms(),
            upload_expiry_ms: upload.expiry.as_ms(),
            ..base
        }
    }

    fn registry_config(&self) -> registry::Config {
        let Config { reads, writes, gc, .. } = &self.config;
        registry::Config {
            durability_wait_max: Duration::from_millis(writes.durability_wait_ms_max.0),
            grace_ms: gc.grace.as_ms(),
            serve_stale_head: reads.stale_head == StaleHead::Serve,
            ..registry::Config::default()
        }
    }

    fn birth_config(&self) -> birth::Config {
        let Config { peer, storage, raft, reads, .. } = &self.config;
        birth::Config {
            data: storage.data.clone(),
            peer_address: self.config.peer_address(),
            via: peer.via.0.clone(),
            profile: match raft.profile {
                Profile::Lan => birth::Profile::Lan,
                Profile::Wan => birth::Profile::Wan,
            },
            strict_wait_ms_max: reads.strict_wait_ms_max.map(|wait| wait.0),
            failover_wait_ms_max: reads.failover_wait_ms_max.map(|wait| wait.0),
            log_cache_bytes: usize::try_from(raft.log_cache_bytes.0).unwrap_or(usize::MAX),
            state_cache_bytes: usize::try_from(raft.state_cache_bytes.0).unwrap_or(usize::MAX),
            log_entries_kept: raft.log_entries_kept.0,
            snapshot_every: raft.snapshot_every.0,
            log_bytes_max: raft.log_bytes_max.0,
            insecure: peer.insecure,
        }
    }
}

fn http_settings(config: &Config) -> http::Settings {
    let places = |count: Count| usize::try_from(count.0).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let http = &config.http;
    http::Settings {
        connections_max: places(http.connections_max),
        requests_max: places(http.requests_max),
        manifest_bytes_max: places(Count(http.manifests_bytes_max.0)),
        body_idle_max: Duration::from_millis(http.body_idle_ms_max.0),
        write_stall_max: Duration::from_millis(http.write_stall_ms_max.0),
        chunk_bytes_min: config.upload.chunk_bytes_min.map(|size| size.0),
    }
}

#[cfg(test)]
mod tests {
    use domain::RegionName;

    use super::*;

    #[tokio::test]
    async fn a_birth_before_the_node_has_looked_at_its_disk_is_a_birth() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[peer]\nlisten = \"127.0.0.1:1\"\n[storage]\ndata = \"{}\"",
            directory.path().join("data").display()
        );
        let config = Config::parse("node.toml", &text, &[], false, false).expect("a configuration").config;
        let tasks = Tasks::new();
        let house = House::new(config, tasks.clone(), Tasks::new(), Identity::default());
        let node = NewNode {
            region: RegionName::parse("paris").expect("valid"),
            place: Default::default(),
            public_url: "http://127.0.0.1".to_owned(),
            peer_address: "127.0.0.1:1".to_owned(),
            certificate: Vec::new(),
        };
        house.init(node, Durability::Majority).await.expect("the first of a cluster");
        house.open().await.expect("nothing is left to open");
        assert!(house.phase().get().rooms().is_some());
        house.close(Duration::from_secs(10)).await;
    }

    #[test]
    fn the_door_has_the_limits_of_the_configuration() {
        let parse = |text: &str| Config::parse("node.toml", text, &[], false, false).expect("a configuration").config;
        assert_eq!(http_settings(&parse("")), http::Settings::default());
        let set = "[http]\nconnections_max = 7\nrequests_max = 5\nmanifests_bytes_max = \"4MiB\"\n\
                   body_idle_ms_max = \"2s\"\nwrite_stall_ms_max = 3000\n[upload]\nchunk_bytes_min = \"5MiB\"";
        let expected = http::Settings {
            connections_max: 7,
            requests_max: 5,
            manifest_bytes_max: 4 << 20,
            body_idle_max: Duration::from_secs(2),
            write_stall_max: Duration::from_secs(3),
            chunk_bytes_min: Some(5 << 20),
        };
        assert_eq!(http_settings(&parse(set)), expected);
    }
}
