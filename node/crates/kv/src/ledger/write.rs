//! The write transaction.

use std::sync::Arc;

use redb::{Durability, ReadableTable, WriteTransaction};

use super::read::is_empty;
use super::{Bounds, Entry, Error, Sync, definition, fail};

/// The one open write transaction of a ledger. Dropped without [`Write::commit`] it changes nothing.
pub struct Write {
    transaction: WriteTransaction,
    tables: Arc<[&'static str]>,
}

impl Write {
    pub(super) fn new(transaction: WriteTransaction, tables: Arc<[&'static str]>) -> Self {
        Write { transaction, tables }
    }

    /// Opens a table for reading and writing. A table can be open once at a time.
    pub fn table(&self, name: &str) -> Result<Table<'_>, Error> {
        let known = self.tables.iter().find(|known| **known == name);
        let name = known.ok_or_else(|| Error::NoTable { name: name.to_owned() })?;
        Ok(Table { inner: self.transaction.open_table(definition(name)).map_err(fail)? })
    }

    /// Ends the transaction; what it wrote is visible from now on, and durable if `sync` says so.
    pub fn commit(mut self, sync: Sync) -> Result<(), Error> {
        match sync {
            Sync::Visible => self.transaction.set_durability(Durability::None).map_err(fail)?,
            // Quick-repair saves the allocator state with the commit, so that a start after a crash scans nothing.
            Sync::Durable => self.transaction.set_quick_repair(true),
        }
        self.transaction.commit().map_err(fail)
    }
}

/// A table inside the write transaction.
pub struct Table<'txn> {
    inner: redb::Table<'txn, &'static [u8], &'static [u8]>,
}

impl Table<'_> {
    /// The value under a key, with this transaction's writes.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.inner.get(key).map_err(fail)?.map(|guard| guard.value().to_vec()))
    }

    /// Writes a value, over an older one.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.inner.insert(key, value).map(drop).map_err(fail)
    }

    /// Removes a key; whether it was there.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.inner.remove(key).map_err(fail)?.is_some())
    }

    /// Removes at most `limit` entries within bounds, lowest first; how many were removed.
    ///
    /// Fewer than `limit` means that none is left.
    pub fn delete_range(&mut self, bounds: Bounds<'_>, limit: usize) -> Result<usize, Error> {
        Ok(self.delete_range_counted(bounds, limit)?.0)
    }

    /// As [`Table::delete_range`], with the bytes of the removed values.
    pub fn delete_range_counted(&mut self, bounds: Bounds<'_>, limit: usize) -> Result<(usize, u64), Error> {
        if is_empty(&bounds) || limit == 0 {
            return Ok((0, 0));
        }
        let mut removed = 0;
        let mut bytes = 0;
        for item in self.inner.extract_from_if::<&[u8], _>(bounds, |_, _| true).map_err(fail)?.take(limit) {
            bytes += item.map_err(fail)?.1.value().len() as u64;
            removed += 1;
        }
        Ok((removed, bytes))
    }

    /// At most `limit` entries within bounds, in key order.
    pub fn range(&self, bounds: Bounds<'_>, limit: usize) -> Result<Vec<Entry>, Error> {
        if is_empty(&bounds) {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        for item in self.inner.range::<&[u8]>(bounds).map_err(fail)?.take(limit) {
            let (key, value) = item.map_err(fail)?;
            entries.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(entries)
    }

    /// The entry with the highest key.
    pub fn last(&self) -> Result<Option<Entry>, Error> {
        let mut range = self.inner.range::<&[u8]>(..).map_err(fail)?;
        let Some(item) = range.next_back() else { return Ok(None) };
        let (key, value) = item.map_err(fail)?;
        Ok(Some((key.value().to_vec(), value.value().to_vec())))
    }
}
