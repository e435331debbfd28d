//! openraft's state machine over the state file: entries go in by batches, answers go out after the batch (design §3).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use domain::{Revision, limits};
use futures_util::{Stream, StreamExt};
use kv::ledger::{Ledger, Snapshot, Sync};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use runtime::Tasks;
use tokio::sync::watch;

use crate::handle::{Agreement, Removal, Watched};
use crate::raft::snapshot::{Spool, Spools};
use crate::raft::types::{Entry, LogId, Response, SnapshotMeta, StoredMembership, TypeConfig};
use crate::raft::wire;
use crate::state::codec::Row;
use crate::state::places::DivergedRow;
use crate::state::{Batch, Divergence, TABLE, Touched};
use crate::view::{self, Freshness, View};

/// Tables of the state file: the replicated rows, and this node's stamp, which no snapshot carries.
pub(crate) const TABLES: &[&str] = &[TABLE, STAMPS];
const STAMPS: &str = "stamp";
/// Key of the mark of a diverged node, beside the stamp.
pub(crate) const DIVERGED: &[u8] = b"diverged";
/// Key of the mark of a node that was taken out of the cluster, beside the stamp.
pub(crate) const REMOVED: &[u8] = b"removed";
/// Changed bytes after which a durable commit is due. Unit: bytes (ground.md §4).
const DIRTY_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(crate) fn storage(error: impl ToString) -> io::Error {
    io::Error::other(error.to_string())
}

/// The state file and those who wait for its changes.
pub(crate) struct StateFile {
    path: PathBuf,
    snapshots: PathBuf,
    cache_bytes: usize,
    stamp: Vec<u8>,
    ledger: RwLock<Ledger>,
    applied: watch::Sender<u64>,
    watches: [watch::Sender<u64>; 4],
    own: (domain::RegionId, domain::StoreId),
    spools: Spools,
    dirty: watch::Sender<u64>,
    /// A durable commit failed: the library keeps the file closed from then on.
    failed: AtomicBool,
    doubt: watch::Sender<Option<Divergence>>,
    agreement: watch::Sender<Agreement>,
    removal: watch::Sender<Option<Removal>>,
    built: Mutex<Option<SnapshotMeta>>,
}

impl StateFile {
    /// Wraps an open state file.
    pub(crate) fn new(
        path: PathBuf,
        cache_bytes: usize,
        ledger: Ledger,
        own: (domain::RegionId, domain::StoreId),
        stamp: Vec<u8>,
    ) -> io::Result<Self> {
        let snapshot = ledger.read().map_err(storage)?;
        let applied = Self::meta_of(&snapshot)?.last_log_id.map_or(0, |id| id.index);
        let agreement = match snapshot.get(STAMPS, DIVERGED).map_err(storage)? {
            Some(raw) => DivergedRow::decode(&raw).map_err(|bad| storage(bad.0))?.into(),
            None => Agreement::Agrees,
        };
        let removal = snapshot.get(STAMPS, REMOVED).map_err(storage)?;
        let removal = removal.map(|raw| Removal::decode(&raw)).transpose().map_err(|bad| storage(bad.0))?;
        drop(snapshot);
        let folder = path.parent().unwrap_or(Path::new(".")).join("snapshots");
        remove_unfinished(&folder);
        Ok(StateFile {
            path,
            snapshots: folder,
            cache_bytes,
            stamp,
            ledger: RwLock::new(ledger),
            applied: watch::Sender::new(applied),
            watches: std::array::from_fn(|_| watch::Sender::new(applied)),
            own,
            spools: Spools::default(),
            dirty: watch::Sender::new(0),
            failed: AtomicBool::new(false),
            doubt: watch::Sender::new(None),
            agreement: watch::Sender::new(agreement),
            removal: watch::Sender::new(removal),
            built: Mutex::new(None),
        })
    }

    /// The ledger in place now.
    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A read transaction on what is applied.
    pub(crate) fn read(&self) -> Result<Snapshot, kv::ledger::Error> {
        self.ledger().read()
    }

    /// A view of what is applied.
    pub(crate) fn view(&self, freshness: Freshness) -> Result<View, view::Error> {
        let failed = |detail: String| view::Error { detail };
        let snapshot = self.read().map_err(|error| failed(error.to_string()))?;
        let revision = revision_of(&snapshot).map_err(|error| failed(error.to_string()))?;
        Ok(View::new(snapshot, revision, freshness))
    }

    /// Index applied last.
    pub(crate) fn applied(&self) -> &watch::Sender<u64> {
        &self.applied
    }

