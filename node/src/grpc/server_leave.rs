//! What a leaving region would take along.

use std::collections::BTreeSet;

use domain::{Digest, RegionId, StoreId};
use metadata::view::{Error, View};
use proto::admin::{LastCopy, LeaveResponse};

/// Largest number of last copies that are named.
const EXAMPLES_MAX: usize = 20;
const PAGE: usize = 1000;

/// Counts the copies of a region, and those that exist nowhere else. Reads every holder row of the region.
pub(super) async fn survey(view: View, region: RegionId) -> Result<LeaveResponse, Error> {
    let survey = tokio::task::spawn_blocking(move || count(&view, region)).await;
    survey.unwrap_or_else(|error| Err(Error { detail: format!("the survey was interrupted: {error}") }))
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
                if view.holders(digest)?.iter().any(|holder| holder.region != region) {
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
    answer.revision = view.revision().0;
    answer.examples = examples.into_iter().rev().map(|(bytes, digest)| LastCopy { digest, bytes }).collect();
    Ok(answer)
}
