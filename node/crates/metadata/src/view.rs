//! One state, read: a snapshot of the rows at one revision.
//!
//! Cheap to make and to drop; never kept beyond a request or a page, for it pins pages of the state file. Methods are
//! synchronous: point reads take microseconds; pages and scans belong in `spawn_blocking`.

use std::ops::Bound;

use domain::{Digest, NodeId, RegionId, RegionName, RepositoryName, Revision, StoreId, Tag};
use kv::ledger::{Entry, Snapshot, prefix_end};

use crate::rows;
use crate::state;
use crate::state::content::{CondemnedRow, HeldRow, MoveRow, ReferrerRow, WantedRow};
use crate::state::hash::{self, Sum};
use crate::state::places::{HashRow, NodeRow, RegionCounters, RegionRow, StoreRow};
use crate::state::read::{Direction, Read, bad, decode, parts};
use crate::state::space::{self, Key, Space};

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

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        Error { detail: error.to_string() }
    }
}

impl From<kv::ledger::Error> for Error {
    fn from(error: kv::ledger::Error) -> Self {
        Error { detail: error.to_string() }
    }
}

/// Reads of one state. Every method reads the same revision.
pub struct View {
    rows: Snapshot,
    revision: Revision,
    freshness: Freshness,
}

impl View {
    /// A view of the rows as they are. `revision` is the log index they reflect, which the shell decodes from
    /// [`View::last_applied`] of the same snapshot.
    pub fn new(rows: Snapshot, revision: Revision, freshness: Freshness) -> Self {
        View { rows, revision, freshness }
    }

    /// Log id last applied, as the shell encoded it; none in an empty state.
    pub fn last_applied(rows: &Snapshot) -> Result<Option<Vec<u8>>, Error> {
        Ok(rows.value(&space::single(Space::LastApplied))?)
    }

    /// Raft membership, as the shell encoded it.
    pub fn membership(rows: &Snapshot) -> Result<Option<Vec<u8>>, Error> {
        Ok(rows.value(&space::single(Space::Membership))?)
    }

    /// Index and state hash recorded at the last tick, for the next tick to carry.
    pub fn recorded_hash(&self) -> Result<Option<(Revision, [u8; 32])>, Error> {
        Ok(self.recorded_hashes()?.pop())
    }

    /// Indexes and state hashes recorded at the last ticks, oldest first.
    pub fn recorded_hashes(&self) -> Result<Vec<(Revision, [u8; 32])>, Error> {
        let row: Option<HashRow> = self.rows.row(&space::single(Space::Hash))?;
        Ok(row.unwrap_or_default().recorded)
    }

    fn list<T>(
        &self,
        prefix: &[u8],
        last: Option<Vec<u8>>,
        limit: usize,
        one: impl Fn(&[u8], &[u8]) -> Result<T, state::Error>,
    ) -> Result<Vec<T>, Error> {
        let entries = self.rows.under(prefix, last.as_deref(), limit)?;
        entries.iter().map(|(key, value)| one(key, value)).collect::<Result<_, _>>().map_err(Error::from)
    }

    fn idle<T>(
        &self,
        prefix: &[u8],
        before: &[u8],
        limit: usize,
        one: impl Fn(&[u8]) -> Result<T, state::Error>,
    ) -> Result<Vec<T>, Error> {
        let upper = [prefix, before].concat();
        let entries = self.rows.entries(Bound::Included(prefix), Bound::Excluded(&upper), Direction::Up, limit)?;
        entries.iter().map(|(key, _)| one(key)).collect::<Result<_, _>>().map_err(Error::from)
    }