    /// The newest difference between this node and another, found by a tick or by a peer that asked.
    pub(crate) fn doubt(&self) -> &watch::Sender<Option<Divergence>> {
        &self.doubt
    }

    /// How this node's state stands to that of the others.
    pub(crate) fn agreement(&self) -> &watch::Sender<Agreement> {
        &self.agreement
    }

    /// Indexes and hashes recorded at the last ticks, oldest first; none when they cannot be read.
    pub(crate) fn recorded(&self) -> Vec<(Revision, [u8; 32])> {
        let read = self.view(Freshness::Local).and_then(|view| view.recorded_hashes());
        read.inspect_err(|error| tracing::warn!(%error, "recorded state hashes cannot be read")).unwrap_or_default()
    }

    /// Takes this state out of service, durably: the mark goes with the file, so only a snapshot of a peer or another
    /// birth takes it away. False, and nothing done, when the state is not the one that was judged. Blocking.
    pub(crate) fn mark_diverged(&self, mark: &DivergedRow) -> io::Result<bool> {
        // Held until the mark is written: no snapshot is installed in between, whose state would be marked instead.
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        let judged = View::new(ledger.read().map_err(storage)?, mark.index, Freshness::Local);
        if !judged.recorded_hashes().map_err(storage)?.contains(&(mark.index, mark.ours)) {
            return Ok(false);
        }
        // First in memory: a disk that fails is no reason to go on serving.
        self.agreement.send_replace(mark.clone().into());
        let write = ledger.write().map_err(storage)?;
        write.table(STAMPS).map_err(storage)?.put(DIVERGED, &mark.encode()).map_err(storage)?;
        // As any sync that fails: not tried again on this file, found out anew after the next start.
        write.commit(Sync::Durable).inspect_err(|_| self.failed.store(true, Ordering::Release)).map_err(storage)?;
        Ok(true)
    }

    /// That this node was taken out of the cluster, once it knows.
    pub(crate) fn removal(&self) -> &watch::Sender<Option<Removal>> {
        &self.removal
    }

    /// Notes, durably, that this node was taken out of the cluster. Blocking.
    pub(crate) fn mark_removed(&self, removal: Removal) -> io::Result<()> {
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        self.removal.send_replace(Some(removal));
        let write = ledger.write().map_err(storage)?;
        write.table(STAMPS).map_err(storage)?.put(REMOVED, &removal.encode()).map_err(storage)?;
        write.commit(Sync::Durable).inspect_err(|_| self.failed.store(true, Ordering::Release)).map_err(storage)
    }

    pub(crate) fn spools(&self) -> &Spools {
        &self.spools
    }

    pub(crate) fn snapshots(&self) -> &Path {
        &self.snapshots
    }

    /// Index and hash recorded at the newest tick.
    pub(crate) fn last_tick(&self) -> Option<(Revision, [u8; 32])> {
        self.recorded().pop()
    }

    /// See [`crate::Handle::watch`].
    pub(crate) fn watch(&self, space: Watched) -> watch::Receiver<u64> {
        match slot(space) {
            None => self.applied.subscribe(),
            Some(at) => self.watches[at].subscribe(),
        }
    }

    /// Log id and membership of a state.
    pub(crate) fn meta_of(snapshot: &Snapshot) -> io::Result<SnapshotMeta> {
        let last = View::last_applied(snapshot).map_err(storage)?;
        let membership = View::membership(snapshot).map_err(storage)?;
        let last_membership = match membership {
            Some(raw) => wire::decode_stored_membership(&raw)?,
            None => StoredMembership::default(),
        };
        let last_log_id = last.map(|raw| wire::decode_log_id(&raw)).transpose()?;
        Ok(SnapshotMeta { last_log_id, last_membership })
    }

    /// Index of the entry to apply next: the very first one is 0, and carries the first membership.
    pub(crate) fn next_index(&self) -> io::Result<u64> {
        let last = Self::meta_of(&self.ledger().read().map_err(storage)?)?.last_log_id;
        Ok(last.map_or(0, |id| id.index + 1))
    }

