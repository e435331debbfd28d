//! Proposing a put until it is judged for good: blobs that are on their way are waited for, a tag that moves is not.

use std::time::{Duration, Instant};

use domain::{Digest, Durability, RegionId, RepositoryName, Revision};
use metadata::command::{Command, Precondition, PutManifest};
use metadata::handle::Origin;
use metadata::outcome::Refusal;
use runtime::{Backoff, clock};

use super::{PutError, put_error, put_revision};
use crate::fault::{self, ReadFault, WriteFault};
use crate::handle::Handle;

/// Pause before a put is proposed again that waited for its blobs twice and more.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Longest such pause.
const AGAIN_AFTER_MOST: Duration = Duration::from_secs(2);
/// How often a put under `If-Match: *` is proposed again because its tag moved meanwhile.
const MOVES_MAX: u32 = 32;

impl Handle {
    /// Proposes until the blobs below are durable enough, within the bound of design §6. With `any`, whatever is there
    /// meets the precondition.
    pub(super) async fn propose_put(
        &self,
        origin: Origin,
        mut command: PutManifest,
        repository: RepositoryName,
        any: bool,
    ) -> Result<Revision, PutError> {
        let deadline = clock::now() + self.config().durability_wait_max;
        let mut pauses = Backoff::new(AGAIN_AFTER, AGAIN_AFTER_MOST);
        let (mut waits, mut moves) = (0, 0);
        loop {
            let proposed = Command::PutManifest(Box::new(command.clone()));
            let refusal = match self.metadata().propose(origin.clone(), proposed).await {
                Ok(applied) => return Ok(put_revision(&applied.outcome).unwrap_or(applied.revision)),
                Err(error) => fault::of_proposal(error, &self.here(""))?,
            };
            match refusal {
                Refusal::NotYetDurable { digests, have, need } => {
                    if waits > 0 {
                        // The wait saw what the log did not: no reason to fill the log with the same question.
                        tokio::time::sleep(pauses.next_delay()).await;
                    }
                    waits += 1;
                    let only = self.answers_for_itself(&repository)?;
                    self.wait_for_durability(&digests, (have, need), only, deadline).await?;
                }
                // The tag moved before the put was judged, and is there all the same.
                Refusal::Precondition { current: Some(current) } if any => {
                    moves += 1;
                    if moves > MOVES_MAX {
                        return Err(WriteFault::Busy.into());
                    }
                    accept(&mut command, current);
                }
                other => return Err(put_error(other, &repository, &self.here(""))),
            }
        }
    }

    async fn wait_for_durability(
        &self,
        digests: &[Digest],
        (have, need): (u32, u32),
        only: Option<RegionId>,
        deadline: Instant,
    ) -> Result<(), PutError> {
        let short = PutError::NotDurable { missing: digests.len(), have, need };
        if clock::now() >= deadline {
            return Err(short);
        }
        if self.replication().await_durable(digests, need, only, deadline).await { Ok(()) } else { Err(short) }
    }

    /// This region, where the policy of a repository counts the accepting region alone.
    fn answers_for_itself(&self, repository: &RepositoryName) -> Result<Option<RegionId>, ReadFault> {
        let (_, policy) = self.metadata().local()?.policy(repository)?;
        Ok((policy.durability == Durability::Local).then(|| self.metadata().identity().region))
    }
}

/// A put that whatever is there may precede takes this as well.
fn accept(put: &mut PutManifest, current: Digest) {
    if let Some(Precondition::Matches(digests)) = &mut put.precondition {
        digests.push(current);
    }
}
