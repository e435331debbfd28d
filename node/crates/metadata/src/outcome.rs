//! What `apply` decided.

use domain::{Boot, Digest, NodeId, RegionId, Revision};

/// The outcome of a command, recorded under its request id, refusals too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the log index is the revision.
    Done,
    /// The node and region minted.
    Minted {
        /// Node id.
        node: NodeId,
        /// Region id.
        region: RegionId,
    },
    /// The store is open under this boot.
    StoreOpened {
        /// Fence of this process's claims.
        boot: Boot,
    },
    /// Manifest stored. `revision` is that of the last move of its tags: the entry's own index, or the older one where
    /// nothing changed (the same digest put again).
    ManifestPut {
        /// Revision the tags (or the manifest) have now.
        revision: Revision,
    },
    /// Rows removed by one step of `ForgetStore`; repeat until done.
    StoreForgotten {
        /// Nothing is left.
        done: bool,
    },
    /// Refused, with nothing changed but the record of this outcome.
    Refused(Refusal),
    /// A departure ended and its region stays: why.
    Stays(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The cluster has no Genesis yet, or has one already.
    #[error("the cluster is not in the state this command needs: {detail}")]
    Lifecycle {
        /// What is wrong.
        detail: String,
    },
    /// `as_of` lies below the request horizon; it certainly was not applied under this entry, propose anew.
    #[error("the command is older than the request horizon")]
    TooOld,
    /// Repository unknown.
    #[error("repository is not known")]
    UnknownRepository,
    /// Manifest or tag unknown.
    #[error("manifest or tag is not known")]
    UnknownManifest,
    /// Children or blobs that are not known in the repository.
    #[error("{} digests are not known in the repository", digests.len())]
    Unknown {
        /// All of them.
        digests: Vec<Digest>,
    },
    /// Blobs below the manifest are durable in too few regions; wait and propose again under a new request id.
    #[error("{} blobs are not yet durable in {need} regions", digests.len())]
    NotYetDurable {
        /// Those blobs.
        digests: Vec<Digest>,
        /// Copies of the least durable one.
        have: u32,
        /// Copies needed.
        need: u32,
    },
    /// A precondition does not hold.
    #[error("precondition does not hold")]
    Precondition {
        /// What the first offending tag names now.
        current: Option<Digest>,
    },
    /// A policy forbids the tag to move.
    #[error("tag `{tag}` is immutable by the policy of `{prefix}`")]
    Immutable {
        /// The tag.
        tag: String,
        /// The policy's prefix.
        prefix: String,
    },
    /// The blob is referenced by manifests of the repository.
    #[error("blob is referenced by a manifest of the repository")]
    Referenced,
    /// The claim's boot is not the store's: an older process, or a store that was closed.
    #[error("the store was opened again since, or is not open")]
    Fenced,
    /// Leaving would give up the last copies of these blobs (at most 100 named).
    #[error("the region holds the last copy of {count} blobs")]
    LastCopies {
        /// How many there are.
        count: u64,
        /// Their bytes.
        bytes: u64,
        /// Some of them.
        digests: Vec<Digest>,
    },
    /// Something named by the command does not exist or does not fit.
    #[error("{detail}")]
    Invalid {
        /// What.
        detail: String,
    },
}
