//! Verified reads: every group is checked before its bytes leave.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use domain::limits::GROUP_BYTES;
use domain::{ByteRange, Digest};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as ObjectError, GetResultPayload, ObjectStoreExt};
use rustix::io::Errno;

use crate::groups::{Groups, group_count, group_range};
use crate::handle::{ByteStream, ReadError, Stored};
use crate::layout::{blob_key, groups_key};
use crate::store::{Store, blocking};

/// Groups in memory a reader: one with the client, one read ahead, one being checked.
const GROUPS_AHEAD: usize = 2;

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

/// See [`crate::Handle::read`].
pub(crate) async fn read(
    store: &Arc<Store>,
    stored: Stored,
    range: ByteRange,
) -> Result<ByteStream<ReadError>, ReadError> {
    let copy = Arc::new(OpenCopy::open(store, stored).await?);
    let end = range.end.min(stored.size);
    if range.start >= end {
        return Ok(stream::empty().boxed());
    }
    let bytes = GROUP_BYTES as u64;
    let (first, last) = (range.start / bytes, (end - 1) / bytes);
    let mut ahead = stream::iter(first..=last)
        .map(move |index| Arc::clone(&copy).group(index, range.start..end))
        .buffered(GROUPS_AHEAD);
    let head = ahead.try_next().await?.ok_or(ReadError::Missing)?;
    // Nothing follows damage: the body must break off, not go on behind a hole.
    let rest = ahead.scan(false, |failed, item| {
        let ended = std::mem::replace(failed, item.is_err());
        std::future::ready((!ended).then_some(item))
    });
    Ok(stream::once(std::future::ready(Ok(head))).chain(rest).boxed())
}

/// A copy opened for reading. It can be read to its end even when its name is deleted meanwhile, as happens to the
/// older of two copies of one blob.
pub(crate) struct OpenCopy {
    file: File,
    groups: Groups,
    digest: Digest,
}

impl OpenCopy {
    pub(crate) async fn open(store: &Arc<Store>, stored: Stored) -> Result<Self, ReadError> {
        let path = Path::from(blob_key(&stored.digest, stored.copy));
        let found = store.objects.get(&path).await?;
        if found.meta.size != stored.size {
            return Err(other_length(stored, found.meta.size));
        }
        let GetResultPayload::File(file, _) = found.payload else {
            return Err(ReadError::Storage { detail: "the store gave no file".to_owned() });
        };
        Ok(OpenCopy { file, groups: groups_of(store, stored).await?, digest: stored.digest })
    }

    /// Reads and checks one group and cuts it to what was asked for.
    async fn group(self: Arc<Self>, index: u64, wanted: Range<u64>) -> Result<Bytes, ReadError> {
        let start = wanted.start.max(group_range(self.groups.size(), index).start);
        match tokio::task::spawn_blocking(move || self.piece(start..wanted.end)).await {
            Ok(loaded) => loaded,
            Err(error) => Err(ReadError::Storage { detail: error.to_string() }),
        }
    }

    /// Where the group that holds a byte lies.
    pub(crate) fn group_at(&self, at: u64) -> Range<u64> {
        group_range(self.groups.size(), at / GROUP_BYTES as u64)
    }

    /// What the group of its first byte has of a range, checked. Blocks.
    pub(crate) fn piece(&self, wanted: Range<u64>) -> Result<Bytes, ReadError> {
        let range = self.group_at(wanted.start);
        let start = range.start;
        let whole = self.load(start / GROUP_BYTES as u64, range)?;
        let cut = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole.slice(cut(wanted.start)..cut(wanted.end)))
    }

    fn load(&self, index: u64, range: Range<u64>) -> Result<Bytes, ReadError> {
        let length = usize::try_from(range.end - range.start).unwrap_or(GROUP_BYTES);
        let mut bytes = vec![0; length];
        let mut read = self.file.read_exact_at(&mut bytes, range.start);
        if read.as_ref().is_err_and(is_unreadable) {
            read = self.file.read_exact_at(&mut bytes, range.start);
        }
        match read {
            Ok(()) => {}
            // Twice: nothing that passes. Whether it is a sector or the disk others find out.
            Err(error) if is_unreadable(&error) => {
                return Err(ReadError::Unreadable { detail: format!("group {index} of `{}`: {error}", self.digest) });
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(ReadError::Damaged { detail: format!("`{}` ends within group {index}", self.digest) });
            }
            Err(error) => return Err(error.into()),
        }
        if !self.groups.verify(index, &bytes) {
            return Err(ReadError::Damaged { detail: format!("group {index} of `{}` has other bytes", self.digest) });
        }
        Ok(bytes.into())
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
