//! Making a store, and telling whose it is.
//!
//! The `STORE` file comes last: where it is, the directories were made and synced (prefixes follow with their first blob). While a format runs a `FORMATTING`
//! file stands in the root, so that an interrupted one is taken up again and a root with someone's files is not.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use domain::{ClusterId, StoreId};

use crate::layout::{ALGORITHMS, Layout};

const FORMATTING: &str = "FORMATTING";
const HEADER: &str = "longshore store 1";

/// Why a root could not be formatted.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The root is a store of another cluster.
    #[error(
        "`{root}` is blob store {store} of another cluster, {cluster}: name another directory, or give it up with \
         `longshore-node store format --replace`"
    )]
    OtherCluster {
        /// The root.
        root: PathBuf,
        /// Its id.
        store: StoreId,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// The root holds files but no readable `STORE` file.
    #[error(
        "`{root}` is not empty and has no readable STORE file: check that the right disk is mounted there, or give its \
         blobs up with `longshore-node store format --replace`"
    )]
    NotEmpty {
        /// The root.
        root: PathBuf,
    },
    /// A running node has it open.
    #[error("`{root}` is in use by a running node")]
    InUse {
        /// The root.
        root: PathBuf,
    },
    /// The disk failed.
    #[error("`{root}` cannot be formatted: {source}")]
    Storage {
        /// The root.
        root: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a `STORE` file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    pub(crate) cluster: ClusterId,
}

/// Makes `root` a blob store of `cluster` and returns its id.
///
/// Again for the same cluster: the same id, nothing changes. With `replace` whatever store was there is given up: its
/// blobs, staged uploads and quarantine are removed and a new id is minted. Blocks.
pub fn format(root: &Path, cluster: ClusterId, replace: bool) -> Result<StoreId, FormatError> {
    let failed = |source| FormatError::Storage { root: root.to_path_buf(), source };
    let layout = Layout::new(root);
    make_root(root).map_err(failed)?;
    if !replace {
        match read_identity(&layout).map_err(failed)? {
            Some(found) if found.cluster == cluster => {
                clear_mark(root).map_err(failed)?;
                return Ok(found.store);
            }
            Some(Identity { store, cluster }) => {
                return Err(FormatError::OtherCluster { root: root.to_path_buf(), store, cluster });
            }
            None if !is_free(root).map_err(failed)? => {
                return Err(FormatError::NotEmpty { root: root.to_path_buf() });
            }
            None => {}
        }
    }
    let identity = Identity { store: runtime::random::store_id(), cluster };
    lay_out(&layout, identity).map_err(failed)?;
    Ok(identity.store)
}

/// Whose store lies at `root`; `None` when there is no readable `STORE` file.
pub fn identify(root: &Path) -> Result<Option<(StoreId, ClusterId)>, FormatError> {
    let found = read_identity(&Layout::new(root));
    let found = found.map_err(|source| FormatError::Storage { root: root.to_path_buf(), source })?;
    Ok(found.map(|Identity { store, cluster }| (store, cluster)))
}

/// Gives up whatever store lies at `root`, blobs, staged uploads and quarantine: afterwards the root is as free as a
/// new disk, and the next `init` or `join` formats it. Files that no store makes are left alone. Blocks.
pub fn give_up(root: &Path) -> Result<(), FormatError> {
    let failed = |source| FormatError::Storage { root: root.to_path_buf(), source };
    let layout = Layout::new(root);
    // A running node holds this lock as long as its store is open.
    let lock = File::open(layout.store_file());
    if let Ok(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock) {
        return Err(FormatError::InUse { root: root.to_path_buf() });
    }
    let clear = || {
        write_synced(&root.join(FORMATTING), b"")?;
        sync_directory(root)?;
        ignore_absent(fs::remove_file(layout.store_file()))?;
        for tree in [layout.data(), layout.staging(), layout.quarantine()] {
            ignore_absent(fs::remove_dir_all(&tree))?;
        }
        sync_directory(root)
    };
    clear().map_err(failed)
}

