//! Verified transfers into staging: groups arrive in order, are proved before they are written, and are read behind.
//!
//! What lies in staging is checked again when a transfer is taken up, so no record of progress is needed: bytes that a
//! crash lost or tore simply do not fit their group.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use domain::{Blake3Root, ByteRange, Digest};
use ring::digest::Context;

use crate::format::sync_directory;
use crate::groups::{Groups, group_range};
use crate::handle::{PlacedBlob, ReadError, UploadError};
use crate::hashing;
use crate::lane::Lane;
use crate::pins::Pin;
use crate::place;
use crate::sessions::if_there;
use crate::space::Refused;
use crate::store::{Store, blocking};

/// A verified transfer into staging: whole groups arrive in order, are proved against the root and can be read behind.
///
/// Dropped without [`Ingest::finish`] or [`Ingest::discard`] it leaves its staging for the next transfer of the digest.
pub struct Ingest {
    store: Arc<Store>,
    digest: Digest,
    root: Blake3Root,
    staged: Arc<Staged>,
    /// The next group to write.
    next: u64,
    /// Hashes the whole in passing; `None` when the transfer was taken up, then staging is read once at the end.
    hashing: Option<Lane<Context>>,
    /// Set when bytes may not be what was written; such staging is never kept.
    broken: bool,
    _claim: Claim,
}

/// The right to write the staging of a digest.
struct Claim {
    store: Arc<Store>,
    digest: Digest,
}

impl Claim {
    fn take(store: &Arc<Store>, digest: Digest) -> Option<Self> {
        store.ingests().insert(digest).then(|| Claim { store: Arc::clone(store), digest })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.ingests().remove(&self.digest);
    }
}

/// The staging file, shared with readers.
#[derive(Debug)]
struct Staged {
    file: File,
    groups: Groups,
    written: AtomicU64,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("digest", &self.digest).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Begins or takes up a transfer. See [`crate::Handle::ingest`].
pub(crate) async fn begin(
    store: &Arc<Store>,
    digest: Digest,
    size: u64,
    root: Blake3Root,
    values: Bytes,
) -> Result<Ingest, UploadError> {
    let claim = Claim::take(store, digest).ok_or(UploadError::Busy { offset: 0 })?;
    let proved = blocking(move || Ok(Groups::prove(size, &root, values))).await?;
    let detail = || format!("group values of `{digest}` do not merge to its root");
    let groups = proved.ok_or_else(|| UploadError::Storage { detail: detail() })?;
    let path = store.layout.fetch(&digest);
    let opening = groups.clone();
    let (file, kept) = blocking(move || {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let kept = verified_groups(&file, &opening)?;
        file.set_len(group_range(size, kept).start.min(size))?;
        Ok((file, kept))
    })
    .await?;
    let written = group_range(size, kept).start.min(size);
    store.disk.admit(size - written)?;
    let fresh = Lane::new(hashing::context(digest.algorithm()), Arc::clone(&store.hash_gate));
    let staged = Arc::new(Staged { file, groups, written: AtomicU64::new(written) });
    let hashing = (kept == 0).then_some(fresh);
    Ok(Ingest { store: Arc::clone(store), digest, root, staged, next: kept, hashing, broken: false, _claim: claim })
}

/// Whole groups at the front of the file that are what they must be. Blocks.
fn verified_groups(file: &File, groups: &Groups) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut buffer = Vec::new();
    for index in 0..groups.count() {
        let range = group_range(groups.size(), index);
        if range.is_empty() || range.end > length {
            return Ok(index);
        }
        buffer.resize(usize::try_from(range.end - range.start).map_err(io::Error::other)?, 0);
        file.read_exact_at(&mut buffer, range.start)?;
        if !groups.verify(index, &buffer) {
            return Ok(index);
        }
    }
    Ok(groups.count())
}

