//! The one door to sled: a cache of this node's own, rebuildable knowledge.
//!
//! sled 0.34 does not survive power cuts (its `flush` is no fsync and a damaged tree may open empty), so nothing whose
//! loss breaks a promise lives here: whoever stores something must be able to make it again. A marker file tells
//! whether the last process closed the cache properly; without it, or when sled panics or fails while opening, the
//! directory is discarded and the owner is told to rebuild.
//!
//! Layout: `<directory>/CLEAN` (the marker, removed at start) and `<directory>/tree/` (sled's files).

use std::fs;
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// Largest value accepted. Unit: bytes. sled keeps larger ones in files of their own that it never syncs.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Cache memory unless configured. Unit: bytes.
pub const CACHE_BYTES: u64 = 16 * 1024 * 1024;

const MARKER: &str = "CLEAN";
const TREE: &str = "tree";
const MARKER_TEXT: &[u8] = b"longshore cache 1\n";

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// How to open a cache.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its directory, made when absent. Whatever is in it may be deleted.
    pub directory: PathBuf,
    /// Memory for cached pages. Unit: bytes.
    pub cache_bytes: u64,
}

impl Config {
    /// A cache in `directory` with the default memory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Config { directory: directory.into(), cache_bytes: CACHE_BYTES }
    }
}

/// Whether what the previous process stored is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// The last process closed the cache; its rows are here.
    Kept,
    /// The cache is empty and must be rebuilt.
    Empty,
}

/// Why the cache failed. The owner goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be made, read or emptied.
    #[error("cache directory `{path}` cannot be used: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// sled failed.
    #[error("cache failed: {detail}")]
    Failed {
        /// What it said.
        detail: String,
    },
    /// A value above [`VALUE_BYTES_MAX`].
    #[error("cached value has {given} bytes, at most {VALUE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Bytes given.
        given: usize,
    },
    /// The cache was closed.
    #[error("cache is closed")]
    Closed,
}

/// An ordered map of bytes to bytes. All methods block; call them off the async threads.
pub struct Cache {
    directory: PathBuf,
    db: Mutex<Option<sled::Db>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Cache {
    /// Opens the cache, discarding what an unclean end left behind. An error means that not even an empty cache could
    /// be made.
    pub fn open(config: &Config) -> Result<(Self, Contents), Error> {
        let directory = &config.directory;
        let tree = directory.join(TREE);
        let at_directory = |source| Error::Directory { path: directory.clone(), source };
        fs::create_dir_all(directory).map_err(at_directory)?;
        let clean = take_marker(directory).map_err(at_directory)?;
        if clean
            && tree.is_dir()
            && let Ok(db) = open_tree(&tree, config.cache_bytes)
        {
            return Ok((Cache::of(directory, db), Contents::Kept));
        }
        tracing::info!(directory = %directory.display(), clean, "cache is discarded and will be rebuilt");
        remove_all(&tree).map_err(at_directory)?;
        let db = open_tree(&tree, config.cache_bytes)?;
        Ok((Cache::of(directory, db), Contents::Empty))
    }

    fn of(directory: &Path, db: sled::Db) -> Self {
        Cache { directory: directory.to_path_buf(), db: Mutex::new(Some(db)) }
    }

    fn slot(&self) -> MutexGuard<'_, Option<sled::Db>> {
        self.db.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Runs `work` on the open tree; a panic inside sled becomes an error and closes the cache for good.
    fn with<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, Error> {
        let db = self.slot().clone().ok_or(Error::Closed)?;
        let outcome = match guarded(|| work(&db)) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        // Without its marker the tree is discarded at the next start.
        *self.slot() = None;
        Err(Error::Failed { detail: outcome })
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.with(|db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    /// Stores a value.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooLarge { given: value.len() });
        }
        self.with(|db| db.insert(key, value).map(|_| ()))
    }

    /// Removes a key; absent is fine.
    pub fn delete(&self, key: &[u8]) -> Result<(), Error> {
        self.with(|db| db.remove(key).map(|_| ()))
    }

    /// At most `limit` rows between the bounds, in key order.
    pub fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, Error> {
        self.with(|db| {
            let rows = db.range::<&[u8], _>((from, to)).take(limit);
            rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        })
    }

    /// Writes everything down and leaves the marker, so that the next open keeps the rows. Later calls fail with
    /// [`Error::Closed`].
    pub fn close(&self) -> Result<(), Error> {
        let db = self.slot().take().ok_or(Error::Closed)?;
        let flushed = guarded(|| db.flush());
        if guarded(|| drop(db)).is_err() || !matches!(flushed, Ok(Ok(_))) {
            return Err(Error::Failed { detail: "the tree could not be flushed".to_owned() });
        }
        let at_directory = |source| Error::Directory { path: self.directory.clone(), source };
        sync_files(&self.directory.join(TREE)).map_err(at_directory)?;
        let marker = self.directory.join(MARKER);
        fs::write(&marker, MARKER_TEXT)
            .and_then(|()| fs::File::open(&marker)?.sync_all())
            .and_then(|()| fs::File::open(&self.directory)?.sync_all())
            .map_err(at_directory)
    }
}

/// Removes the marker durably; true when it was there and whole.
fn take_marker(directory: &Path) -> std::io::Result<bool> {
    let marker = directory.join(MARKER);
    let text = match fs::read(&marker) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    fs::remove_file(&marker)?;
    fs::File::open(directory)?.sync_all()?;
    Ok(text == MARKER_TEXT)
}

fn remove_all(path: &Path) -> std::io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_tree(path: &Path, cache_bytes: u64) -> Result<sled::Db, Error> {
    let opened = guarded(|| sled::Config::new().path(path).cache_capacity(cache_bytes).open());
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(Error::Failed { detail: error.to_string() }),
        Err(panic) => Err(Error::Failed { detail: panic }),
    }
}