    /// The revision (applied log index) this view shows.
    pub fn revision(&self) -> Revision {
        self.revision
    }
    /// How sure it is.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }
    /// Cluster facts; none before Genesis.
    pub fn meta(&self) -> Result<Option<rows::Meta>, Error> {
        Ok(self.rows.meta()?)
    }
    /// The incrementally kept state hash.
    pub fn state_hash(&self) -> Result<[u8; 32], Error> {
        let row: Option<HashRow> = self.rows.row(&space::single(Space::Hash))?;
        Ok(row.unwrap_or_default().hash)
    }
    /// State hash recomputed from all rows (scrub, tests). Long: in `spawn_blocking`.
    pub fn recompute_hash(&self) -> Result<[u8; 32], Error> {
        let mut sum = Sum::default();
        for item in self.rows.scan_all(state::TABLE)? {
            let (key, value) = item?;
            if hash::is_hashed(&key) {
                sum.add(hash::row(&key, &value));
            }
        }
        Ok(sum.to_bytes())
    }
    /// A repository.
    pub fn repository(&self, repository: &RepositoryName) -> Result<Option<rows::Repository>, Error> {
        Ok(self.rows.repository(repository)?)
    }
    /// Repositories after `last` (exclusive, byte order), at most `limit`.
    pub fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, Error> {
        let prefix = space::single(Space::Repositories);
        // Names end with 0x00, so the key of `last` itself is skipped and longer names stay.
        let last = last.map(|last| Key::of(Space::Repositories).raw(last.as_bytes()).raw(&[0]).done());
        self.list(&prefix, last, limit, |key, _| parts(key, 1)?.repository().map_err(bad(key)))
    }
    /// A tag.
    pub fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<rows::TagRow>, Error> {
        Ok(self.rows.tag(repository, tag)?)
    }
    /// Tags after `last` (exclusive, byte order; any text), at most `limit`.
    pub fn tags(&self, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<rows::TagPage, Error> {
        let prefix = Key::of(Space::Tags).repository(repository).done();
        let last = last.map(|last| [&prefix[..], last.as_bytes()].concat());
        self.list(&prefix, last, limit, |key, value| {
            Ok((parts(key, prefix.len())?.tag().map_err(bad(key))?, decode(key, value)?))
        })
    }
    /// A tag's newest moves, newest first.
    pub fn tag_history(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        limit: usize,
    ) -> Result<Vec<rows::TagMove>, Error> {
        let prefix = space::history_of(repository, tag);
        let end = prefix_end(&prefix);
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.rows.entries(Bound::Included(&prefix), upper, Direction::Down, limit)?;
        let one = |(key, value): &Entry| {
            let revision = Revision(parts(key, prefix.len())?.u64().map_err(bad(key))?);
            Ok(decode::<MoveRow>(key, value)?.into_move(revision))
        };
        entries.iter().map(one).collect::<Result<_, state::Error>>().map_err(Error::from)
    }
    /// A manifest.
    pub fn manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<rows::Manifest>, Error> {
        Ok(self.rows.manifest(repository, digest)?.map(|row| row.manifest))
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
        let prefix = space::referrers_of(repository, subject);
        let end = prefix_end(&prefix);
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let after = last.map(|last| space::referrer(repository, subject, last));
        let lower = after.as_deref().map_or(Bound::Included(&prefix[..]), Bound::Excluded);
        let mut found = Vec::new();
        // Filtered while walking, so that a page holds `limit` matching rows however rare they are.
        for item in self.rows.scan(state::TABLE, (lower, upper))? {
            if found.len() >= limit {
                break;
            }
            let (key, value) = item?;
            let row: ReferrerRow = decode(&key, &value)?;
            if artifact_type.is_none_or(|wanted| row.artifact_type.as_deref() == Some(wanted)) {
                found.push(row.into_referrer(parts(&key, prefix.len())?.digest().map_err(bad(&key))?));
            }
        }
        Ok(found)
    }
    /// A link.
    pub fn link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<rows::Link>, Error> {
        Ok(self.rows.link(repository, digest)?)
    }
    /// Links of a repository after `last`, those that nobody pushed too; at most `limit`.
    pub fn links(
        &self,
        repository: &RepositoryName,
        last: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, rows::Link)>, Error> {
        let prefix = Key::of(Space::Links).repository(repository).done();
        let last = last.map(|digest| space::link(repository, digest));
        self.list(&prefix, last, limit, |key, value| {
            Ok((parts(key, prefix.len())?.digest().map_err(bad(key))?, decode(key, value)?))
        })
    }
    /// A blob.
    pub fn blob(&self, digest: &Digest) -> Result<Option<rows::Blob>, Error> {
        Ok(self.rows.blob(digest)?)
    }
    /// Blobs after `last`, in key order, at most `limit`.
    pub fn blobs(&self, last: Option<&Digest>, limit: usize) -> Result<Vec<(Digest, rows::Blob)>, Error> {
        Ok(self.rows.blob_rows(last, limit)?)
    }
    /// Holders of a blob whose stores are open.
    pub fn holders(&self, digest: &Digest) -> Result<Vec<rows::Holder>, Error> {
        Ok(self.rows.holders(digest)?)
    }
    /// The copy of a blob that a store holds.
    pub fn copy_in(&self, digest: &Digest, store: StoreId) -> Result<Option<domain::CopyId>, Error> {
        Ok(self.rows.held_copy(digest, store)?.map(|row| row.copy))
    }
    /// Digests and copies a store holds, after `last`, at most `limit`.
    pub fn held_by(
        &self,
        store: StoreId,
        last: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, domain::CopyId)>, Error> {
        let rows = self.rows.held_rows(store, last, limit)?;
        Ok(rows.into_iter().map(|(digest, HeldRow(copy))| (digest, copy)).collect())
    }
    /// Backlog rows of a region after `last`, at most `limit`.
    pub fn wanted(&self, region: RegionId, last: Option<&Digest>, limit: usize) -> Result<Vec<rows::Wanted>, Error> {
        let prefix = space::wanted_in(region);
        let last = last.map(|digest| space::wanted(region, digest));
        self.list(&prefix, last, limit, |key, value| {
            let digest = parts(key, prefix.len())?.digest().map_err(bad(key))?;
            let WantedRow { size, since_ms } = decode(key, value)?;
            Ok(rows::Wanted { digest, size, since_ms })
        })
    }
    /// Whether a region wants a blob.
    pub fn is_wanted(&self, region: RegionId, digest: &Digest) -> Result<bool, Error> {
        Ok(self.rows.is_wanted(region, digest)?)
    }
    /// Copies a store is to delete, at most `limit`.
    pub fn condemned(&self, store: StoreId, limit: usize) -> Result<Vec<rows::Condemned>, Error> {
        let prefix = space::condemned_in(store);
        self.list(&prefix, None, limit, |key, value| {
            let mut parts = parts(key, prefix.len())?;
            let (digest, copy) = (parts.digest().map_err(bad(key))?, parts.copy().map_err(bad(key))?);
            let CondemnedRow(index) = decode(key, value)?;
            Ok(rows::Condemned { digest, copy, index })
        })
    }
    /// All regions, by id.
    pub fn regions(&self) -> Result<Vec<rows::Region>, Error> {
        let regions = self.rows.regions()?;
        regions.into_iter().map(|(id, row)| self.whole(id, row)).collect()
    }
    /// A region.
    pub fn region(&self, id: RegionId) -> Result<Option<rows::Region>, Error> {
        let Some(row) = self.rows.region(id)? else { return Ok(None) };
        self.whole(id, row).map(Some)
    }
    /// A region with its counters and its departure.
    fn whole(&self, id: RegionId, row: RegionRow) -> Result<rows::Region, Error> {
        Ok(region(id, row, self.rows.region_counters(id)?, self.rows.departure(id)?))
    }
    /// A region by name.
    pub fn region_named(&self, name: &RegionName) -> Result<Option<rows::Region>, Error> {
        Ok(self.regions()?.into_iter().find(|region| region.name == *name))
    }
    /// All nodes, removed ones too, by id.
    pub fn nodes(&self) -> Result<Vec<rows::Node>, Error> {
        Ok(self.rows.nodes()?.into_iter().map(|(id, row)| node(id, row)).collect())
    }
    /// A node.
    pub fn node(&self, id: NodeId) -> Result<Option<rows::Node>, Error> {
        Ok(self.rows.node(id)?.map(|row| node(id, row)))
    }
    /// All stores, lost ones too.
    pub fn stores(&self) -> Result<Vec<rows::Store>, Error> {
        Ok(self.rows.stores()?.into_iter().map(|(id, row)| store(id, row)).collect())
    }
    /// A store.
    pub fn store(&self, id: StoreId) -> Result<Option<rows::Store>, Error> {
        Ok(self.rows.store(id)?.map(|row| store(id, row)))
    }
    /// The policy in force for a repository: longest matching prefix, with that prefix.
    pub fn policy(&self, repository: &RepositoryName) -> Result<(String, rows::Policy), Error> {
        Ok(self.rows.policy_of(repository.as_str())?)
    }
    /// All policies by prefix.
    pub fn policies(&self) -> Result<Vec<(String, rows::Policy)>, Error> {
        Ok(self.rows.policies()?)
    }
    /// Links and blobs unreferenced since before `before_ms` of cluster time, for the collector: at most `limit` of each.
    pub fn collectable(&self, before_ms: u64, limit: usize) -> Result<Collectable, Error> {
        let links = space::single(Space::IdleLinks);
        let blobs = space::single(Space::IdleBlobs);
        let before = before_ms.to_be_bytes();
        // Keys begin with the time since when nothing refers to the row, so the oldest come first and the walk ends early.
        let links = self.idle(&links, &before, limit, |key| {
            let mut parts = parts(key, 9)?;
            Ok((parts.repository().map_err(bad(key))?, parts.digest().map_err(bad(key))?))
        })?;
        let blobs = self.idle(&blobs, &before, limit, |key| parts(key, 9)?.digest().map_err(bad(key)))?;
        Ok(Collectable { links, blobs })
    }
}

fn region(id: RegionId, row: RegionRow, counters: RegionCounters, departure: Option<rows::Departure>) -> rows::Region {
    let RegionRow { name, place, public_url, state, cordoned } = row;
    let RegionCounters { wanted, cursor, beyond, total } = counters;
    rows::Region {
        id,
        name,
        place,
        public_url,
        state,
        cordoned,
        backfill_cursor: cursor,
        backfill_blobs: beyond.blobs,
        backfill_bytes: beyond.bytes,
        backfill_blobs_total: total.blobs,
        backfill_bytes_total: total.bytes,
        wanted_blobs: wanted.blobs,
        wanted_bytes: wanted.bytes,
        departure,
    }
}

fn node(id: NodeId, row: NodeRow) -> rows::Node {
    let NodeRow { region, peer_address, certificate, format_level_max, removed } = row;
    rows::Node { id, region, peer_address, certificate, format_level_max, removed }
}

fn store(id: StoreId, row: StoreRow) -> rows::Store {
    let StoreRow { region, node, boot, open } = row;
    rows::Store { id, region, node, boot, open }
}

/// What a collector should ask `apply` to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collectable {
    /// Unreferenced links.
    pub links: Vec<(RepositoryName, Digest)>,
    /// Blobs without links.
    pub blobs: Vec<Digest>,
}