impl Ingest {
    /// Groups written and readable so far. Unit: bytes, always whole groups or the end.
    pub fn written(&self) -> u64 {
        self.staged.written.load(Ordering::Acquire)
    }

    /// Appends the next group after checking it against its value. An error leaves what was written.
    ///
    /// # Errors
    /// `Damaged` when the bytes are not the next group, or none is left; `Storage` when the disk failed or is full.
    pub async fn write_group(&mut self, bytes: Bytes) -> Result<(), ReadError> {
        self.store.disk.admit(bytes.len() as u64).map_err(storage)?;
        let (staged, index, parts) = (Arc::clone(&self.staged), self.next, bytes.clone());
        let fits = blocking(move || {
            if !staged.groups.verify(index, &parts) {
                return Ok(false);
            }
            let range = group_range(staged.groups.size(), index);
            staged.file.write_all_at(&parts, range.start)?;
            Ok(true)
        });
        match fits.await {
            Ok(true) => {}
            Ok(false) => {
                return Err(ReadError::Damaged {
                    detail: format!("group {index} of `{}` has other bytes", self.digest),
                });
            }
            Err(error) => {
                self.broken = true;
                return Err(storage(error.into()));
            }
        }
        if let Some(hashing) = &mut self.hashing {
            let pushed = hashing.push(move |context| {
                context.update(&bytes);
                Ok(())
            });
            if pushed.await.is_err() {
                self.hashing = None;
            }
        }
        self.next += 1;
        let end = group_range(self.staged.groups.size(), index).end;
        self.staged.written.store(end, Ordering::Release);
        Ok(())
    }

    /// A reader of what is staged; it stays valid after `finish` or `discard`. Offsets beyond `written` are the
    /// caller's to wait for.
    pub fn reader(&self) -> StagedReader {
        StagedReader { staged: Arc::clone(&self.staged), last: Arc::default() }
    }

    /// Checks the whole digest, makes it durable, moves it to its final key. Runs to its end even when the caller goes
    /// away.
    ///
    /// # Errors
    /// `DigestMismatch` when the groups were proved but the digest is another one: the root was a lie, staging is
    /// removed. `Length` when groups are missing; staging stays.
    pub async fn finish(self) -> Result<(PlacedBlob, Pin), UploadError> {
        let store = Arc::clone(&self.store);
        let detail = "the node is stopping".to_owned();
        store.to_the_end("ingest finish", self.finish_inner()).await.unwrap_or(Err(UploadError::Storage { detail }))
    }

    async fn finish_inner(mut self) -> Result<(PlacedBlob, Pin), UploadError> {
        let (size, given) = (self.staged.groups.size(), self.written());
        if given != size || self.broken {
            return Err(UploadError::Length { expected: size, given });
        }
        // Sync while the last group is still being hashed.
        let syncing = Arc::clone(&self.staged);
        let (actual, synced) = tokio::join!(digest_of(&mut self), blocking(move || syncing.file.sync_data()));
        if let Err(error) = synced {
            self.remove().await;
            return Err(error.into());
        }
        let actual = actual?;
        if actual != self.digest {
            let expected = self.digest;
            self.remove().await;
            return Err(UploadError::DigestMismatch { expected, actual });
        }
        let (store, digest) = (Arc::clone(&self.store), self.digest);
        let placed = PlacedBlob { digest, size, root: self.root, copy: runtime::random::copy_id() };
        let pin = store.pins.pin(digest, placed.copy).ok_or(UploadError::Unknown)?;
        place::write_groups(&store, digest, placed.copy, &self.staged.groups).await?;
        let moving = Arc::clone(&store);
        let moved = blocking(move || {
            let layout = &moving.layout;
            layout.make_prefix(&digest)?;
            fs::rename(layout.fetch(&digest), layout.blob(&digest, placed.copy))?;
            sync_directory(&layout.prefix_of(&digest))?;
            moving.index.added(digest, placed.copy, size);
            Ok(())
        });
        if let Err(error) = moved.await {
            self.remove().await;
            return Err(error.into());
        }
        Ok((placed, pin))
    }

