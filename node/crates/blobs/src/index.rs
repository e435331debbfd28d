//! The inventory: which copies lie on this disk.
//!
//! The directories are the truth; the cache saves walking them. It answers only after this process has compared it with
//! every directory once, in the background; until then, and whenever the cache fails, directories are walked. Changes
//! of the cache happen after the change on disk and under one lock, which a comparison holds from listing a directory to
//! correcting its rows: so it cannot bring back what was just removed.
//!
//! ```text
//! key:   digest key (algorithm byte, raw) | copy id, 16 bytes
//! value: version u8 = 1 | size u64 | verified_ms u64 (0: never here)
//! ```

use std::fs;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::{Algorithm, CopyId, Digest};
use kv::cache::{Cache, Config};

use crate::layout::{ALGORITHMS, Layout, Named, PREFIXES, parse_data, prefix_number};
use crate::sessions::if_there;

const VERSION: u8 = 1;

/// A copy on disk.
pub(crate) type Found = (Digest, CopyId, u64);

/// The inventory of a store.
#[derive(Debug)]
pub(crate) struct Index {
    layout: Layout,
    cache: Mutex<Option<Cache>>,
    /// Every directory was compared since this process started, and every change since was noted.
    ready: AtomicBool,
}

impl Index {
    pub(crate) fn new(layout: Layout) -> Self {
        Index { layout, cache: Mutex::new(None), ready: AtomicBool::new(false) }
    }

    fn cache(&self) -> MutexGuard<'_, Option<Cache>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the cache, whatever state it is in. Blocks.
    pub(crate) fn open(&self, config: &Config) {
        match Cache::open(config) {
            Ok((cache, contents)) => {
                tracing::debug!(?contents, "inventory cache opened");
                *self.cache() = Some(cache);
            }
            Err(error) => {
                tracing::warn!(error = %error, "inventory cache cannot be used, directories are walked instead");
            }
        }
    }

    /// Writes the cache down for the next start. Blocks.
    pub(crate) fn close(&self) {
        self.ready.store(false, Ordering::Release);
        if let Some(cache) = self.cache().take()
            && let Err(error) = cache.close()
        {
            tracing::warn!(error = %error, "inventory cache was not closed and will be rebuilt");
        }
    }

    /// Whether answers come from the cache.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Notes a copy that lies under its final key now. Blocks, and never fails: a cache that does is given up.
    pub(crate) fn added(&self, digest: Digest, copy: CopyId, size: u64) {
        self.change(|cache| cache.put(&key(&digest, copy), &value(size)));
    }

    /// Notes that a copy is gone. Blocks, and never fails.
    pub(crate) fn removed(&self, digest: Digest, copy: CopyId) {
        self.change(|cache| cache.delete(&key(&digest, copy)));
    }

    fn change(&self, work: impl FnOnce(&Cache) -> Result<(), kv::cache::Error>) {
        let mut cache = self.cache();
        let failed = cache.as_ref().map(work).and_then(Result::err);
        self.give_up(&mut cache, failed);
    }

    /// A cache that failed once is not asked again.
    fn give_up(&self, cache: &mut Option<Cache>, failed: Option<kv::cache::Error>) {
        if let Some(error) = failed {
            self.ready.store(false, Ordering::Release);
            *cache = None;
            tracing::warn!(error = %error, "inventory cache failed, directories are walked instead");
        }
    }

    /// Compares every directory with the cache and corrects it; returns the corrections. Blocks, a directory at a time.
    pub(crate) fn compare(&self, stop: &dyn Fn() -> bool, pinned: &dyn Fn(Digest, CopyId) -> bool) -> io::Result<u64> {
        let mut corrected = 0;
        for algorithm in ALGORITHMS {
            for prefix in 0..PREFIXES {
                if stop() {
                    return Ok(corrected);
                }
                corrected += self.compare_directory(algorithm, prefix, pinned)?;
            }
        }
        if self.cache().is_some() {
            self.ready.store(true, Ordering::Release);
        }
        Ok(corrected)
    }

    fn compare_directory(
        &self,
        algorithm: Algorithm,
        prefix: u16,
        pinned: &dyn Fn(Digest, CopyId) -> bool,
    ) -> io::Result<u64> {
        let mut guard = self.cache();
        let found = walk(&self.layout, algorithm, prefix, Some(pinned))?;
        let Some(cache) = guard.as_ref() else { return Ok(0) };
        let outcome = correct(cache, algorithm, prefix, &found);
        match outcome {
            Ok(corrected) => Ok(corrected),
            Err(error) => {
                self.give_up(&mut guard, Some(error));
                Ok(0)
            }
        }
    }

    /// At most `limit` copies after `last`, in key order. Blocks.
    pub(crate) fn page(&self, last: Option<(Digest, CopyId)>, limit: usize) -> io::Result<Vec<Found>> {
        if self.is_ready() {
            let mut guard = self.cache();
            if let Some(cache) = guard.as_ref() {
                match page_of(cache, last, limit) {
                    Ok(page) => return Ok(page),
                    Err(error) => self.give_up(&mut guard, Some(error)),
                }
            }
        }
        page_walked(&self.layout, last, limit)
    }
}

