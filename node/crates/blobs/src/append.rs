//! Appending a request body to an upload: body → batches → one lane hashes, one lane writes → sync → record.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use ring::digest::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::groups::{GroupHasher, GroupMark};
use crate::handle::{BodyFault, ByteStream, SessionKey, UploadError};
use crate::hashing::HashState;
use crate::lane::Lane;
use crate::record::Record;
use crate::sessions::{self, Held, Live};
use crate::space::Refused;
use crate::store::{Store, blocking};

/// Buffers of all requests that write at once. Unit: bytes.
const BUFFERS_BYTES: usize = 32 * 1024 * 1024;
/// Batches a request has in memory: one filling, one hashing or writing.
const BATCHES: usize = 2;
/// Largest and smallest batch. Unit: bytes.
const BATCH_BYTES_MAX: usize = 512 * 1024;
const BATCH_BYTES_MIN: usize = 32 * 1024;
/// Chunks below this are copied together, so that tiny ones cannot cost more than they hold. Unit: bytes.
const CHUNK_BYTES_MIN: usize = 16 * 1024;
/// Parts written by one call (`IOV_MAX` of Linux).
const PARTS_MAX: usize = 1024;
/// A large body is synced in the background every so often, so that little is left at its end. Unit: bytes.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;

/// Collects chunks into batches of bounded size.
struct Batch {
    parts: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
}

impl Batch {
    fn new() -> Self {
        Batch { parts: Vec::new(), small: BytesMut::new(), bytes: 0 }
    }

    fn add(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if chunk.len() < CHUNK_BYTES_MIN {
            self.small.extend_from_slice(&chunk);
        } else {
            self.flush_small();
            self.parts.push(chunk);
        }
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.parts.push(self.small.split().freeze());
        }
    }

    fn take(&mut self) -> Arc<Vec<Bytes>> {
        self.flush_small();
        self.bytes = 0;
        Arc::new(std::mem::take(&mut self.parts))
    }
}

/// State of the writing lane.
struct Writer {
    store: Arc<Store>,
    file: Arc<File>,
    at: u64,
    groups: Option<GroupHasher>,
}

impl Writer {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), Refused> {
        self.store.disk.admit(parts.iter().map(|part| part.len() as u64).sum())?;
        write_all_at(&self.file, parts, self.at)?;
        self.at += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if let Some(groups) = &mut self.groups {
            parts.iter().for_each(|part| groups.update(part));
        }
        Ok(())
    }
}

