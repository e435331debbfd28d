//! The id of a cluster that is being born: durable before the blob store is formatted for it.
//!
//! `init` formats the store for a cluster id that it draws. Stopped between that and the stamp of the log, the next
//! `init` would draw another id and find the store of a cluster that never was.

use std::io::ErrorKind;
use std::path::Path;

use domain::ClusterId;

use super::{Error, identity};

const NAME: &str = "birth";

/// The cluster id of an unfinished `init` in `data`, or a new one, made durable.
pub(super) fn cluster(data: &Path) -> Result<ClusterId, Error> {
    let path = data.join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => ClusterId::from_hex(text.trim_end()).ok_or_else(|| Error::Identity {
            detail: format!("{} is damaged; this node was never born, so empty its data directory", path.display()),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(data).map_err(|error| identity::storage(data, &error))?;
            let cluster = runtime::random::cluster_id();
            identity::write_synced(data, NAME, &format!("{cluster}\n"))?;
            Ok(cluster)
        }
        Err(error) => Err(identity::storage(&path, &error)),
    }
}

/// Removes the file once the identity says the same. One that stays is never read again.
pub(super) fn forget(data: &Path) {
    if let Err(error) = std::fs::remove_file(data.join(NAME))
        && error.kind() != ErrorKind::NotFound
    {
        tracing::debug!(%error, "the file of the birth stays");
    }
}
