//! Snapshots and scans.

use std::ops::Bound;
use std::sync::Arc;

use redb::{Database, ReadOnlyTable};

use super::{Bounds, Error, fail, prefix_end};

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

type OpenTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Tables = Vec<(&'static str, OpenTable)>;

/// All tables as one commit left them. Owned, `Send` and `Sync`; pins the pages it shows until dropped.
pub struct Snapshot {
    tables: Tables,
    // The file stays open while it is read; last, so that the tables go first.
    _database: Arc<Database>,
}

impl Snapshot {
    pub(super) fn new(tables: Tables, database: Arc<Database>) -> Self {
        Snapshot { tables, _database: database }
    }

    fn table(&self, name: &str) -> Result<&OpenTable, Error> {
        let found = self.tables.iter().find(|(known, _)| *known == name);
        found.map(|(_, table)| table).ok_or_else(|| Error::NoTable { name: name.to_owned() })
    }

    /// The value under a key.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.table(table)?.get(key).map_err(fail)?;
        Ok(found.map(|guard| guard.value().to_vec()))
    }

    /// Entries within bounds, in key order; `.rev()` walks downwards. Reads lazily.
    pub fn scan(&self, table: &str, bounds: Bounds<'_>) -> Result<Scan, Error> {
        if is_empty(&bounds) {
            return Ok(Scan { inner: None });
        }
        let inner = self.table(table)?.range::<&[u8]>(bounds).map_err(fail)?;
        Ok(Scan { inner: Some(inner) })
    }

    /// Entries whose keys begin with `prefix`.
    pub fn scan_prefix(&self, table: &str, prefix: &[u8]) -> Result<Scan, Error> {
        let end = prefix_end(prefix);
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.scan(table, (Bound::Included(prefix), upper))
    }

    /// Every entry of a table, in key order.
    pub fn scan_all(&self, table: &str) -> Result<Scan, Error> {
        self.scan(table, (Bound::Unbounded, Bound::Unbounded))
    }
}

/// redb refuses bounds that cross; for callers they are simply empty.
pub(super) fn is_empty((lower, upper): &Bounds<'_>) -> bool {
    match (lower, upper) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b)) | (Bound::Excluded(a), Bound::Included(b)) => {
            a >= b
        }
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// A walk over a snapshot, from both ends.
pub struct Scan {
    inner: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
}

type Guard = redb::AccessGuard<'static, &'static [u8]>;

fn entry(item: Result<(Guard, Guard), redb::StorageError>) -> Result<Entry, Error> {
    let (key, value) = item.map_err(fail)?;
    Ok((key.value().to_vec(), value.value().to_vec()))
}

impl Iterator for Scan {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.inner.as_mut()?.next().map(entry)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.inner.as_mut()?.next_back().map(entry)
    }
}
