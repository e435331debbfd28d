//! What all handles of one store share.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::limits::{GROUP_BYTES, UPLOAD_IDLE_MS, UPLOADS_OPEN_MAX};
use domain::{ClusterId, Digest, StoreId};
use object_store::local::LocalFileSystem;
use runtime::{TaskKind, Tasks};
use tokio::sync::{Semaphore, oneshot};

use crate::batch::UploadBlocks;
use crate::buffers::{BLOCK_BYTES, Buffers};
use crate::format::{Identity, clear_mark, read_identity};
use crate::groups_cache::GroupsCache;
use crate::index::Index;
use crate::layout::Layout;
use crate::pins::Pins;
use crate::reader::Budget;
use crate::sessions::Sessions;
use crate::space::{Disk, Reserve};

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The formatted root.
    pub root: PathBuf,
    /// The cluster it must belong to.
    pub cluster: ClusterId,
    /// Directory of the inventory cache (sled). Whatever is in it may be deleted at any time while the node is down.
    pub index: PathBuf,
    /// Memory of the inventory cache. Unit: bytes.
    pub index_cache_bytes: u64,
    /// What is kept free of blobs.
    pub reserve: Reserve,
    /// Upload sessions open at once.
    pub uploads_open_max: usize,
    /// How long an upload session that no byte was sent to keeps its place when all are taken.
    pub upload_idle: Duration,
    /// What all uploads that arrive have in memory together. Unit: bytes. Above it they wait for each other.
    pub upload_bytes_max: usize,
    /// What may lie ready for clients that read, all together. Unit: bytes. Above it they get small slices.
    pub client_read_bytes_max: usize,
}

impl Config {
    /// A store at `root` with the defaults.
    pub fn new(root: impl Into<PathBuf>, cluster: ClusterId, index: impl Into<PathBuf>) -> Self {
        Config {
            root: root.into(),
            cluster,
            index: index.into(),
            index_cache_bytes: kv::cache::CACHE_BYTES,
            reserve: Reserve::Default,
            uploads_open_max: UPLOADS_OPEN_MAX,
            upload_idle: Duration::from_millis(UPLOAD_IDLE_MS),
            upload_bytes_max: UPLOAD_BYTES_MAX,
            client_read_bytes_max: CLIENT_READ_BYTES_MAX,
        }
    }
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No readable `STORE` file: an unmounted disk, or a root never formatted.
    #[error(
        "`{root}` has no readable STORE file: check that the right disk is mounted there; a lost store is replaced by \
         joining anew, `longshore-node store format --replace` gives its blobs up"
    )]
    NotFormatted {
        /// The root.
        root: PathBuf,
    },
    /// The store of another cluster.
    #[error("`{root}` is blob store {store} of cluster {found}, this node belongs to cluster {expected}")]
    OtherCluster {
        /// The root.
        root: PathBuf,
        /// Its id.
        store: StoreId,
        /// Its cluster.
        found: ClusterId,
        /// Ours.
        expected: ClusterId,
    },
    /// Another process has it open.
    #[error("`{root}` is in use by another process")]
    InUse {
        /// The root.
        root: PathBuf,
    },
    /// The disk failed.
    #[error("blob store `{root}` cannot be opened: {detail}")]
    Storage {
        /// The root.
        root: PathBuf,
        /// What happened.
        detail: String,
    },
}

/// The shared state of a store.
pub(crate) struct Store {
    pub(crate) identity: Identity,
    pub(crate) layout: Layout,
    pub(crate) objects: LocalFileSystem,
    pub(crate) disk: Disk,
    pub(crate) pins: Pins,
    pub(crate) tasks: Tasks,
    pub(crate) sessions: Sessions,
    pub(crate) index: Arc<Index>,
    pub(crate) groups: GroupsCache,
    /// Bounds what lies ready for clients, and for peers.
    pub(crate) client_reads: Arc<Budget>,
    pub(crate) peer_reads: Arc<Budget>,
    /// Digests with a transfer in staging.
    pub(crate) ingests: Mutex<HashSet<Digest>>,
    /// Bounds jobs that hash.
    pub(crate) hash_gate: Arc<Semaphore>,
    /// Bounds jobs that read a whole file again to hash it; apart, so that they do not hold up what passes through.
    pub(crate) rehash_gate: Arc<Semaphore>,
    /// Bounds jobs that write.
    pub(crate) write_gate: Arc<Semaphore>,
    /// Bounds what uploads have in memory.
    pub(crate) upload_blocks: UploadBlocks,
    /// Cluster time as last told. Unit: milliseconds.
    pub(crate) clock_ms: AtomicU64,
    /// Held while the store is open.
    _lock: File,
}

/// See [`Config::upload_bytes_max`].
const UPLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// See [`Config::client_read_bytes_max`].
const CLIENT_READ_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What may lie ready for peers that read. Unit: bytes. Above it they get small slices.
const PEER_READ_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Write jobs at once; they wait for the disk more than they compute.
const WRITES: usize = 8;

impl Store {
    /// Checks the root and takes the lock. Blocks; scans `staging/` only.
    pub(crate) fn open(config: &Config, tasks: Tasks) -> Result<Self, OpenError> {
        let root = config.root.clone();
        let failed = |detail: String| OpenError::Storage { root: root.clone(), detail };
        let layout = Layout::new(&root);
        let identity = read_identity(&layout).map_err(|error| failed(error.to_string()))?;
        let identity = identity.ok_or_else(|| OpenError::NotFormatted { root: root.clone() })?;
        if identity.cluster != config.cluster {
            let Identity { store, cluster: found } = identity;
            return Err(OpenError::OtherCluster { root, store, found, expected: config.cluster });
        }
        let lock = File::open(layout.store_file()).map_err(|error| failed(error.to_string()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { root }),
            Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
        }
        clear_mark(&root).map_err(|error| failed(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(&root).map_err(|error| failed(error.to_string()))?;
        let sessions = Sessions::list(&layout, config.uploads_open_max, config.upload_idle);
        let sessions = sessions.map_err(|error| failed(error.to_string()))?;
        let blocks = Buffers::of(BLOCK_BYTES);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Store {
            identity,
            objects: objects.with_fsync(true),
            disk: Disk::new(root, config.reserve),
            pins: Pins::default(),
            tasks,
            sessions,
            index: Arc::new(Index::new(layout.clone())),
            layout,
            groups: GroupsCache::default(),
            client_reads: Arc::new(Budget::new(config.client_read_bytes_max, Buffers::of(GROUP_BYTES))),
            peer_reads: Arc::new(Budget::new(PEER_READ_BYTES_MAX, Arc::clone(&blocks))),
            ingests: Mutex::default(),
            hash_gate: Arc::new(Semaphore::new(cores)),
            rehash_gate: Arc::new(Semaphore::new(cores)),
            write_gate: Arc::new(Semaphore::new(WRITES)),
            upload_blocks: UploadBlocks::new(config.upload_bytes_max, blocks),
            clock_ms: AtomicU64::new(0),
            _lock: lock,
        })
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn ingests(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.ingests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs work to its end even when the caller goes away; `None` when it panicked or the node is stopping.
    pub(crate) async fn to_the_end<T, F>(&self, name: &'static str, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn(TaskKind::Request, name, async move {
            // A caller that went away needs no answer.
            let _gone = answer.send(work.await);
        });
        answered.await.ok()
    }
}

/// Runs blocking work off the async threads; a panic in it becomes an I/O error.
pub(crate) async fn blocking<T, F>(work: F) -> std::io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> std::io::Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error)),
    }
}
