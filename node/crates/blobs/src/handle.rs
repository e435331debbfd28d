//! The door of the room.

use std::pin::Pin as StdPin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use domain::{Blake3Root, ByteRange, CopyId, Digest, RepositoryName, StoreId};
use futures_util::Stream;
use runtime::Tasks;

use crate::append::{self, Part};
pub use crate::ingest::{Ingest, StagedReader};
pub use crate::pins::{Pin, Removal};
use crate::store::{Config, OpenError, Store};
use crate::{copies, index_task, ingest, place, read, reader, sessions};

/// Chunks of a body.
pub type ByteStream<E> = StdPin<Box<dyn Stream<Item = Result<Bytes, E>> + Send + 'static>>;

/// Local part of a session id: 16 random bytes shown as a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub [u8; 16]);

/// What a session's record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Its repository.
    pub repository: RepositoryName,
    /// Durable, acknowledged bytes.
    pub offset: u64,
    /// Set once the closing PUT placed the bytes: what to propose, also for its retries.
    pub placed: Option<PlacedBlob>,
}

/// Bytes that lie durably under their final key and wait for their proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedBlob {
    /// Digest, as verified.
    pub digest: Digest,
    /// Unit: bytes.
    pub size: u64,
    /// blake3 root.
    pub root: Blake3Root,
    /// The copy.
    pub copy: CopyId,
}

/// Which stored copy to read, and what it must be; from `blobs` and `holders` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Digest.
    pub digest: Digest,
    /// The copy here.
    pub copy: CopyId,
    /// Unit: bytes.
    pub size: u64,
    /// blake3 root, from the replicated state.
    pub root: Blake3Root,
}

/// Why an upload step failed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// No such session here (never was, cancelled, expired, or its record or staging is gone).
    #[error("upload session is not known")]
    Unknown,
    /// The chunk does not begin at the durable offset; nothing changed.
    #[error("chunk begins at {given}, the session is at {offset}")]
    Offset {
        /// Durable offset.
        offset: u64,
        /// What the client said.
        given: u64,
    },
    /// Another request is writing to the session; nothing changed.
    #[error("another request is writing to the session")]
    Busy {
        /// Durable offset.
        offset: u64,
    },
    /// The body ended early or broke; the session stands at its last durable offset, or at `offset` after syncing what came.
    #[error("request body broke off: {detail}")]
    Body {
        /// What the transport said.
        detail: String,
    },
    /// The body's length is not what `Content-Range` or `Content-Length` said; the offset is unchanged.
    #[error("body has {given} bytes, {expected} were announced")]
    Length {
        /// Announced.
        expected: u64,
        /// Received.
        given: u64,
    },
    /// The bytes do not hash to the digest; the session is gone or reset, as the specification allows.
    #[error("content hashes to `{actual}`, not to `{expected}`")]
    DigestMismatch {
        /// What the client said.
        expected: Digest,
        /// What the bytes are.
        actual: Digest,
    },
    /// Too many sessions are open. HTTP 429.
    #[error("too many uploads are open on this node")]
    TooMany,
    /// The reserve of the disk is reached. HTTP 503.
    #[error("the region's blob storage is full: {free} bytes free, {reserve} are kept in reserve")]
    Full {
        /// Free bytes.
        free: u64,
        /// Reserve.
        reserve: u64,
    },
    /// The disk failed.
    #[error("blob storage failed: {detail}")]
    Storage {
        /// What happened.
        detail: String,
    },
    /// The node stops; the offset is unchanged.
    #[error("the node is stopping")]
    Stopping,
}

/// Why a body ended before its end.
pub trait BodyFault: std::fmt::Display + Send + 'static {
    /// Whether what came before it is kept, when no length was announced: so for a sender that will ask how far it
    /// got, and not for one that is told that nothing was done and sends the same again.
    fn keeps_what_came(&self) -> bool {
        true
    }
}

impl BodyFault for &'static str {}
impl BodyFault for String {}
impl BodyFault for std::io::Error {}
impl BodyFault for std::convert::Infallible {}

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there.
    #[error("copy is not in the store")]
    Missing,
    /// The bytes are not what was recorded: the copy must be quarantined and fetched again.
    #[error("stored bytes are damaged: {detail}")]
    Damaged {
        /// Where.
        detail: String,
    },
    /// The medium gives an error where the bytes should be, also when it is asked again. It may be this copy, or the disk:
    /// serve by fetch-through, and find out with [`Handle::rebuild_groups`].
    #[error("stored bytes cannot be read: {detail}")]
    Unreadable {
        /// Where.
        detail: String,
    },
    /// Group values are unreadable: serve by fetch-through and call [`Handle::rebuild_groups`].
    #[error("group values are missing or damaged")]
    NoGroups,
    /// The disk failed.
    #[error("blob storage failed: {detail}")]
    Storage {
        /// What happened.
        detail: String,
    },
}

