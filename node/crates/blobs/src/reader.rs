//! Reads for clients and peers, who may take nothing for as long as their door lets them.
//!
//! What lies ready for all of them together is bounded. While there is room a reader has whole groups, one with its
//! client and one read ahead; without room it goes on in slices, each cut from a group that is read and checked for it,
//! so that readers that stand still make others slower and never stop them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use domain::ByteRange;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::buffers::Buffers;
use crate::handle::{ByteStream, ReadError, Stored};
use crate::read::OpenCopy;
use crate::store::Store;

/// What a reader without room has with its client. Unit: bytes.
const SLICE_BYTES: u64 = 64 * 1024;
/// Groups that readers without room have in memory at once to cut their slices from.
const CUTS: usize = 8;

/// Memory of all reads of one kind.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Unit: bytes.
    free: Arc<Semaphore>,
    bytes: usize,
    cuts: Arc<Semaphore>,
    /// What it is spent on: a block is what leaves in one piece.
    buffers: Arc<Buffers>,
}

impl Budget {
    pub(crate) fn new(bytes: usize, buffers: Arc<Buffers>) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Budget { free: Arc::new(Semaphore::new(bytes)), bytes, cuts: Arc::new(Semaphore::new(CUTS)), buffers }
    }

    fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.free.clone().try_acquire_many_owned(bytes).ok()
    }

    /// Whether there is enough for bytes that nobody asked for yet.
    fn is_ample(&self) -> bool {
        self.free.available_permits() > self.bytes / 2
    }
}

/// What a group has of a range, in pieces.
type Pieces = Result<Vec<Bytes>, ReadError>;

struct Reader {
    budget: Arc<Budget>,
    copy: Arc<OpenCopy>,
    /// What was not read yet.
    wanted: Range<u64>,
    /// What was read and not handed out yet.
    ready: VecDeque<Bytes>,
    ahead: Option<JoinHandle<Pieces>>,
}

/// See [`crate::Handle::read`].
pub(crate) async fn read(
    store: &Arc<Store>,
    budget: &Arc<Budget>,
    stored: Stored,
    range: ByteRange,
) -> Result<ByteStream<ReadError>, ReadError> {
    let copy = Arc::new(OpenCopy::open(store, Arc::clone(&budget.buffers), stored).await?);
    let wanted = range.start..range.end.min(stored.size);
    if wanted.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let mut reader = Reader { budget: Arc::clone(budget), copy, wanted, ready: VecDeque::new(), ahead: None };
    reader.load().await?;
    // Nothing follows damage: the body must break off, not go on behind a hole.
    let pieces = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await? {
            Ok(piece) => Some((Ok(piece), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(pieces.boxed())
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, ReadError>> {
        if self.ready.is_empty()
            && !self.wanted.is_empty()
            && let Err(error) = self.load().await
        {
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }

    /// Makes the next group ready, or a slice of it, and begins to read ahead.
    async fn load(&mut self) -> Result<(), ReadError> {
        let reading = match self.ahead.take() {
            Some(reading) => reading,
            None => self.begin().await?,
        };
        self.ready = reading.await.map_err(|error| ReadError::Storage { detail: error.to_string() })??.into();
        self.wanted.start += self.ready.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if !self.wanted.is_empty()
            && self.budget.is_ample()
            && let Some(share) = self.budget.take(self.group_bytes())
        {
            self.ahead = Some(self.whole(share));
        }
        Ok(())
    }

    /// Begins to read what comes next, as much as there is room for.
    async fn begin(&self) -> Result<JoinHandle<Pieces>, ReadError> {
        if let Some(share) = self.budget.take(self.group_bytes()) {
            return Ok(self.whole(share));
        }
        let turn = self.budget.cuts.clone().acquire_owned().await;
        let turn = turn.map_err(|error| ReadError::Storage { detail: error.to_string() })?;
        let (copy, wanted) = (Arc::clone(&self.copy), self.wanted.clone());
        Ok(tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let slice = wanted.start..wanted.end.min(wanted.start + SLICE_BYTES);
            // A copy of its own: a view of the group's blocks would keep them.
            Ok(vec![Bytes::from(copy.pieces(&slice, None)?.concat())])
        }))
    }

    fn whole(&self, share: OwnedSemaphorePermit) -> JoinHandle<Pieces> {
        let (copy, wanted) = (Arc::clone(&self.copy), self.wanted.clone());
        tokio::task::spawn_blocking(move || copy.pieces(&wanted, Some(share)))
    }

    fn group_bytes(&self) -> u64 {
        let group = self.copy.group_at(self.wanted.start);
        group.end - group.start
    }
}
