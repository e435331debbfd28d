//! Names of the files of a store (ground.md §3), and the making of its prefix directories.
//!
//! ```text
//! STORE                                      id and cluster
//! staging/<session uuid>                     bytes of an upload
//! staging/<session uuid>.record              what was acknowledged of it
//! staging/fetch-<algorithm>-<hex>            bytes of a verified transfer
//! data/<algorithm>/<3 hex>/<hex>-<copy id>   a blob
//! data/<algorithm>/<3 hex>/….groups          its group values, above 1 MiB
//! quarantine/<algorithm>-<hex>-<copy id>     a damaged blob, for the operator
//! ```
//!
//! Prefix directories are made when the first blob needs them: made at format, all 8,192 of them, they cost seconds on
//! slow disks and were mostly empty. Before a name is put into one, this process has synced its parent once.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::digest::{decode_hex, encode_hex};
use domain::{Algorithm, CopyId, Digest};

use crate::format::{make_directory, sync_directory};
use crate::handle::SessionKey;

/// Suffix of the file with group values.
pub(crate) const GROUPS_SUFFIX: &str = ".groups";
/// Suffix of a session's record.
pub(crate) const RECORD_SUFFIX: &str = ".record";
/// Prefix of the staging file of a transfer.
const FETCH_PREFIX: &str = "fetch-";
/// Prefix of group values being written anew.
const REGROUP_PREFIX: &str = "regroup-";
/// The algorithms, in key order.
pub(crate) const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];
/// Prefix directories of one algorithm.
pub(crate) const PREFIXES: u16 = 4096;

/// What a name below `staging/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staged {
    Upload(SessionKey),
    Record(SessionKey),
    Fetch,
    Regroup,
    Foreign,
}

/// What a name below a prefix directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Blob(Digest, CopyId),
    Groups(Digest, CopyId),
    Foreign,
}

