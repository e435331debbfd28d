//! Reading a manifest: short ones where they are asked for, long ones off the async threads.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use domain::{Digest, Reference, RepositoryName, Revision};
use metadata::View;

use super::BLOCKING_BYTES_MIN;
use crate::fault::{AsOf, ReadFault};
use crate::handle::Handle;
use crate::read::{Asked, Finding};

/// Digests remembered as short: a few MiB at most.
const SHORT_MAX: usize = 16 * 1024;

/// Why a manifest is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// Proved: no such repository. HTTP 404 NAME_UNKNOWN.
    #[error("repository `{repository}` is not known")]
    UnknownRepository {
        /// The repository.
        repository: RepositoryName,
        /// The state that says so.
        revision: Revision,
    },
    /// Proved: no such manifest or tag. HTTP 404 MANIFEST_UNKNOWN.
    #[error("`{reference}` is not known in `{repository}`")]
    Unknown {
        /// The repository.
        repository: RepositoryName,
        /// What was asked for.
        reference: Reference,
        /// The state that says so.
        revision: Revision,
    },
    /// The answer cannot be proved.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl GetError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            GetError::UnknownRepository { .. } | GetError::Unknown { .. } => false,
            GetError::Read(fault) => fault.is_retryable(),
        }
    }

    /// Reads change nothing.
    pub fn has_no_side_effects(&self) -> bool {
        true
    }
}

/// A manifest that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its digest, as its client named it.
    pub digest: Digest,
    /// Stored media type.
    pub media_type: String,
    /// The exact bytes.
    pub body: Bytes,
    /// Which state says so.
    pub as_of: AsOf,
}

/// Digests of manifests that were put or read here before and are short.
///
/// The length of a row is known only once it was read, so one that is not known to be short is read off the async
/// threads. A digest names its bytes: what is remembered never becomes wrong.
#[derive(Debug, Default)]
pub(crate) struct Short {
    known: Mutex<HashSet<Digest>>,
}

impl Short {
    fn has(&self, digest: &Digest) -> bool {
        self.lock().contains(digest)
    }

    pub(super) fn note(&self, digest: Digest, bytes: usize) {
        if bytes >= BLOCKING_BYTES_MIN {
            return;
        }
        let mut known = self.lock();
        // Those in use come back with their next read.
        if known.len() >= SHORT_MAX {
            known.clear();
        }
        known.insert(digest);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// A manifest by tag or digest. `decides` says that the client acts on what it is told about the tag (HEAD).
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        asked: Asked,
        decides: bool,
    ) -> Result<Found, GetError> {
        let asked = if decides && !self.config().serve_stale_head { asked.strict() } else { asked };
        let is_short = |view: &View| match reference {
            Reference::Digest(digest) => Ok(self.short_manifests().has(digest)),
            Reference::Tag(tag) => {
                Ok(view.tag(repository, tag)?.is_none_or(|row| self.short_manifests().has(&row.digest)))
            }
        };
        let find = {
            let (repository, reference) = (repository.clone(), reference.clone());
            move |view: &View| look_up(view, &repository, &reference)
        };
        let (found, as_of) = self.prove_by(asked, is_short, find).await?;
        let (repository, revision) = (repository.clone(), as_of.revision);
        match found {
            Lookup::Found(digest, row) => {
                self.short_manifests().note(digest, row.body.len());
                Ok(Found { digest, media_type: row.media_type, body: row.body, as_of })
            }
            Lookup::RepositoryAlone => Err(GetError::Unknown { repository, reference: reference.clone(), revision }),
            Lookup::Nothing => Err(GetError::UnknownRepository { repository, revision }),
        }
    }
}

enum Lookup {
    Found(Digest, Box<metadata::rows::Manifest>),
    RepositoryAlone,
    Nothing,
}

impl Finding for Lookup {
    fn is_positive(&self) -> bool {
        matches!(self, Lookup::Found(..))
    }
}

fn look_up(view: &View, repository: &RepositoryName, reference: &Reference) -> Result<Lookup, metadata::view::Error> {
    let digest = match reference {
        Reference::Digest(digest) => *digest,
        Reference::Tag(tag) => match view.tag(repository, tag)? {
            Some(row) => row.digest,
            None => return missing(view, repository),
        },
    };
    match view.manifest(repository, &digest)? {
        Some(row) => Ok(Lookup::Found(digest, Box::new(row))),
        None => missing(view, repository),
    }
}

fn missing(view: &View, repository: &RepositoryName) -> Result<Lookup, metadata::view::Error> {
    Ok(view.repository(repository)?.map_or(Lookup::Nothing, |_| Lookup::RepositoryAlone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        super::super::digest_of(domain::Algorithm::Sha256, &number.to_be_bytes())
    }

    #[test]
    fn only_what_was_seen_to_be_short_is_read_at_once() {
        let short = Short::default();
        assert!(!short.has(&digest(1)), "nobody knows yet how long it is");
        short.note(digest(1), BLOCKING_BYTES_MIN - 1);
        short.note(digest(2), BLOCKING_BYTES_MIN);
        assert!(short.has(&digest(1)) && !short.has(&digest(2)));
        for number in 0..=SHORT_MAX {
            short.note(digest(number), 1);
        }
        assert!(short.has(&digest(SHORT_MAX)) && short.lock().len() <= SHORT_MAX);
    }
}