    /// Gives up; staging is removed.
    pub async fn discard(self) {
        self.remove().await;
    }

    async fn remove(&self) {
        let path = self.store.layout.fetch(&self.digest);
        if let Err(error) = blocking(move || if_there(fs::remove_file(path))).await {
            tracing::warn!(digest = %self.digest, error = %error, "transfer staging was not removed");
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if self.broken {
            // A failed write is never built upon; a failure here is met again by the verification at the next begin.
            let _kept = fs::remove_file(self.store.layout.fetch(&self.digest));
        }
    }
}

async fn digest_of(ingest: &mut Ingest) -> Result<Digest, UploadError> {
    let algorithm = ingest.digest.algorithm();
    if let Some(lane) = ingest.hashing.take()
        && let (Some(context), Ok(())) = lane.finish().await
    {
        return Ok(hashing::finish(algorithm, context));
    }
    let permit = Arc::clone(&ingest.store.rehash_gate).acquire_owned().await.map_err(io::Error::other)?;
    let staged = Arc::clone(&ingest.staged);
    let hashed = blocking(move || {
        let _permit = permit;
        hashing::hash_file(&staged.file, staged.groups.size(), algorithm)
    });
    Ok(hashed.await?.0)
}

fn storage(refused: Refused) -> ReadError {
    match refused {
        Refused::Full { free, reserve } => ReadError::Storage {
            detail: format!("the region's blob storage is full: {free} bytes free, {reserve} are kept in reserve"),
        },
        Refused::Failed(error) => ReadError::Storage { detail: error.to_string() },
    }
}

/// Reads verified bytes of a staging file. A clone shares the group that was read last.
#[derive(Clone, Debug)]
pub struct StagedReader {
    staged: Arc<Staged>,
    last: Arc<Mutex<Option<(u64, Bytes)>>>,
}

impl StagedReader {
    /// Reads exactly `range`, at most one group long and already written.
    ///
    /// # Errors
    /// `Missing` for a range that was not written yet; `Damaged` when the disk gave other bytes back.
    pub async fn read(&self, range: ByteRange) -> Result<Bytes, ReadError> {
        let group = domain::limits::GROUP_BYTES as u64;
        if range.start >= range.end {
            return Ok(Bytes::new());
        }
        if range.end > self.staged.written.load(Ordering::Acquire) || range.bytes() > group {
            return Err(ReadError::Missing);
        }
        let (first, last) = (range.start / group, (range.end - 1) / group);
        let head = self.part(first, range).await?;
        if first == last {
            return Ok(head);
        }
        let tail = self.part(last, range).await?;
        Ok(Bytes::from([head, tail].concat()))
    }

    /// What `range` takes of a group.
    async fn part(&self, index: u64, range: ByteRange) -> Result<Bytes, ReadError> {
        let bounds = group_range(self.staged.groups.size(), index);
        let bytes = self.group(index).await?;
        let cut = |at: u64| usize::try_from(at.saturating_sub(bounds.start)).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.slice(cut(range.start)..cut(range.end)))
    }

    async fn group(&self, index: u64) -> Result<Bytes, ReadError> {
        if let Some((last, bytes)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && *last == index
        {
            return Ok(bytes.clone());
        }
        let staged = Arc::clone(&self.staged);
        let read = blocking(move || {
            let range = group_range(staged.groups.size(), index);
            let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
            staged.file.read_exact_at(&mut bytes, range.start)?;
            Ok(staged.groups.verify(index, &bytes).then(|| Bytes::from(bytes)))
        });
        let damaged = || ReadError::Damaged { detail: format!("group {index} of staging has other bytes") };
        let bytes = read.await?.ok_or_else(damaged)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, bytes.clone()));
        Ok(bytes)
    }
}
