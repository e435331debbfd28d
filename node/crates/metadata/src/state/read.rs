//! Typed reads, the same over a snapshot and over a batch that is being written.

use std::ops::Bound;

use domain::{Digest, NodeId, RegionId, RepositoryName, StoreId, Tag};
use kv::ledger::{Entry, Snapshot, prefix_end};

use super::codec::{Bad, Row};
use super::content::{HeldRow, HolderRow, ManifestRow};
use super::places::{NodeRow, RegionCounters, RegionRow, StoreRow, Tally};
use super::space::{self, Key, Parts, Space};
use super::{Error, TABLE};
use crate::rows::{self, Blob, Departure, Link, Meta, Policy, Repository, TagRow};

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Raw reads, and everything typed on top of them.
pub(crate) trait Read {
    /// The value under a key.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// At most `limit` entries above `lower` (by its bound) and below `upper`.
    fn entries(
        &self,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, Error>;

    /// A decoded row.
    fn row<R: Row>(&self, key: &[u8]) -> Result<Option<R>, Error> {
        self.value(key)?.map(|value| decode(key, &value)).transpose()
    }

    /// Whether there is a row.
    fn has(&self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.value(key)?.is_some())
    }

    /// Entries that begin with `prefix`, after `last` (a whole key) where given.
    fn under(&self, prefix: &[u8], last: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, Error> {
        let end = prefix_end(prefix);
        let lower = last.map_or(Bound::Included(prefix), Bound::Excluded);
        self.entries(lower, end.as_deref().map_or(Bound::Unbounded, Bound::Excluded), Direction::Up, limit)
    }

    fn meta(&self) -> Result<Option<Meta>, Error> {
        self.row(&space::single(Space::Meta))
    }

    fn repository(&self, name: &RepositoryName) -> Result<Option<Repository>, Error> {
        self.row(&space::repository(name))
    }

    fn manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<ManifestRow>, Error> {
        self.row(&space::manifest(repository, digest))
    }

    fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<TagRow>, Error> {
        self.row(&space::tag(repository, tag))
    }

    fn link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Link>, Error> {
        self.row(&space::link(repository, digest))
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        self.row(&space::blob(digest))
    }

    fn region(&self, region: RegionId) -> Result<Option<RegionRow>, Error> {
        self.row(&space::region(region))
    }

    fn region_counters(&self, region: RegionId) -> Result<RegionCounters, Error> {
        Ok(self.row(&space::region_counters(region))?.unwrap_or_default())
    }

    /// How far a region that shall leave is looked through.
    fn departure(&self, region: RegionId) -> Result<Option<Departure>, Error> {
        self.row(&space::departure(region))
    }

    /// The region that shall leave, if one shall: there is one at a time.
    fn departing(&self) -> Result<Option<(RegionId, Departure)>, Error> {
        let entries = self.under(&space::single(Space::Departures), None, 1)?;
        let one = |(key, value): &Entry| Ok((RegionId(parts(key, 1)?.u32().map_err(bad(key))?), decode(key, value)?));
        entries.first().map(one).transpose()
    }

    fn node(&self, node: NodeId) -> Result<Option<NodeRow>, Error> {
        self.row(&space::node(node))
    }

    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, Error> {
        self.row(&space::store(store))
    }

    fn store_counters(&self, store: StoreId) -> Result<Tally, Error> {
        Ok(self.row(&space::store_counters(store))?.unwrap_or_default())
    }

    fn totals(&self) -> Result<Tally, Error> {
        Ok(self.row(&space::single(Space::Totals))?.unwrap_or_default())
    }

    fn held_copy(&self, digest: &Digest, store: StoreId) -> Result<Option<HolderRow>, Error> {
        self.row(&space::holder(digest, store))
    }

    fn is_wanted(&self, region: RegionId, digest: &Digest) -> Result<bool, Error> {
        self.has(&space::wanted(region, digest))
    }

    /// All regions by id.
    fn regions(&self) -> Result<Vec<(RegionId, RegionRow)>, Error> {
        let entries = self.under(&space::single(Space::Regions), None, usize::MAX)?;
        entries
            .iter()
            .map(|(key, value)| Ok((RegionId(parts(key, 1)?.u32().map_err(bad(key))?), decode(key, value)?)))
            .collect()
    }

    /// All nodes by id, removed ones too.
    fn nodes(&self) -> Result<Vec<(NodeId, NodeRow)>, Error> {
        let entries = self.under(&space::single(Space::Nodes), None, usize::MAX)?;
        entries
            .iter()
            .map(|(key, value)| Ok((NodeId(parts(key, 1)?.u64().map_err(bad(key))?), decode(key, value)?)))
            .collect()
    }

    /// All stores by id, lost ones too.
    fn stores(&self) -> Result<Vec<(StoreId, StoreRow)>, Error> {
        let entries = self.under(&space::single(Space::Stores), None, usize::MAX)?;
        entries
            .iter()
            .map(|(key, value)| Ok((parts(key, 1)?.store().map_err(bad(key))?, decode(key, value)?)))
            .collect()
    }

    /// Every holder row of a blob, whatever became of the store.
    fn holder_rows(&self, digest: &Digest) -> Result<Vec<(StoreId, HolderRow)>, Error> {
        let prefix = space::holders_of(digest);
        let entries = self.under(&prefix, None, usize::MAX)?;
        let one =
            |(key, value): &Entry| Ok((parts(key, prefix.len())?.store().map_err(bad(key))?, decode(key, value)?));
        entries.iter().map(one).collect()
    }

    /// Holders whose stores are open.
    fn holders(&self, digest: &Digest) -> Result<Vec<rows::Holder>, Error> {
        let mut holders = Vec::new();
        for (store, row) in self.holder_rows(digest)? {
            if let Some(StoreRow { region, node, boot: _, open: true }) = self.store(store)? {
                holders.push(rows::Holder { store, region, node, copy: row.copy });
            }
        }
        Ok(holders)
    }

    /// What a store holds after `last`.
    fn held_rows(&self, store: StoreId, last: Option<&Digest>, limit: usize) -> Result<Vec<(Digest, HeldRow)>, Error> {
        let prefix = space::held_in(store);
        let last = last.map(|digest| space::held(store, digest));
        let entries = self.under(&prefix, last.as_deref(), limit)?;
        let one =
            |(key, value): &Entry| Ok((parts(key, prefix.len())?.digest().map_err(bad(key))?, decode(key, value)?));
        entries.iter().map(one).collect()
    }

    /// Blobs from `first` on.
    fn blob_rows_from(&self, first: Option<&Digest>, limit: usize) -> Result<Vec<(Digest, Blob)>, Error> {
        let prefix = space::single(Space::Blobs);
        let lower = first.map_or_else(|| prefix.clone(), space::blob);
        let end = prefix_end(&prefix);
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries(Bound::Included(&lower), upper, Direction::Up, limit)?;
        let one = |(key, value): &Entry| Ok((parts(key, 1)?.digest().map_err(bad(key))?, decode(key, value)?));
        entries.iter().map(one).collect()
    }

    /// Blobs after `last`.
    fn blob_rows(&self, last: Option<&Digest>, limit: usize) -> Result<Vec<(Digest, Blob)>, Error> {
        let last = last.map(space::blob);
        let entries = self.under(&space::single(Space::Blobs), last.as_deref(), limit)?;
        let one = |(key, value): &Entry| Ok((parts(key, 1)?.digest().map_err(bad(key))?, decode(key, value)?));
        entries.iter().map(one).collect()
    }

    /// The policy in force: longest prefix of whole components, with that prefix.
    fn policy_of(&self, name: &str) -> Result<(String, Policy), Error> {
        let mut prefix = name;
        loop {
            if let Some(policy) = self.row(&space::policy(prefix))? {
                return Ok((prefix.to_owned(), policy));
            }
            if prefix.is_empty() {
                return Ok((String::new(), Policy::default()));
            }
            prefix = prefix.rfind('/').map_or("", |at| &prefix[..at]);
        }
    }

    /// All policies by prefix.
    fn policies(&self) -> Result<Vec<(String, Policy)>, Error> {
        let entries = self.under(&Key::of(Space::Policies).done(), None, usize::MAX)?;
        let one = |(key, value): &Entry| Ok((parts(key, 1)?.text().map_err(bad(key))?.to_owned(), decode(key, value)?));
        entries.iter().map(one).collect()
    }
}

/// Names the space a malformed key or value belongs to.
pub(crate) fn bad(key: &[u8]) -> impl Fn(Bad) -> Error + use<> {
    let space = key.first().copied().unwrap_or(0);
    move |Bad(detail)| Error::Corrupt { space, detail }
}

pub(crate) fn decode<R: Row>(key: &[u8], value: &[u8]) -> Result<R, Error> {
    R::decode(value).map_err(bad(key))
}

/// The parts of a key after the first `skip` bytes.
pub(crate) fn parts(key: &[u8], skip: usize) -> Result<Parts<'_>, Error> {
    Parts::after(key, skip).map_err(bad(key))
}

impl Read for Snapshot {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get(TABLE, key)?)
    }

    fn entries(
        &self,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let scan = self.scan(TABLE, (lower, upper))?;
        let entries: Result<_, _> = match direction {
            Direction::Up => scan.take(limit).collect(),
            Direction::Down => scan.rev().take(limit).collect(),
        };
        Ok(entries?)
    }
}
