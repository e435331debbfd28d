//! Who holds a blob and who wants it, with every counter that follows from it.
//!
//! Invariants: `held` is the inverse of `holders`; a region never wants what an open store of it holds; a backfilling
//! region's `beyond` counts the blobs after its cursor that it neither holds nor wants, but is at least 1 until the
//! cursor has passed the last blob.

use domain::{CopyId, Digest, RegionId, StoreId};

use super::Entry;
use crate::rows::{Blob, RegionState};
use crate::state::Error;
use crate::state::content::{CondemnedRow, HeldRow, HolderRow, WantedRow};
use crate::state::places::{RegionCounters, Tally};
use crate::state::read::Read;
use crate::state::space::{self, Space};

/// What a command already knows of a blob when it touches its copies.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) digest: &'a Digest,
    pub(super) size: u64,
    /// The blob row was there before this command, so that backfills count it.
    pub(super) counted: bool,
}

impl Entry<'_> {
    /// Whether an open store of a region holds the blob.
    pub(super) fn region_holds(&self, region: RegionId, digest: &Digest) -> Result<bool, Error> {
        Ok(self.state.holders(digest)?.iter().any(|holder| holder.region == region))
    }

    /// Whether the region's state asks for copies.
    pub(super) fn asks(state: RegionState) -> bool {
        matches!(state, RegionState::Ready | RegionState::Backfilling)
    }

    /// Whether a backfill still counts a blob at this place, if the region neither holds nor wants it.
    fn is_beyond(state: RegionState, counters: &RegionCounters, digest: &Digest) -> bool {
        state == RegionState::Backfilling && counters.cursor.is_none_or(|cursor| *digest > cursor)
    }

    /// Records a copy in an open store; an older copy there is condemned. The region no longer wants the blob.
    /// Says whether no open store held it before.
    pub(super) fn add_copy(
        &mut self,
        store: StoreId,
        region: RegionId,
        blob: Known<'_>,
        copy: CopyId,
    ) -> Result<bool, Error> {
        let Known { digest, size, counted } = blob;
        let holders = self.state.holders(digest)?;
        let held_before = holders.iter().any(|holder| holder.region == region);
        match self.state.held_copy(digest, store)? {
            Some(older) if older.copy == copy => {}
            older => {
                if let Some(older) = older {
                    let key = space::condemned(store, digest, older.copy);
                    self.state.put(key, &CondemnedRow(self.index))?;
                } else {
                    let mut tally = self.state.store_counters(store)?;
                    tally.add(size);
                    self.state.put(space::store_counters(store), &tally)?;
                }
                let since_ms = self.now_ms();
                self.state.put(space::holder(digest, store), &HolderRow { copy, since_ms })?;
                self.state.put(space::held(store, digest), &HeldRow(copy))?;
            }
        }
        if !self.unwant(region, digest)? && !held_before && counted {
            self.leave_beyond(region, digest, size)?;
        }
        self.judge_again(digest)?;
        Ok(holders.is_empty())
    }

    /// Every region that asks for copies and has none wants the blob.
    pub(super) fn want_everywhere(&mut self, blob: Known<'_>) -> Result<(), Error> {
        let holders = self.state.holders(blob.digest)?;
        for (region, row) in self.state.regions()? {
            if Self::asks(row.state) && !holders.iter().any(|holder| holder.region == region) {
                self.want(region, blob)?;
            }
        }
        Ok(())
    }

    /// Takes a store's holder row away.
    pub(super) fn drop_copy(&mut self, store: StoreId, digest: &Digest, size: u64) -> Result<(), Error> {
        self.state.delete(space::holder(digest, store))?;
        self.state.delete(space::held(store, digest))?;
        let mut tally = self.state.store_counters(store)?;
        tally.subtract(size);
        self.state.put(space::store_counters(store), &tally)?;
        self.judge_again(digest)
    }

    /// Adds a backlog row unless there is one. The caller knows that the region does not hold the blob.
    pub(super) fn want(&mut self, region: RegionId, blob: Known<'_>) -> Result<(), Error> {
        let Known { digest, size, counted } = blob;
        if self.state.is_wanted(region, digest)? {
            return Ok(());
        }
        let since_ms = self.now_ms();
        self.state.put(space::wanted(region, digest), &WantedRow { size, since_ms })?;
        let mut counters = self.state.region_counters(region)?;
        counters.wanted.add(size);
        self.state.put(space::region_counters(region), &counters)?;
        if counted { self.leave_beyond(region, digest, size) } else { Ok(()) }
    }

    /// Removes a backlog row; whether there was one.
    pub(super) fn unwant(&mut self, region: RegionId, digest: &Digest) -> Result<bool, Error> {
        let key = space::wanted(region, digest);
        let Some(WantedRow { size, since_ms: _ }) = self.state.row(&key)? else { return Ok(false) };
        self.state.delete(key)?;
        let mut counters = self.state.region_counters(region)?;
        counters.wanted.subtract(size);
        self.state.put(space::region_counters(region), &counters)?;
        Ok(true)
    }

    /// A blob after the cursor is no longer outstanding for a backfill.
    pub(super) fn leave_beyond(&mut self, region: RegionId, digest: &Digest, size: u64) -> Result<(), Error> {
        let Some(row) = self.state.region(region)? else { return Ok(()) };
        let mut counters = self.state.region_counters(region)?;
        if Self::is_beyond(row.state, &counters, digest) {
            counters.beyond.subtract_but_one(size);
            self.state.put(space::region_counters(region), &counters)?;
        }
        Ok(())
    }

    /// The end of a blob: every copy is condemned, nobody wants it any more, and it does not exist from here on.
    pub(super) fn condemn(&mut self, digest: &Digest, blob: &Blob) -> Result<(), Error> {
        let holders = self.state.holders(digest)?;
        for (region, row) in self.state.regions()? {
            if self.unwant(region, digest)? || holders.iter().any(|holder| holder.region == region) {
                continue;
            }
            let mut counters = self.state.region_counters(region)?;
            if Self::is_beyond(row.state, &counters, digest) {
                counters.beyond.subtract_but_one(blob.size);
                self.state.put(space::region_counters(region), &counters)?;
            }
        }
        for (store, holder) in self.state.holder_rows(digest)? {
            self.drop_copy(store, digest, blob.size)?;
            // A lost store may come back with its disk; then it finds here what to delete.
            if self.state.store(store)?.is_some() {
                let key = space::condemned(store, digest, holder.copy);
                self.state.put(key, &CondemnedRow(self.index))?;
            }
        }
        self.write_blob(digest, Some(blob), None)
    }

    /// The only writer of blob rows: keeps the index of idle blobs and the totals.
    pub(super) fn write_blob(
        &mut self,
        digest: &Digest,
        before: Option<&Blob>,
        after: Option<&Blob>,
    ) -> Result<(), Error> {
        let since = |blob: Option<&Blob>| blob.and_then(|blob| blob.unreferenced_since_ms);
        if since(before) != since(after) {
            if let Some(since_ms) = since(before) {
                self.state.delete(space::idle_blob(since_ms, digest))?;
            }
            if let Some(since_ms) = since(after) {
                self.state.put(space::idle_blob(since_ms, digest), &crate::state::places::Present)?;
            }
        }
        if before.is_some() != after.is_some() {
            let mut totals: Tally = self.state.totals()?;
            match (before, after) {
                (None, Some(blob)) => totals.add(blob.size),
                (Some(blob), None) => totals.subtract(blob.size),
                (None, None) | (Some(_), Some(_)) => {}
            }
            self.state.put(space::single(Space::Totals), &totals)?;
        }
        match after {
            Some(blob) => self.state.put(space::blob(digest), blob),
            None => self.state.delete(space::blob(digest)),
        }
    }
}
