//! The door of the room.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use domain::{NodeId, RegionName};
use metadata::handle::Agreement;
use runtime::{TaskKind, Tasks};

use crate::ended::Ended;
use crate::fault::{ReadFault, Unavailable};
use crate::manifest::Short;
use crate::pins::Pins;
use crate::session_id::Mint;
use crate::turns::Turns;
use crate::{pins, server};

/// How the room behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest wait for the durability of the blobs below a manifest (design §6).
    pub durability_wait_max: Duration,
    /// Longest wait for the owner of a session to answer at all (design §4).
    pub owner_wait_max: Duration,
    /// Grace of unreferenced links and blobs, as their collector has it: half of it decides what HEAD shows. Unit:
    /// milliseconds of cluster time.
    pub grace_ms: u64,
    /// Whether a manifest HEAD that cannot be proved is answered from local state, marked, or refused (design §5).
    pub serve_stale_head: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            durability_wait_max: Duration::from_mins(15),
            owner_wait_max: Duration::from_secs(2),
            grace_ms: domain::limits::GRACE_MS,
            serve_stale_head: true,
        }
    }
}

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    metadata: metadata::Handle,
    blobs: blobs::Handle,
    replication: replication::Handle,
    tasks: Tasks,
    requests: Tasks,
    mint: OnceLock<Mint>,
    pins: Pins,
    turns: Turns,
    ended: Ended,
    short_manifests: Short,
}

impl Handle {
    /// Opens the room and starts its worker, which lets go of pins that are settled. `tasks` owns the work of the room,
    /// `requests` that of the clients: once it ends no client waits for a quorum any more.
    pub fn start(
        config: Config,
        metadata: metadata::Handle,
        blobs: blobs::Handle,
        replication: replication::Handle,
        tasks: Tasks,
        requests: Tasks,
    ) -> Self {
        let inner = Inner {
            config,
            metadata,
            blobs,
            replication,
            tasks: tasks.clone(),
            requests,
            mint: OnceLock::new(),
            pins: Pins::default(),
            turns: Turns::default(),
            ended: Ended::default(),
            short_manifests: Short::default(),
        };
        let handle = Handle { inner: Arc::new(inner) };
        tasks.spawn(TaskKind::Worker, "pins", pins::run(handle.clone(), tasks.token()));
        handle
    }

    /// Adds the service by which other nodes pass on requests for sessions that live here.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder) {
        routes.add_service(server::service(self.clone()));
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.metadata().identity().node
    }

    /// This node's region.
    pub fn region(&self) -> &RegionName {
        &self.metadata().identity().region_name
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn metadata(&self) -> &metadata::Handle {
        &self.inner.metadata
    }

    pub(crate) fn blobs(&self) -> &blobs::Handle {
        &self.inner.blobs
    }

    pub(crate) fn replication(&self) -> &replication::Handle {
        &self.inner.replication
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.inner.pins
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    pub(crate) fn ended(&self) -> &Ended {
        &self.inner.ended
    }

    pub(crate) fn short_manifests(&self) -> &Short {
        &self.inner.short_manifests
    }

    /// Waits through a fail-over until a quorum is heard, but not beyond the end of this node's service to clients.
    pub(crate) async fn hear_quorum(&self) -> bool {
        let ended = self.inner.requests.token();
        tokio::select! {
            heard = self.metadata().hear_quorum() => heard,
            () = ended.cancelled() => self.metadata().quorum().heard,
        }
    }

    /// The facts of "not now", as they stand.
    pub(crate) fn here(&self, detail: &str) -> Unavailable {
        // A region whose state or own disk stands in the way says so in `detail`; it is no question of the network.
        let metadata = self.metadata();
        let stands_alone = metadata.agreement() != Agreement::Agrees || metadata.has_stopped();
        let cut_off = !metadata.quorum().heard && !stands_alone;
        Unavailable { region: self.region().clone(), cut_off, detail: detail.to_owned() }
    }

    /// Makes and verifies session ids. The key never changes after Genesis, so it is read once.
    pub(crate) fn mint(&self) -> Result<&Mint, ReadFault> {
        if let Some(mint) = self.inner.mint.get() {
            return Ok(mint);
        }
        let meta = self.metadata().local()?.meta()?;
        let meta = meta.ok_or_else(|| ReadFault::Unavailable(self.here("this region has no state yet")))?;
        Ok(self.inner.mint.get_or_init(|| Mint::new(&meta.mac_key)))
    }

    /// Runs a step to its end even when the client that asked for it goes away.
    pub(crate) async fn to_the_end<T, F>(&self, name: &'static str, step: F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (done, result) = tokio::sync::oneshot::channel();
        self.inner.tasks.spawn(TaskKind::Request, name, async move {
            // Nobody may be left to hear the answer, which is why this runs here.
            let _ = done.send(step.await);
        });
        result.await.ok()
    }
}
