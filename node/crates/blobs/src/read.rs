//! Verified reads: every group is checked before its bytes leave.

use std::sync::Arc;

use bytes::Bytes;
use domain::ByteRange;
use domain::limits::GROUP_BYTES;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStoreExt};

use crate::groups::{Groups, group_count, group_range};
use crate::handle::{ByteStream, ReadError, Stored};
use crate::layout::{blob_key, groups_key};
use crate::store::{Store, blocking};

/// Groups in memory a reader: one with the client, one read ahead, one being checked.
const GROUPS_AHEAD: usize = 2;
/// Checked where it is rather than on another thread. Unit: bytes; some 50 µs.
const INLINE_BYTES: usize = 64 * 1024;

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => ReadError::Missing,
            _ => ReadError::Storage { detail: error.to_string() },
        }
    }
}

/// See [`crate::Handle::read`].
pub(crate) async fn read(
    store: &Arc<Store>,
    stored: Stored,
    range: ByteRange,
) -> Result<ByteStream<ReadError>, ReadError> {
    let end = range.end.min(stored.size);
    if range.start >= end {
        // Nothing is asked for; what is not there must still not look as if it were.
        groups_of(store, stored).await?;
        if stored.size == 0 {
            group(Arc::clone(store), stored, Groups::single(0, &stored.root), 0, 0..0).await?;
        }
        return Ok(stream::empty().boxed());
    }
    let groups = groups_of(store, stored).await?;
    let bytes = GROUP_BYTES as u64;
    let (first, last) = (range.start / bytes, (end - 1) / bytes);
    let reader = Arc::clone(store);
    let mut ahead = stream::iter(first..=last)
        .map(move |index| group(Arc::clone(&reader), stored, groups.clone(), index, range.start..end))
        .buffered(GROUPS_AHEAD);
    let head = ahead.try_next().await?.ok_or(ReadError::Missing)?;
    // Nothing follows damage: the body must break off, not go on behind a hole.
    let rest = ahead.scan(false, |failed, item| {
        let ended = std::mem::replace(failed, item.is_err());
        std::future::ready((!ended).then_some(item))
    });
    Ok(stream::once(std::future::ready(Ok(head))).chain(rest).boxed())
}

/// Reads and checks one group and cuts it to what was asked for.
async fn group(
    store: Arc<Store>,
    stored: Stored,
    groups: Groups,
    index: u64,
    wanted: std::ops::Range<u64>,
) -> Result<Bytes, ReadError> {
    let range = group_range(stored.size, index);
    let whole = if range.is_empty() {
        match probe(&store, stored).await? {
            true => Bytes::new(),
            false => return Err(ReadError::Damaged { detail: "an empty blob's file is not empty".to_owned() }),
        }
    } else {
        let path = Path::from(blob_key(&stored.digest, stored.copy));
        match store.objects.get_range(&path, range.clone()).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(explain(&store, stored, error).await),
        }
    };
    let (checked, fits) = verify(groups, index, whole).await?;
    if !fits {
        return Err(ReadError::Damaged { detail: format!("group {index} of `{}` has other bytes", stored.digest) });
    }
    let from = usize::try_from(wanted.start.saturating_sub(range.start)).unwrap_or(usize::MAX).min(checked.len());
    let to = usize::try_from(wanted.end.saturating_sub(range.start)).unwrap_or(usize::MAX).min(checked.len());
    Ok(checked.slice(from..to.max(from)))
}

/// Checks a group; off the async threads unless that costs more than the check.
async fn verify(groups: Groups, index: u64, bytes: Bytes) -> Result<(Bytes, bool), ReadError> {
    let small = bytes.len() <= INLINE_BYTES;
    let check = move || {
        let fits = groups.verify(index, &bytes);
        (bytes, fits)
    };
    if small { Ok(check()) } else { Ok(blocking(move || Ok(check())).await?) }
}

/// Whether the file of a copy is there with its size.
pub(crate) async fn probe(store: &Arc<Store>, stored: Stored) -> Result<bool, ReadError> {
    Ok(length(store, stored).await? == stored.size)
}

async fn length(store: &Arc<Store>, stored: Stored) -> Result<u64, ReadError> {
    let path = store.layout.blob(&stored.digest, stored.copy);
    Ok(blocking(move || std::fs::metadata(path)).await?.len())
}

/// What a failed read means: a file of another length is damage, one that is gone is missing, the rest is the disk.
async fn explain(store: &Arc<Store>, stored: Stored, error: ObjectError) -> ReadError {
    if matches!(error, ObjectError::NotFound { .. }) {
        return ReadError::Missing;
    }
    match length(store, stored).await {
        Ok(length) if length != stored.size => {
            ReadError::Damaged { detail: format!("`{}` has {length} bytes, not {}", stored.digest, stored.size) }
        }
        Ok(_) => ReadError::Storage { detail: error.to_string() },
        Err(other) => other,
    }
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
    match length(store, stored).await {
        Ok(length) if length == stored.size => ReadError::NoGroups,
        Ok(length) => {
            ReadError::Damaged { detail: format!("`{}` has {length} bytes, not {}", stored.digest, stored.size) }
        }
        Err(error) => error,
    }
}