/// Space of the store's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Unit: bytes.
    pub total: u64,
    /// Unit: bytes.
    pub free: u64,
    /// Kept for Raft and state. Unit: bytes.
    pub reserve: u64,
}

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    store: Arc<Store>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("store", &self.store.identity.store).finish_non_exhaustive()
    }
}

/// A task that ended without an answer: the node is stopping, or the step panicked and was reported.
fn stopped() -> UploadError {
    UploadError::Storage { detail: "the step did not finish, the node is stopping".to_owned() }
}

impl Handle {
    /// Opens a formatted store. Reads `staging/` and nothing below `data/`; the inventory cache is opened and compared
    /// with the disk in the background, by a task of `tasks` that also writes it down when they are cancelled.
    pub async fn open(config: Config, tasks: Tasks) -> Result<Self, OpenError> {
        let (root, opening, owner) = (config.root.clone(), config.clone(), tasks.clone());
        let opened = tokio::task::spawn_blocking(move || Store::open(&opening, owner)).await;
        let store = opened.map_err(|error| OpenError::Storage { root, detail: error.to_string() })??;
        let handle = Handle { store: Arc::new(store) };
        index_task::spawn(&handle.store, &config, &tasks);
        Ok(handle)
    }
    /// A write that failed for want of space says nothing about the disk; what the disk says is added.
    fn measured(&self, error: UploadError) -> UploadError {
        match error {
            UploadError::Full { free: 0, reserve: 0 } => {
                let Space { free, reserve, .. } = self.space();
                UploadError::Full { free, reserve }
            }
            other => other,
        }
    }
    /// Tells the room the cluster time, which it has no other way to know. Unit: milliseconds.
    pub fn note_cluster_time(&self, now_ms: u64) {
        self.store.clock_ms.fetch_max(now_ms, Ordering::Relaxed);
    }
    /// Changes what is kept free of blobs.
    pub fn set_reserve(&self, reserve: crate::Reserve) {
        self.store.disk.set_reserve(reserve);
    }
    /// Upload sessions open now.
    pub fn uploads_open(&self) -> usize {
        self.store.sessions.open()
    }
    /// The store.
    pub fn store(&self) -> StoreId {
        self.store.identity.store
    }
    /// Free space, cached for a second.
    pub fn space(&self) -> Space {
        self.store.disk.space()
    }

    /// Compares the inventory with the disk and corrects it; returns the corrections. Also done once at every start.
    pub async fn rescan(&self) -> Result<u64, ReadError> {
        Ok(index_task::compare(&self.store).await?)
    }
    /// Whether [`Handle::inventory`] answers from its cache; until then it walks the directories.
    pub fn inventory_is_cached(&self) -> bool {
        self.store.index.is_ready()
    }

