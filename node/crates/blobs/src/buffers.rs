//! Buffers that are used again and again.
//!
//! Bytes of uploads and of reads for peers pass through blocks, those of reads for clients through buffers for a group,
//! which leave in one piece: small pieces cost the kernel more. Fresh memory is cleared page by page, and memory of many
//! sizes that threads hand to each other is what an allocator gives back least. So some of both is kept.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

/// Size of a block of an upload, and of a read for a peer. Unit: bytes.
pub(crate) const BLOCK_BYTES: usize = 128 * 1024;
/// Free memory of one size that is kept for later. Unit: bytes.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Blocks of one size that are free.
#[derive(Debug)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Box<[u8]>>>,
    /// Of a block. Unit: bytes.
    bytes: usize,
}

impl Buffers {
    pub(crate) fn of(bytes: usize) -> Arc<Self> {
        Arc::new(Buffers { free: Mutex::default(), bytes })
    }

    /// Of a block. Unit: bytes.
    pub(crate) fn block_bytes(&self) -> usize {
        self.bytes
    }

    fn free(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty block.
    pub(crate) fn take(self: &Arc<Self>) -> Block {
        let kept = self.free().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; self.bytes].into_boxed_slice());
        Block { bytes, filled: 0, share: None, home: Some(Arc::clone(self)) }
    }

    /// A block for so many bytes: what needs only part of one gets memory of its own.
    pub(crate) fn take_for(self: &Arc<Self>, bytes: usize) -> Block {
        if bytes > self.bytes / 2 {
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
        if free.len() < KEPT_BYTES_MAX / home.bytes {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}
