//! Snapshots: what openraft passes around, and the spooled file a peer receives (design §10).
//!
//! Building a snapshot is a durable commit of the state file and nothing more. Only when a peer needs one is a short
//! read transaction spooled to a compressed file, named by its index; transfers resume from that file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use domain::Revision;
use kv::ledger::{self, Ledger};
use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use runtime::clock;

use crate::handle::Snapshots;
use crate::raft::machine::{StateFile, storage};
use crate::raft::types::SnapshotMeta;
use crate::state::{FORMAT_LEVEL, TABLE};
use crate::view::{Freshness, View};

/// First bytes of a spooled snapshot: name and version.
const MAGIC: &[u8; 8] = b"LSSNAP\x00\x01";
/// Longest key or value accepted from a spooled file. Unit: bytes.
const FIELD_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// A spool that nobody read from for so long is removed, and the log may be purged past it.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What openraft calls snapshot data.
#[derive(Clone)]
pub(crate) enum Spool {
    /// This node's own state, spooled when a peer needs it.
    Own(Arc<StateFile>),
    /// A state file that was received, verified and synced, ready to be moved into place.
    Received(PathBuf),
}

/// A spooled file on disk.
#[derive(Clone)]
pub(crate) struct SpoolFile {
    pub(crate) path: PathBuf,
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes: u64,
    pub(crate) blake3: [u8; 32],
}

/// The spool of this node, at most one at a time, shared by the transfers to all peers.
#[derive(Default)]
pub(crate) struct Spools {
    current: Mutex<Option<Current>>,
    making: Mutex<()>,
    pub(crate) traffic: Traffic,
}

/// What snapshots moved since the start. Bytes are those of spooled files.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) installed: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) resumed_bytes: AtomicU64,
}

impl Traffic {
    /// The counts of the moment.
    pub(crate) fn counts(&self) -> Snapshots {
        Snapshots {
            installed: self.installed.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            resumed_bytes: self.resumed_bytes.load(Ordering::Relaxed),
        }
    }
}

struct Current {
    file: SpoolFile,
    /// When the last transfer ended.
    idle_since: Instant,
    /// Transfers that use the file now.
    users: usize,
}

/// A transfer's hold on the spool; while it lives the file stays and the log behind it too.
pub(crate) struct Hold {
    state: Arc<StateFile>,
    pub(crate) file: SpoolFile,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut current = self.state.spools().current();
        if let Some(held) = current.as_mut()
            && held.file.path == self.file.path
        {
            held.users = held.users.saturating_sub(1);
            held.idle_since = clock::now();
        }
    }
}

impl Spools {
    fn current(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        // An option that is replaced whole, and counters.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot of a transfer that progresses, or broke off just now: it is what a peer is offered, so that the
    /// transfer goes on where it was, and the log may not be purged past it.
    pub(crate) fn held(&self) -> Option<SnapshotMeta> {
        let mut current = self.current();
        match current.as_ref() {
            Some(held) if held.users > 0 || held.idle_since.elapsed() < IDLE_MAX => Some(held.file.meta.clone()),
            Some(held) => {
                drop(std::fs::remove_file(&held.file.path));
                *current = None;
                None
            }
            None => None,
        }
    }

    /// Up to where the log may be purged, if a transfer bounds it; 0 while its snapshot is being spooled, for as long as
    /// nobody knows which index that has.
    pub(crate) fn bound(&self) -> Option<u64> {
        if matches!(self.making.try_lock(), Err(TryLockError::WouldBlock)) {
            return Some(0);
        }
        self.held().map(|meta| meta.last_log_id.map_or(0, |id| id.index))
    }

    /// A transfer is through: without another user the file goes at once.
    pub(crate) fn finish(&self, path: &Path) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|held| held.file.path == path && held.users <= 1) {
            drop(std::fs::remove_file(path));
            *current = None;
        }
    }

    /// The spooled file, made now unless there is one that is not older than `least`: what the library believes the
    /// peer to hold after the transfer. Blocking.
    pub(crate) fn get(state: &Arc<StateFile>, least: &SnapshotMeta) -> io::Result<Hold> {
        let spools = state.spools();
        let _one = spools.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = spools.current().as_mut()
            && held.file.meta.last_log_id >= least.last_log_id
        {
            held.users += 1;
            return Ok(Hold { state: state.clone(), file: held.file.clone() });
        }
        let file = spool(state)?;
        if file.meta.last_log_id < least.last_log_id {
            return Err(io::Error::other("the state is older than the snapshot that was promised"));
        }
        *spools.current() = Some(Current { file: file.clone(), idle_since: clock::now(), users: 1 });
        Ok(Hold { state: state.clone(), file })
    }
}

