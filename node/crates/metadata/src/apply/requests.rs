//! Requests happen once: outcomes are kept under `as_of ‖ request id` until the horizon passes them.

use domain::Revision;

use super::Answer;
use crate::command::Proposal;
use crate::state::places::RequestRow;
use crate::state::read::Read;
use crate::state::space::{self, Key, Space};
use crate::state::{Batch, Error};

/// What was decided when this request was applied before.
pub(super) fn recall(state: &Batch, proposal: &Proposal) -> Result<Option<Answer>, Error> {
    let row: Option<RequestRow> = state.row(&space::request(proposal.as_of, proposal.request))?;
    Ok(row.map(|RequestRow { revision, outcome }| Answer { revision, outcome }))
}

/// Records what was decided.
pub(super) fn record(state: &mut Batch, proposal: &Proposal, answer: &Answer) -> Result<(), Error> {
    let row = RequestRow { revision: answer.revision, outcome: answer.outcome.clone() };
    state.put(space::request(proposal.as_of, proposal.request), &row)
}

/// Removes at most `limit` rows below the horizon.
pub(super) fn prune(state: &mut Batch, horizon: Revision, limit: usize) -> Result<(), Error> {
    if horizon.0 == 0 {
        return Ok(());
    }
    let lower = space::single(Space::Requests);
    let upper = Key::of(Space::Requests).u64(horizon.0).done();
    let old = state.entries(
        std::ops::Bound::Included(&lower),
        std::ops::Bound::Excluded(&upper),
        crate::state::read::Direction::Up,
        limit,
    )?;
    for (key, _) in old {
        state.delete(key)?;
    }
    Ok(())
}
