//! Buffers that are used again and again.
//!
//! Bytes of blobs pass through blocks of one size. A fresh one costs more than what is done with its bytes, for the
//! kernel clears its pages one by one; and memory of many sizes that threads hand to each other is what an allocator
//! gives back least. So a number of blocks is kept.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

/// Size of a block. Unit: bytes.
pub(crate) const BLOCK_BYTES: usize = 128 * 1024;
/// Blocks kept for later.
const KEPT_MAX: usize = 128;

/// Blocks that are free.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    fn free(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty block.
    pub(crate) fn take(self: &Arc<Self>) -> Block {
        let kept = self.free().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; BLOCK_BYTES].into_boxed_slice());
        Block { bytes, filled: 0, share: None, home: Some(Arc::clone(self)) }
    }

    /// A block for so many bytes: what needs only part of one gets memory of its own.
    pub(crate) fn take_for(self: &Arc<Self>, bytes: usize) -> Block {
        if bytes > BLOCK_BYTES / 2 {
            return self.take();
        }
        Block { bytes: vec![0; bytes].into_boxed_slice(), filled: 0, share: None, home: None }
    }
}

/// Bytes in memory that goes back to where it came from.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Box<[u8]>,
    filled: usize,
    /// Its part of a budget; held for that alone.
    share: Option<OwnedSemaphorePermit>,
    home: Option<Arc<Buffers>>,
}

impl Block {
    /// Counts in a budget until the last slice of it is gone.
    pub(crate) fn count(&mut self, share: Option<OwnedSemaphorePermit>) {
        self.share = share;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }

    /// Takes from the front of `bytes` what there is room for.
    pub(crate) fn add(&mut self, bytes: &mut Bytes) {
        let room = (self.bytes.len() - self.filled).min(bytes.len());
        let taken = bytes.split_to(room);
        self.bytes[self.filled..self.filled + room].copy_from_slice(&taken);
        self.filled += room;
    }

    /// Makes it hold exactly `bytes`, put there by `read`.
    pub(crate) fn fill(&mut self, bytes: usize, read: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
        read(&mut self.bytes[..bytes])?;
        self.filled = bytes;
        Ok(())
    }

    /// As bytes that can be sliced and shared.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(home) = self.home.take() else { return };
        let mut free = home.free();
        if free.len() < KEPT_MAX {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}
