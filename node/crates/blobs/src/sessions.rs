//! Upload sessions: which are open, what is durable of each, and who writes to one now.
//!
//! The truth of a session is its record (see `record`); everything here is made again from it. One request at a time
//! holds a session's lock: a second one is told `Busy`.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::RepositoryName;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::format::sync_directory;
use crate::handle::{PlacedBlob, SessionKey, SessionStatus, UploadError};
use crate::hashing::HashState;
use crate::layout::{Layout, Staged, parse_staged};
use crate::record::Record;
use crate::store::{Store, blocking};

/// Sessions whose hashes are kept between requests; others are read once more when they complete.
const HASHES_KEPT_MAX: usize = 256;
/// Sessions looked at to find one that makes room.
const LOOKED_AT_MAX: usize = 64;

/// A session as its lock protects it.
pub(crate) enum Slot {
    /// Known from its file name; the record was not read yet.
    Unloaded,
    Open(Box<Live>),
    /// Ended while a request was waiting for it.
    Gone,
}

/// An open session.
pub(crate) struct Live {
    pub(crate) record: Record,
    /// Hashes of exactly the bytes up to the record's offset.
    pub(crate) hash: Option<HashState>,
}

/// One session.
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    slot: Arc<AsyncMutex<Slot>>,
    /// What the record says, for those that do not hold the lock.
    status: Mutex<Option<SessionStatus>>,
    /// When somebody asked for it last; when the store was opened for one that nobody asked for since.
    used: Mutex<Instant>,
}

impl Session {
    fn new(key: SessionKey, slot: Slot) -> Self {
        let status = match &slot {
            Slot::Open(live) => Some(live.status()),
            Slot::Unloaded | Slot::Gone => None,
        };
        let used = Mutex::new(runtime::clock::now());
        Session { key, slot: Arc::new(AsyncMutex::new(slot)), status: Mutex::new(status), used }
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = runtime::clock::now();
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no byte was acknowledged, as far as is known without reading the record.
    fn may_be_empty(&self) -> bool {
        self.status().is_none_or(|status| status.offset == 0 && status.placed.is_none())
    }

    fn status(&self) -> Option<SessionStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, live: &Live) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.status());
    }
}

impl Live {
    fn status(&self) -> SessionStatus {
        let Record { offset, repository, placed, .. } = &self.record;
        SessionStatus { repository: repository.clone(), offset: *offset, placed: *placed }
    }
}

/// A session whose lock is held.
pub(crate) struct Held {
    pub(crate) session: Arc<Session>,
    slot: OwnedMutexGuard<Slot>,
    /// Somebody uses it, up to the moment that this is dropped.
    in_use: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.in_use {
            self.session.touch();
        }
    }
}

impl Held {
    /// Shows what the record says now to those that do not hold the lock.
    pub(crate) fn publish(&self) {
        if let Slot::Open(live) = &*self.slot {
            self.session.publish(live);
        }
    }

    pub(crate) fn live(&mut self) -> Result<&mut Live, UploadError> {
        match &mut *self.slot {
            Slot::Open(live) => Ok(live),
            Slot::Unloaded | Slot::Gone => Err(UploadError::Unknown),
        }
    }
}

/// All sessions of a store.
pub(crate) struct Sessions {
    table: Mutex<HashMap<SessionKey, Arc<Session>>>,
    /// Sessions with hashes in memory, oldest first.
    hashed: Mutex<VecDeque<SessionKey>>,
    open_max: usize,
    /// How long a session without bytes is left alone where another needs its place.
    idle: Duration,
}

impl Sessions {
    /// Finds the sessions of a store by name and removes staging that belongs to none. Blocks.
    pub(crate) fn list(layout: &Layout, open_max: usize, idle: Duration) -> io::Result<Self> {
        let mut uploads = Vec::new();
        let mut table = HashMap::new();
        for entry in fs::read_dir(layout.staging())? {
            let name = entry?.file_name();
            match name.to_str().map(parse_staged) {
                Some(Staged::Upload(key)) => uploads.push(key),
                Some(Staged::Record(key)) => {
                    table.insert(key, Arc::new(Session::new(key, Slot::Unloaded)));
                }
                Some(Staged::Regroup) => fs::remove_file(layout.staging().join(name))?,
                Some(Staged::Fetch | Staged::Foreign) | None => {}
            }
        }
        for key in uploads {
            if !table.contains_key(&key) {
                fs::remove_file(layout.upload(key))?;
            }
        }
        // A process may have ended between a session's first record and the sync of its name.
        sync_directory(&layout.staging())?;
        Ok(Sessions { table: Mutex::new(table), hashed: Mutex::default(), open_max, idle })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SessionKey, Arc<Session>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> usize {
        self.table().len()
    }

    fn hashed(&self) -> MutexGuard<'_, VecDeque<SessionKey>> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, session: Session) -> bool {
        let mut table = self.table();
        let fits = table.len() < self.open_max;
        if fits {
            table.insert(session.key, Arc::new(session));
        }
        fits
    }

