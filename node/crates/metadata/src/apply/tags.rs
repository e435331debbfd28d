//! Tags: linearizable registers with a history.

use domain::limits::TAG_HISTORY_MAX;
use domain::{Digest, RepositoryName, Tag};

use super::{Entry, Judged, Stop, glob};
use crate::command::Precondition;
use crate::outcome::{Outcome, Refusal};
use crate::rows::{Policy, TagRow};
use crate::state::Error;
use crate::state::content::MoveRow;
use crate::state::places::Present;
use crate::state::read::{Read, decode};
use crate::state::space;

/// Refuses to move or delete a tag that a policy holds in place.
pub(super) fn refuse_immutable(tag: &Tag, prefix: &str, policy: &Policy) -> Result<(), Stop> {
    if policy.immutable_tags.iter().any(|glob| glob::matches(glob, tag.as_str())) {
        return Err(Refusal::Immutable { tag: tag.to_string(), prefix: prefix.to_owned() }.into());
    }
    Ok(())
}

impl Entry<'_> {
    /// Moves a tag, or deletes it when `to` is none. The caller knows that it changes.
    pub(super) fn move_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        before: Option<&TagRow>,
        to: Option<&Digest>,
    ) -> Result<(), Error> {
        let (at_ms, actor, region) = (self.proposal.wall_ms, self.proposal.actor.clone(), self.proposal.region);
        if let Some(before) = before {
            self.state.delete(space::tagged(repository, &before.digest, tag))?;
        }
        match to {
            Some(digest) => {
                let row = TagRow { digest: *digest, revision: self.index, at_ms, actor: actor.clone(), region };
                self.state.put(space::tag(repository, tag), &row)?;
                self.state.put(space::tagged(repository, digest, tag), &Present)?;
            }
            None => self.state.delete(space::tag(repository, tag))?,
        }
        match (before, to) {
            (None, Some(_)) => self.change_repository(repository, |row| row.tags += 1)?,
            (Some(_), None) => self.change_repository(repository, |row| row.tags -= 1)?,
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.remember_move(repository, tag, MoveRow { number: 0, digest: to.copied(), at_ms, actor, region })
    }

    fn remember_move(&mut self, repository: &RepositoryName, tag: &Tag, mut row: MoveRow) -> Result<(), Error> {
        let prefix = space::history_of(repository, tag);
        let newest: Option<MoveRow> = self.last_under(&prefix)?.map(|(key, value)| decode(&key, &value)).transpose()?;
        row.number = newest.map_or(1, |newest| newest.number + 1);
        if row.number > TAG_HISTORY_MAX as u64
            && let Some((key, value)) = self.state.under(&prefix, None, 1)?.pop()
        {
            let oldest: MoveRow = decode(&key, &value)?;
            if row.number - oldest.number >= TAG_HISTORY_MAX as u64 {
                self.state.delete(key)?;
            }
        }
        self.state.put(space::history(repository, tag, self.index.0), &row)
    }

    /// What is refused whatever is there comes before the condition. Source: RFC 9110 §13.2.1.
    pub(super) fn delete_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        condition: Option<&Precondition>,
    ) -> Judged {
        if self.state.repository(repository)?.is_none() {
            return Err(Refusal::UnknownRepository.into());
        }
        let before = self.state.tag(repository, tag)?.ok_or(Refusal::UnknownManifest)?;
        let (prefix, policy) = self.state.policy_of(repository.as_str())?;
        refuse_immutable(tag, &prefix, &policy)?;
        if condition.is_some_and(|condition| !condition.holds(Some(&before.digest))) {
            return Err(Refusal::Precondition { current: Some(before.digest) }.into());
        }
        self.move_tag(repository, tag, Some(&before), None)?;
        Ok(Outcome::Done)
    }
}
