//! What may be asked of the state: the commands of the log (design §3).
//!
//! A command carries every nondeterministic input; `apply` alone decides what becomes of it.

use bytes::Bytes;
use domain::{
    Blake3Root, Boot, ClusterId, CopyId, Digest, Durability, NodeId, Place, RegionId, RegionName, RepositoryName,
    RequestId, Revision, StoreId, Tag,
};

/// A command with what every entry of the log carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The same over all retries of one wish.
    pub request: RequestId,
    /// Applied index of the proposer when the wish was first proposed; unchanged over retries.
    pub as_of: Revision,
    /// Wall time at the proposer, for display only. Unit: milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// Who asked, for display; "anonymous" until the trust issue.
    pub actor: String,
    /// Region that accepted the wish; 0 when a node speaks for itself before it has one.
    pub region: RegionId,
    /// The wish.
    pub command: Command,
}

impl Command {
    /// Whether it keeps the cluster itself going, and is accepted while states differ without a majority: time passes,
    /// and nodes can be replaced.
    pub fn is_upkeep(&self) -> bool {
        match self {
            Command::Genesis { .. }
            | Command::Tick { .. }
            | Command::MintNode { .. }
            | Command::OpenStore { .. }
            | Command::SetRegionState { .. }
            | Command::SetNodeAddress { .. } => true,
            Command::RecordBlob { .. }
            | Command::Held { .. }
            | Command::Lost { .. }
            | Command::Deleted { .. }
            | Command::MountBlob { .. }
            | Command::UnlinkBlob { .. }
            | Command::PutManifest(_)
            | Command::DeleteManifest { .. }
            | Command::DeleteTag { .. }
            | Command::Collect { .. }
            | Command::AdvanceBackfill { .. }
            | Command::SetCordoned { .. }
            | Command::RemoveRegion { .. }
            | Command::AdvanceDeparture { .. }
            | Command::ForgetStore { .. }
            | Command::SetPolicy { .. } => false,
        }
    }
}

/// A store's claim: a node speaks for the bytes on its own disk, fenced by its boot (design §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreClaim {
    /// The store.
    pub store: StoreId,
    /// The node that speaks.
    pub node: NodeId,
    /// Boot of the process that speaks; must equal the store row's.
    pub boot: Boot,
}

/// A node as Genesis and MintNode introduce it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Region it serves.
    pub region: RegionName,
    /// Where the region stands.
    pub place: Place,
    /// The region's registry URL as clients reach it.
    pub public_url: String,
    /// `host:port` of the node's peer door.
    pub peer_address: String,
    /// Certificate fingerprint; empty until the trust issue.
    pub certificate: Vec<u8>,
}

/// What must hold of a tag before it is moved or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// `If-None-Match: *`: the tag (or the manifest, for a put by digest) must not exist.
    Absent,
    /// `If-Match: "<digest>"`: the tag must now name one of these.
    Matches(Vec<Digest>),
    /// `If-None-Match: "<digest>"`: the tag must name none of these now; it need not exist. Never an empty list, which
    /// asks for nothing.
    Differs(Vec<Digest>),
}

impl Precondition {
    /// Whether it holds of what is there now.
    pub fn holds(&self, current: Option<&Digest>) -> bool {
        match self {
            Precondition::Absent => current.is_none(),
            Precondition::Matches(digests) => current.is_some_and(|current| digests.contains(current)),
            Precondition::Differs(digests) => current.is_none_or(|current| !digests.contains(current)),
        }
    }
}

/// A child of a manifest as the door parsed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestChild {
    /// Its digest.
    pub digest: Digest,
    /// It needs no bytes (non-distributable layer).
    pub exempt: bool,
    /// Named by an index: a manifest or a blob; otherwise always a blob.
    pub may_be_manifest: bool,
}

/// A manifest to store, with all that `apply` needs of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutManifest {
    /// Repository.
    pub repository: RepositoryName,
    /// Digest of `body`, as the client named it or sha256.
    pub digest: Digest,
    /// Media type without parameters.
    pub media_type: String,
    /// The exact bytes, at most `limits::MANIFEST_BYTES_MAX`.
    pub body: Bytes,
    /// Distinct children, at most `limits::MANIFEST_CHILDREN_MAX`.
    pub children: Vec<ManifestChild>,
    /// The subject, if any.
    pub subject: Option<Digest>,
    /// Derived artifact type (design: `artifactType`, else the config's media type).
    pub artifact_type: Option<String>,
    /// Annotations in key order, for the referrers list; empty unless there is a subject.
    pub annotations: Vec<(String, String)>,
    /// Tags to move in the same entry.
    pub tags: Vec<Tag>,
    /// Applies to every named tag, or to the digest when none is named.
    pub precondition: Option<Precondition>,
}

/// One blob a node holds: digest and which copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldCopy {
    /// The blob.
    pub digest: Digest,
    /// The copy on that store.
    pub copy: CopyId,
}

