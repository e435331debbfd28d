//! The door of the room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use blobs::handle::{ByteStream, Pin, PlacedBlob};
use domain::{ByteRange, Digest, NodeId, RegionId};
use metadata::command::HeldCopy;
use metadata::rows;
use runtime::{TaskKind, Tasks};
use tracing::warn;

use crate::config::Config;
use crate::core::{Core, lock};
use crate::{backfill, collector, condemned, doubt, durable, inventory, reader, server, worker};

/// Why a blob's bytes cannot be served now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// No open store holds it: GET 503, HEAD 404, mount 202 (design §4).
    #[error("blob `{digest}` has no holder")]
    NoHolder {
        /// The blob.
        digest: Digest,
    },
    /// Holders exist, none can be reached now: 503 with Retry-After.
    #[error("blob `{digest}` has no reachable holder: {detail}")]
    Unreachable {
        /// The blob.
        digest: Digest,
        /// Who was tried and what they said.
        detail: String,
    },
    /// Our own disk or state failed, or it is full.
    #[error("blob `{digest}` cannot be read: {detail}")]
    Local {
        /// The blob.
        digest: Digest,
        /// What happened.
        detail: String,
    },
}

/// A region's replication, for status and metrics.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Fetches running.
    pub fetches: u64,
    /// Bytes fetched since start.
    pub fetched_bytes: u64,
    /// Blobs fetched since start.
    pub fetched_blobs: u64,
    /// Fetches that failed since start.
    pub failures: u64,
    /// Copies found damaged or missing since start.
    pub damaged: u64,
    /// Recent rate. Unit: bytes per second.
    pub rate: f64,
    /// Bytes received from each node since start.
    pub sources: Vec<(NodeId, u64)>,
    /// So many copies are missing or bad at once that no more are given up before the operator confirms it: more likely
    /// the store's disk fails or is not mounted.
    pub confirm_loss: bool,
}

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
}

impl Handle {
    /// Starts the room: transfers, reports, backfill, deletion of condemned copies, collection.
    pub fn start(config: Config, metadata: metadata::Handle, blobs: blobs::Handle, tasks: Tasks) -> Handle {
        let core = Core::new(config, Arc::new(metadata.clone()), blobs, tasks.clone());
        tasks.spawn(TaskKind::Worker, "backlog", worker::run(core.clone()));
        tasks.spawn(TaskKind::Worker, "backfill", backfill::run(metadata.clone(), tasks.clone()));
        tasks.spawn(TaskKind::Worker, "condemned", condemned::run(core.clone(), metadata.clone()));
        tasks.spawn(TaskKind::Worker, "collector", collector::run(core.clone(), metadata.clone()));
        tasks.spawn(TaskKind::Worker, "doubts", doubt::run(core.clone()));
        tasks.spawn(TaskKind::Worker, "inventory", inventory::run(core.clone(), metadata));
        Handle { core }
    }

    /// Adds this room's gRPC service to a node's peer door.
    pub fn add_services(&self, routes: &mut tonic::service::RoutesBuilder) {
        routes.add_service(server::service(self.core.clone()));
    }

    /// Bytes of a blob: from the local copy, verified; else fetched through from the best holder while they stream.
    /// Damage found before the first byte switches to fetch-through; later damage aborts the body. Both heal the copy.
    pub async fn read(
        &self,
        digest: Digest,
        blob: rows::Blob,
        range: ByteRange,
    ) -> Result<ByteStream<FetchError>, FetchError> {
        reader::read(&self.core, digest, blob, range).await
    }

    /// Whether some open store holds the blob.
    pub fn has_holder(&self, digest: &Digest) -> Result<bool, FetchError> {
        let (facts, _) = self.core.facts(digest)?;
        Ok(facts.copy_here.is_some() || !facts.holders.is_empty())
    }

    /// Waits while these blobs are durable in fewer than `need` ready regions and bytes still arrive; true when met. With
    /// `only`, that region must hold them too, unless it is not ready.
    pub async fn await_durable(
        &self,
        digests: &[Digest],
        need: u32,
        only: Option<RegionId>,
        deadline: Instant,
    ) -> bool {
        durable::wait(&self.core, digests, need, only, deadline).await
    }

    /// Proposes a placed blob's possession in a batch (`Held`); the pin is kept until it is settled.
    pub async fn report_held(&self, placed: PlacedBlob, pin: Pin) {
        let PlacedBlob { digest, copy, size: _, root: _ } = placed;
        self.core.reporter.held_later(HeldCopy { digest, copy }, pin).await;
    }

    /// Compares this node's disk with its rows, in the background. With `confirm_loss`, the operator's word, whatever is
    /// missing or bad now or within the next hour is given up, however much it is, and fetched again from other regions.
    pub fn compare(&self, confirm_loss: bool) {
        if confirm_loss {
            warn!("the operator confirms: copies that are missing or bad are lost");
            self.core.confirm_loss();
        }
        self.core.compare.notify_one();
    }

    /// Numbers for status.
    pub fn progress(&self) -> Progress {
        let counters = &self.core.counters;
        Progress {
            fetches: counters.running.load(Ordering::Relaxed),
            fetched_bytes: counters.fetched_bytes.load(Ordering::Relaxed),
            fetched_blobs: counters.fetched_blobs.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            damaged: counters.damaged.load(Ordering::Relaxed),
            rate: f64::from_bits(counters.rate_bits.load(Ordering::Relaxed)),
            sources: self.core.sources().into_iter().map(|(node, source)| (node, source.bytes)).collect(),
            confirm_loss: lock(&self.core.health).losses.is_stopped(),
        }
    }
}
