//! Appending a request body to an upload: body → batches → one lane hashes, one lane writes → sync → record.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use ring::digest::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Filled, Writing};
use crate::buffers::Block;
use crate::groups::{GroupHasher, GroupMark};
use crate::handle::{BodyFault, ByteStream, SessionKey, UploadError};
use crate::hashing::HashState;
use crate::lane::Lane;
use crate::record::Record;
use crate::sessions::{self, Held, Live};
use crate::space::Refused;
use crate::store::{Store, blocking};

/// Parts written by one call (`IOV_MAX` of Linux).
const PARTS_MAX: usize = 1024;
/// A large body is synced in the background every so often, so that little is left at its end. Unit: bytes.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;

/// State of the writing lane.
struct Writer {
    store: Arc<Store>,
    file: Arc<File>,
    at: u64,
    groups: Option<GroupHasher>,
}

impl Writer {
    fn write(&mut self, parts: &[Block]) -> Result<(), Refused> {
        let bytes = total(parts);
        self.store.disk.admit(bytes)?;
        write_all_at(&self.file, parts, self.at)?;
        self.at += bytes;
        if let Some(groups) = &mut self.groups {
            parts.iter().for_each(|part| groups.update(part.as_ref()));
        }
        Ok(())
    }
}

fn total(parts: &[Block]) -> u64 {
    parts.iter().map(|part| part.as_ref().len() as u64).sum()
}

