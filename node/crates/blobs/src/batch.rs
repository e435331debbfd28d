//! Bytes of uploads in memory: copied into blocks, of which all uploads together have so many.
//!
//! The copy costs little beside the hashes, and frees the buffer of the connection at once, which then serves for the
//! next bytes. Each upload has its share of the blocks, and none while it waits: neither for bytes of its client, once
//! another upload wants a block, nor for a block.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use crate::buffers::{BLOCK_BYTES, Block, Buffers};

/// Batches an upload has in memory: one filling, one hashing or writing.
const BATCHES: usize = 2;
/// Blocks in the largest batch.
const BATCH_BLOCKS_MAX: usize = 4;

/// The blocks of all uploads.
#[derive(Debug)]
pub(crate) struct UploadBlocks {
    free: Arc<Semaphore>,
    count: usize,
    /// Uploads whose bodies are arriving.
    writers: AtomicUsize,
    /// Uploads that wait for a block.
    waiting: watch::Sender<usize>,
    buffers: Arc<Buffers>,
}

/// A body that is arriving, counted among those that share the blocks.
pub(crate) struct Writing<'a>(&'a UploadBlocks);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An upload that waits for a block.
struct Waiting<'a>(&'a UploadBlocks);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

impl UploadBlocks {
    pub(crate) fn new(bytes: usize, buffers: Arc<Buffers>) -> Self {
        let count = (bytes / BLOCK_BYTES).max(1);
        let (waiting, _) = watch::channel(0);
        UploadBlocks { free: Arc::new(Semaphore::new(count)), count, writers: AtomicUsize::new(0), waiting, buffers }
    }

    pub(crate) fn begin(&self) -> Writing<'_> {
        self.writers.fetch_add(1, Ordering::Relaxed);
        Writing(self)
    }

    fn try_take(&self) -> Option<Block> {
        let share = Arc::clone(&self.free).try_acquire_owned().ok()?;
        let mut block = self.buffers.take();
        block.count(Some(share));
        Some(block)
    }

    async fn take(&self) -> Block {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _waiting = Waiting(self);
        // Never closed.
        let share = Arc::clone(&self.free).acquire_owned().await.ok();
        let mut block = self.buffers.take();
        block.count(share);
        block
    }

    /// Resolves when an upload waits for a block.
    pub(crate) async fn are_wanted(&self) {
        // The sender lives as long as this.
        let _wanted = self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.is_ok();
    }
}

impl Writing<'_> {
    /// Blocks of a fair batch, given who else writes now.
    fn batch_blocks(&self) -> usize {
        let writers = self.0.writers.load(Ordering::Relaxed).max(1);
        (self.0.count / BATCHES / writers).clamp(1, BATCH_BLOCKS_MAX)
    }

    /// Moves bytes into the batch until they are all in, or it should be pushed: because it has its share, or because
    /// no block is free and it would keep its own while it waits.
    pub(crate) async fn fill(&self, batch: &mut Batch, rest: &mut Bytes) -> Filled {
        loop {
            if let Some(last) = batch.blocks.last_mut() {
                last.add(rest);
            }
            let full = batch.blocks.last().is_none_or(Block::is_full);
            if full && batch.blocks.len() >= self.batch_blocks() {
                return Filled::Push;
            }
            if rest.is_empty() {
                return Filled::All;
            }
            match self.0.try_take() {
                Some(block) => batch.blocks.push(block),
                None if !batch.blocks.is_empty() => return Filled::Push,
                None => batch.blocks.push(self.0.take().await),
            }
        }
    }
}

/// What came of filling a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    All,
    Push,
}

/// Bytes that are hashed and written together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    blocks: Vec<Block>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(crate) fn take(&mut self) -> Arc<[Block]> {
        std::mem::take(&mut self.blocks).into()
    }
}
