//! The quarantine: damaged copies, kept for the operator while there is room for them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::layout::Layout;
use crate::sessions::if_there;
use crate::space::Disk;

/// Most copies kept.
const COPIES_MAX: usize = 1_000;
/// Most bytes kept.
const BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;

/// A copy in quarantine.
struct Kept {
    /// When it came, by the file system's clock.
    at: (i64, i64),
    bytes: u64,
    path: PathBuf,
}

/// How many of these go, oldest first. `free`: what the disk would have free if so many bytes of them went.
fn surplus(oldest_first: &[u64], copies_max: usize, bytes_max: u64, is_full: impl Fn(u64) -> bool) -> usize {
    let mut left: u64 = oldest_first.iter().sum();
    let mut gone = 0;
    for (number, bytes) in oldest_first.iter().enumerate() {
        if oldest_first.len() - number <= copies_max && left <= bytes_max && !is_full(gone) {
            return number;
        }
        left -= bytes;
        gone += bytes;
    }
    oldest_first.len()
}

/// Deletes the oldest copies beyond the bounds, and as many as stand between the disk and its reserve. Blocks.
pub(crate) fn clear(layout: &Layout, disk: &Disk) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(layout.quarantine())? {
        let entry = entry?;
        let Some(metadata) = if_there(entry.metadata())? else { continue };
        let at = (metadata.ctime(), metadata.ctime_nsec());
        kept.push(Kept { at, bytes: metadata.len(), path: entry.path() });
    }
    if kept.is_empty() {
        return Ok(());
    }
    kept.sort_by_key(|copy| copy.at);
    let space = disk.space_now();
    let sizes: Vec<u64> = kept.iter().map(|copy| copy.bytes).collect();
    let is_full = |gone: u64| space.free.saturating_add(gone) <= space.reserve;
    let count = surplus(&sizes, COPIES_MAX, BYTES_MAX, is_full);
    for copy in &kept[..count] {
        if_there(fs::remove_file(&copy.path))?;
    }
    if count > 0 {
        tracing::warn!(count, kept = kept.len() - count, "oldest copies in quarantine are deleted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reserve;
    use crate::format::format;

    #[test]
    fn the_oldest_go_by_count_by_bytes_and_for_the_reserve() {
        let never = |_| false;
        assert_eq!(surplus(&[], 2, 10, never), 0);
        assert_eq!(surplus(&[1, 1], 2, 10, never), 0);
        assert_eq!(surplus(&[1, 1, 1], 2, 10, never), 1);
        assert_eq!(surplus(&[5, 5, 5], 9, 10, never), 1);
        assert_eq!(surplus(&[11], 9, 10, never), 1, "what does not fit at all is not kept");
        assert_eq!(surplus(&[3, 3, 3], 9, 10, |gone| gone < 4), 2);
        assert_eq!(surplus(&[3, 3, 3], 9, 10, |_| true), 3);
    }

    #[test]
    fn a_full_disk_keeps_no_quarantine() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("blobs");
        format(&root, domain::ClusterId([7; 16]), false).unwrap();
        let layout = Layout::new(&root);
        let damaged = layout.quarantine().join("sha256-damaged");
        fs::write(&damaged, b"damaged").unwrap();
        let disk = Disk::new(root, Reserve::Bytes(0));
        clear(&layout, &disk).unwrap();
        assert!(damaged.exists());
        disk.set_reserve(Reserve::Bytes(u64::MAX));
        clear(&layout, &disk).unwrap();
        assert!(!damaged.exists());
    }
}