/// Writes the parts one after the other in as few calls as can be: pages that span two parts are filled once. Blocks.
fn write_all_at(file: &File, parts: &[Block], mut at: u64) -> io::Result<()> {
    for chunk in parts.chunks(PARTS_MAX) {
        let mut slices: Vec<IoSlice<'_>> = chunk.iter().map(|part| IoSlice::new(part.as_ref())).collect();
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
    /// Another upload wants the memory that this one keeps while its client sends nothing.
    Wanted,
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

/// A body, and where it belongs.
pub(crate) struct Part<E> {
    /// Where it begins; at the end of what is there when none.
    pub(crate) offset: Option<u64>,
    /// Its length, when it was announced.
    pub(crate) length: Option<u64>,
    pub(crate) body: ByteStream<E>,
}

/// Appends a body; runs to its end even when the caller goes away. See [`crate::Handle::append`].
pub(crate) async fn append<E: BodyFault>(
    store: &Arc<Store>,
    key: SessionKey,
    part: Part<E>,
) -> Result<u64, UploadError> {
    let mut held = sessions::acquire(store, key).await?;
    let at = expect(held.live()?, part.offset)?;
    if part.length == Some(0) {
        return Ok(at);
    }
    let received = receive(store, held, part).await?;
    advance(store, received).await
}

/// Where an open session stands, if a body may be appended there.
fn expect(live: &Live, offset: Option<u64>) -> Result<u64, UploadError> {
    let at = live.record.offset;
    if offset.is_some_and(|given| given != at) || live.record.placed.is_some() {
        return Err(UploadError::Offset { offset: at, given: offset.unwrap_or(at) });
    }
    Ok(at)
}

/// A body whose every byte is on the disk, and of which the record does not know yet.
pub(crate) struct Received {
    pub(crate) held: Held,
    pub(crate) file: Arc<File>,
    pub(crate) bytes: u64,
    /// Hashes of everything, with the body.
    pub(crate) hash: Option<HashState>,
    /// The hashes without it.
    before: Option<(Context, GroupMark)>,
}

/// Takes a body in; its session stays where it was when that fails.
pub(crate) async fn receive<E: BodyFault>(
    store: &Arc<Store>,
    mut held: Held,
    part: Part<E>,
) -> Result<Received, UploadError> {
    let Part { offset, length, body } = part;
    let live = held.live()?;
    let at = expect(live, offset)?;
    store.disk.admit(length.unwrap_or(0))?;
    let (layout, key) = (store.layout.clone(), held.session.key);
    let opened = blocking(move || sessions::open_staged(&layout, key, at)).await?;
    let Some(file) = opened.map(Arc::new) else {
        sessions::end(store, held).await;
        return Err(UploadError::Unknown);
    };
    let hash = held.live()?.hash.take().filter(|hash| hash.groups.size() == at);
    let before = hash.as_ref().map(|hash| (hash.sha256.clone(), hash.groups.mark()));
    let Pumped { end, bytes, hash, synced } = pump(store, &file, at, hash, length, body).await;
    let received = Received { held, file, bytes, hash, before };
    settle(store, received, length, end, synced).await
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
    let sharing = store.upload_blocks.begin();
    let (sha256, groups) = hash.map(|hash| (hash.sha256, hash.groups)).unzip();
    let writer = Writer { store: Arc::clone(store), file: Arc::clone(file), at, groups };
    let mut lanes = Lanes {
        hashing: Lane::new(sha256, Arc::clone(&store.hash_gate)),
        writing: Lane::new(writer, Arc::clone(&store.write_gate)),
        syncs: Syncs { file: Arc::clone(file), unsynced: 0, running: None },
    };
    let mut bytes = 0;
    let stop = store.tasks.token();
    let mut batch = Batch::default();
    let end = loop {
        let pushed = match next(&mut body, &stop, store, &batch).await {
            Next::Chunk(chunk) => {
                bytes += chunk.len() as u64;
                if length.is_some_and(|length| bytes > length) {
                    break Ok(End::TooLong(bytes));
                }
                lanes.take_in(&sharing, &mut batch, chunk).await
            }
            Next::Wanted => lanes.push(&mut batch).await,
            Next::End(end) => break lanes.push(&mut batch).await.map(|()| end),
        };
        if let Err(refused) = pushed {
            break Err(refused);
        }
    };
    drop((sharing, batch));
    lanes.drain(end, bytes).await
}

async fn next<E: BodyFault>(body: &mut ByteStream<E>, stop: &CancellationToken, store: &Store, batch: &Batch) -> Next {
    tokio::select! {
        biased;
        () = stop.cancelled() => Next::End(End::Stopped),
        chunk = body.next() => match chunk {
            Some(Ok(chunk)) => Next::Chunk(chunk),
            Some(Err(fault)) => Next::End(End::Broken(fault.to_string(), fault.keeps_what_came())),
            None => Next::End(End::Whole),
        },
        () = store.upload_blocks.are_wanted(), if !batch.is_empty() => Next::Wanted,
    }
}

/// What is done with a body's bytes, side by side.
struct Lanes {
    hashing: Lane<Option<Context>>,
    writing: Lane<Writer>,
    syncs: Syncs,
}

impl Lanes {
    /// Collects a chunk, and pushes what there is enough of.
    async fn take_in(&mut self, sharing: &Writing<'_>, batch: &mut Batch, mut chunk: Bytes) -> Result<(), Refused> {
        while sharing.fill(batch, &mut chunk).await == Filled::Push {
            self.push(batch).await?;
        }
        Ok(())
    }

    async fn push(&mut self, batch: &mut Batch) -> Result<(), Refused> {
        if batch.is_empty() {
            return Ok(());
        }
        let parts = batch.take();
        let (bytes, hashed) = (total(&parts), Arc::clone(&parts));
        self.writing.push(move |writer| writer.write(&parts)).await?;
        self.syncs.wrote(bytes).await?;
        let hash = move |context: &mut Option<Context>| {
            if let Some(context) = context {
                hashed.iter().for_each(|part| context.update(part.as_ref()));
            }
            Ok(())
        };
        self.hashing.push(hash).await
    }

    /// Lets the lanes come to rest; syncs while the last bytes are still being hashed.
    async fn drain(self, end: Result<End, Refused>, bytes: u64) -> Pumped {
        let Lanes { hashing, writing, syncs } = self;
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

/// Judges how a body ended: it is whole, or the session goes back to where it was.
async fn settle(
    store: &Arc<Store>,
    received: Received,
    length: Option<u64>,
    end: Result<End, Refused>,
    synced: io::Result<()>,
) -> Result<Received, UploadError> {
    let (key, bytes) = (received.held.session.key, received.bytes);
    // What a failed sync or write left on the disk cannot be known: the session ends with its file.
    let end = match (synced, end) {
        (Err(error), _) | (_, Err(Refused::Failed(error))) => {
            tracing::error!(upload_id = ?key, error = %error, "upload is given up: its file could not be written");
            sessions::end(store, received.held).await;
            return Err(error.into());
        }
        (Ok(()), end) => end,
    };
    let refusal = match end {
        Ok(End::Whole) if length.is_none_or(|expected| expected == bytes) => return Ok(received),
        Ok(End::Whole) => UploadError::Length { expected: length.unwrap_or(bytes), given: bytes },
        Ok(End::TooLong(given)) => UploadError::Length { expected: length.unwrap_or(bytes), given },
        Ok(End::Broken(detail, keeps)) if keeps && length.is_none() => {
            advance(store, received).await?;
            return Err(UploadError::Body { detail });
        }
        Ok(End::Broken(detail, _)) => UploadError::Body { detail },
        Ok(End::Stopped) => UploadError::Stopping,
        Err(refused) => refused.into(),
    };
    Err(received.take_back(store, refusal).await)
}

impl Received {
    /// Brings the session back to where it was before the body; gives the reason for it.
    pub(crate) async fn take_back(self, store: &Arc<Store>, why: UploadError) -> UploadError {
        let Received { mut held, file, mut hash, before, .. } = self;
        if let (Some(hash), Some((sha256, mark))) = (&mut hash, before) {
            hash.sha256 = sha256;
            hash.groups.reset(&mark);
        }
        let offset = match held.live() {
            Ok(live) => {
                live.hash = hash;
                live.record.offset
            }
            Err(gone) => return gone,
        };
        if let Err(error) = blocking(move || file.set_len(offset)).await {
            sessions::end(store, held).await;
            return error.into();
        }
        why
    }
}

/// Moves the record on to bytes that are on the disk.
async fn advance(store: &Arc<Store>, received: Received) -> Result<u64, UploadError> {
    let Received { mut held, file, bytes, hash, before: _ } = received;
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
