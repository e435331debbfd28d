//! What this machine could do at best, for comparison: hashes on one thread, and a disk that is asked to keep things.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use ring::digest::{SHA256, digest};
use tokio::time::Instant;

use super::report::Machine;
use crate::failure::{Failure, explain};

const CHUNK: usize = 1024 * 1024;
const HASHED_CHUNKS: usize = 256;
const FILES: usize = 8;
const FILE_CHUNKS: usize = 64;

/// Measures for a second or two. Blocks.
pub(crate) fn measure(directory: &Path) -> Result<Machine, Failure> {
    let mut chunk = vec![0u8; CHUNK];
    blake3::Hasher::new().finalize_xof().fill(&mut chunk);
    let sha256 = hashing(|| {
        std::hint::black_box(digest(&SHA256, &chunk));
    });
    let blake3 = hashing(|| {
        std::hint::black_box(blake3::hash(&chunk));
    });
    let write_and_fsync = writing(directory, &chunk).map_err(|error| {
        let what = format!("the disk of {} cannot be measured: {}", directory.display(), explain(&error));
        Failure::failed(what, "name a writable directory with --directory, or add --no-machine")
    })?;
    Ok(Machine { sha256, blake3, write_and_fsync })
}

fn hashing(hash: impl Fn()) -> f64 {
    let began = Instant::now();
    for _ in 0..HASHED_CHUNKS {
        hash();
    }
    (HASHED_CHUNKS * CHUNK) as f64 / began.elapsed().as_secs_f64()
}

/// Files of 64 MiB, each synced before the next begins. They stay until all are written, as pushed blobs do: a file
/// that takes the place of the one before finds its pages in memory and flatters the disk.
fn writing(directory: &Path, chunk: &[u8]) -> std::io::Result<f64> {
    let path = |file: usize| directory.join(format!(".longshore-bench-{}-{file}", std::process::id()));
    let began = Instant::now();
    let written = (0..FILES).try_for_each(|number| {
        let mut file = File::create(path(number))?;
        for _ in 0..FILE_CHUNKS {
            file.write_all(chunk)?;
        }
        file.sync_all()
    });
    let elapsed = began.elapsed().as_secs_f64();
    let removed = (0..FILES).map(path).filter(|path| path.exists()).try_for_each(std::fs::remove_file);
    written.and(removed)?;
    Ok((FILES * FILE_CHUNKS * CHUNK) as f64 / elapsed)
}
