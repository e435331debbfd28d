//! From staging to the final key: the closing step of uploads and of transfers.
//!
//! Order of the writes of an upload: bytes (synced by their append) → group values → record that names the copy →
//! rename → directories. A crash before the record leaves the session open; after it, the rename is done again when the
//! session is next used.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use domain::{Algorithm, CopyId, Digest};

use crate::format::sync_directory;
use crate::groups::Groups;
use crate::handle::{PlacedBlob, SessionKey, UploadError};
use crate::hashing::{self, HashState};
use crate::layout::Layout;
use crate::pins::Pin;
use crate::record::Record;
use crate::sessions::{self, Held, Live};
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
    let (actual, groups) = match digest_of(store, key, live, expected.algorithm()).await {
        Ok(Some(hashed)) => hashed,
        Ok(None) => {
            sessions::end(store, held).await;
            return Err(UploadError::Unknown);
        }
        Err(error) => return Err(error.into()),
    };
    if actual != expected {
        sessions::end(store, held).await;
        return Err(UploadError::DigestMismatch { expected, actual });
    }
    let (root, groups) = groups;
    let placed = PlacedBlob { digest: actual, size: groups.size(), root, copy: runtime::random::copy_id() };
    let pin = store.pins.pin(placed.digest, placed.copy).ok_or(UploadError::Unknown)?;
    if let Err(refused) = write_groups(store, placed.digest, placed.copy, &groups).await {
        return Err(refused.into());
    }
    let record = Record { placed: Some(placed), ..live.record.next(store.now_ms()) };
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

/// The digest as hashed in passing, else by reading staging once; `None` when staging is gone.
async fn digest_of(
    store: &Arc<Store>,
    key: SessionKey,
    live: &Live,
    algorithm: Algorithm,
) -> io::Result<Option<Hashed>> {
    let (layout, size) = (store.layout.clone(), live.record.offset);
    let Some(file) = blocking(move || sessions::open_staged(&layout, key, size)).await? else { return Ok(None) };
    if let Some(HashState { sha256, groups }) = &live.hash
        && algorithm == Algorithm::Sha256
        && groups.size() == size
    {
        return Ok(Some((hashing::finish(algorithm, sha256.clone()), groups.finish())));
    }
    let permit = Arc::clone(&store.rehash_gate).acquire_owned().await.map_err(io::Error::other)?;
    blocking(move || {
        let _permit = permit;
        let (digest, groups) = hashing::hash_file(&file, size, algorithm)?;
        Ok(Some((digest, groups.finish())))
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