    /// Applies entries in one transaction and tells who waits. Blocking.
    pub(crate) fn apply(&self, entries: &[Entry]) -> io::Result<Vec<Response>> {
        let Some(last) = entries.last() else { return Ok(Vec::new()) };
        let mut batch = Batch::begin(&self.ledger()).map_err(storage)?;
        let mut responses = Vec::with_capacity(entries.len());
        for entry in entries {
            responses.push(apply_one(&mut batch, entry)?);
        }
        batch.set_last_applied(&wire::encode_log_id(&last.log_id)).map_err(storage)?;
        let bytes = batch.bytes_changed();
        let touched = batch.commit(Sync::Visible).map_err(storage)?;
        self.dirty.send_modify(|dirty| *dirty += bytes.max(1));
        self.tell(last.log_id.index, &touched);
        Ok(responses)
    }

    fn tell(&self, index: u64, touched: &Touched) {
        let changed = |space| match space {
            Watched::Applied => true,
            Watched::Wanted => touched.wanted.contains(&self.own.0),
            Watched::Condemned => touched.condemned.contains(&self.own.1),
            Watched::Holders => touched.holders,
            Watched::Cluster => touched.cluster,
        };
        for space in [Watched::Wanted, Watched::Condemned, Watched::Holders, Watched::Cluster] {
            if changed(space)
                && let Some(at) = slot(space)
            {
                self.watches[at].send_replace(index);
            }
        }
        if let Some(divergence) = touched.divergence {
            self.doubt.send_replace(Some(divergence));
        }
        self.applied.send_replace(index);
    }

    /// Makes what is applied durable, if anything changed. Blocking.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let before = *self.dirty.borrow();
        if before == 0 {
            return Ok(());
        }
        self.ledger().sync().map_err(storage)?;
        self.dirty.send_modify(|dirty| *dirty = dirty.saturating_sub(before));
        Ok(())
    }

    /// Replaces the state file by a received one: rename, directory sync, swap. Blocking.
    fn install(&self, received: &Path) -> io::Result<()> {
        // Stamped before it takes the name: a crash in between must not leave a file that the next start disowns.
        write_stamp(&Ledger::open(received, self.cache_bytes / 8, TABLES).map_err(storage)?, &self.stamp)?;
        std::fs::rename(received, &self.path)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()?;
        let ledger = Ledger::open(&self.path, self.cache_bytes, TABLES).map_err(storage)?;
        let index = Self::meta_of(&ledger.read().map_err(storage)?)?.last_log_id.map_or(0, |id| id.index);
        let old = {
            let mut current = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
            // The state is a peer's now: the mark went with the old file.
            self.agreement.send_replace(Agreement::Agrees);
            std::mem::replace(&mut *current, ledger)
        };
        self.dirty.send_replace(0);
        for watch in &self.watches {
            watch.send_replace(index);
        }
        self.applied.send_replace(index);
        self.spools.traffic.installed.fetch_add(1, Ordering::Relaxed);
        tracing::info!(log_index = index, "snapshot installed");
        // Closing the old file syncs it: not while anybody waits for the lock.
        drop(old);
        Ok(())
    }

    /// Whether a durable commit failed. A failed sync is never tried again: the next start falls back to what is durable
    /// and applies the log again.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Commits durably after a second or 16 MiB, never when clean, until shutdown (ground.md §4) or until a commit fails.
    pub(crate) async fn run_commits(self: Arc<Self>, tasks: Tasks) {
        let token = tasks.token();
        let mut dirty = self.dirty.subscribe();
        loop {
            tokio::select! {
                changed = dirty.wait_for(|dirty| *dirty > 0) => if changed.is_err() { return },
                () = token.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                changed = dirty.wait_for(|dirty| *dirty >= DIRTY_BYTES_MAX) => if changed.is_err() { return },
                () = token.cancelled() => break,
            }
            if let Err(error) = self.sync_off_thread().await {
                tracing::error!(error = %error, "replicated state cannot be made durable");
                self.failed.store(true, Ordering::Release);
                return;
            }
        }
        if let Err(error) = self.sync_off_thread().await {
            tracing::error!(error = %error, "replicated state cannot be made durable");
        }
    }

    pub(crate) async fn sync_off_thread(self: &Arc<Self>) -> io::Result<()> {
        let file = self.clone();
        tokio::task::spawn_blocking(move || file.sync()).await.map_err(storage)?
    }
}

impl From<DivergedRow> for Agreement {
    fn from(mark: DivergedRow) -> Self {
        let DivergedRow { index, ours: _, theirs: _, right } = mark;
        Agreement::Diverged { index, right: right.into_iter().collect() }
    }
}

