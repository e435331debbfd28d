//! Verified reads: every group is checked before its bytes leave.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use domain::Digest;
use domain::limits::GROUP_BYTES;
use object_store::path::Path;
use object_store::{Error as ObjectError, GetResultPayload, ObjectStoreExt};
use rustix::io::Errno;
use tokio::sync::OwnedSemaphorePermit;

use crate::buffers::Buffers;
use crate::groups::{Groups, group_count, group_range};
use crate::handle::{ReadError, Stored};
use crate::layout::{blob_key, groups_key};
use crate::store::{Store, blocking};

/// What is read and hashed at a time. Unit: bytes.
const PART_BYTES: usize = 128 * 1024;

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => ReadError::Missing,
            _ if is_unreadable(&error) => ReadError::Unreadable { detail: error.to_string() },
            _ => ReadError::Storage { detail: error.to_string() },
        }
    }
}

impl From<ObjectError> for ReadError {
    fn from(error: ObjectError) -> Self {
        if let ObjectError::NotFound { .. } = error {
            return ReadError::Missing;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(current) = cause {
            if current.downcast_ref().is_some_and(is_unreadable) {
                return ReadError::Unreadable { detail: error.to_string() };
            }
            cause = current.source();
        }
        ReadError::Storage { detail: error.to_string() }
    }
}

/// A copy opened for reading. It can be read to its end even when its name is deleted meanwhile, as happens to the
/// older of two copies of one blob.
pub(crate) struct OpenCopy {
    file: File,
    groups: Groups,
    digest: Digest,
    buffers: Arc<Buffers>,
}

impl OpenCopy {
    pub(crate) async fn open(store: &Arc<Store>, buffers: Arc<Buffers>, stored: Stored) -> Result<Self, ReadError> {
        let path = Path::from(blob_key(&stored.digest, stored.copy));
        let found = store.objects.get(&path).await?;
        if found.meta.size != stored.size {
            return Err(other_length(stored, found.meta.size));
        }
        let GetResultPayload::File(file, _) = found.payload else {
            return Err(ReadError::Storage { detail: "the store gave no file".to_owned() });
        };
        let groups = groups_of(store, stored).await?;
        Ok(OpenCopy { file, groups, digest: stored.digest, buffers })
    }

    /// Where the group that holds a byte lies.
    pub(crate) fn group_at(&self, at: u64) -> Range<u64> {
        group_range(self.groups.size(), at / GROUP_BYTES as u64)
    }

    /// What the group of its first byte has of a range, checked, in pieces that count in a budget by their `share` of
    /// the group. Blocks. Each part is hashed while it is in the processor's cache.
    pub(crate) fn pieces(
        &self,
        wanted: &Range<u64>,
        mut share: Option<OwnedSemaphorePermit>,
    ) -> Result<Vec<Bytes>, ReadError> {
        let group = self.group_at(wanted.start);
        let index = wanted.start / GROUP_BYTES as u64;
        let ends = || ReadError::Damaged { detail: format!("`{}` ends before group {index}", self.digest) };
        let mut check = self.groups.check(index).ok_or_else(ends)?;
        let mut pieces = Vec::with_capacity(GROUP_BYTES / self.buffers.block_bytes());
        let mut at = group.start;
        while at < group.end {
            let length = usize::try_from(group.end - at).unwrap_or(GROUP_BYTES).min(self.buffers.block_bytes());
            let mut block = self.buffers.take_for(length);
            let read = block.fill(length, |bytes| {
                for (number, part) in bytes.chunks_mut(PART_BYTES).enumerate() {
                    self.read_exact(part, at + (number * PART_BYTES) as u64)?;
                    check.update(part);
                }
                Ok(())
            });
            read.map_err(|error| self.unread(index, error))?;
            block.count(share.as_mut().and_then(|share| share.split(length)));
            let cut = |edge: u64| usize::try_from(edge.saturating_sub(at)).unwrap_or(length).min(length);
            let piece = cut(wanted.start)..cut(wanted.end);
            if !piece.is_empty() {
                pieces.push(block.freeze().slice(piece));
            }
            at += length as u64;
        }
        if !check.holds() {
            return Err(ReadError::Damaged { detail: format!("group {index} of `{}` has other bytes", self.digest) });
        }
        Ok(pieces)
    }

    /// Reads, once more when the medium fails.
    fn read_exact(&self, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
        match self.file.read_exact_at(bytes, at) {
            Err(error) if is_unreadable(&error) => self.file.read_exact_at(bytes, at),
            read => read,
        }
    }

    fn unread(&self, index: u64, error: std::io::Error) -> ReadError {
        // Twice: nothing that passes. Whether it is a sector or the disk others find out.
        if is_unreadable(&error) {
            return ReadError::Unreadable { detail: format!("group {index} of `{}`: {error}", self.digest) };
        }
        if error.kind() == ErrorKind::UnexpectedEof {
            return ReadError::Damaged { detail: format!("`{}` ends within group {index}", self.digest) };
        }
        error.into()
    }
}

/// Whether the medium failed, or what the file system has written on it is garbled (EIO, EUCLEAN, EBADMSG).
fn is_unreadable(error: &std::io::Error) -> bool {
    const CODES: [Errno; 3] = [Errno::IO, Errno::UCLEAN, Errno::BADMSG];
    error.raw_os_error().is_some_and(|code| CODES.iter().any(|unreadable| unreadable.raw_os_error() == code))
}

fn other_length(stored: Stored, length: u64) -> ReadError {
    ReadError::Damaged { detail: format!("`{}` has {length} bytes, not {}", stored.digest, stored.size) }
}

/// The group values of a copy, proved against its root.
pub(crate) async fn groups_of(store: &Arc<Store>, stored: Stored) -> Result<Groups, ReadError> {
    if group_count(stored.size) == 1 {
        return Ok(Groups::single(stored.size, &stored.root));
    }
    if let Some(groups) = store.groups.get(stored.copy, &stored.root) {
        return Ok(groups);
    }
    let path = Path::from(groups_key(&stored.digest, stored.copy));
    let expected = group_count(stored.size).saturating_mul(crate::groups::VALUE_BYTES as u64);
    // A groups file that grew must not be taken into memory whole.
    let values = match store.objects.get_range(&path, 0..expected).await {
        Ok(values) => values,
        Err(_) => return Err(no_groups(store, stored).await),
    };
    let proved = blocking(move || Ok(Groups::prove(stored.size, &stored.root, values))).await?;
    let Some(groups) = proved else { return Err(no_groups(store, stored).await) };
    store.groups.put(stored.copy, stored.root, &groups);
    Ok(groups)
}

/// Without values: is the blob itself there?
async fn no_groups(store: &Arc<Store>, stored: Stored) -> ReadError {
    let path = store.layout.blob(&stored.digest, stored.copy);
    match blocking(move || std::fs::metadata(path)).await {
        Ok(metadata) if metadata.len() == stored.size => ReadError::NoGroups,
        Ok(metadata) => other_length(stored, metadata.len()),
        Err(error) => error.into(),
    }
}
