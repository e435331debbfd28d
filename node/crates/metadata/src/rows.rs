//! Rows of the replicated state as the rest of the house sees them (design §3). Their encoding is `state`'s business.

use bytes::Bytes;
use domain::{
    Blake3Root, Boot, ClusterId, CopyId, Digest, Durability, NodeId, Place, RegionId, RegionName, Revision, StoreId,
    Tag,
};

/// The cluster's own facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Cluster id.
    pub cluster: ClusterId,
    /// Incarnation, from 1.
    pub incarnation: u32,
    /// Format level in force.
    pub format_level: u32,
    /// Cluster time. Unit: milliseconds.
    pub cluster_time_ms: u64,
    /// Requests with `as_of` below are too old.
    pub horizon: Revision,
    /// Next region id to mint.
    pub next_region: u32,
    /// Next node id to mint.
    pub next_node: u64,
    /// Key of session MACs.
    pub mac_key: [u8; 32],
}

/// Life of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionState {
    /// Minted; its node catches up with the log.
    Joining,
    /// A voter that fetches what is missing.
    Backfilling,
    /// Counts for durability, is in DNS.
    Ready,
    /// On its way out.
    Leaving,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Id.
    pub id: RegionId,
    /// Name.
    pub name: RegionName,
    /// Where it stands.
    pub place: Place,
    /// Registry URL.
    pub public_url: String,
    /// State.
    pub state: RegionState,
    /// Takes no new responsibilities.
    pub cordoned: bool,
    /// Backfill position: everything up to and including this digest is held or has a wanted row. None = beginning.
    pub backfill_cursor: Option<Digest>,
    /// Blobs beyond the cursor still to be considered.
    pub backfill_blobs: u64,
    /// Their bytes.
    pub backfill_bytes: u64,
    /// Blobs considered when the backfill began, for progress.
    pub backfill_blobs_total: u64,
    /// Their bytes.
    pub backfill_bytes_total: u64,
    /// Rows in the region's wanted backlog.
    pub wanted_blobs: u64,
    /// Their bytes.
    pub wanted_bytes: u64,
    /// How far it is looked through for last copies, while it shall leave.
    pub departure: Option<Departure>,
}

impl Region {
    /// Whether its copies count for durability: not those of a region that shall leave.
    pub fn counts(&self) -> bool {
        self.state == RegionState::Ready && self.departure.is_none()
    }
}

/// A region that shall leave, and is looked through for last copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    /// First blob that is not judged yet: the region holds the last copy of no blob before it. None = the beginning.
    pub next: Option<Digest>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Id.
    pub id: NodeId,
    /// Its region.
    pub region: RegionId,
    /// `host:port` of its peer door.
    pub peer_address: String,
    /// Certificate fingerprint.
    pub certificate: Vec<u8>,
    /// Highest format level it has reported.
    pub format_level_max: u32,
    /// Removed from the cluster; the row stays so that the id is never reused.
    pub removed: bool,
}

/// A blob store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Id.
    pub id: StoreId,
    /// Its region.
    pub region: RegionId,
    /// The node that keeps it.
    pub node: NodeId,
    /// Boot of the keeper.
    pub boot: Boot,
    /// Open, or lost.
    pub open: bool,
}

/// A blob whose bytes were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Unit: bytes.
    pub size: u64,
    /// blake3 root.
    pub root: Blake3Root,
    /// Links with present = true.
    pub references: u64,
    /// Cluster time since when nothing refers to it; none while referenced. Unit: milliseconds.
    pub unreferenced_since_ms: Option<u64>,
}

/// A holder of a blob, as far as its store is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Store.
    pub store: StoreId,
    /// Its region.
    pub region: RegionId,
    /// Its node.
    pub node: NodeId,
    /// The copy.
    pub copy: CopyId,
}

/// A row of a region's backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The blob.
    pub digest: Digest,
    /// Unit: bytes.
    pub size: u64,
    /// Cluster time. Unit: milliseconds.
    pub since_ms: u64,
}

/// A copy to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// The blob it was.
    pub digest: Digest,
    /// The copy.
    pub copy: CopyId,
    /// Log index of the condemnation.
    pub index: Revision,
}

/// A blob's link into a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// False for what a sparse manifest named and nobody pushed.
    pub present: bool,
    /// Manifests of the repository that name it.
    pub references: u64,
    /// Cluster time since when no manifest names it. Unit: milliseconds.
    pub unreferenced_since_ms: Option<u64>,
}

/// A stored manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Media type.
    pub media_type: String,
    /// The exact bytes.
    pub body: Bytes,
    /// Subject.
    pub subject: Option<Digest>,
    /// Derived artifact type.
    pub artifact_type: Option<String>,
    /// Revision at which it was stored.
    pub revision: Revision,
    /// Wall time at the proposer. Unit: milliseconds since the Unix epoch.
    pub pushed_at_ms: u64,
    /// Who.
    pub actor: String,
    /// Where.
    pub region: RegionId,
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRow {
    /// What it names.
    pub digest: Digest,
    /// Log index of its last move.
    pub revision: Revision,
    /// Wall time. Unit: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub actor: String,
    /// Where.
    pub region: RegionId,
}

/// One entry of a tag's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagMove {
    /// Log index.
    pub revision: Revision,
    /// What it named from then on; none = deleted.
    pub digest: Option<Digest>,
    /// Wall time. Unit: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub actor: String,
    /// Where.
    pub region: RegionId,
}

/// A referrer of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The referring manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size. Unit: bytes.
    pub size: u64,
    /// Derived artifact type.
    pub artifact_type: Option<String>,
    /// Annotations in key order.
    pub annotations: Vec<(String, String)>,
}

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Durability.
    pub durability: Durability,
    /// Sparse manifests accepted.
    pub sparse: bool,
    /// Globs of tags that never move.
    pub immutable_tags: Vec<String>,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Revision at which it came to be.
    pub created: Revision,
    /// Manifests.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Links.
    pub links: u64,
}

/// Tags with their rows, a page.
pub type TagPage = Vec<(Tag, TagRow)>;
