//! Backfill: a cursor over all blobs that turns into wanted rows, window by window (ground.md §2).

use domain::limits::COMMAND_ROWS_MAX;
use domain::{Digest, RegionId};

use super::copies::Known;
use super::{Entry, Judged, invalid};
use crate::outcome::Outcome;
use crate::rows::RegionState;
use crate::state::Error;
use crate::state::places::{RegionCounters, Tally};
use crate::state::read::Read;
use crate::state::space;

/// Wanted rows a backfill keeps open ahead of the workers.
const WINDOW_ROWS: u64 = 10_000;

impl Entry<'_> {
    /// The region considers all blobs from the beginning and does not count for durability until it is through.
    ///
    /// `came_back`: a lost store was opened again, so that the region may hold what it also wants; the count is then a
    /// ceiling. It is exact in every other case, except that 1 stands for 0 until the cursor is at its end.
    pub(super) fn restart_backfill(&mut self, region: RegionId, came_back: bool) -> Result<(), Error> {
        let Some(mut row) = self.state.region(region)? else { return Ok(()) };
        row.state = RegionState::Backfilling;
        self.state.put(space::region(region), &row)?;
        let mut held = Tally::default();
        for (id, store) in self.state.stores()? {
            if store.region == region && store.open {
                let tally = self.state.store_counters(id)?;
                held = Tally { blobs: held.blobs + tally.blobs, bytes: held.bytes + tally.bytes };
            }
        }
        let total = self.state.totals()?;
        let wanted = self.state.region_counters(region)?.wanted;
        let covered = if came_back {
            Tally { blobs: held.blobs.max(wanted.blobs), bytes: held.bytes.max(wanted.bytes) }
        } else {
            Tally { blobs: held.blobs + wanted.blobs, bytes: held.bytes + wanted.bytes }
        };
        let beyond = Tally {
            blobs: total.blobs.saturating_sub(covered.blobs).max(total.blobs.min(1)),
            bytes: total.bytes.saturating_sub(covered.bytes),
        };
        let counters = RegionCounters { wanted, cursor: None, beyond, total: beyond };
        self.state.put(space::region_counters(region), &counters)
    }

    pub(super) fn advance_backfill(&mut self, region: RegionId, from: Option<&Digest>) -> Judged {
        let row = self.known_region(region)?;
        if row.state != RegionState::Backfilling {
            return Err(invalid(format!("region {region} is not backfilling")));
        }
        let counters = self.state.region_counters(region)?;
        if counters.cursor.as_ref() != from {
            return Err(invalid(format!("the backfill of region {region} has moved on")));
        }
        let room = usize::try_from(WINDOW_ROWS.saturating_sub(counters.wanted.blobs)).unwrap_or(usize::MAX);
        let limit = COMMAND_ROWS_MAX.min(room);
        let page = self.state.blob_rows(from, limit)?;
        for (digest, blob) in &page {
            let holders = self.state.holders(digest)?;
            if holders.is_empty() {
                // It cannot arrive: a row would only fill the window. Whoever holds it again makes it wanted everywhere.
                if !self.state.is_wanted(region, digest)? {
                    self.leave_beyond(region, digest, blob.size)?;
                }
            } else if !holders.iter().any(|holder| holder.region == region) {
                self.want(region, Known { digest, size: blob.size, counted: true })?;
            }
        }
        let mut counters = self.state.region_counters(region)?;
        counters.cursor = page.last().map(|(digest, _)| *digest).or(counters.cursor);
        if limit > 0 && page.len() < limit {
            counters.beyond = Tally::default();
        }
        self.state.put(space::region_counters(region), &counters)?;
        Ok(Outcome::Done)
    }
}
