//! From staging to the final key: the closing step of uploads and of transfers.
//!
//! Order of the writes of an upload: bytes (synced by their append) → group values → record that names the copy →
//! rename → directories. A crash before the record leaves the session open; after it, the rename is done again when the
//! session is next used. Bytes that come with the closing request are first recorded by the record that names the copy:
//! until then they are not acknowledged, and a failure takes them back.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use domain::{Algorithm, CopyId, Digest};

use crate::append::{self, Part};
use crate::format::sync_directory;
use crate::groups::Groups;
use crate::handle::{BodyFault, PlacedBlob, SessionKey, UploadError};
use crate::hashing::{self, HashState};
use crate::layout::Layout;
use crate::pins::Pin;
use crate::record::Record;
use crate::sessions::{self, Held};
use crate::space::Refused;
use crate::store::{Store, blocking};

/// Closes a session; runs to its end even when the caller goes away. See [`crate::Handle::complete`].
pub(crate) async fn complete(
    store: &Arc<Store>,
    key: SessionKey,
    expected: Digest,
) -> Result<(PlacedBlob, Pin), UploadError> {
    let mut held = sessions::acquire(store, key).await?;
    let live = held.live()?;
    if let Some(placed) = live.record.placed {
        return again(store, held, placed, expected).await;
    }
    let (layout, size) = (store.layout.clone(), live.record.offset);
    let Some(file) = blocking(move || sessions::open_staged(&layout, key, size)).await? else {
        sessions::end(store, held).await;
        return Err(UploadError::Unknown);
    };
    let made = copy_of(store, &Arc::new(file), size, held.live()?.hash.as_ref(), expected).await;
    settle(store, held, made?, expected).await
}

/// Takes the last bytes of a session and closes it. See [`crate::Handle::append_and_complete`].
pub(crate) async fn append_and_complete<E: BodyFault>(
    store: &Arc<Store>,
    key: SessionKey,
    part: Part<E>,
    expected: Digest,
) -> Result<(PlacedBlob, Pin), UploadError> {
    let mut held = sessions::acquire(store, key).await?;
    if let Some(placed) = held.live()?.record.placed {
        return again(store, held, placed, expected).await;
    }
    let mut received = append::receive(store, held, part).await?;
    let size = received.held.live()?.record.offset + received.bytes;
    match copy_of(store, &received.file, size, received.hash.as_ref(), expected).await {
        Ok(made) => settle(store, received.held, made, expected).await,
        Err(error) => Err(received.take_back(store, error).await),
    }
}

/// What the bytes of a session came to.
enum Made {
    Copy(PlacedBlob, Pin),
    /// They are another digest's.
    Other(Digest),
}

/// Checks bytes that are on the disk, and prepares a copy of them: all but its record and its name. Nothing changes when
/// it fails.
async fn copy_of(
    store: &Arc<Store>,
    file: &Arc<File>,
    size: u64,
    hash: Option<&HashState>,
    expected: Digest,
) -> Result<Made, UploadError> {
    let (actual, (root, groups)) = digest_of(store, file, size, hash, expected.algorithm()).await?;
    if actual != expected {
        return Ok(Made::Other(actual));
    }
    let placed = PlacedBlob { digest: actual, size, root, copy: runtime::random::copy_id() };
    let pin = store.pins.pin(placed.digest, placed.copy).ok_or(UploadError::Unknown)?;
    write_groups(store, placed.digest, placed.copy, &groups).await?;
    Ok(Made::Copy(placed, pin))
}