/// State files that were received but never installed, by a process that has ended.
fn remove_unfinished(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().contains(".state") {
            // One that stays is only space.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Index applied last in a snapshot.
fn revision_of(snapshot: &Snapshot) -> io::Result<Revision> {
    let last = View::last_applied(snapshot).map_err(storage)?;
    let last = last.map(|raw| wire::decode_log_id(&raw)).transpose()?;
    Ok(Revision(last.map_or(0, |id| id.index)))
}

/// Writes this node's stamp into a state or log file, durably.
pub(crate) fn write_stamp(ledger: &Ledger, stamp: &[u8]) -> io::Result<()> {
    let write = ledger.write().map_err(storage)?;
    write.table(STAMPS).map_err(storage)?.put(b"stamp", stamp).map_err(storage)?;
    write.commit(Sync::Durable).map_err(storage)
}

fn slot(space: Watched) -> Option<usize> {
    match space {
        Watched::Applied => None,
        Watched::Wanted => Some(0),
        Watched::Condemned => Some(1),
        Watched::Holders => Some(2),
        Watched::Cluster => Some(3),
    }
}

fn apply_one(batch: &mut Batch, entry: &Entry) -> io::Result<Response> {
    match &entry.payload {
        EntryPayload::Blank => Ok(Response::Nothing),
        EntryPayload::Membership(membership) => {
            let stored = StoredMembership::new(Some(entry.log_id), membership.clone());
            batch.set_membership(&wire::encode_stored_membership(&stored)).map_err(storage)?;
            Ok(Response::Nothing)
        }
        EntryPayload::Normal(data) => {
            let proposal = crate::wire::decode_proposal(data.0.clone()).map_err(storage)?;
            let decided = crate::apply::apply(batch, entry.log_id.index, &proposal).map_err(storage)?;
            Ok(Response::Decided(decided.revision, decided.outcome))
        }
    }
}

/// Checks a received state: the hash of all its rows is the one it carries.
pub(crate) fn check_hash(ledger: &Ledger) -> io::Result<()> {
    let snapshot = ledger.read().map_err(storage)?;
    let revision = revision_of(&snapshot)?;
    let view = View::new(snapshot, revision, Freshness::Local);
    if view.recompute_hash().map_err(storage)? == view.state_hash().map_err(storage)? {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the rows of the snapshot do not have its state hash"))
    }
}

/// The state machine openraft drives.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) file: Arc<StateFile>,
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Spool;
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = StateFile::meta_of(&self.file.read().map_err(storage)?)?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        loop {
            let mut batch = Vec::new();
            let mut responders = Vec::new();
            let mut bytes = 0;
            while batch.len() < limits::BATCH_ENTRIES_MAX
                && bytes < limits::BATCH_BYTES_MAX
                && let Some(item) = entries.next().await
            {
                let (entry, responder) = item?;
                if let EntryPayload::Normal(data) = &entry.payload {
                    bytes += data.0.len();
                }
                batch.push(entry);
                responders.push(responder);
            }
            if batch.is_empty() {
                return Ok(());
            }
            let file = self.file.clone();
            let responses = tokio::task::spawn_blocking(move || file.apply(&batch)).await.map_err(storage)??;
            for (responder, response) in responders.into_iter().zip(responses) {
                if let Some(responder) = responder {
                    responder.send(response);
                }
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Spool) -> Result<(), io::Error> {
        let Spool::Received(path) = snapshot else {
            // Our own state is what it is.
            return Ok(());
        };
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || file.install(&path)).await.map_err(storage)??;
        *self.file.built.lock().unwrap_or_else(PoisonError::into_inner) = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::type_config::alias::SnapshotOf<TypeConfig, Spool>>, io::Error> {
        let built = self.file.built.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What a transfer holds comes first: a build that was under way when its spool was made must not replace it.
        let meta = self.file.spools().held().or(built);
        Ok(meta.map(|meta| openraft::storage::Snapshot { meta, snapshot: Spool::Own(self.file.clone()) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = Spool;

    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::type_config::alias::SnapshotOf<TypeConfig, Spool>, io::Error> {
        // What is applied before the commit is durable after it.
        let meta = StateFile::meta_of(&self.file.read().map_err(storage)?)?;
        let file = self.file.clone();
        let syncing = move || file.ledger().sync().map_err(storage);
        tokio::task::spawn_blocking(syncing).await.map_err(storage)??;
        *self.file.built.lock().unwrap_or_else(PoisonError::into_inner) = Some(meta.clone());
        Ok(openraft::storage::Snapshot { meta, snapshot: Spool::Own(self.file.clone()) })
    }
}

#[cfg(test)]
#[path = "machine_test.rs"]
mod tests;
