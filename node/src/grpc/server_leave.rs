//! What a leaving region would take along, and how its departure ends.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{Digest, RegionId, RepositoryName, Revision, StoreId};
use metadata::handle::Watched;
use metadata::outcome::Refusal;
use metadata::rows::RegionState;
use metadata::view::{Error, View};
use proto::admin::{LastCopy, LeaveResponse};
use runtime::clock;
use tonic::{Code, Status};

use super::refusal::{from_refusal, from_state, refuse};
use crate::rooms::Rooms;

/// How long one call waits for the end of a departure; who asked then asks again.
const FOLLOW_MAX: Duration = Duration::from_secs(20);

/// Largest number of last copies, and of repositories, that are named.
const EXAMPLES_MAX: usize = 20;
const PAGE: usize = 1000;

/// Counts the copies of a region, and those that exist nowhere else, with the repositories that link them. Reads every
/// holder row of the region, and the links of all repositories where there are such copies.
pub(super) async fn survey(view: View, region: RegionId) -> Result<LeaveResponse, Error> {
    let survey = tokio::task::spawn_blocking(move || count(&view, region)).await;
    survey.unwrap_or_else(|error| Err(Error { detail: format!("the survey was interrupted: {error}") }))
}

/// Waits until the region was removed or stays. The rows drive its departure: it goes on when nobody waits any more.
pub(super) async fn follow(rooms: &Rooms, region: RegionId, begun: Revision) -> Result<LeaveResponse, Status> {
    let deadline = clock::now() + FOLLOW_MAX;
    let mut applied = rooms.metadata.watch(Watched::Applied);
    loop {
        applied.borrow_and_update();
        let view = rooms.metadata.local().map_err(|error| from_state(&error))?;
        let row = view.region(region).map_err(|error| from_state(&error))?;
        let revision = view.revision();
        if revision >= begun {
            match row {
                None => return Ok(LeaveResponse { revision: revision.0, ..LeaveResponse::default() }),
                Some(row) if row.state == RegionState::Leaving => {
                    return Ok(LeaveResponse { revision: revision.0, ..LeaveResponse::default() });
                }
                Some(row) if row.departure.is_none() => return Err(stays(view, region).await),
                Some(_) => {}
            }
        }
        drop(view);
        let rest = deadline.saturating_duration_since(clock::now());
        if rest.is_zero() {
            return Ok(LeaveResponse { revision: begun.0, under_way: true, ..LeaveResponse::default() });
        }
        drop(tokio::time::timeout(rest, applied.changed()).await);
    }
}

/// Why a departure ended without the region: counted anew, for whoever waits did not decide it.
async fn stays(view: View, region: RegionId) -> Status {
    match survey(view, region).await {
        Ok(LeaveResponse { last_copies: 0, .. }) => {
            let what = "the region stays: a last copy was found in it, or no other region was ready";
            refuse(Code::FailedPrecondition, what, "look with `cluster-cli status`, then run it again")
        }
        Ok(LeaveResponse { last_copies: count, last_copy_bytes: bytes, .. }) => {
            from_refusal(&Refusal::LastCopies { count, bytes, digests: Vec::new() })
        }
        Err(error) => from_state(&error),
    }
}

fn count(view: &View, region: RegionId) -> Result<LeaveResponse, Error> {
    let mut answer = LeaveResponse::default();
    let mut examples: BTreeSet<(u64, String)> = BTreeSet::new();
    let stores: Vec<StoreId> =
        view.stores()?.iter().filter(|store| store.open && store.region == region).map(|store| store.id).collect();
    for store in stores {
        let mut last: Option<Digest> = None;
        loop {
            let page = view.held_by(store, last.as_ref(), PAGE)?;
            let Some((end, _)) = page.last() else { break };
            last = Some(*end);
            for (digest, _copy) in &page {
                let size = view.blob(digest)?.map_or(0, |blob| blob.size);
                answer.copies += 1;
                answer.bytes += size;
                if !is_last(view, region, digest)? {
                    continue;
                }
                answer.last_copies += 1;
                answer.last_copy_bytes += size;
                examples.insert((size, digest.to_string()));
                if examples.len() > EXAMPLES_MAX {
                    examples.pop_first();
                }
            }
        }
    }
    if answer.last_copies > 0 {
        name_repositories(view, region, &mut answer)?;
    }
    answer.revision = view.revision().0;
    answer.examples = examples.into_iter().rev().map(|(bytes, digest)| LastCopy { digest, bytes }).collect();
    Ok(answer)
}

/// Whether copies of a blob lie in this region, and nowhere else.
fn is_last(view: &View, region: RegionId, digest: &Digest) -> Result<bool, Error> {
    let holders = view.holders(digest)?;
    Ok(!holders.is_empty() && holders.iter().all(|holder| holder.region == region))
}

fn name_repositories(view: &View, region: RegionId, answer: &mut LeaveResponse) -> Result<(), Error> {
    let mut last: Option<RepositoryName> = None;
    loop {
        let page = view.repositories(last.as_ref().map(RepositoryName::as_str), PAGE)?;
        for repository in &page {
            if !loses(view, region, repository)? {
                continue;
            }
            answer.repositories_total += 1;
            if answer.repositories.len() < EXAMPLES_MAX {
                answer.repositories.push(repository.to_string());
            }
        }
        match page.into_iter().last() {
            Some(end) => last = Some(end),
            None => return Ok(()),
        }
    }
}

/// Whether a repository links a blob whose last copies lie in this region.
fn loses(view: &View, region: RegionId, repository: &RepositoryName) -> Result<bool, Error> {
    let mut last: Option<Digest> = None;
    loop {
        let page = view.links(repository, last.as_ref(), PAGE)?;
        for (digest, link) in &page {
            if link.present && is_last(view, region, digest)? {
                return Ok(true);
            }
        }
        match page.last() {
            Some((end, _)) => last = Some(*end),
            None => return Ok(false),
        }
    }
}