/// Every wish the state knows. Ordinals of the log encoding stand in `docs/storage-format.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The first command of a cluster: ids, MAC key, first region and node, default policy. Anything before is refused.
    Genesis {
        /// New cluster id.
        cluster: ClusterId,
        /// Key of session MACs, random.
        mac_key: [u8; 32],
        /// First node; becomes node 1 of region 1, `ready`.
        node: NewNode,
        /// Durability of the policy row for prefix "".
        durability: Durability,
    },
    /// Advances cluster time and carries the state hash recorded at the previous tick.
    Tick {
        /// Monotonic time since the leader's last tick, capped by `apply`. Unit: milliseconds.
        elapsed_ms: u64,
        /// Index at which `hash` was recorded; 0 when the leader has none yet.
        hash_index: Revision,
        /// State hash at `hash_index`.
        hash: [u8; 32],
    },
    /// Introduces a node; a new region is created as `joining`. Answers `Minted`.
    MintNode {
        /// The node.
        node: NewNode,
        /// The node of that region it replaces, whose store is then lost.
        replace: Option<NodeId>,
    },
    /// A node announces its store at every start. Answers `StoreOpened` with the boot.
    OpenStore {
        /// The store.
        store: StoreId,
        /// The node.
        node: NodeId,
        /// Region of the node.
        region: RegionId,
        /// Highest format level this release understands.
        format_level_max: u32,
    },
    /// An upload is complete and durable in one store: blob, holder and link come to be; every other region wants it.
    RecordBlob {
        /// Repository that uploads.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
        /// Unit: bytes.
        size: u64,
        /// Root of its blake3 tree.
        root: Blake3Root,
        /// Who holds it.
        claim: StoreClaim,
        /// Which copy.
        copy: CopyId,
    },
    /// A node fetched blobs and holds them durably.
    Held {
        /// Who holds them.
        claim: StoreClaim,
        /// At most `limits::REPORT_DIGESTS_MAX`.
        copies: Vec<HeldCopy>,
    },
    /// A node found copies of its own gone or damaged: holder rows go, the region wants the blobs again.
    Lost {
        /// Who lost them.
        claim: StoreClaim,
        /// At most `limits::REPORT_DIGESTS_MAX`.
        copies: Vec<HeldCopy>,
    },
    /// Copies that condemned rows named are deleted: the rows go.
    Deleted {
        /// Who deleted them.
        claim: StoreClaim,
        /// At most `limits::REPORT_DIGESTS_MAX`.
        copies: Vec<HeldCopy>,
    },
    /// Links a known blob into a repository.
    MountBlob {
        /// Repository it must be linked in; any repository when none (anonymous mount).
        from: Option<RepositoryName>,
        /// Repository to link it in.
        to: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// DELETE of a blob: takes the link away, refused while a manifest there refers to it.
    UnlinkBlob {
        /// Repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// Stores a manifest and moves its tags, in one entry.
    PutManifest(Box<PutManifest>),
    /// Deletes a manifest and every tag that names it.
    DeleteManifest {
        /// Repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// Deletes a tag; the manifest stays.
    DeleteTag {
        /// Repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// What must hold of it.
        precondition: Option<Precondition>,
    },
    /// Judges links and blobs that a collector believes unreferenced past `grace_ms`; `apply` takes those that are.
    Collect {
        /// Grace. Unit: milliseconds of cluster time.
        grace_ms: u64,
        /// Links to judge.
        links: Vec<(RepositoryName, Digest)>,
        /// Blobs without links to judge.
        blobs: Vec<Digest>,
    },
    /// Extends the window of wanted rows of a backfilling region (ground.md §2). Compare-and-set on `from`.
    AdvanceBackfill {
        /// The region.
        region: RegionId,
        /// Cursor as the proposer saw it; none = the beginning.
        from: Option<Digest>,
    },
    /// A region changes its state, as the leader's reconciliation or a verb decides.
    SetRegionState {
        /// The region.
        region: RegionId,
        /// The new state.
        state: crate::rows::RegionState,
    },
    /// A cordoned region takes no new responsibilities.
    SetCordoned {
        /// The region.
        region: RegionId,
        /// New value.
        cordoned: bool,
    },
    /// A region shall leave. Forced, it is removed at once: its stores are lost, its node rows go. Otherwise a departure
    /// row comes to be, and `AdvanceDeparture` removes the region once no last copy was found in it.
    RemoveRegion {
        /// The region.
        region: RegionId,
        /// Give up last copies.
        force: bool,
    },
    /// Removes the rows of a lost or removed store, at most `limits::COMMAND_ROWS_MAX` at a time. The leader repeats it
    /// while `StoreForgotten { done: false }` is answered.
    ForgetStore {
        /// The store.
        store: StoreId,
    },
    /// Sets the policy of a prefix.
    SetPolicy {
        /// Prefix, `""` or whole components.
        prefix: String,
        /// Durability; unchanged when none.
        durability: Option<Durability>,
        /// `true` = sparse manifests accepted; unchanged when none.
        sparse: Option<bool>,
        /// Globs of tags that never move; unchanged when none.
        immutable_tags: Option<Vec<String>>,
    },
    /// A node changes where it is reached.
    SetNodeAddress {
        /// The node.
        node: NodeId,
        /// New `host:port`.
        peer_address: String,
    },
    /// Judges the next blobs of a departure; after the last one the region is removed. Where a last copy is found the
    /// departure ends and the region `Stays`. Compare-and-set on `from`.
    AdvanceDeparture {
        /// The region.
        region: RegionId,
        /// First blob that is not judged yet, as the proposer saw it; none = the beginning.
        from: Option<Digest>,
        /// Blobs to judge, at most `limits::DEPARTURE_BLOBS_MAX`.
        blobs: u32,
    },
}
