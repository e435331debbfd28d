//! A region that shall leave is looked through for last copies: a cursor over all blobs, moved by further commands.
//!
//! Invariant: of no blob before the cursor does the leaving region hold the last copy. Whatever breaks that behind the
//! cursor sets it back: a copy elsewhere that goes, a new copy in the leaving region, a blob that is linked again, and
//! stores that open or close. So the region can be removed in the very command that finds the cursor at its end.

use domain::limits::DEPARTURE_BLOBS_MAX;
use domain::{Digest, RegionId};

use super::{Entry, Judged, invalid};
use crate::outcome::{Outcome, Refusal};
use crate::rows::{Blob, Departure};
use crate::state::Error;
use crate::state::read::Read;
use crate::state::space;

/// Blobs that are named as last copies.
const LAST_COPIES_NAMED: usize = 100;

impl Entry<'_> {
    /// The region shall leave; one at a time, or two could each count on the other's copies.
    pub(super) fn depart(&mut self, region: RegionId) -> Judged {
        match self.state.departing()? {
            Some((departing, _)) if departing == region => {}
            Some((departing, _)) => {
                return Err(invalid(format!("region {departing} is leaving, region {region} can when it is gone")));
            }
            None => self.state.put(space::departure(region), &Departure::default())?,
        }
        Ok(Outcome::Done)
    }

    pub(super) fn advance_departure(&mut self, region: RegionId, from: Option<&Digest>, blobs: u32) -> Judged {
        let Some(departure) = self.state.departure(region)? else {
            return Err(invalid(format!("region {region} is not on its way out")));
        };
        if departure.next.as_ref() != from {
            return Err(invalid(format!("the departure of region {region} has moved on")));
        }
        let limit = usize::try_from(blobs).unwrap_or(usize::MAX).clamp(1, DEPARTURE_BLOBS_MAX);
        let mut page = self.state.blob_rows_from(from, limit + 1)?;
        let next = if page.len() > limit { page.pop().map(|(digest, _)| digest) } else { None };
        let (mut count, mut bytes, mut digests) = (0, 0, Vec::new());
        for (digest, blob) in &page {
            if self.holds_last_copy(region, digest, blob)? {
                (count, bytes) = (count + 1, bytes + blob.size);
                digests.push(*digest);
            }
        }
        if count > 0 {
            digests.truncate(LAST_COPIES_NAMED);
            return self.stay(region, Refusal::LastCopies { count, bytes, digests });
        }
        if next.is_some() {
            self.state.put(space::departure(region), &Departure { next })?;
            return Ok(Outcome::Done);
        }
        if !self.another_is_ready(region)? {
            let detail = format!("no other region is ready, region {region} cannot leave");
            return self.stay(region, Refusal::Invalid { detail });
        }
        self.take_out(region)?;
        Ok(Outcome::Done)
    }

    fn stay(&mut self, region: RegionId, why: Refusal) -> Judged {
        self.state.delete(space::departure(region))?;
        Ok(Outcome::Stays(why))
    }

    /// Whether open stores of the region, and of no other, hold a blob that something refers to.
    fn holds_last_copy(&self, region: RegionId, digest: &Digest, blob: &Blob) -> Result<bool, Error> {
        if blob.references == 0 {
            return Ok(false);
        }
        let holders = self.state.holders(digest)?;
        Ok(!holders.is_empty() && holders.iter().all(|holder| holder.region == region))
    }

    /// Sets the cursor of a departure back to a blob of which the leaving region holds the last copy now.
    pub(super) fn judge_again(&mut self, digest: &Digest) -> Result<(), Error> {
        let Some((region, departure)) = self.state.departing()? else { return Ok(()) };
        if departure.next.is_none_or(|next| *digest >= next) {
            return Ok(());
        }
        let Some(blob) = self.state.blob(digest)? else { return Ok(()) };
        if self.holds_last_copy(region, digest, &blob)? {
            self.state.put(space::departure(region), &Departure { next: Some(*digest) })?;
        }
        Ok(())
    }

    /// A store opened or closed, so that any number of copies counts otherwise: a departure begins anew.
    pub(super) fn judge_all_again(&mut self) -> Result<(), Error> {
        match self.state.departing()? {
            Some((region, _)) => self.state.put(space::departure(region), &Departure::default()),
            None => Ok(()),
        }
    }
}
