//! Group values that were read and proved lately.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::{Blake3Root, CopyId};

use crate::groups::Groups;

/// Bytes of values kept. Unit: bytes; 32 a MiB, so these are the values of 128 GiB of blobs.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<CopyId, (Blake3Root, Groups)>,
    order: VecDeque<CopyId>,
    bytes: usize,
}

/// A bounded cache by copy; the one that came first goes first.
#[derive(Debug, Default)]
pub(crate) struct GroupsCache {
    kept: Mutex<Kept>,
}

impl GroupsCache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of a copy, if they were proved against this very root.
    pub(crate) fn get(&self, copy: CopyId, root: &Blake3Root) -> Option<Groups> {
        self.kept().entries.get(&copy).filter(|(proved, _)| proved == root).map(|(_, groups)| groups.clone())
    }

    pub(crate) fn put(&self, copy: CopyId, root: Blake3Root, groups: &Groups) {
        let mut kept = self.kept();
        let bytes = groups.values().len();
        if bytes > KEPT_BYTES_MAX / 4 || kept.entries.contains_key(&copy) {
            return;
        }
        kept.bytes += bytes;
        kept.entries.insert(copy, (root, groups.clone()));
        kept.order.push_back(copy);
        while kept.bytes > KEPT_BYTES_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            if let Some((_, gone)) = kept.entries.remove(&oldest) {
                kept.bytes -= gone.values().len();
            }
        }
    }

    pub(crate) fn forget(&self, copy: CopyId) {
        let mut kept = self.kept();
        if let Some((_, gone)) = kept.entries.remove(&copy) {
            kept.bytes -= gone.values().len();
            kept.order.retain(|other| *other != copy);
        }
    }
}