/// Writes the parts one after the other in as few calls as can be: pages that span two parts are filled once. Blocks.
fn write_all_at(file: &File, parts: &[Bytes], mut at: u64) -> io::Result<()> {
    for chunk in parts.chunks(PARTS_MAX) {
        let mut slices: Vec<IoSlice<'_>> = chunk.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            match rustix::io::pwritev(file, left, at) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// How a body ended.
enum End {
    Whole,
    /// With what the transport said, and whether what came before it may be kept.
    Broken(String, bool),
    TooLong(u64),
    /// The node stops.
    Stopped,
}

/// What comes next of a body.
enum Next {
    Chunk(Bytes),
    End(End),
}

/// What came of a body.
struct Pumped {
    end: Result<End, Refused>,
    bytes: u64,
    hash: Option<HashState>,
    /// Whether every byte is on the disk.
    synced: io::Result<()>,
}

/// Counts a request among those that share the buffers.
struct Counted(Arc<Store>);

impl Counted {
    fn new(store: &Arc<Store>) -> Self {
        store.writers.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(store))
    }

    /// A fair batch, given who else writes now.
    fn batch_bytes(&self) -> usize {
        let writers = self.0.writers.load(Ordering::Relaxed).max(1);
        (BUFFERS_BYTES / BATCHES / writers).clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Appends a body; runs to its end even when the caller goes away. See [`crate::Handle::append`].
pub(crate) async fn append<E: BodyFault>(
    store: &Arc<Store>,
    key: SessionKey,
    offset: Option<u64>,
    length: Option<u64>,
    body: ByteStream<E>,
) -> Result<u64, UploadError> {
    let mut held = sessions::acquire(store, key).await?;
    let live = held.live()?;
    let at = live.record.offset;
    if offset.is_some_and(|given| given != at) || live.record.placed.is_some() {
        return Err(UploadError::Offset { offset: at, given: offset.unwrap_or(at) });
    }
    if length == Some(0) {
        return Ok(at);
    }
    store.disk.admit(length.unwrap_or(0))?;
    let layout = store.layout.clone();
    let opened = blocking(move || sessions::open_staged(&layout, key, at)).await?;
    let Some(file) = opened.map(Arc::new) else {
        sessions::end(store, held).await;
        return Err(UploadError::Unknown);
    };
    let hash = live.hash.take().filter(|hash| hash.groups.size() == at);
    let fallback = hash.as_ref().map(|hash| (hash.sha256.clone(), hash.groups.mark()));
    let pumped = pump(store, &file, at, hash, length, body).await;
    settle(store, held, &file, length, pumped, fallback).await
}

/// Moves the body through the lanes until it ends, breaks or is refused.
async fn pump<E: BodyFault>(
    store: &Arc<Store>,
    file: &Arc<File>,
    at: u64,
    hash: Option<HashState>,
    length: Option<u64>,
    mut body: ByteStream<E>,
) -> Pumped {
    let counted = Counted::new(store);
    let (sha256, groups) = hash.map(|hash| (hash.sha256, hash.groups)).unzip();
    let mut hashing = Lane::new(sha256, Arc::clone(&store.hash_gate));
    let writer = Writer { store: Arc::clone(store), file: Arc::clone(file), at, groups };
    let mut writing = Lane::new(writer, Arc::clone(&store.write_gate));
    let mut syncs = Syncs { file: Arc::clone(file), unsynced: 0, running: None };
    let mut bytes = 0;
    let stop = store.tasks.token();
    let end = {
        let mut batch = Batch::new();
        loop {
            let mut rest = match next_chunk(&mut body, &stop).await {
                Next::Chunk(chunk) => chunk,
                Next::End(end) => break push(&mut hashing, &mut writing, &mut syncs, &mut batch).await.map(|()| end),
            };
            bytes += rest.len() as u64;
            if length.is_some_and(|length| bytes > length) {
                break Ok(End::TooLong(bytes));
            }
            let mut pushed = Ok(());
            while !rest.is_empty() && pushed.is_ok() {
                let limit = counted.batch_bytes();
                let room = limit.saturating_sub(batch.bytes).max(1);
                batch.add(rest.split_to(room.min(rest.len())));
                if batch.bytes >= limit {
                    pushed = push(&mut hashing, &mut writing, &mut syncs, &mut batch).await;
                }
            }
            if let Err(refused) = pushed {
                break Err(refused);
            }
        }
    };
    drain(hashing, writing, syncs, end, bytes).await
}

/// Lets the lanes come to rest; syncs while the last bytes are still being hashed.
async fn drain(
    hashing: Lane<Option<Context>>,
    writing: Lane<Writer>,
    syncs: Syncs,
    end: Result<End, Refused>,
    bytes: u64,
) -> Pumped {
    let wanted = end.is_ok();
    let finish_writing = async {
        let (writer, written) = writing.finish().await;
        let synced = syncs.finish(wanted && written.is_ok() && bytes > 0).await;
        (writer, written, synced)
    };
    let ((sha256, hashed), (writer, written, synced)) = tokio::join!(hashing.finish(), finish_writing);
    let hash = match (sha256.flatten(), writer.and_then(|writer| writer.groups)) {
        (Some(sha256), Some(groups)) => Some(HashState { sha256, groups }),
        _ => None,
    };
    let end = end.and_then(|end| written.and(hashed).map(|()| end));
    Pumped { end, bytes, hash, synced }
}

async fn next_chunk<E: BodyFault>(body: &mut ByteStream<E>, stop: &CancellationToken) -> Next {
    tokio::select! {
        biased;
        () = stop.cancelled() => Next::End(End::Stopped),
        chunk = body.next() => match chunk {
            Some(Ok(chunk)) => Next::Chunk(chunk),
            Some(Err(fault)) => Next::End(End::Broken(fault.to_string(), fault.keeps_what_came())),
            None => Next::End(End::Whole),
        },
    }
}

async fn push(
    hashing: &mut Lane<Option<Context>>,
    writing: &mut Lane<Writer>,
    syncs: &mut Syncs,
    batch: &mut Batch,
) -> Result<(), Refused> {
    let bytes = batch.bytes as u64;
    if bytes == 0 {
        return Ok(());
    }
    let parts = batch.take();
    let hashed = Arc::clone(&parts);
    writing.push(move |writer| writer.write(&parts)).await?;
    syncs.wrote(bytes).await?;
    hashing
        .push(move |context| {
            if let Some(context) = context {
                hashed.iter().for_each(|part| context.update(part));
            }
            Ok(())
        })
        .await
}

/// Syncs behind the writer.
struct Syncs {
    file: Arc<File>,
    unsynced: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Syncs {
    /// Starts a sync when enough was written and none runs.
    async fn wrote(&mut self, bytes: u64) -> Result<(), Refused> {
        self.unsynced += bytes;
        if self.unsynced < SYNC_BYTES {
            return Ok(());
        }
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return Ok(());
        }
        self.settle().await.map_err(Refused::Failed)?;
        self.unsynced = 0;
        self.start();
        Ok(())
    }

    fn start(&mut self) {
        let file = Arc::clone(&self.file);
        self.running = Some(tokio::task::spawn_blocking(move || file.sync_data()));
    }

    async fn settle(&mut self) -> io::Result<()> {
        match self.running.take() {
            Some(running) => running.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    /// Waits for the sync that runs, and syncs the rest when wanted. A failure of either is final.
    async fn finish(mut self, wanted: bool) -> io::Result<()> {
        self.settle().await?;
        if wanted {
            self.start();
            self.settle().await?;
        }
        Ok(())
    }
}

/// Records what is durable, or brings the session back to where it was.
async fn settle(
    store: &Arc<Store>,
    mut held: Held,
    file: &Arc<File>,
    length: Option<u64>,
    pumped: Pumped,
    fallback: Option<(Context, GroupMark)>,
) -> Result<u64, UploadError> {
    let Pumped { end, bytes, mut hash, synced } = pumped;
    let key = held.session.key;
    // What a failed sync or write left on the disk cannot be known: the session ends with its file.
    let end = match (synced, end) {
        (Err(error), _) | (_, Err(Refused::Failed(error))) => {
            tracing::error!(upload_id = ?key, error = %error, "upload is given up: its file could not be written");
            sessions::end(store, held).await;
            return Err(error.into());
        }
        (Ok(()), end) => end,
    };
    let refusal = match end {
        Ok(End::Whole) if length.is_none_or(|expected| expected == bytes) => None,
        Ok(End::Whole) => Some(UploadError::Length { expected: length.unwrap_or(bytes), given: bytes }),
        Ok(End::TooLong(given)) => Some(UploadError::Length { expected: length.unwrap_or(bytes), given }),
        Ok(End::Broken(detail, keeps)) if keeps && length.is_none() => {
            advance(store, held, file, bytes, hash).await?;
            return Err(UploadError::Body { detail });
        }
        Ok(End::Broken(detail, _)) => Some(UploadError::Body { detail }),
        Ok(End::Stopped) => Some(UploadError::Stopping),
        Err(refused) => Some(refused.into()),
    };
    let Some(refusal) = refusal else { return advance(store, held, file, bytes, hash).await };
    let live = held.live()?;
    if let (Some(hash), Some((sha256, mark))) = (&mut hash, fallback) {
        hash.sha256 = sha256;
        hash.groups.reset(&mark);
    }
    live.hash = hash;
    let (offset, cut) = (live.record.offset, Arc::clone(file));
    if let Err(error) = blocking(move || cut.set_len(offset)).await {
        sessions::end(store, held).await;
        return Err(error.into());
    }
    Err(refusal)
}

/// Moves the record on to bytes that are on the disk.
async fn advance(
    store: &Arc<Store>,
    mut held: Held,
    file: &Arc<File>,
    bytes: u64,
    hash: Option<HashState>,
) -> Result<u64, UploadError> {
    let key = held.session.key;
    let live = held.live()?;
    let offset = live.record.offset + bytes;
    if bytes > 0 {
        // Bytes cut off without a sync would come back as a hole; the length is part of what was synced.
        debug_assert!(file.metadata().is_ok_and(|metadata| metadata.len() >= offset), "synced bytes are in the file");
        let record = Record { offset, ..live.record.next(store.now_ms()) };
        let (layout, next) = (store.layout.clone(), record.clone());
        if let Err(error) = blocking(move || sessions::replace_record(&layout, key, &next)).await {
            sessions::end(store, held).await;
            return Err(error.into());
        }
        live.record = record;
    }
    keep(store, key, live, hash);
    held.publish();
    Ok(offset)
}

fn keep(store: &Store, key: SessionKey, live: &mut Live, hash: Option<HashState>) {
    live.hash = hash;
    if live.hash.is_some() {
        store.sessions.keep_hash(key);
    }
}
