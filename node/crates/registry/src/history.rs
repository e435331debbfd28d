//! What a tag named before, and putting it back there.
//!
//! A rollback is a put of a stored manifest under the tag, on condition that the tag still names what was looked at: it is
//! judged like any other put, and the next rollback undoes it.

use std::collections::BTreeSet;

use domain::limits::TAG_HISTORY_MAX;
use domain::{Digest, Reference, RepositoryName, Revision, Tag};
use metadata::View;
use metadata::handle::Origin;
use metadata::rows::{Manifest, TagMove};

use crate::condition::Condition;
use crate::fault::{AsOf, ReadFault};
use crate::handle::Handle;
use crate::manifest::{Put, PutError};
use crate::read::{Asked, Finding};

/// Why a tag's history is not shown, or a tag not put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Proved: nobody ever set the tag.
    #[error("tag `{tag}` of `{repository}` has no history")]
    Unknown {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
    /// Its history, which is bounded, does not tell where to go back to.
    #[error("{0}")]
    NoTarget(NoTarget),
    /// The manifest was deleted since.
    #[error("`{digest}` was deleted from `{repository}` since")]
    Gone {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// The put was refused.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The answer cannot be proved.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Unknown { .. } | Error::NoTarget(_) | Error::Gone { .. } => false,
            // The tag moved between the look and the put.
            Error::Put(PutError::Precondition { .. }) => true,
            Error::Put(error) => error.is_retryable(),
            Error::Read(fault) => fault.is_retryable(),
        }
    }

    /// Whether certainly nothing changed.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            Error::Put(error) => error.has_no_side_effects(),
            Error::Unknown { .. } | Error::NoTarget(_) | Error::Gone { .. } | Error::Read(_) => true,
        }
    }
}

/// Why a history names no manifest to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// It named one manifest only.
    #[error("the tag never named another manifest")]
    NothingElse,
    /// Before the oldest move that is kept.
    #[error("the history does not reach back to revision {0}")]
    TooOld(Revision),
    /// There was no tag.
    #[error("the tag did not exist at revision {0}")]
    Absent(Revision),
}

/// A move of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The move.
    pub step: TagMove,
    /// The manifest it named is still stored.
    pub is_stored: bool,
}

/// A tag that was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// What it named; none when it was deleted.
    pub from: Option<Digest>,
    /// What it names now.
    pub to: Digest,
    /// Revision of its last move.
    pub revision: Revision,
}

impl Finding for Vec<Past> {
    fn is_positive(&self) -> bool {
        !self.is_empty()
    }
}

/// What the tag is put back to: what it named at `at`, or what it named before what it names now.
fn target(newest_first: &[TagMove], at: Option<Revision>) -> Result<Digest, NoTarget> {
    if let Some(at) = at {
        let then = newest_first.iter().find(|step| step.revision <= at).ok_or(NoTarget::TooOld(at))?;
        return then.digest.ok_or(NoTarget::Absent(at));
    }
    let now = newest_first.first().and_then(|step| step.digest);
    let earlier = newest_first.iter().filter_map(|step| step.digest).find(|digest| Some(*digest) != now);
    earlier.ok_or(NoTarget::NothingElse)
}

impl Handle {
    /// The newest moves of a tag, newest first; deleted tags keep theirs.
    pub async fn tag_history(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        limit: usize,
    ) -> Result<(Vec<Past>, AsOf), Error> {
        let (name, of) = (repository.clone(), tag.clone());
        let find = move |view: &View| {
            let steps = view.tag_history(&name, &of, limit.min(TAG_HISTORY_MAX))?;
            let named: BTreeSet<Digest> = steps.iter().filter_map(|step| step.digest).collect();
            let mut stored = BTreeSet::new();
            for digest in named {
                if view.manifest(&name, &digest)?.is_some() {
                    stored.insert(digest);
                }
            }
            let past = |step: TagMove| Past { is_stored: step.digest.is_some_and(|at| stored.contains(&at)), step };
            Ok(steps.into_iter().map(past).collect::<Vec<_>>())
        };
        let (moves, as_of) = self.prove(Asked::default().strict(), find).await?;
        if moves.is_empty() {
            return Err(Error::Unknown { repository: repository.clone(), tag: tag.clone() });
        }
        Ok((moves, as_of))
    }

    /// Puts a tag back to what it named at a revision, or before its last move.
    pub async fn tag_rollback(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        at: Option<Revision>,
        origin: Origin,
    ) -> Result<RolledBack, Error> {
        let (name, of) = (repository.clone(), tag.clone());
        let find = move |view: &View| {
            let steps = view.tag_history(&name, &of, TAG_HISTORY_MAX)?;
            let Some(now) = steps.first() else { return Ok(None) };
            let from = now.digest;
            let to = match target(&steps, at) {
                Ok(digest) => Ok((digest, view.manifest(&name, &digest)?)),
                Err(none) => Err(none),
            };
            Ok(Some((from, to)))
        };
        let (found, _) = self.prove(Asked::default().strict(), find).await?;
        let unknown = || Error::Unknown { repository: repository.clone(), tag: tag.clone() };
        let (from, to) = found.ok_or_else(unknown)?;
        let (digest, stored) = to.map_err(Error::NoTarget)?;
        let gone = || Error::Gone { repository: repository.clone(), digest };
        let Manifest { media_type, body, .. } = stored.ok_or_else(gone)?;
        let condition = from.map_or(Condition::Absent, |now| Condition::Matches(vec![now]));
        let put = Put {
            repository: repository.clone(),
            reference: Reference::Digest(digest),
            tags: vec![tag.clone()],
            body,
            content_type: Some(media_type),
            condition: Some(condition),
            origin,
        };
        let stored = self.manifest_put(put).await?;
        Ok(RolledBack { from, to: digest, revision: stored.revision })
    }
}

#[cfg(test)]
mod tests {
    use domain::RegionId;

    use super::*;

    fn step(revision: u64, digest: Option<u8>) -> TagMove {
        let digest = digest.map(|byte| Digest::Sha256([byte; 32]));
        TagMove { revision: Revision(revision), digest, at_ms: 0, actor: String::new(), region: RegionId(1) }
    }

    #[test]
    fn a_tag_goes_back_to_what_it_named_before() {
        let digest = |byte| Ok(Digest::Sha256([byte; 32]));
        assert_eq!(target(&[step(9, Some(2)), step(5, Some(1))], None), digest(1));
        assert_eq!(target(&[step(9, Some(2)), step(7, None), step(5, Some(2)), step(3, Some(1))], None), digest(1));
        assert_eq!(target(&[step(9, None), step(5, Some(2)), step(3, Some(1))], None), digest(2), "it was deleted");
        assert_eq!(target(&[step(9, Some(2))], None), Err(NoTarget::NothingElse));
    }

    #[test]
    fn a_tag_goes_back_to_what_it_named_at_a_revision() {
        let steps = [step(9, Some(3)), step(7, None), step(5, Some(2))];
        let at = |revision| target(&steps, Some(Revision(revision)));
        assert_eq!(at(9), Ok(Digest::Sha256([3; 32])));
        assert_eq!(at(6), Ok(Digest::Sha256([2; 32])), "between its moves");
        assert_eq!(at(8), Err(NoTarget::Absent(Revision(8))));
        assert_eq!(at(4), Err(NoTarget::TooOld(Revision(4))));
    }
}
