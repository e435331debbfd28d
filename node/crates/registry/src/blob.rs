//! Blobs: is it there, read it, unlink it.

use blobs::handle::ByteStream;
use domain::{ByteRange, Digest, RepositoryName, Revision};
use metadata::View;
use metadata::command::Command;
use metadata::handle::Origin;
use metadata::outcome::Refusal;
use metadata::{rows, view};
use replication::handle::FetchError;

use crate::condition::{Condition, current_text};
use crate::fault::{self, AsOf, ReadFault, WriteFault};
use crate::handle::Handle;
use crate::read::{Asked, Consistency};

/// Why a blob is not shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Proved: the repository does not hold it, or it is about to be collected and must be uploaded again. HTTP 404.
    #[error("blob `{digest}` is not known in `{repository}`")]
    Unknown {
        /// The blob.
        digest: Digest,
        /// The repository.
        repository: RepositoryName,
        /// The state that says so.
        revision: Revision,
    },
    /// Its bytes cannot be had now. HTTP 503, never 404.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answer cannot be proved.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl ReadError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            ReadError::Unknown { .. } => false,
            ReadError::Fetch(_) => true,
            ReadError::Read(fault) => fault.is_retryable(),
        }
    }

    /// Reads change nothing.
    pub fn has_no_side_effects(&self) -> bool {
        true
    }
}

/// Why a blob was not unlinked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// The repository does not hold it. HTTP 404.
    #[error("blob `{digest}` is not known in `{repository}`")]
    Unknown {
        /// The blob.
        digest: Digest,
        /// The repository.
        repository: RepositoryName,
    },
    /// A manifest of the repository names it. HTTP 405.
    #[error("blob `{digest}` is named by a manifest of `{repository}`; delete that manifest first")]
    Referenced {
        /// The blob.
        digest: Digest,
        /// The repository.
        repository: RepositoryName,
    },
    /// `If-Match` or `If-None-Match` does not hold. HTTP 412.
    #[error("the precondition does not hold: {}", current_text(Some(*.current)))]
    Precondition {
        /// What is there now.
        current: Digest,
    },
    /// The write was not done, or is not known to be.
    #[error(transparent)]
    Write(#[from] WriteFault),
    /// A proof that the answer needs.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl DeleteError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            DeleteError::Unknown { .. } | DeleteError::Referenced { .. } | DeleteError::Precondition { .. } => false,
            DeleteError::Write(fault) => fault.is_retryable(),
            DeleteError::Read(fault) => fault.is_retryable(),
        }
    }

    /// Whether certainly nothing changed.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            DeleteError::Unknown { .. }
            | DeleteError::Referenced { .. }
            | DeleteError::Precondition { .. }
            | DeleteError::Read(_) => true,
            DeleteError::Write(fault) => fault.has_no_side_effects(),
        }
    }
}

fn unknown(repository: &RepositoryName, digest: Digest, as_of: AsOf) -> ReadError {
    ReadError::Unknown { digest, repository: repository.clone(), revision: as_of.revision }
}

/// A blob that the repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its row.
    pub row: rows::Blob,
    /// Which state says so.
    pub as_of: AsOf,
}

/// The row of a blob that the repository shows.
pub(crate) fn linked(
    view: &View,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<rows::Blob>, view::Error> {
    match view.link(repository, digest)? {
        Some(link) if link.present => view.blob(digest),
        Some(_) | None => Ok(None),
    }
}

/// The row of a blob that a client may count on without sending its bytes: linked, not about to be collected, and held
/// by an open store.
pub(crate) fn dependable(
    view: &View,
    repository: &RepositoryName,
    digest: &Digest,
    grace_ms: u64,
) -> Result<Option<rows::Blob>, view::Error> {
    let Some(link) = view.link(repository, digest)? else { return Ok(None) };
    let now_ms = view.meta()?.map_or(0, |meta| meta.cluster_time_ms);
    if !link.present || is_fading(&link, now_ms, grace_ms) || view.holders(digest)?.is_empty() {
        return Ok(None);
    }
    view.blob(digest)
}

/// Whether a link is so old without a reference that a client must not count on it: it uploads again, which renews it
/// (design §8).
fn is_fading(link: &rows::Link, now_ms: u64, grace_ms: u64) -> bool {
    link.unreferenced_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) > grace_ms / 2)
}

