//! The door of the room.

use std::time::Instant;

use blobs::handle::{ByteStream, Pin, PlacedBlob};
use domain::{ByteRange, Digest};
use metadata::rows;

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
    /// Copies found damaged since start.
    pub damaged: u64,
    /// Recent rate. Unit: bytes per second.
    pub rate: f64,
}

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    _private: (),
}

#[expect(unused_variables, clippy::unused_async, reason = "filled in by the replication room")]
impl Handle {
    /// Bytes of a blob: from the local copy, verified; else fetched through from the best holder while they stream.
    /// Damage found before the first byte switches to fetch-through; later damage aborts the body. Both heal the copy.
    pub async fn read(
        &self,
        digest: Digest,
        blob: rows::Blob,
        range: ByteRange,
    ) -> Result<ByteStream<FetchError>, FetchError> {
        unimplemented!()
    }
    /// Whether some open store holds the blob.
    pub fn has_holder(&self, digest: &Digest) -> Result<bool, FetchError> {
        unimplemented!()
    }
    /// Waits while these blobs are durable in fewer than `need` ready regions and bytes still arrive; true when met.
    pub async fn await_durable(&self, digests: &[Digest], need: u32, deadline: Instant) -> bool {
        unimplemented!()
    }
    /// Proposes a placed blob's possession in a batch (`Held`); the pin is kept until it is settled.
    pub async fn report_held(&self, placed: PlacedBlob, pin: Pin) {
        unimplemented!()
    }
    /// Numbers for status.
    pub fn progress(&self) -> Progress {
        unimplemented!()
    }
}