/// sled asserts about its files where it should report; a broken cache must not take the process with it.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
    })
}

/// sled's flush leaves file contents to the kernel; the marker may only promise what is on the disk.
fn sync_files(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_files(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> (Cache, Contents) {
        Cache::open(&Config::new(directory)).unwrap()
    }

    #[test]
    fn rows_survive_a_clean_close_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, contents) = open(directory.path());
        assert_eq!(contents, Contents::Empty);
        for key in 0..100u8 {
            cache.put(&[key], &[key, 1]).unwrap();
        }
        cache.delete(&[3]).unwrap();
        assert_eq!(cache.get(&[4]).unwrap(), Some(vec![4, 1]));
        assert_eq!(cache.get(&[3]).unwrap(), None);
        let rows = cache.range(Bound::Excluded(&[2]), Bound::Unbounded, 2).unwrap();
        assert_eq!(rows, vec![(vec![4], vec![4, 1]), (vec![5], vec![5, 1])]);
        cache.close().unwrap();
        assert!(matches!(cache.get(&[4]), Err(Error::Closed)));

        let (cache, contents) = open(directory.path());
        assert_eq!(contents, Contents::Kept);
        assert_eq!(cache.range(Bound::Unbounded, Bound::Unbounded, 1000).unwrap().len(), 99);
        drop(cache);

        // Dropped without close: no marker, so the next open must not trust the rows.
        let (cache, contents) = open(directory.path());
        assert_eq!(contents, Contents::Empty);
        assert_eq!(cache.range(Bound::Unbounded, Bound::Unbounded, 1000).unwrap(), vec![]);
    }

    #[test]
    fn garbage_is_discarded_even_with_a_marker() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = open(directory.path());
        cache.put(b"key", &[7; 1000]).unwrap();
        cache.close().unwrap();
        for name in ["db", "conf"] {
            fs::write(directory.path().join(TREE).join(name), [0xA5; 10_000]).unwrap();
        }
        let (cache, contents) = open(directory.path());
        assert_eq!(contents, Contents::Empty);
        assert_eq!(cache.get(b"key").unwrap(), None);
        cache.put(b"key", b"again").unwrap();
        drop(cache);

        // A file where the directory should be, and a marker that is not ours.
        fs::remove_dir_all(directory.path().join(TREE)).unwrap();
        fs::write(directory.path().join(TREE), b"file").unwrap();
        fs::write(directory.path().join(MARKER), b"other").unwrap();
        let (cache, contents) = open(directory.path());
        assert_eq!(contents, Contents::Empty);
        cache.close().unwrap();
    }

    #[test]
    fn large_values_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = open(directory.path());
        assert!(matches!(cache.put(b"k", &vec![0; VALUE_BYTES_MAX + 1]), Err(Error::TooLarge { .. })));
        cache.put(b"k", &vec![0; VALUE_BYTES_MAX]).unwrap();
    }
}
