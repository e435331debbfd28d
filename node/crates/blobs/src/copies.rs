//! Copies as files: are they there, remove them, move them aside, make their group values anew.

use std::fs::{self, File};
use std::sync::Arc;

use domain::{CopyId, Digest};
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStoreExt};

use crate::format::{read_identity, sync_directory};
use crate::handle::{ReadError, Stored};
use crate::hashing;
use crate::layout::{blob_key, groups_key};
use crate::pins::Removal;
use crate::sessions::if_there;
use crate::store::{Store, blocking};
use crate::{place, quarantine};

/// See [`crate::Handle::probe`].
pub(crate) async fn probe(store: &Arc<Store>, digest: Digest, copy: CopyId, size: u64) -> Result<bool, ReadError> {
    let (layout, ours) = (store.layout.clone(), store.identity);
    let found = blocking(move || {
        let found = if_there(fs::metadata(layout.blob(&digest, copy)))?;
        // Absence proves something only on a disk that is there.
        if found.is_none() && read_identity(&layout)? != Some(ours) {
            return Err(std::io::Error::other("the STORE file is not readable: the disk may not be mounted"));
        }
        Ok(found.is_some_and(|metadata| metadata.len() == size))
    });
    found.await.map_err(|error| ReadError::Storage { detail: error.to_string() })
}

/// See [`crate::Handle::delete_copy`].
pub(crate) async fn delete(store: &Arc<Store>, digest: Digest, copy: CopyId) -> Result<bool, ReadError> {
    let Some(removal) = store.pins.remove(digest, copy) else { return Ok(false) };
    delete_claimed(store, removal).await?;
    Ok(true)
}

/// See [`crate::Handle::delete_claimed`].
pub(crate) async fn delete_claimed(store: &Arc<Store>, removal: Removal) -> Result<(), ReadError> {
    let (digest, copy) = removal.copy();
    // Values last: while the blob's name stands, its reads stay verified.
    for key in [blob_key(&digest, copy), groups_key(&digest, copy)] {
        match store.objects.delete(&Path::from(key)).await {
            Ok(()) | Err(ObjectError::NotFound { .. }) => {}
            Err(error) => return Err(ReadError::Storage { detail: error.to_string() }),
        }
    }
    gone(store, digest, copy).await
}

/// See [`crate::Handle::quarantine`].
pub(crate) async fn quarantine(store: &Arc<Store>, digest: Digest, copy: CopyId) -> Result<bool, ReadError> {
    let Some(_removal) = store.pins.remove(digest, copy) else { return Ok(false) };
    let layout = store.layout.clone();
    blocking(move || {
        if_there(fs::rename(layout.blob(&digest, copy), layout.quarantined(&digest, copy)))?;
        if_there(fs::remove_file(layout.groups(&digest, copy)))?;
        sync_directory(&layout.quarantine())
    })
    .await?;
    gone(store, digest, copy).await?;
    let store = Arc::clone(store);
    let cleared = blocking(move || quarantine::clear(&store.layout, &store.disk)).await;
    if let Err(error) = cleared {
        tracing::warn!(error = %error, "quarantine could not be cleared of old copies");
    }
    Ok(true)
}

/// Makes a removal durable and known. object_store syncs no deletes.
async fn gone(store: &Arc<Store>, digest: Digest, copy: CopyId) -> Result<(), ReadError> {
    store.groups.forget(copy);
    let store = Arc::clone(store);
    let noted = blocking(move || {
        if_there(sync_directory(&store.layout.prefix_of(&digest)))?;
        store.index.removed(digest, copy);
        Ok(())
    });
    Ok(noted.await?)
}

/// See [`crate::Handle::rebuild_groups`].
pub(crate) async fn rebuild_groups(store: &Arc<Store>, stored: Stored) -> Result<(), ReadError> {
    let Stored { digest, copy, size, root } = stored;
    let permit = Arc::clone(&store.rehash_gate).acquire_owned().await;
    let permit = permit.map_err(|error| ReadError::Storage { detail: error.to_string() })?;
    let layout = store.layout.clone();
    let fits = blocking(move || {
        let _permit = permit;
        let file = File::open(layout.blob(&digest, copy))?;
        if file.metadata()?.len() != size {
            return Ok(false);
        }
        let (actual, hasher) = hashing::hash_file(&file, size, digest.algorithm())?;
        let (actual_root, groups) = hasher.finish();
        if actual != digest || actual_root != root {
            return Ok(false);
        }
        if groups.count() > 1 {
            // The bytes are good, whatever becomes of this.
            place::replace_groups(&layout, &digest, copy, groups.values()).map_err(std::io::Error::other)?;
        }
        Ok(true)
    })
    .await?;
    if fits {
        Ok(())
    } else {
        Err(ReadError::Damaged { detail: format!("`{digest}` has other bytes or another root") })
    }
}