/// Records and names the copy, or ends a session whose bytes are others.
async fn settle(
    store: &Arc<Store>,
    mut held: Held,
    made: Made,
    expected: Digest,
) -> Result<(PlacedBlob, Pin), UploadError> {
    let (placed, pin) = match made {
        Made::Copy(placed, pin) => (placed, pin),
        Made::Other(actual) => {
            sessions::end(store, held).await;
            return Err(UploadError::DigestMismatch { expected, actual });
        }
    };
    let (key, live) = (held.session.key, held.live()?);
    let record = Record { offset: placed.size, placed: Some(placed), ..live.record.next(store.now_ms()) };
    let (moving, next) = (Arc::clone(store), record.clone());
    let moved = blocking(move || {
        sessions::replace_record(&moving.layout, key, &next)?;
        sessions::publish_file(&moving.layout, key, &placed)?;
        moving.index.added(placed.digest, placed.copy, placed.size);
        Ok(())
    });
    if let Err(error) = moved.await {
        tracing::error!(upload_id = ?key, error = %error, "upload is given up: it could not be placed");
        sessions::end(store, held).await;
        return Err(error.into());
    }
    live.record = record;
    live.hash = None;
    held.publish();
    Ok((placed, pin))
}

/// The answer for a session that was completed before; its bytes do not move.
async fn again(
    store: &Arc<Store>,
    held: Held,
    placed: PlacedBlob,
    expected: Digest,
) -> Result<(PlacedBlob, Pin), UploadError> {
    if placed.digest != expected {
        return Err(UploadError::DigestMismatch { expected, actual: placed.digest });
    }
    let pin = store.pins.pin(placed.digest, placed.copy);
    let (settling, key) = (Arc::clone(store), held.session.key);
    match pin {
        Some(pin) if blocking(move || sessions::settle_placed(&settling, key, &placed)).await? => Ok((placed, pin)),
        // The copy was collected in the meantime: the client has to send it again.
        _ => {
            sessions::end(store, held).await;
            Err(UploadError::Unknown)
        }
    }
}

type Hashed = (Digest, (domain::Blake3Root, Groups));

/// The digest as hashed in passing, else by reading staging once.
async fn digest_of(
    store: &Arc<Store>,
    file: &Arc<File>,
    size: u64,
    hash: Option<&HashState>,
    algorithm: Algorithm,
) -> io::Result<Hashed> {
    if let Some(HashState { sha256, groups }) = hash
        && algorithm == Algorithm::Sha256
        && groups.size() == size
    {
        return Ok((hashing::finish(algorithm, sha256.clone()), groups.finish()));
    }
    let permit = Arc::clone(&store.rehash_gate).acquire_owned().await.map_err(io::Error::other)?;
    let file = Arc::clone(file);
    blocking(move || {
        let _permit = permit;
        let (digest, groups) = hashing::hash_file(&file, size, algorithm)?;
        Ok((digest, groups.finish()))
    })
    .await
}

/// Writes the group values of a copy durably; their name is synced with that of the copy, in the same directory.
/// Nothing for a blob of one group.
pub(crate) async fn write_groups(
    store: &Arc<Store>,
    digest: Digest,
    copy: CopyId,
    groups: &Groups,
) -> Result<(), Refused> {
    if groups.count() == 1 {
        return Ok(());
    }
    let values = groups.values().clone();
    store.disk.admit(values.len() as u64)?;
    let layout = store.layout.clone();
    let written = blocking(move || {
        layout.make_prefix(&digest)?;
        let path = layout.groups(&digest, copy);
        let result = write_new(&path, &values);
        if result.is_err() {
            sessions::if_there(fs::remove_file(&path))?;
        }
        result
    });
    Ok(written.await?)
}

/// Writes a new file and syncs it.
fn write_new(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::create_new(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

/// Replaces the group values of a copy: aside, then renamed. Blocks.
pub(crate) fn replace_groups(layout: &Layout, digest: &Digest, copy: CopyId, values: &[u8]) -> io::Result<()> {
    let aside = layout.regroup(copy);
    sessions::if_there(fs::remove_file(&aside))?;
    write_new(&aside, values)?;
    fs::rename(&aside, layout.groups(digest, copy))?;
    sync_directory(&layout.prefix_of(digest))?;
    sync_directory(&layout.staging())
}
