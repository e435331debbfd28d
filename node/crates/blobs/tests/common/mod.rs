//! A store in a temporary directory that can be dropped and opened again, as after a crash.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "test code; every test file uses another part")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blobs::handle::{ByteStream, Pin, PlacedBlob, ReadError, SessionKey, Stored, UploadError};
use blobs::{Config, Handle, OpenError, Reserve};
use bytes::Bytes;
use domain::{Algorithm, ByteRange, ClusterId, Digest, RepositoryName};
use futures_util::{StreamExt, TryStreamExt, stream};
use runtime::Tasks;

pub const MIB: usize = 1024 * 1024;
const CLUSTER: ClusterId = ClusterId([7; 16]);

pub struct Room {
    pub directory: tempfile::TempDir,
    pub handle: Handle,
    pub tasks: Tasks,
}

pub fn config(directory: &Path) -> Config {
    let mut config = Config::new(directory.join("blobs"), CLUSTER, directory.join("index"));
    config.reserve = Reserve::Bytes(0);
    config
}

impl Room {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        blobs::format(&directory.path().join("blobs"), CLUSTER, false).unwrap();
        Room::open(directory).await
    }

    async fn open(directory: tempfile::TempDir) -> Self {
        let tasks = Tasks::new();
        let handle = Handle::open(config(directory.path()), tasks.clone()).await.unwrap();
        Room { directory, handle, tasks }
    }

    /// Ends everything without a word to the store and returns the directory.
    pub async fn crash(self) -> tempfile::TempDir {
        let Room { directory, handle, tasks } = self;
        tasks.cancel();
        assert!(tasks.drain(Duration::from_secs(30)).await, "tasks end");
        drop(handle);
        directory
    }

    pub async fn reopen(self) -> Self {
        let directory = self.crash().await;
        Room::open(directory).await
    }

    /// As `reopen`, with `change` made to the root while the node is down.
    pub async fn reopen_after(self, change: impl FnOnce(&Path)) -> Self {
        let directory = self.crash().await;
        change(directory.path());
        Room::open(directory).await
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("blobs")
    }

    pub fn staging(&self) -> Vec<String> {
        names(&self.root().join("staging"))
    }

    pub fn blob_path(&self, placed: &PlacedBlob) -> PathBuf {
        let hex = placed.digest.hex();
        let prefix = self.root().join("data").join(placed.digest.algorithm().name()).join(&hex[..3]);
        prefix.join(format!("{hex}-{}", placed.copy))
    }

    pub fn groups_path(&self, placed: &PlacedBlob) -> PathBuf {
        let mut path = self.blob_path(placed).into_os_string();
        path.push(".groups");
        path.into()
    }

    pub async fn create(&self) -> SessionKey {
        self.handle.create_upload(repository()).await.unwrap()
    }

    pub async fn append(&self, session: SessionKey, bytes: &[u8]) -> Result<u64, UploadError> {
        self.handle.append(session, None, None, body(bytes, 70_000)).await
    }

    pub async fn push(&self, bytes: &[u8]) -> (PlacedBlob, Pin) {
        let session = self.create().await;
        self.append(session, bytes).await.unwrap();
        let placed = self.handle.complete(session, sha256(bytes)).await.unwrap();
        self.handle.finish_upload(session).await;
        placed
    }

    pub async fn read(&self, stored: Stored, range: std::ops::Range<u64>) -> Result<Vec<u8>, ReadError> {
        let range = ByteRange { start: range.start, end: range.end };
        collect(self.handle.read(stored, range).await?).await
    }

    pub async fn read_all(&self, placed: &PlacedBlob) -> Result<Vec<u8>, ReadError> {
        self.read(stored(placed), 0..placed.size).await
    }
}

pub async fn try_open(directory: &Path) -> Result<Handle, OpenError> {
    Handle::open(config(directory), Tasks::new()).await
}

pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub async fn collect(stream: ByteStream<ReadError>) -> Result<Vec<u8>, ReadError> {
    let chunks: Vec<Bytes> = stream.try_collect().await?;
    Ok(chunks.concat())
}

pub fn repository() -> RepositoryName {
    RepositoryName::parse("team/api").unwrap()
}

pub fn stored(placed: &PlacedBlob) -> Stored {
    let PlacedBlob { digest, size, root, copy } = *placed;
    Stored { digest, copy, size, root }
}

/// Bytes that repeat nowhere, the same for one seed.
pub fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_raw(Algorithm::Sha256, ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()).unwrap()
}

pub fn sha512(bytes: &[u8]) -> Digest {
    Digest::from_raw(Algorithm::Sha512, ring::digest::digest(&ring::digest::SHA512, bytes).as_ref()).unwrap()
}

pub fn body(bytes: &[u8], step: usize) -> ByteStream<Infallible> {
    let chunks: Vec<_> = bytes.chunks(step.max(1)).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks).boxed()
}

/// A body that breaks after `bytes`.
pub fn broken<E: Send + 'static>(bytes: &[u8], error: E) -> ByteStream<E> {
    stream::iter([Ok(Bytes::copy_from_slice(bytes)), Err(error)]).boxed()
}

/// Group values and root of bytes, made the slow and sure way.
pub fn values(bytes: &[u8]) -> (domain::Blake3Root, Bytes) {
    use blake3::hazmat::HasherExt;
    let root = domain::Blake3Root(*blake3::hash(bytes).as_bytes());
    if bytes.len() <= MIB {
        return (root, Bytes::copy_from_slice(&root.0));
    }
    let mut values = Vec::new();
    for (index, group) in bytes.chunks(MIB).enumerate() {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset((index * MIB) as u64).update(group);
        values.extend_from_slice(&hasher.finalize_non_root());
    }
    (root, values.into())
}
