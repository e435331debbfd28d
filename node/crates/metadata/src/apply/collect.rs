//! Collection: links and blobs that nothing refers to, past their grace (design §8).

use domain::limits::COMMAND_ROWS_MAX;
use domain::{Digest, RepositoryName};

use super::{Entry, Judged};
use crate::outcome::Outcome;
use crate::state::read::Read;

impl Entry<'_> {
    /// Takes what is unreferenced past its grace now, whatever the collector believed. What does not fit into one
    /// command stays for the next.
    pub(super) fn collect(&mut self, grace_ms: u64, links: &[(RepositoryName, Digest)], blobs: &[Digest]) -> Judged {
        let began = self.state.changes();
        let now_ms = self.now_ms();
        let past = |since_ms: Option<u64>| since_ms.is_some_and(|since| since.saturating_add(grace_ms) <= now_ms);
        for (repository, digest) in links {
            if self.state.changes() - began >= COMMAND_ROWS_MAX as u64 {
                return Ok(Outcome::Done);
            }
            let Some(link) = self.state.link(repository, digest)? else { continue };
            if link.references > 0 || !past(link.unreferenced_since_ms) {
                continue;
            }
            self.write_link(repository, digest, Some(&link), None)?;
            // The link's grace was the blob's: with the last link the blob goes at once.
            if let Some(blob) = self.state.blob(digest)?
                && blob.references == 0
            {
                self.condemn(digest, &blob)?;
            }
        }
        for digest in blobs {
            if self.state.changes() - began >= COMMAND_ROWS_MAX as u64 {
                return Ok(Outcome::Done);
            }
            if let Some(blob) = self.state.blob(digest)?
                && blob.references == 0
                && past(blob.unreferenced_since_ms)
            {
                self.condemn(digest, &blob)?;
            }
        }
        Ok(Outcome::Done)
    }
}
