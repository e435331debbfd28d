//! Links of blobs into repositories, and the references that follow from them.

use domain::{Digest, RepositoryName};

use super::{Entry, Judged};
use crate::outcome::{Outcome, Refusal};
use crate::rows::{Link, Repository};
use crate::state::Error;
use crate::state::places::Present;
use crate::state::read::Read;
use crate::state::space;

impl Entry<'_> {
    /// The repository, made now if it is new.
    pub(super) fn repository_or_new(&self, name: &RepositoryName) -> Result<Repository, Error> {
        let new = Repository { created: self.index, manifests: 0, tags: 0, links: 0 };
        Ok(self.state.repository(name)?.unwrap_or(new))
    }

    pub(super) fn change_repository(
        &mut self,
        name: &RepositoryName,
        change: impl FnOnce(&mut Repository),
    ) -> Result<(), Error> {
        let mut row = self.repository_or_new(name)?;
        change(&mut row);
        self.state.put(space::repository(name), &row)
    }

    /// The only writer of link rows: keeps the index of idle links, the repository's count and the blob's references.
    pub(super) fn write_link(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        before: Option<&Link>,
        after: Option<&Link>,
    ) -> Result<(), Error> {
        let since = |link: Option<&Link>| link.and_then(|link| link.unreferenced_since_ms);
        if since(before) != since(after) {
            if let Some(since_ms) = since(before) {
                self.state.delete(space::idle_link(since_ms, repository, digest))?;
            }
            if let Some(since_ms) = since(after) {
                self.state.put(space::idle_link(since_ms, repository, digest), &Present)?;
            }
        }
        match (before, after) {
            (None, Some(_)) => self.change_repository(repository, |row| row.links += 1)?,
            (Some(_), None) => self.change_repository(repository, |row| row.links -= 1)?,
            (None, None) | (Some(_), Some(_)) => {}
        }
        let present = |link: Option<&Link>| link.is_some_and(|link| link.present);
        if present(before) != present(after)
            && let Some(old) = self.state.blob(digest)?
        {
            let mut blob = old.clone();
            if present(after) {
                blob.references += 1;
            } else {
                blob.references -= 1;
            }
            blob.unreferenced_since_ms = (blob.references == 0).then_some(self.now_ms());
            self.write_blob(digest, Some(&old), Some(&blob))?;
            if old.references == 0 {
                self.judge_again(digest)?;
            }
        }
        match after {
            Some(link) => self.state.put(space::link(repository, digest), link),
            None => self.state.delete(space::link(repository, digest)),
        }
    }

    /// Links a recorded blob, or renews the link's grace.
    pub(super) fn link_present(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        let before = self.state.link(repository, digest)?;
        let references = before.as_ref().map_or(0, |link| link.references);
        let unreferenced_since_ms = (references == 0).then_some(self.now_ms());
        let after = Link { present: true, references, unreferenced_since_ms };
        self.write_link(repository, digest, before.as_ref(), Some(&after))
    }

    /// A manifest of the repository begins to name the digest.
    pub(super) fn reference(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        let before = self.state.link(repository, digest)?;
        let (present, references) = before.as_ref().map_or((false, 0), |link| (link.present, link.references));
        let after = Link { present, references: references + 1, unreferenced_since_ms: None };
        self.write_link(repository, digest, before.as_ref(), Some(&after))
    }

    /// A manifest of the repository no longer names the digest.
    pub(super) fn unreference(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        let Some(before) = self.state.link(repository, digest)? else { return Ok(()) };
        let references = before.references.saturating_sub(1);
        let unreferenced_since_ms = (references == 0).then_some(self.now_ms());
        let after = Link { present: before.present, references, unreferenced_since_ms };
        // A link that only a sparse manifest made has nothing to keep.
        let kept = references > 0 || before.present;
        self.write_link(repository, digest, Some(&before), kept.then_some(&after))
    }

    pub(super) fn mount_blob(&mut self, from: Option<&RepositoryName>, to: &RepositoryName, digest: &Digest) -> Judged {
        let unknown = || Refusal::Unknown { digests: vec![*digest] };
        if let Some(from) = from
            && !self.state.link(from, digest)?.is_some_and(|link| link.present)
        {
            return Err(unknown().into());
        }
        // Bytes that no open store holds are not offered, so that a push heals them.
        if self.state.blob(digest)?.is_none() || self.state.holders(digest)?.is_empty() {
            return Err(unknown().into());
        }
        self.link_present(to, digest)?;
        Ok(Outcome::Done)
    }

    pub(super) fn unlink_blob(&mut self, repository: &RepositoryName, digest: &Digest) -> Judged {
        if self.state.repository(repository)?.is_none() {
            return Err(Refusal::UnknownRepository.into());
        }
        let Some(before) = self.state.link(repository, digest)?.filter(|link| link.present) else {
            return Err(Refusal::Unknown { digests: vec![*digest] }.into());
        };
        if before.references > 0 {
            return Err(Refusal::Referenced.into());
        }
        self.write_link(repository, digest, Some(&before), None)?;
        Ok(Outcome::Done)
    }
}