    /// Sessions that may have to make room: without bytes and unused for long, those unused longest first.
    fn idle(&self) -> Vec<SessionKey> {
        let now = runtime::clock::now();
        let mut idle: Vec<(Instant, SessionKey)> =
            self.table().values().filter(|session| session.may_be_empty()).map(|s| (s.used(), s.key)).collect();
        idle.retain(|(used, _)| now.saturating_duration_since(*used) >= self.idle);
        idle.sort_unstable();
        idle.into_iter().map(|(_, key)| key).collect()
    }

    /// Notes that a session's hashes are in memory, and drops those of the one that has waited longest.
    pub(crate) fn keep_hash(&self, key: SessionKey) {
        let oldest = {
            let mut hashed = self.hashed();
            hashed.retain(|other| *other != key);
            hashed.push_back(key);
            if hashed.len() > HASHES_KEPT_MAX { hashed.pop_front() } else { None }
        };
        let session = oldest.and_then(|oldest| self.table().get(&oldest).cloned());
        // One that is being written to now will note itself again.
        if let Some(session) = session
            && let Ok(mut slot) = session.slot.try_lock()
            && let Slot::Open(live) = &mut *slot
        {
            live.hash = None;
        }
    }
}

/// Opens a session.
pub(crate) async fn create(store: &Arc<Store>, repository: RepositoryName) -> Result<SessionKey, UploadError> {
    store.disk.admit(0)?;
    let key = SessionKey(runtime::random::bytes());
    let record = Record { sequence: 0, offset: 0, touched_ms: store.now_ms(), repository, placed: None };
    let session = || {
        let live = Live { record: record.clone(), hash: Some(HashState::new()) };
        Session::new(key, Slot::Open(Box::new(live)))
    };
    while !store.sessions.insert(session()) {
        // Another may take the place first, but then it has made room as well: this ends with the idle ones.
        if !make_room(store).await {
            return Err(UploadError::TooMany);
        }
    }
    let layout = store.layout.clone();
    // Not synced: nothing of it is acknowledged but that it was opened. What a power cut takes, its client meets as an
    // unknown upload; the first acknowledged byte makes record and names durable.
    let made = blocking(move || {
        File::create_new(layout.upload(key))?;
        record.create(&File::create_new(layout.record(key))?)
    });
    if let Err(error) = made.await {
        forget(store, key).await;
        return Err(error.into());
    }
    store.sessions.keep_hash(key);
    Ok(key)
}

/// Ends the session that has been unused longest of those that nobody sent a byte to; false when there is none that has
/// been left alone long enough. What was acknowledged is never taken away.
async fn make_room(store: &Arc<Store>) -> bool {
    for key in store.sessions.idle().into_iter().take(LOOKED_AT_MAX) {
        let Some(session) = store.sessions.table().get(&key).cloned() else { return true };
        // One that is being written to now is in use.
        let Ok(mut held) = acquire_unused(store, session).await else { continue };
        let Ok(live) = held.live() else { continue };
        if live.record.offset == 0 && live.record.placed.is_none() {
            tracing::info!(upload_id = ?key, "upload session without bytes gives its place to another");
            end(store, held).await;
            return true;
        }
    }
    false
}

/// Takes a session's lock and makes sure its record is read.
pub(crate) async fn acquire(store: &Arc<Store>, key: SessionKey) -> Result<Held, UploadError> {
    let session = store.sessions.table().get(&key).cloned().ok_or(UploadError::Unknown)?;
    session.touch();
    let mut held = acquire_unused(store, session).await?;
    held.in_use = true;
    Ok(held)
}

/// As `acquire`, without counting as use.
async fn acquire_unused(store: &Arc<Store>, session: Arc<Session>) -> Result<Held, UploadError> {
    let key = session.key;
    let Ok(slot) = Arc::clone(&session.slot).try_lock_owned() else {
        let offset = session.status().map_or(0, |status| status.offset);
        return Err(UploadError::Busy { offset });
    };
    let mut held = Held { session, slot, in_use: false };
    if matches!(*held.slot, Slot::Gone) {
        store.sessions.table().remove(&key);
        return Err(UploadError::Unknown);
    }
    if matches!(*held.slot, Slot::Unloaded) {
        let loading = Arc::clone(store);
        match blocking(move || load(&loading, key)).await? {
            Some(record) => {
                let hash = (record.offset == 0).then(HashState::new);
                let live = Live { record, hash };
                held.session.publish(&live);
                *held.slot = Slot::Open(Box::new(live));
            }
            None => {
                tracing::info!(upload_id = ?key, "upload session is given up: its record or staging is gone");
                end(store, held).await;
                return Err(UploadError::Unknown);
            }
        }
    }
    held.live()?;
    Ok(held)
}

/// A session's state, also while a request writes to it.
pub(crate) async fn status(store: &Arc<Store>, key: SessionKey) -> Result<SessionStatus, UploadError> {
    let session = store.sessions.table().get(&key).cloned().ok_or(UploadError::Unknown)?;
    session.touch();
    if let Some(status) = session.status() {
        return Ok(status);
    }
    match acquire(store, key).await {
        Ok(mut held) => Ok(held.live()?.status()),
        // Another request has just read the record.
        Err(UploadError::Busy { .. }) => session.status().ok_or(UploadError::Busy { offset: 0 }),
        Err(error) => Err(error),
    }
}