    /// Opens a session. Its record is durable with its first acknowledged byte, not before.
    pub async fn create_upload(&self, repository: RepositoryName) -> Result<SessionKey, UploadError> {
        let store = Arc::clone(&self.store);
        let work = async move { sessions::create(&store, repository).await };
        let made = self.store.to_the_end("upload create", work).await;
        made.unwrap_or_else(|| Err(stopped())).map_err(|error| self.measured(error))
    }
    /// A session's state.
    pub async fn upload_status(&self, session: SessionKey) -> Result<SessionStatus, UploadError> {
        sessions::status(&self.store, session).await
    }
    /// Appends a body at `offset` (at the end when none). `length` is what was announced (Content-Range or
    /// Content-Length): another length received is `Length` and leaves the offset unchanged; a body that breaks off
    /// without an announced Content-Range keeps what came, durably, unless its fault says otherwise. Returns the new
    /// offset; it is durable.
    pub async fn append<E: BodyFault>(
        &self,
        session: SessionKey,
        offset: Option<u64>,
        length: Option<u64>,
        body: ByteStream<E>,
    ) -> Result<u64, UploadError> {
        let store = Arc::clone(&self.store);
        let work = async move { append::append(&store, session, Part { offset, length, body }).await };
        let appended = self.store.to_the_end("upload append", work).await;
        appended.unwrap_or_else(|| Err(stopped())).map_err(|error| self.measured(error))
    }
    /// Checks the digest, makes the bytes durable under their final key with a fresh copy id, and marks the session
    /// complete. Again on a complete session: the same answer, no bytes move. The pin must be held until the proposal
    /// is applied here, refused or fenced.
    pub async fn complete(&self, session: SessionKey, digest: Digest) -> Result<(PlacedBlob, Pin), UploadError> {
        let store = Arc::clone(&self.store);
        let work = async move { place::complete(&store, session, digest).await };
        let placed = self.store.to_the_end("upload complete", work).await;
        placed.unwrap_or_else(|| Err(stopped())).map_err(|error| self.measured(error))
    }
    /// [`Handle::append`] of the last bytes and [`Handle::complete`] in one: the bytes are durable and recorded with the
    /// copy, or the session is at the offset of before. Only a body that breaks off is kept as `append` keeps it.
    pub async fn append_and_complete<E: BodyFault>(
        &self,
        session: SessionKey,
        offset: Option<u64>,
        length: Option<u64>,
        body: ByteStream<E>,
        digest: Digest,
    ) -> Result<(PlacedBlob, Pin), UploadError> {
        let store = Arc::clone(&self.store);
        let part = Part { offset, length, body };
        let work = async move { place::append_and_complete(&store, session, part, digest).await };
        let placed = self.store.to_the_end("upload append and complete", work).await;
        placed.unwrap_or_else(|| Err(stopped())).map_err(|error| self.measured(error))
    }
    /// The proposal of a complete session was applied: record and session go.
    pub async fn finish_upload(&self, session: SessionKey) {
        sessions::finish(&self.store, session).await;
    }
    /// Ends a session and frees its staging. Idempotent: false when it was not known.
    pub async fn cancel_upload(&self, session: SessionKey) -> Result<bool, UploadError> {
        let store = Arc::clone(&self.store);
        let work = async move {
            match sessions::acquire(&store, session).await {
                Ok(held) => {
                    sessions::end(&store, held).await;
                    Ok(true)
                }
                Err(UploadError::Unknown) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.store.to_the_end("upload cancel", work).await.unwrap_or_else(|| Err(stopped()))
    }
    /// Purges sessions older than `expiry_ms` on a clock that the caller advances (cluster time, design §4).
    pub async fn expire_uploads(&self, now_ms: u64, expiry_ms: u64) -> usize {
        sessions::expire(&self.store, now_ms, expiry_ms).await
    }

    /// Verified read, for a peer: every group's blake3 is checked before its bytes leave. The first group is read and
    /// checked before this returns, so that damage there is an `Err` here and not a broken body; later damage ends the
    /// stream with an error. What lies ready for all readers together is bounded, for they may take nothing for long:
    /// while there is room they have whole groups, in pieces, and small slices of them else.
    pub async fn read(&self, stored: Stored, range: ByteRange) -> Result<ByteStream<ReadError>, ReadError> {
        reader::read(&self.store, &self.store.peer_reads, stored, range).await
    }
    /// As [`Handle::read`], for clients, who have a bound of their own.
    pub async fn read_for_client(&self, stored: Stored, range: ByteRange) -> Result<ByteStream<ReadError>, ReadError> {
        reader::read(&self.store, &self.store.client_reads, stored, range).await
    }
    /// The group values of a copy, proved against its root; for peers that fetch. 32 bytes a group.
    pub async fn group_values(&self, stored: Stored) -> Result<Bytes, ReadError> {
        Ok(read::groups_of(&self.store, stored).await?.values().clone())
    }
    /// Re-hashes the whole file and writes its `.groups` anew; `Damaged` when it is not what the root says, `Unreadable`
    /// when the medium does not give it.
    pub async fn rebuild_groups(&self, stored: Stored) -> Result<(), ReadError> {
        copies::rebuild_groups(&self.store, stored).await
    }
    /// Whether the file of a copy is there with that size; cheap.
    pub async fn probe(&self, digest: Digest, copy: CopyId, size: u64) -> Result<bool, ReadError> {
        copies::probe(&self.store, digest, copy, size).await
    }
    /// Begins a verified transfer into staging. `values` are 32 bytes a group and are proved against `root` first.
    /// Resumes an interrupted ingest of the same digest when its staging and values are still there.
    pub async fn ingest(
        &self,
        digest: Digest,
        size: u64,
        root: Blake3Root,
        values: Bytes,
    ) -> Result<Ingest, UploadError> {
        ingest::begin(&self.store, digest, size, root, values).await
    }
    /// Deletes a copy and its groups file, durably. Absent is fine. Refused (false) while pinned.
    pub async fn delete_copy(&self, digest: Digest, copy: CopyId) -> Result<bool, ReadError> {
        copies::delete(&self.store, digest, copy).await
    }
    /// Claims the removal of a copy: until the claim is dropped or used, nobody can pin the copy, so nothing about it is
    /// proposed. None while it is pinned or being removed.
    pub fn claim_removal(&self, digest: Digest, copy: CopyId) -> Option<Removal> {
        self.store.pins.remove(digest, copy)
    }
    /// Deletes a copy whose removal was claimed from this store, as [`Handle::delete_copy`] does.
    pub async fn delete_claimed(&self, removal: Removal) -> Result<(), ReadError> {
        copies::delete_claimed(&self.store, removal).await
    }
    /// Moves a damaged copy out of the way, kept for the operator as long as there is room for it: the newest thousand,
    /// at most 10 GiB, none once the disk is down to its reserve. A pinned one is left alone (false).
    pub async fn quarantine(&self, digest: Digest, copy: CopyId) -> Result<bool, ReadError> {
        copies::quarantine(&self.store, digest, copy).await
    }
    /// Copies found on disk: digest, copy, size; pages of the inventory after `last`.
    pub async fn inventory(
        &self,
        last: Option<(Digest, CopyId)>,
        limit: usize,
    ) -> Result<Vec<(Digest, CopyId, u64)>, ReadError> {
        let index = Arc::clone(&self.store.index);
        Ok(crate::store::blocking(move || index.page(last, limit)).await?)
    }
}