impl Handle {
    /// Whether a client may count on the blob: HEAD.
    pub async fn blob_head(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        asked: Asked,
    ) -> Result<Found, ReadError> {
        let grace_ms = self.config().grace_ms;
        let find = |view: &View| dependable(view, repository, &digest, grace_ms);
        let (row, as_of) = self.prove_point(asked, find).await?;
        let row = row.ok_or_else(|| unknown(repository, digest, as_of))?;
        Ok(Found { row, as_of })
    }

    /// The blob, for reading it: GET. What is linked and lies here needs no proof.
    pub async fn blob_find(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        asked: Asked,
    ) -> Result<Found, ReadError> {
        if asked.consistency != Some(Consistency::Strict)
            && let Some(found) = self.find_here(repository, &digest, asked)?
        {
            return Ok(found);
        }
        let (row, as_of) = self.prove_point(asked, |view| linked(view, repository, &digest)).await?;
        let row = row.ok_or_else(|| unknown(repository, digest, as_of))?;
        Ok(Found { row, as_of })
    }

    fn find_here(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        asked: Asked,
    ) -> Result<Option<Found>, ReadFault> {
        let view = self.metadata().local()?;
        if asked.min_revision.is_some_and(|least| view.revision() < least) {
            return Ok(None);
        }
        let Some(row) = linked(&view, repository, digest)? else { return Ok(None) };
        let is_here = view.copy_in(digest, self.blobs().store())?.is_some();
        Ok(is_here.then(|| Found { row, as_of: AsOf::at(view.revision()) }))
    }

    /// Verified bytes of a blob that was found, from here or fetched through.
    pub async fn blob_read(
        &self,
        digest: Digest,
        row: rows::Blob,
        range: ByteRange,
    ) -> Result<ByteStream<FetchError>, ReadError> {
        Ok(self.replication().read(digest, row, range).await?)
    }

    /// Takes a blob out of a repository, if the condition holds: DELETE.
    pub async fn blob_delete(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        condition: Option<Condition>,
        origin: Origin,
    ) -> Result<AsOf, DeleteError> {
        if condition.is_some_and(|condition| !condition.holds(&digest)) {
            // What is not there is unknown, as without a condition.
            let find = |view: &View| linked(view, repository, &digest);
            let (row, _) = self.prove_point(Asked::default().strict(), find).await?;
            let unknown = || DeleteError::Unknown { digest, repository: repository.clone() };
            return Err(row.map_or_else(unknown, |_| DeleteError::Precondition { current: digest }));
        }
        let command = Command::UnlinkBlob { repository: repository.clone(), digest };
        let refusal = match self.metadata().propose(origin, command).await {
            Ok(applied) => return Ok(AsOf::at(applied.revision)),
            Err(error) => fault::of_proposal(error, &self.here(""))?,
        };
        let repository = repository.clone();
        match refusal {
            Refusal::Unknown { .. } | Refusal::UnknownRepository | Refusal::UnknownManifest => {
                Err(DeleteError::Unknown { digest, repository })
            }
            Refusal::Referenced => Err(DeleteError::Referenced { digest, repository }),
            other => Err(WriteFault::of_refusal(&other, &self.here("")).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_fades_at_half_its_grace() {
        let link = |since| rows::Link { present: true, references: 0, unreferenced_since_ms: since };
        assert!(!is_fading(&link(None), u64::MAX, 100));
        assert!(!is_fading(&link(Some(50)), 100, 100));
        assert!(is_fading(&link(Some(50)), 101, 100));
        assert!(!is_fading(&link(Some(50)), 0, 100));
    }
}
