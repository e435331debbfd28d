//! The decisions: a pure function of (state, command) (design §3).
//!
//! `apply` parses no JSON, reads no clock and draws no randomness: commands carry every such input. A refusal changes
//! nothing but the record of itself. All rows one entry touches go into the caller's batch.

mod backfill;
mod blobs;
mod cluster;
mod collect;
mod copies;
mod departure;
mod glob;
mod links;
mod manifests;
mod regions;
mod requests;
mod stores;
mod tags;

use domain::limits::REQUESTS_PRUNED_MAX;
use domain::{RegionId, Revision};

use crate::command::{Command, Proposal};
use crate::outcome::{Outcome, Refusal};
use crate::rows::Meta;
use crate::state::read::Read;
use crate::state::{Batch, Error};

/// What an entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Log index of the entry that was judged: this one, or the first of the same request.
    pub revision: Revision,
    /// What was decided.
    pub outcome: Outcome,
}

/// Applies one entry. An error means that the state cannot be read or written: nothing was decided, drop the batch.
pub fn apply(state: &mut Batch, index: u64, proposal: &Proposal) -> Result<Answer, Error> {
    let revision = Revision(index);
    let Some(meta) = state.meta()? else { return before_genesis(state, revision, proposal) };
    requests::prune(state, meta.horizon, REQUESTS_PRUNED_MAX)?;
    if let Some(answer) = requests::recall(state, proposal)? {
        return Ok(answer);
    }
    if proposal.as_of < meta.horizon {
        // Not recorded: the horizon never falls, so every retry is judged the same.
        return Ok(Answer { revision, outcome: Outcome::Refused(Refusal::TooOld) });
    }
    let before = state.changes();
    let mut entry = Entry { state, index: revision, meta, proposal };
    let outcome = match entry.judge(&proposal.command) {
        Ok(outcome) => outcome,
        Err(Stop::Refused(refusal)) => {
            debug_assert_eq!(before, state.changes(), "a refusal changes nothing: {refusal}");
            Outcome::Refused(refusal)
        }
        Err(Stop::Failed(error)) => return Err(error),
    };
    let answer = Answer { revision, outcome };
    requests::record(state, proposal, &answer)?;
    if matches!(proposal.command, Command::Tick { .. }) {
        state.record_hash(revision);
    }
    Ok(answer)
}

fn before_genesis(state: &mut Batch, revision: Revision, proposal: &Proposal) -> Result<Answer, Error> {
    let Command::Genesis { cluster, mac_key, node, durability } = &proposal.command else {
        let detail = "the cluster is not born yet".to_owned();
        return Ok(Answer { revision, outcome: Outcome::Refused(Refusal::Lifecycle { detail }) });
    };
    cluster::genesis(state, revision, *cluster, *mac_key, node, *durability)?;
    let answer = Answer { revision, outcome: Outcome::Done };
    requests::record(state, proposal, &answer)?;
    Ok(answer)
}

/// Why a command stops short.
enum Stop {
    /// Judged.
    Refused(Refusal),
    /// The state failed.
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

type Judged = Result<Outcome, Stop>;

fn invalid(detail: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::Invalid { detail: detail.into() })
}

/// One entry being judged.
struct Entry<'a> {
    state: &'a mut Batch,
    index: Revision,
    meta: Meta,
    proposal: &'a Proposal,
}

impl Entry<'_> {
    /// Cluster time. Unit: milliseconds.
    fn now_ms(&self) -> u64 {
        self.meta.cluster_time_ms
    }

    /// Region that accepted the wish.
    fn accepting(&self) -> RegionId {
        self.proposal.region
    }

    fn judge(&mut self, command: &Command) -> Judged {
        match command {
            Command::Genesis { .. } => {
                Err(Refusal::Lifecycle { detail: "the cluster was born already".to_owned() }.into())
            }
            Command::Tick { elapsed_ms, hash_index, hash } => self.tick(*elapsed_ms, *hash_index, *hash),
            Command::MintNode { node, replace } => self.mint_node(node, *replace),
            Command::OpenStore { store, node, region, format_level_max } => {
                self.open_store(*store, *node, *region, *format_level_max)
            }
            Command::RecordBlob { repository, digest, size, root, claim, copy } => {
                self.record_blob(repository, digest, *size, *root, *claim, *copy)
            }
            Command::Held { claim, copies } => self.held(*claim, copies),
            Command::Lost { claim, copies } => self.lost(*claim, copies),
            Command::Deleted { claim, copies } => self.deleted(*claim, copies),
            Command::MountBlob { from, to, digest } => self.mount_blob(from.as_ref(), to, digest),
            Command::UnlinkBlob { repository, digest } => self.unlink_blob(repository, digest),
            Command::PutManifest(put) => self.put_manifest(put),
            Command::DeleteManifest { repository, digest } => self.delete_manifest(repository, digest),
            Command::DeleteTag { repository, tag, precondition } => {
                self.delete_tag(repository, tag, precondition.as_ref())
            }
            Command::Collect { grace_ms, links, blobs } => self.collect(*grace_ms, links, blobs),
            Command::AdvanceBackfill { region, from } => self.advance_backfill(*region, from.as_ref()),
            Command::SetRegionState { region, state } => self.set_region_state(*region, *state),
            Command::SetCordoned { region, cordoned } => self.set_cordoned(*region, *cordoned),
            Command::RemoveRegion { region, force } => self.remove_region(*region, *force),
            Command::AdvanceDeparture { region, from, blobs } => self.advance_departure(*region, from.as_ref(), *blobs),
            Command::ForgetStore { store } => self.forget_store(*store),
            Command::SetPolicy { prefix, durability, sparse, immutable_tags } => {
                self.set_policy(prefix, *durability, *sparse, immutable_tags.as_deref())
            }
            Command::SetNodeAddress { node, peer_address } => self.set_node_address(*node, peer_address),
        }
    }
}

#[cfg(test)]
mod tests;
