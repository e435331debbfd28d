//! Pins: which copies must not be removed now (design §8).
//!
//! Copies are either pinned, by any number of holders, or being removed, by one; the two exclude each other, so a retry
//! that pins an old copy cannot race its removal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{CopyId, Digest};

type Key = (Digest, CopyId);

#[derive(Debug)]
enum State {
    Pinned(usize),
    Removing,
}

/// The copies that are pinned or being removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins {
    table: Arc<Mutex<HashMap<Key, State>>>,
}

/// Keeps freshly placed bytes from being swept or quarantined until dropped (design §8, pins).
#[derive(Debug)]
pub struct Pin {
    pins: Pins,
    key: Key,
}

/// The right to remove a copy, until dropped: meanwhile nobody pins it and nobody else removes it.
#[derive(Debug)]
pub struct Removal {
    pins: Pins,
    key: Key,
}

impl Pins {
    fn table(&self) -> MutexGuard<'_, HashMap<Key, State>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins a copy; `None` while it is being removed.
    pub(crate) fn pin(&self, digest: Digest, copy: CopyId) -> Option<Pin> {
        let key = (digest, copy);
        match self.table().entry(key).or_insert(State::Pinned(0)) {
            State::Pinned(count) => *count += 1,
            State::Removing => return None,
        }
        Some(Pin { pins: self.clone(), key })
    }

    /// The right to remove a copy; `None` while it is pinned or being removed by another.
    pub(crate) fn remove(&self, digest: Digest, copy: CopyId) -> Option<Removal> {
        let key = (digest, copy);
        let mut table = self.table();
        if table.contains_key(&key) {
            return None;
        }
        table.insert(key, State::Removing);
        Some(Removal { pins: self.clone(), key })
    }

    /// Whether a copy is pinned.
    pub(crate) fn is_pinned(&self, digest: Digest, copy: CopyId) -> bool {
        matches!(self.table().get(&(digest, copy)), Some(State::Pinned(_)))
    }
}

impl Pin {
    /// Which copy is pinned.
    pub fn copy(&self) -> (Digest, CopyId) {
        self.key
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut table = self.pins.table();
        if let Some(State::Pinned(count)) = table.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.key);
            }
        }
    }
}

impl Removal {
    /// Which copy may be removed.
    pub fn copy(&self) -> (Digest, CopyId) {
        self.key
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.pins.table().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinning_and_removing_exclude_each_other() {
        let pins = Pins::default();
        let (digest, copy) = (Digest::Sha256([1; 32]), CopyId([2; 16]));
        let first = pins.pin(digest, copy).unwrap();
        let second = pins.pin(digest, copy).unwrap();
        drop(first);
        assert!(pins.is_pinned(digest, copy));
        assert!(pins.remove(digest, copy).is_none());
        drop(second);
        assert!(!pins.is_pinned(digest, copy));
        let removal = pins.remove(digest, copy).unwrap();
        assert!(pins.pin(digest, copy).is_none());
        assert!(pins.remove(digest, copy).is_none());
        drop(removal);
        assert!(pins.pin(digest, copy).is_some());
        assert!(pins.table().is_empty());
    }
}