/// Paths below one root.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    /// Prefix directories whose own name this process knows to be durable.
    durable: Arc<Mutex<BTreeSet<(Algorithm, u16)>>>,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Layout { root: root.to_path_buf(), durable: Arc::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn store_file(&self) -> PathBuf {
        self.root.join("STORE")
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn upload(&self, session: SessionKey) -> PathBuf {
        self.staging().join(uuid_text(session))
    }

    pub(crate) fn record(&self, session: SessionKey) -> PathBuf {
        self.staging().join(uuid_text(session) + RECORD_SUFFIX)
    }

    pub(crate) fn fetch(&self, digest: &Digest) -> PathBuf {
        self.staging().join(format!("{FETCH_PREFIX}{}-{}", digest.algorithm().name(), digest.hex()))
    }

    pub(crate) fn regroup(&self, copy: CopyId) -> PathBuf {
        self.staging().join(format!("{REGROUP_PREFIX}{copy}"))
    }

    pub(crate) fn prefix(&self, algorithm: Algorithm, prefix: u16) -> PathBuf {
        self.data().join(algorithm.name()).join(format!("{prefix:03x}"))
    }

    pub(crate) fn prefix_of(&self, digest: &Digest) -> PathBuf {
        self.prefix(digest.algorithm(), prefix_number(digest))
    }

    /// Makes the prefix directory of a digest, durably. Blocks.
    pub(crate) fn make_prefix(&self, digest: &Digest) -> io::Result<()> {
        let (algorithm, prefix) = (digest.algorithm(), prefix_number(digest));
        if self.durable().contains(&(algorithm, prefix)) {
            return Ok(());
        }
        // Not held through the sync: several may make one directory at once, and none relies on it before a sync.
        make_directory(&self.prefix(algorithm, prefix))?;
        sync_directory(&self.data().join(algorithm.name()))?;
        self.durable().insert((algorithm, prefix));
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<(Algorithm, u16)>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn blob(&self, digest: &Digest, copy: CopyId) -> PathBuf {
        self.prefix_of(digest).join(file_name(digest, copy))
    }

    pub(crate) fn groups(&self, digest: &Digest, copy: CopyId) -> PathBuf {
        self.prefix_of(digest).join(file_name(digest, copy) + GROUPS_SUFFIX)
    }

    pub(crate) fn quarantined(&self, digest: &Digest, copy: CopyId) -> PathBuf {
        self.quarantine().join(format!("{}-{}", digest.algorithm().name(), file_name(digest, copy)))
    }
}

/// The first 12 bits of a digest: its prefix directory.
pub(crate) fn prefix_number(digest: &Digest) -> u16 {
    let raw = digest.raw();
    u16::from(raw[0]) << 4 | u16::from(raw[1] >> 4)
}

/// The object's key below the root, with forward slashes.
pub(crate) fn blob_key(digest: &Digest, copy: CopyId) -> String {
    let hex = digest.hex();
    format!("data/{}/{}/{hex}-{copy}", digest.algorithm().name(), &hex[..3])
}

/// The key of the group values of an object.
pub(crate) fn groups_key(digest: &Digest, copy: CopyId) -> String {
    blob_key(digest, copy) + GROUPS_SUFFIX
}

fn file_name(digest: &Digest, copy: CopyId) -> String {
    format!("{}-{copy}", digest.hex())
}

/// Reads a name below the prefix directory of an algorithm.
pub(crate) fn parse_data(algorithm: Algorithm, name: &str) -> Named {
    let (stem, groups) = match name.strip_suffix(GROUPS_SUFFIX) {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    let parsed = stem.split_once('-').and_then(|(hex, copy)| {
        let digest = match algorithm {
            Algorithm::Sha256 => Digest::Sha256(decode_hex(hex)?),
            Algorithm::Sha512 => Digest::Sha512(decode_hex(hex)?),
        };
        Some((digest, CopyId::from_hex(copy)?))
    });
    match parsed {
        Some((digest, copy)) if groups => Named::Groups(digest, copy),
        Some((digest, copy)) => Named::Blob(digest, copy),
        None => Named::Foreign,
    }
}

/// Reads a name below `staging/`.
pub(crate) fn parse_staged(name: &str) -> Staged {
    if name.starts_with(FETCH_PREFIX) {
        return Staged::Fetch;
    }
    if name.starts_with(REGROUP_PREFIX) {
        return Staged::Regroup;
    }
    let (stem, record) = match name.strip_suffix(RECORD_SUFFIX) {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    match parse_uuid(stem) {
        Some(session) if record => Staged::Record(session),
        Some(session) => Staged::Upload(session),
        None => Staged::Foreign,
    }
}

fn uuid_text(session: SessionKey) -> String {
    let hex = encode_hex(&session.0);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn parse_uuid(text: &str) -> Option<SessionKey> {
    let session = SessionKey(decode_hex(&text.replace('-', ""))?);
    (uuid_text(session) == text).then_some(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_permanent_and_read_back() {
        let layout = Layout::new(Path::new("/r"));
        let mut raw = [0x11; 32];
        raw[0] = 0xAB;
        raw[1] = 0xCD;
        let digest = Digest::Sha256(raw);
        let copy = CopyId([2; 16]);
        let hex = format!("abcd{}", "11".repeat(30));
        let name = format!("{hex}-{}", "02".repeat(16));
        assert_eq!(layout.blob(&digest, copy), Path::new(&format!("/r/data/sha256/abc/{name}")));
        assert_eq!(layout.groups(&digest, copy), Path::new(&format!("/r/data/sha256/abc/{name}.groups")));
        assert_eq!(blob_key(&digest, copy), format!("data/sha256/abc/{name}"));
        assert_eq!(layout.quarantined(&digest, copy), Path::new(&format!("/r/quarantine/sha256-{name}")));
        assert_eq!(layout.fetch(&digest), Path::new(&format!("/r/staging/fetch-sha256-{hex}")));
        assert_eq!(parse_data(Algorithm::Sha256, &name), Named::Blob(digest, copy));
        assert_eq!(parse_data(Algorithm::Sha256, &format!("{name}.groups")), Named::Groups(digest, copy));
        assert_eq!(parse_data(Algorithm::Sha512, &name), Named::Foreign);
        assert_eq!(parse_data(Algorithm::Sha256, &name.to_uppercase()), Named::Foreign);
    }

    #[test]
    fn staged_names_read_back() {
        let session = SessionKey([0x5A; 16]);
        let layout = Layout::new(Path::new("/r"));
        let uuid = "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a";
        assert_eq!(layout.upload(session), Path::new("/r/staging").join(uuid));
        assert_eq!(parse_staged(uuid), Staged::Upload(session));
        assert_eq!(parse_staged(&format!("{uuid}.record")), Staged::Record(session));
        assert_eq!(parse_staged("fetch-sha256-00"), Staged::Fetch);
        for foreign in ["", "x", "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", ".record"] {
            assert_eq!(parse_staged(foreign), Staged::Foreign, "{foreign}");
        }
    }
}
