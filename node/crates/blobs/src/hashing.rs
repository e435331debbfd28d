//! Whole-blob hashes, by ring, and the state kept of an upload between its requests.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use domain::{Algorithm, Digest};
use ring::digest::{Context, SHA256, SHA512};

use crate::groups::GroupHasher;

/// Bytes read at once when a file is hashed again. Unit: bytes.
const READ_BYTES: usize = 512 * 1024;

/// What was hashed of an upload in passing.
pub(crate) struct HashState {
    pub(crate) sha256: Context,
    pub(crate) groups: GroupHasher,
}

impl HashState {
    pub(crate) fn new() -> Self {
        HashState { sha256: context(Algorithm::Sha256), groups: GroupHasher::new() }
    }
}

/// An empty hash.
pub(crate) fn context(algorithm: Algorithm) -> Context {
    Context::new(match algorithm {
        Algorithm::Sha256 => &SHA256,
        Algorithm::Sha512 => &SHA512,
    })
}

/// The digest that a hash came to.
pub(crate) fn finish(algorithm: Algorithm, context: Context) -> Digest {
    Digest::from_raw(algorithm, context.finish().as_ref()).expect("the hash has its algorithm's length")
}

/// Hashes the first `size` bytes of a file once, whole and by groups. Blocks.
pub(crate) fn hash_file(file: &File, size: u64, algorithm: Algorithm) -> io::Result<(Digest, GroupHasher)> {
    let mut whole = context(algorithm);
    let mut groups = GroupHasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    while at < size {
        let want = usize::try_from(size - at).unwrap_or(READ_BYTES).min(READ_BYTES);
        file.read_exact_at(&mut buffer[..want], at)?;
        whole.update(&buffer[..want]);
        groups.update(&buffer[..want]);
        at += want as u64;
    }
    Ok((finish(algorithm, whole), groups))
}
