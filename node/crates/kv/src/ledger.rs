//! The door to redb: ordered tables of bytes, one writer, snapshots that do not block it.
//!
//! A `Ledger` is one file. Writes happen in one transaction at a time ([`Ledger::write`] waits for the one before);
//! a commit is either durable (synced before it returns) or only visible, and then survives a crash no earlier than
//! the next durable one. Every call blocks: callers choose the thread.

mod build;
mod read;
mod write;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{Builder as RedbBuilder, Database, ReadableDatabase, TableDefinition};

pub use build::Builder;
pub use read::{Entry, Scan, Snapshot};
pub use write::{Table, Write};

/// How far a commit goes before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Visible to readers at once; durable with the next durable commit. After a crash it may be gone.
    Visible,
    /// Synced to the disk, with what is needed to open the file at once after a crash.
    Durable,
}

/// Why a ledger call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another process or handle has the file open.
    #[error("ledger file is already open elsewhere")]
    InUse,
    /// The file is no ledger, or of a format this release cannot read.
    #[error("ledger file cannot be used: {detail}")]
    Format {
        /// What the library said.
        detail: String,
    },
    /// Damaged bytes were found.
    #[error("ledger file is damaged: {detail}")]
    Corrupt {
        /// What the library said.
        detail: String,
    },
    /// The disk failed or is full. Whether a commit that ends so became durable is not known.
    #[error("ledger file cannot be read or written: {detail}")]
    Io {
        /// What the library said.
        detail: String,
    },
    /// A table that the ledger was not opened with.
    #[error("ledger has no table `{name}`")]
    NoTable {
        /// The name asked for.
        name: String,
    },
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        let detail = error.to_string();
        match error {
            redb::Error::DatabaseAlreadyOpen => Error::InUse,
            redb::Error::Corrupted(_) => Error::Corrupt { detail },
            redb::Error::UpgradeRequired(_) => Error::Format { detail },
            redb::Error::Io(inner) if inner.kind() == std::io::ErrorKind::InvalidData => Error::Format { detail },
            _ => Error::Io { detail },
        }
    }
}

/// Turns any of redb's errors into ours.
fn fail<E: Into<redb::Error>>(error: E) -> Error {
    Error::from(error.into())
}

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// An open ledger file. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    database: Arc<Database>,
    tables: Arc<[&'static str]>,
}

impl Ledger {
    /// Opens the file, or creates it, with these tables.
    ///
    /// It is made under another name and gets its own when it is whole: a stop in between leaves no half-made ledger.
    /// `cache_bytes` bounds the memory of the page cache; the library's own default would be 1 GiB.
    pub fn open(path: &Path, cache_bytes: usize, tables: &[&'static str]) -> Result<Self, Error> {
        let create = |path: &Path| RedbBuilder::new().set_cache_size(cache_bytes).create(path).map_err(fail);
        if path.try_exists().map_err(fail)? {
            return Ledger::prepare(create(path)?, tables);
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = Path::new(&unfinished);
        if unfinished.try_exists().map_err(fail)? {
            std::fs::remove_file(unfinished).map_err(fail)?;
        }
        let ledger = Ledger::prepare(create(unfinished)?, tables)?;
        std::fs::rename(unfinished, path).map_err(fail)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
        }
        Ok(ledger)
    }

    /// A ledger that lives in memory, for tests.
    pub fn in_memory(tables: &[&'static str]) -> Result<Self, Error> {
        let backend = redb::backends::InMemoryBackend::new();
        let database = RedbBuilder::new().set_cache_size(16 << 20).create_with_backend(backend).map_err(fail)?;
        Ledger::prepare(database, tables)
    }

    fn prepare(database: Database, tables: &[&'static str]) -> Result<Self, Error> {
        let ledger = Ledger { database: Arc::new(database), tables: tables.into() };
        // Opening what exists already must not cost a sync at every start.
        let complete = {
            let transaction = ledger.database.begin_read().map_err(fail)?;
            tables.iter().all(|name| transaction.open_table(definition(name)).is_ok())
        };
        if !complete {
            let write = ledger.write()?;
            for name in tables {
                write.table(name)?;
            }
            write.commit(Sync::Durable)?;
        }
        Ok(ledger)
    }

    /// Begins the write transaction; waits while another one is open. Dropped without `commit` it changes nothing.
    pub fn write(&self) -> Result<Write, Error> {
        Ok(Write::new(self.database.begin_write().map_err(fail)?, Arc::clone(&self.tables)))
    }

    /// A snapshot of the last commit. Cheap; it pins the pages it shows, so it must not live long.
    pub fn read(&self) -> Result<Snapshot, Error> {
        let transaction = self.database.begin_read().map_err(fail)?;
        let mut tables = Vec::with_capacity(self.tables.len());
        for name in self.tables.iter() {
            tables.push((*name, transaction.open_table(definition(name)).map_err(fail)?));
        }
        Ok(Snapshot::new(tables, Arc::clone(&self.database)))
    }

    /// Makes every commit so far durable, with one sync.
    pub fn sync(&self) -> Result<(), Error> {
        self.write()?.commit(Sync::Durable)
    }

    /// Names of the tables the ledger was opened with.
    pub fn tables(&self) -> &[&'static str] {
        &self.tables
    }
}

fn definition(name: &'static str) -> Definition {
    TableDefinition::new(name)
}

/// Key range: two bounds.
pub type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Smallest key above every key that begins with `prefix`; none when there is no such key (all bytes 0xff, or empty).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

#[cfg(test)]
#[path = "ledger/ledger_test.rs"]
mod tests;