/// Counts and hashes what is written.
struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn spool(state: &StateFile) -> io::Result<SpoolFile> {
    let started = clock::now();
    let snapshot = state.read().map_err(storage)?;
    let meta = StateFile::meta_of(&snapshot)?;
    let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
    let folder = state.snapshots();
    std::fs::create_dir_all(folder)?;
    for stale in std::fs::read_dir(folder)?.flatten() {
        if stale.file_name().to_string_lossy().ends_with(".spool") {
            drop(std::fs::remove_file(stale.path()));
        }
    }
    let path = folder.join(format!("{index}.spool"));
    let hashing = Hashing { inner: BufWriter::new(File::create(&path)?), hasher: blake3::Hasher::new(), bytes: 0 };
    let mut encoder = FrameEncoder::new(hashing);
    encoder.write_all(MAGIC)?;
    let mut rows: u64 = 0;
    for row in snapshot.scan_all(TABLE).map_err(storage)? {
        let (key, value) = row.map_err(storage)?;
        write_field(&mut encoder, &key)?;
        write_field(&mut encoder, &value)?;
        rows += 1;
    }
    // An empty key ends the rows; no row has one.
    write_field(&mut encoder, &[])?;
    encoder.write_all(&rows.to_be_bytes())?;
    let mut hashing = encoder.finish().map_err(io::Error::other)?;
    hashing.flush()?;
    let file = SpoolFile { path, meta, bytes: hashing.bytes, blake3: *hashing.hasher.finalize().as_bytes() };
    tracing::info!(
        log_index = index,
        rows,
        bytes = file.bytes,
        elapsed_ms = clock::elapsed_ms(started),
        "snapshot spooled"
    );
    Ok(file)
}

fn write_field(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(bytes)
}

fn read_field(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > FIELD_BYTES_MAX {
        return Err(malformed(format!("a field of {length} bytes")));
    }
    let mut bytes = Vec::new();
    let read = input.take(u64::from(length)).read_to_end(&mut bytes)?;
    if read == length as usize { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn malformed(detail: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snapshot is malformed: {detail}"))
}

/// Builds a state file from a received spool: checks the whole file's hash first, then its rows and their state hash.
/// The result is durable. Blocking; memory stays within the builder's batch.
pub(crate) fn build(spool: &Path, blake3: [u8; 32], target: &Path) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(spool)?)?;
    if *hasher.finalize().as_bytes() != blake3 {
        return Err(malformed("its bytes do not have the announced hash".to_owned()));
    }
    if target.exists() {
        std::fs::remove_file(target)?;
    }
    let mut decoder = FrameDecoder::new(BufReader::new(File::open(spool)?));
    let mut magic = [0; 8];
    decoder.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(malformed("unknown version".to_owned()));
    }
    let mut builder = ledger::Builder::create(target, 8 << 20, crate::raft::machine::TABLES).map_err(storage)?;
    let mut rows: u64 = 0;
    loop {
        let key = read_field(&mut decoder)?;
        if key.is_empty() {
            break;
        }
        builder.push(TABLE, key, read_field(&mut decoder)?).map_err(storage)?;
        rows += 1;
    }
    let mut count = [0; 8];
    decoder.read_exact(&mut count)?;
    if u64::from_be_bytes(count) != rows {
        return Err(malformed(format!("{rows} rows arrived, {} were sent", u64::from_be_bytes(count))));
    }
    let ledger = builder.finish().map_err(storage)?;
    crate::raft::machine::check_hash(&ledger)?;
    check_format(&ledger)
}

/// Refuses a state above what this release understands: it would decide otherwise than its peers from here on.
fn check_format(ledger: &Ledger) -> io::Result<()> {
    let view = View::new(ledger.read().map_err(storage)?, Revision(0), Freshness::Local);
    match view.meta().map_err(storage)? {
        Some(meta) if meta.format_level > FORMAT_LEVEL => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the snapshot is at format level {}, this release understands {FORMAT_LEVEL}; install a newer release",
                meta.format_level
            ),
        )),
        _ => Ok(()),
    }
}

/// A state file that [`build`] makes or has made. What was not moved into place by the end of this is removed, whole or
/// half-built: a failed install must not cost the disk that the next one needs.
pub(crate) struct Unplaced(pub(crate) PathBuf);

impl Drop for Unplaced {
    fn drop(&mut self) {
        // The name under which a new ledger is made.
        let mut begun = self.0.clone().into_os_string();
        begun.push(".new");
        drop(std::fs::remove_file(begun));
        drop(std::fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Meta;
    use crate::state::Batch;
    use crate::state::space::{Space, single};

    #[test]
    fn a_state_of_a_newer_release_is_refused() {
        let ledger = Ledger::in_memory(&[TABLE]).expect("in memory");
        let check = |format_level| {
            let meta = Meta {
                cluster: domain::ClusterId([1; 16]),
                incarnation: 1,
                format_level,
                cluster_time_ms: 0,
                horizon: Revision(0),
                next_region: 2,
                next_node: 2,
                mac_key: [1; 32],
            };
            let mut batch = Batch::begin(&ledger).expect("begins");
            batch.put(single(Space::Meta), &meta).expect("a row");
            batch.commit(ledger::Sync::Visible).expect("commits");
            check_format(&ledger)
        };
        check(FORMAT_LEVEL).expect("a state of this release");
        let refused = check(FORMAT_LEVEL + 1).expect_err("a state of the next release");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
}