/// Reads a record and brings the files back to what it says; `None` when they cannot be. Blocks.
fn load(store: &Store, key: SessionKey) -> io::Result<Option<Record>> {
    let layout = &store.layout;
    let Some(record) = if_there(File::open(layout.record(key)))?.map(|file| Record::read(&file)).transpose()?.flatten()
    else {
        return Ok(None);
    };
    if let Some(placed) = record.placed {
        return Ok(settle_placed(store, key, &placed)?.then_some(record));
    }
    Ok(open_staged(layout, key, record.offset)?.map(|_| record))
}

/// Opens staging and cuts it to `offset`, for what came after the last acknowledged byte may be anything; `None` when
/// it is gone or shorter. Blocks.
pub(crate) fn open_staged(layout: &Layout, key: SessionKey, offset: u64) -> io::Result<Option<File>> {
    let opened = OpenOptions::new().read(true).write(true).open(layout.upload(key));
    let Some(staged) = if_there(opened)? else { return Ok(None) };
    let length = staged.metadata()?.len();
    if length > offset {
        staged.set_len(offset)?;
        staged.sync_all()?;
    }
    Ok((length >= offset).then_some(staged))
}

/// Replaces a session's record by the next one, durably; the first time the names of its files too. Blocks.
pub(crate) fn replace_record(layout: &Layout, key: SessionKey, next: &Record) -> io::Result<()> {
    next.replace(&layout.record(key))?;
    if next.sequence == 1 { sync_directory(&layout.staging()) } else { Ok(()) }
}

/// Whether placed bytes lie durably under their final key; a rename that a crash undid is done again. Blocks.
pub(crate) fn settle_placed(store: &Store, key: SessionKey, placed: &PlacedBlob) -> io::Result<bool> {
    let layout = &store.layout;
    let PlacedBlob { digest, size, copy, .. } = *placed;
    if let Some(metadata) = if_there(fs::metadata(layout.blob(&digest, copy)))? {
        if metadata.len() != size {
            return Ok(false);
        }
        // The process that renamed it may have ended before it synced the directories.
        layout.make_prefix(&digest)?;
        sync_directory(&layout.prefix_of(&digest))?;
    } else {
        match if_there(fs::metadata(layout.upload(key)))? {
            Some(metadata) if metadata.len() == size => publish_file(layout, key, placed)?,
            _ => return Ok(false),
        }
    }
    store.index.added(digest, copy, size);
    Ok(true)
}

/// Renames staging to the final key, durably. Blocks. Should a crash keep the old name as well, it is swept as
/// staging that belongs to nobody; so only the new name is synced.
pub(crate) fn publish_file(layout: &Layout, key: SessionKey, placed: &PlacedBlob) -> io::Result<()> {
    layout.make_prefix(&placed.digest)?;
    fs::rename(layout.upload(key), layout.blob(&placed.digest, placed.copy))?;
    sync_directory(&layout.prefix_of(&placed.digest))
}

/// Ends a session: record first, so that a crash leaves only staging, which is swept.
pub(crate) async fn end(store: &Arc<Store>, mut held: Held) {
    *held.slot = Slot::Gone;
    forget(store, held.session.key).await;
}

async fn forget(store: &Arc<Store>, key: SessionKey) {
    // First, so that it is done even when the caller goes away during the rest.
    store.sessions.table().remove(&key);
    store.sessions.hashed().retain(|other| *other != key);
    let layout = store.layout.clone();
    let removed = blocking(move || {
        if_there(fs::remove_file(layout.record(key)))?;
        if_there(fs::remove_file(layout.upload(key))).map(|_| ())
    });
    if let Err(error) = removed.await {
        tracing::warn!(upload_id = ?key, error = %error, "upload staging was not removed");
    }
}

/// Ends sessions that made no progress for `expiry_ms`. Those being written to are left alone.
pub(crate) async fn expire(store: &Arc<Store>, now_ms: u64, expiry_ms: u64) -> usize {
    store.clock_ms.fetch_max(now_ms, Ordering::Relaxed);
    let sessions: Vec<Arc<Session>> = store.sessions.table().values().cloned().collect();
    let mut ended = 0;
    for session in sessions {
        let Ok(mut held) = acquire_unused(store, session).await else { continue };
        let Ok(live) = held.live() else { continue };
        // Opened before the clock was known: its time begins now.
        if live.record.touched_ms == 0 {
            live.record.touched_ms = now_ms;
        }
        if now_ms.saturating_sub(live.record.touched_ms) > expiry_ms {
            end(store, held).await;
            ended += 1;
        }
    }
    ended
}

/// Waits for the session's lock and ends it.
pub(crate) async fn finish(store: &Arc<Store>, key: SessionKey) {
    let Some(session) = store.sessions.table().get(&key).cloned() else { return };
    let slot = Arc::clone(&session.slot).lock_owned().await;
    end(store, Held { session, slot, in_use: false }).await;
}

/// `None` for what is not there.
pub(crate) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
