//! Space of the store's disk, and the reserve kept of it for Raft and state (design §10).

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::handle::{Space, UploadError};

/// How much of the disk is kept free of blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// 2 GiB or 5 % of the disk, whichever is less.
    Default,
    /// A fixed number of bytes.
    Bytes(u64),
}

const RESERVE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const RESERVE_PERCENT: u64 = 5;
const CACHED_FOR: Duration = Duration::from_secs(1);

impl Reserve {
    fn of(self, total: u64) -> u64 {
        match self {
            Reserve::Default => RESERVE_BYTES.min(total / 100 * RESERVE_PERCENT),
            Reserve::Bytes(bytes) => bytes,
        }
    }
}

/// Watches the disk.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    state: Mutex<(Reserve, Option<(Instant, Space)>)>,
}

impl Disk {
    pub(crate) fn new(root: PathBuf, reserve: Reserve) -> Self {
        Disk { root, state: Mutex::new((reserve, None)) }
    }

    pub(crate) fn set_reserve(&self, reserve: Reserve) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (reserve, None);
    }

    fn measure(&self, reserve: Reserve) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Space { total, free, reserve: reserve.of(total) })
    }

    /// Space as of at most a second ago. A disk that does not answer has none.
    pub(crate) fn space(&self) -> Space {
        let now = runtime::clock::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, space)) = state.1
            && now.duration_since(at) < CACHED_FOR
        {
            return space;
        }
        let reserve = state.0;
        let space = self.measure(reserve).unwrap_or(Space { total: 0, free: 0, reserve: reserve.of(0) });
        state.1 = Some((now, space));
        space
    }

    /// Space as the disk itself says. One that does not answer has none.
    pub(crate) fn space_now(&self) -> Space {
        let reserve = self.state.lock().unwrap_or_else(PoisonError::into_inner).0;
        self.measure(reserve).unwrap_or(Space { total: 0, free: 0, reserve: reserve.of(0) })
    }

    /// Refuses what would reach into the reserve; asks the disk itself.
    pub(crate) fn admit(&self, bytes: u64) -> Result<(), Refused> {
        let reserve = self.state.lock().unwrap_or_else(PoisonError::into_inner).0;
        let space = self.measure(reserve).map_err(Refused::Failed)?;
        if space.free < space.reserve.saturating_add(bytes) {
            return Err(Refused::Full { free: space.free, reserve: space.reserve });
        }
        Ok(())
    }
}

/// Why bytes were not written.
#[derive(Debug)]
pub(crate) enum Refused {
    Full { free: u64, reserve: u64 },
    Failed(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Refused::Full { free: 0, reserve: 0 },
            _ => Refused::Failed(error),
        }
    }
}

impl From<Refused> for UploadError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full { free, reserve } => UploadError::Full { free, reserve },
            Refused::Failed(error) => UploadError::Storage { detail: error.to_string() },
        }
    }
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        Refused::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_kept() {
        assert_eq!(Reserve::Default.of(1000 << 30), RESERVE_BYTES);
        assert_eq!(Reserve::Default.of(10_000), 500);
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path().to_path_buf(), Reserve::Bytes(0));
        assert!(disk.admit(1).is_ok());
        let space = disk.space();
        assert!(space.free > 0 && space.total >= space.free);
        disk.set_reserve(Reserve::Bytes(u64::MAX));
        assert!(matches!(disk.admit(1), Err(Refused::Full { reserve: u64::MAX, .. })));
        assert_eq!(disk.space().reserve, u64::MAX);
    }
}
