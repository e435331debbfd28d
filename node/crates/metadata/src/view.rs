//! One state, read: a snapshot of the rows at one revision.
//!
//! Cheap to make and to drop; never kept beyond a request or a page, for it pins pages of the state file. Methods are
//! synchronous: point reads take microseconds; pages and scans belong in `spawn_blocking`.

use domain::{Digest, NodeId, RegionId, RegionName, RepositoryName, Revision, StoreId, Tag};

use crate::rows;

/// How sure a view is of being the newest state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Confirmed by a quorum when the read began: negative answers may be given from it.
    Strict,
    /// Local state, asked for as such.
    Local,
    /// Local state, because a quorum could not be asked: answers carry the stale warning, no negative answer.
    Stale,
}

/// A view could not be read: damaged bytes or a failing disk.
#[derive(Clone, Debug, thiserror::Error)]
#[error("replicated state cannot be read: {detail}")]
pub struct Error {
    /// What happened.
    pub detail: String,
}

/// Reads of one state. Every method reads the same revision.
pub struct View {
    _private: (),
}

#[expect(unused_variables, reason = "filled in by the state room")]
impl View {
    /// The revision (applied log index) this view shows.
    pub fn revision(&self) -> Revision {
        unimplemented!()
    }
    /// How sure it is.
    pub fn freshness(&self) -> Freshness {
        unimplemented!()
    }
    /// Cluster facts; none before Genesis.
    pub fn meta(&self) -> Result<Option<rows::Meta>, Error> {
        unimplemented!()
    }
    /// The incrementally kept state hash.
    pub fn state_hash(&self) -> Result<[u8; 32], Error> {
        unimplemented!()
    }
    /// State hash recomputed from all rows (scrub, tests). Long: in `spawn_blocking`.
    pub fn recompute_hash(&self) -> Result<[u8; 32], Error> {
        unimplemented!()
    }
    /// A repository.
    pub fn repository(&self, repository: &RepositoryName) -> Result<Option<rows::Repository>, Error> {
        unimplemented!()
    }
    /// Repositories after `last` (exclusive, byte order), at most `limit`.
    pub fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, Error> {
        unimplemented!()
    }
    /// A tag.
    pub fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<rows::TagRow>, Error> {
        unimplemented!()
    }
    /// Tags after `last` (exclusive, byte order; any text), at most `limit`.
    pub fn tags(&self, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<rows::TagPage, Error> {
        unimplemented!()
    }
    /// A tag's newest moves, newest first.
    pub fn tag_history(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        limit: usize,
    ) -> Result<Vec<rows::TagMove>, Error> {
        unimplemented!()
    }
    /// A manifest.
    pub fn manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<rows::Manifest>, Error> {
        unimplemented!()
    }
    /// Referrers of a subject after `last` (exclusive), at most `limit`, filtered by artifact type. Empty when unknown.
    pub fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<rows::Referrer>, Error> {
        unimplemented!()
    }
    /// A link.
    pub fn link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<rows::Link>, Error> {
        unimplemented!()
    }
    /// A blob.
    pub fn blob(&self, digest: &Digest) -> Result<Option<rows::Blob>, Error> {
        unimplemented!()
    }
    /// Blobs after `last`, in key order, at most `limit`.
    pub fn blobs(&self, last: Option<&Digest>, limit: usize) -> Result<Vec<(Digest, rows::Blob)>, Error> {
        unimplemented!()
    }
    /// Holders of a blob whose stores are open.
    pub fn holders(&self, digest: &Digest) -> Result<Vec<rows::Holder>, Error> {
        unimplemented!()
    }
    /// The copy of a blob that a store holds.
    pub fn copy_in(&self, digest: &Digest, store: StoreId) -> Result<Option<domain::CopyId>, Error> {
        unimplemented!()
    }
    /// Digests and copies a store holds, after `last`, at most `limit`.
    pub fn held_by(
        &self,
        store: StoreId,
        last: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, domain::CopyId)>, Error> {
        unimplemented!()
    }
    /// Backlog rows of a region after `last`, at most `limit`.
    pub fn wanted(&self, region: RegionId, last: Option<&Digest>, limit: usize) -> Result<Vec<rows::Wanted>, Error> {
        unimplemented!()
    }
    /// Whether a region wants a blob.
    pub fn is_wanted(&self, region: RegionId, digest: &Digest) -> Result<bool, Error> {
        unimplemented!()
    }
    /// Copies a store is to delete, at most `limit`.
    pub fn condemned(&self, store: StoreId, limit: usize) -> Result<Vec<rows::Condemned>, Error> {
        unimplemented!()
    }
    /// All regions, by id.
    pub fn regions(&self) -> Result<Vec<rows::Region>, Error> {
        unimplemented!()
    }
    /// A region.
    pub fn region(&self, region: RegionId) -> Result<Option<rows::Region>, Error> {
        unimplemented!()
    }
    /// A region by name.
    pub fn region_named(&self, name: &RegionName) -> Result<Option<rows::Region>, Error> {
        unimplemented!()
    }
    /// All nodes, removed ones too, by id.
    pub fn nodes(&self) -> Result<Vec<rows::Node>, Error> {
        unimplemented!()
    }
    /// A node.
    pub fn node(&self, node: NodeId) -> Result<Option<rows::Node>, Error> {
        unimplemented!()
    }
    /// All stores, lost ones too.
    pub fn stores(&self) -> Result<Vec<rows::Store>, Error> {
        unimplemented!()
    }
    /// A store.
    pub fn store(&self, store: StoreId) -> Result<Option<rows::Store>, Error> {
        unimplemented!()
    }
    /// The policy in force for a repository: longest matching prefix, with that prefix.
    pub fn policy(&self, repository: &RepositoryName) -> Result<(String, rows::Policy), Error> {
        unimplemented!()
    }
    /// All policies by prefix.
    pub fn policies(&self) -> Result<Vec<(String, rows::Policy)>, Error> {
        unimplemented!()
    }
    /// Links and blobs unreferenced since before `before_ms` of cluster time, for the collector: at most `limit` of each.
    pub fn collectable(&self, before_ms: u64, limit: usize) -> Result<Collectable, Error> {
        unimplemented!()
    }
}

/// What a collector should ask `apply` to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collectable {
    /// Unreferenced links.
    pub links: Vec<(RepositoryName, Digest)>,
    /// Blobs without links.
    pub blobs: Vec<Digest>,
}