/// Reads the `STORE` file; `None` when it is absent or not readable as one.
pub(crate) fn read_identity(layout: &Layout) -> io::Result<Option<Identity>> {
    match fs::read_to_string(layout.store_file()) {
        Ok(text) => Ok(parse_identity(&text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_identity(text: &str) -> Option<Identity> {
    let mut lines = text.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let store = StoreId::from_hex(lines.next()?.strip_prefix("id ")?)?;
    let cluster = ClusterId::from_hex(lines.next()?.strip_prefix("cluster ")?)?;
    lines.next().is_none().then_some(Identity { store, cluster })
}

fn identity_text(identity: Identity) -> String {
    let Identity { store, cluster } = identity;
    format!("{HEADER}\nid {store}\ncluster {cluster}\n")
}

/// Makes the root and syncs the directory that names it.
fn make_root(root: &Path) -> io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_root(parent)?;
    }
    make_directory(root)?;
    match root.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

/// Whether nothing stands there but the traces of an interrupted format (or of mkfs).
fn is_free(root: &Path) -> io::Result<bool> {
    if root.join(FORMATTING).exists() {
        return Ok(true);
    }
    for entry in fs::read_dir(root)? {
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lay_out(layout: &Layout, identity: Identity) -> io::Result<()> {
    let root = layout.root();
    write_synced(&root.join(FORMATTING), b"")?;
    sync_directory(root)?;
    // From here to the rename below the root is no store: a crash is taken up by the next format.
    ignore_absent(fs::remove_file(layout.store_file()))?;
    for tree in [layout.data(), layout.staging(), layout.quarantine()] {
        ignore_absent(fs::remove_dir_all(&tree))?;
        make_directory(&tree)?;
    }
    for algorithm in ALGORITHMS {
        let directory = layout.data().join(algorithm.name());
        make_directory(&directory)?;
        sync_directory(&directory)?;
    }
    for directory in [layout.data(), layout.staging(), layout.quarantine()] {
        sync_directory(&directory)?;
    }
    sync_directory(root)?;
    let fresh = root.join("STORE.new");
    write_synced(&fresh, identity_text(identity).as_bytes())?;
    fs::rename(&fresh, layout.store_file())?;
    sync_directory(root)?;
    fs::remove_file(root.join(FORMATTING))?;
    sync_directory(root)
}

/// Removes the mark of a format that was interrupted after its `STORE` file was written. Left there it would make the
/// root look free, blobs and all, should the `STORE` file ever be lost. Blocks.
pub(crate) fn clear_mark(root: &Path) -> io::Result<()> {
    match fs::remove_file(root.join(FORMATTING)) {
        Ok(()) => sync_directory(root),
        other => ignore_absent(other),
    }
}

/// Makes a directory; one that is there is fine.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ClusterId = ClusterId([1; 16]);
    const TWO: ClusterId = ClusterId([2; 16]);

    #[test]
    fn a_store_given_up_is_as_free_as_a_new_disk() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("blobs");
        let first = format(&root, ONE, false).unwrap();
        assert_eq!(identify(&root).unwrap(), Some((first, ONE)));
        std::fs::create_dir(root.join("data").join("sha256").join("000")).unwrap();
        std::fs::write(root.join("data").join("sha256").join("000").join("left"), b"bytes").unwrap();
        let held = File::open(root.join("STORE")).unwrap();
        held.try_lock().unwrap();
        assert!(matches!(give_up(&root), Err(FormatError::InUse { .. })));
        drop(held);
        give_up(&root).unwrap();
        assert_eq!(identify(&root).unwrap(), None);
        let second = format(&root, TWO, false).unwrap();
        assert_ne!(second, first);
        assert!(!root.join("data").join("sha256").join("000").join("left").exists());
    }

    #[test]
    fn formatting_again_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        let store = format(&root, ONE, false).unwrap();
        let layout = Layout::new(&root);
        fs::write(layout.staging().join("x"), b"kept").unwrap();
        assert_eq!(format(&root, ONE, false).unwrap(), store);
        assert!(layout.staging().join("x").exists());
        assert!(layout.data().join("sha256").is_dir() && layout.data().join("sha512").is_dir());
        assert!(matches!(format(&root, TWO, false), Err(FormatError::OtherCluster { store: s, .. }) if s == store));
        let other = format(&root, TWO, true).unwrap();
        assert_ne!(other, store);
        assert!(!layout.staging().join("x").exists());
        assert_eq!(read_identity(&layout).unwrap(), Some(Identity { store: other, cluster: TWO }));
    }

    #[test]
    fn foreign_files_are_never_formatted_silently() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("photo.jpg"), b"mine").unwrap();
        let error = format(directory.path(), ONE, false).unwrap_err();
        assert!(error.to_string().contains("longshore-node store format --replace"), "{error}");
        format(directory.path(), ONE, true).unwrap();
        assert!(directory.path().join("photo.jpg").exists(), "only the store's own names are replaced");

        // A store whose id file is lost or damaged is not formatted silently either.
        fs::write(directory.path().join("STORE"), b"longshore store 1\nid 00").unwrap();
        assert!(matches!(format(directory.path(), ONE, false), Err(FormatError::NotEmpty { .. })));
        fs::remove_file(directory.path().join("STORE")).unwrap();
        assert!(matches!(format(directory.path(), ONE, false), Err(FormatError::NotEmpty { .. })));
    }

    #[test]
    fn an_interrupted_format_is_taken_up() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FORMATTING), b"").unwrap();
        fs::create_dir_all(directory.path().join("data/sha256/00a")).unwrap();
        let store = format(directory.path(), ONE, false).unwrap();
        assert!(!directory.path().join(FORMATTING).exists());
        assert_eq!(format(directory.path(), ONE, false).unwrap(), store);

        // Interrupted by its very last step: the store stands, and losing its id file must not make it look free.
        fs::write(directory.path().join(FORMATTING), b"").unwrap();
        assert_eq!(format(directory.path(), ONE, false).unwrap(), store);
        fs::remove_file(directory.path().join("STORE")).unwrap();
        assert!(matches!(format(directory.path(), ONE, false), Err(FormatError::NotEmpty { .. })));
    }

    #[test]
    fn the_id_file_is_permanent() {
        let identity = Identity { store: StoreId([0xAB; 16]), cluster: ClusterId([3; 16]) };
        let text = format!("longshore store 1\nid {}\ncluster {}\n", "ab".repeat(16), "03".repeat(16));
        assert_eq!(identity_text(identity), text);
        assert_eq!(parse_identity(&text), Some(identity));
        assert_eq!(parse_identity(&text[..text.len() - 3]), None);
    }
}
