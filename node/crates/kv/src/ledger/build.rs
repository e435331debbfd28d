//! Filling a new file with many rows at bounded memory: installing a snapshot.

use std::path::Path;

use super::{Error, Ledger, Sync};

/// Bytes of keys and values gathered before they go into the file.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Fills a new ledger from a stream of rows. Memory stays within the cache and one batch of 4 MiB.
pub struct Builder {
    ledger: Ledger,
    batch: Vec<(usize, Vec<u8>, Vec<u8>)>,
    batch_bytes: usize,
    batches: u64,
}

impl Builder {
    /// Begins a new file. It must not exist yet; a half-built one is the caller's to remove.
    pub fn create(path: &Path, cache_bytes: usize, tables: &[&'static str]) -> Result<Self, Error> {
        if path.exists() {
            return Err(Error::Format { detail: format!("`{}` exists already", path.display()) });
        }
        Ok(Builder::over(Ledger::open(path, cache_bytes, tables)?))
    }

    /// Fills a ledger that is open already and empty.
    pub fn over(ledger: Ledger) -> Self {
        Builder { ledger, batch: Vec::new(), batch_bytes: 0, batches: 0 }
    }

    /// Adds a row. Rows in key order go in fastest.
    pub fn push(&mut self, table: &str, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
        let at = self.ledger.tables().iter().position(|known| *known == table);
        let at = at.ok_or_else(|| Error::NoTable { name: table.to_owned() })?;
        self.batch_bytes += key.len() + value.len();
        self.batch.push((at, key, value));
        if self.batch_bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let write = self.ledger.write()?;
        for (at, name) in self.ledger.tables().iter().enumerate() {
            let mut table = write.table(name)?;
            for (_, key, value) in self.batch.iter().filter(|row| row.0 == at) {
                table.put(key, value)?;
            }
        }
        self.batch.clear();
        self.batch_bytes = 0;
        self.batches += 1;
        // Commits that are never synced would gather their freed pages in memory.
        write.commit(if self.batches.is_multiple_of(16) { Sync::Durable } else { Sync::Visible })
    }

    /// Writes what is left, syncs, and gives the filled ledger.
    pub fn finish(mut self) -> Result<Ledger, Error> {
        self.flush()?;
        self.ledger.sync()?;
        Ok(self.ledger)
    }
}