fn key(digest: &Digest, copy: CopyId) -> Vec<u8> {
    let mut key = digest.to_key();
    key.extend_from_slice(&copy.0);
    key
}

fn value(size: u64) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend_from_slice(&size.to_le_bytes());
    value.extend_from_slice(&0u64.to_le_bytes());
    value
}

fn parse(key: &[u8], value: &[u8]) -> Option<Found> {
    let (digest, copy) = Digest::split_key(key).ok()?;
    let (version, size) = (value.first()?, value.get(1..9)?);
    let size = u64::from_le_bytes(size.try_into().ok()?);
    (*version == VERSION && value.len() == 17).then_some((digest, CopyId::from_slice(copy)?, size))
}

/// Rows of one directory: from its first possible key to the first of the next.
fn bounds(algorithm: Algorithm, prefix: u16) -> (Vec<u8>, Vec<u8>) {
    let edge = |prefix: u16| {
        let [high, low] = (prefix << 4).to_be_bytes();
        vec![algorithm as u8, high, low]
    };
    let end = if prefix + 1 == PREFIXES { vec![algorithm as u8 + 1] } else { edge(prefix + 1) };
    (edge(prefix), end)
}

/// Makes the rows of a directory what was found in it.
fn correct(cache: &Cache, algorithm: Algorithm, prefix: u16, found: &[Found]) -> Result<u64, kv::cache::Error> {
    const ROWS: usize = 1000;
    let (mut from, end) = bounds(algorithm, prefix);
    let mut bound = Bound::Included(from.as_slice());
    let mut wanted: std::collections::BTreeMap<Vec<u8>, u64> =
        found.iter().map(|(digest, copy, size)| (key(digest, *copy), *size)).collect();
    let mut corrected = 0;
    loop {
        let rows = cache.range(bound, Bound::Excluded(end.as_slice()), ROWS)?;
        for (row, stored) in &rows {
            match (wanted.get(row), parse(row, stored)) {
                (Some(size), Some((_, _, cached))) if *size == cached => {
                    wanted.remove(row);
                }
                (Some(_), _) => {}
                (None, _) => {
                    cache.delete(row)?;
                    corrected += 1;
                }
            }
        }
        let Some((row, _)) = rows.last().filter(|_| rows.len() == ROWS) else { break };
        from = row.clone();
        bound = Bound::Excluded(from.as_slice());
    }
    for (row, size) in wanted {
        cache.put(&row, &value(size))?;
        corrected += 1;
    }
    Ok(corrected)
}

fn page_of(cache: &Cache, last: Option<(Digest, CopyId)>, limit: usize) -> Result<Vec<Found>, kv::cache::Error> {
    let after = last.map(|(digest, copy)| key(&digest, copy));
    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let rows = cache.range(from, Bound::Unbounded, limit)?;
    Ok(rows.iter().filter_map(|(key, value)| parse(key, value)).collect())
}

fn page_walked(layout: &Layout, last: Option<(Digest, CopyId)>, limit: usize) -> io::Result<Vec<Found>> {
    let mut page = Vec::new();
    for algorithm in ALGORITHMS {
        let first = match last {
            Some((digest, _)) if digest.algorithm() > algorithm => continue,
            Some((digest, _)) if digest.algorithm() == algorithm => prefix_number(&digest),
            _ => 0,
        };
        for prefix in first..PREFIXES {
            let found = walk(layout, algorithm, prefix, None)?;
            page.extend(found.into_iter().filter(|(digest, copy, _)| Some((*digest, *copy)) > last));
            if page.len() >= limit {
                page.truncate(limit);
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// The copies in one directory, in key order. With `pinned`, group values whose blob is gone are removed.
fn walk(
    layout: &Layout,
    algorithm: Algorithm,
    prefix: u16,
    pinned: Option<&dyn Fn(Digest, CopyId) -> bool>,
) -> io::Result<Vec<Found>> {
    let directory = layout.prefix(algorithm, prefix);
    let (mut found, mut values) = (Vec::new(), Vec::new());
    let Some(entries) = if_there(fs::read_dir(&directory))? else {
        // A prefix is made with its first blob; that its parent is gone too means that the disk is not there.
        fs::metadata(layout.data().join(algorithm.name()))?;
        return Ok(found);
    };
    for entry in entries {
        let entry = entry?;
        match entry.file_name().to_str().map(|name| parse_data(algorithm, name)) {
            Some(Named::Blob(digest, copy)) if prefix_number(&digest) == prefix => {
                // A file may go between its listing and this look at it.
                if let Some(metadata) = if_there(entry.metadata())? {
                    found.push((digest, copy, metadata.len()));
                }
            }
            Some(Named::Groups(digest, copy)) => values.push((digest, copy)),
            Some(Named::Blob(..) | Named::Foreign) | None => {}
        }
    }
    found.sort_unstable();
    for (digest, copy) in values {
        let orphaned = found.binary_search_by(|(d, c, _)| (*d, *c).cmp(&(digest, copy))).is_err();
        if let Some(pinned) = pinned
            && orphaned
            && !pinned(digest, copy)
            && !layout.blob(&digest, copy).exists()
        {
            if_there(fs::remove_file(layout.groups(&digest, copy)))?;
        }
    }
    Ok(found)
}
