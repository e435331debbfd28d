//! Reads for clients, who may take nothing for as long as the door lets them.
//!
//! What lies ready for all of them together is bounded. While there is room a reader has whole groups, one with its
//! client and one read ahead; without room it goes on in slices, each cut from a group that is read and checked for it,
//! so that clients that stand still make others slower and never stop them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use domain::ByteRange;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::handle::{ByteStream, ReadError, Stored};
use crate::read::OpenCopy;
use crate::store::Store;

/// What a reader without room has with its client. Unit: bytes.
const SLICE_BYTES: u64 = 64 * 1024;
/// Groups that readers without room have in memory at once to cut their slices from.
const CUTS: usize = 8;

/// Memory of all clients' reads.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Unit: bytes.
    free: Arc<Semaphore>,
    bytes: usize,
    cuts: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Budget { free: Arc::new(Semaphore::new(bytes)), bytes, cuts: Arc::new(Semaphore::new(CUTS)) }
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

/// Bytes that count until the last slice of them is gone.
struct Counted {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Reader {
    store: Arc<Store>,
    copy: Arc<OpenCopy>,
    wanted: Range<u64>,
    ahead: Option<JoinHandle<Result<Bytes, ReadError>>>,
}

/// See [`crate::Handle::read_for_client`].
pub(crate) async fn read(
    store: &Arc<Store>,
    stored: Stored,
    range: ByteRange,
) -> Result<ByteStream<ReadError>, ReadError> {
    let copy = Arc::new(OpenCopy::open(store, stored).await?);
    let wanted = range.start..range.end.min(stored.size);
    if wanted.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let mut reader = Reader { store: Arc::clone(store), copy, wanted, ahead: None };
    let head = reader.next().await?;
    // Nothing follows damage: the body must break off, not go on behind a hole.
    let rest = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader.filter(|reader| !reader.wanted.is_empty())?;
        let piece = reader.next().await;
        let rest = piece.is_ok().then_some(reader);
        Some((piece, rest))
    });
    Ok(stream::once(std::future::ready(Ok(head))).chain(rest).boxed())
}

impl Reader {
    async fn next(&mut self) -> Result<Bytes, ReadError> {
        let reading = match self.ahead.take() {
            Some(reading) => reading,
            None => self.begin().await?,
        };
        let piece = reading.await.map_err(|error| ReadError::Storage { detail: error.to_string() })??;
        self.wanted.start += piece.len() as u64;
        if !self.wanted.is_empty()
            && self.store.client_reads.is_ample()
            && let Some(share) = self.store.client_reads.take(self.group_bytes())
        {
            self.ahead = Some(self.whole(share));
        }
        Ok(piece)
    }

    /// Begins to read the next piece, as large as there is room for.
    async fn begin(&self) -> Result<JoinHandle<Result<Bytes, ReadError>>, ReadError> {
        let budget = &self.store.client_reads;
        if let Some(share) = budget.take(self.group_bytes()) {
            return Ok(self.whole(share));
        }
        let turn = budget.cuts.clone().acquire_owned().await;
        let turn = turn.map_err(|error| ReadError::Storage { detail: error.to_string() })?;
        let (copy, wanted) = (Arc::clone(&self.copy), self.wanted.clone());
        Ok(tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let slice = wanted.start..wanted.end.min(wanted.start + SLICE_BYTES);
            // A copy of its own: a view of the group would keep all of it.
            Ok(Bytes::copy_from_slice(&copy.piece(slice)?))
        }))
    }

    fn whole(&self, share: OwnedSemaphorePermit) -> JoinHandle<Result<Bytes, ReadError>> {
        let (copy, wanted) = (Arc::clone(&self.copy), self.wanted.clone());
        tokio::task::spawn_blocking(move || {
            Ok(Bytes::from_owner(Counted { bytes: copy.piece(wanted)?, _share: share }))
        })
    }

    fn group_bytes(&self) -> u64 {
        let group = self.copy.group_at(self.wanted.start);
        group.end - group.start
    }
}
