//! Stores: opened at every start of their node, lost, forgotten.

use domain::limits::COMMAND_ROWS_MAX;
use domain::{Boot, NodeId, RegionId, StoreId};

use super::{Entry, Judged, Stop, invalid};
use crate::command::StoreClaim;
use crate::outcome::{Outcome, Refusal};
use crate::rows::RegionState;
use crate::state::places::StoreRow;
use crate::state::read::Read;
use crate::state::space;

impl Entry<'_> {
    /// The store a claim speaks for, if it may.
    pub(super) fn fence(&self, claim: StoreClaim) -> Result<StoreRow, Stop> {
        match self.state.store(claim.store)? {
            Some(row) if row.open && row.node == claim.node && row.boot == claim.boot => Ok(row),
            _ => Err(Refusal::Fenced.into()),
        }
    }

    pub(super) fn open_store(
        &mut self,
        store: StoreId,
        node: NodeId,
        region: RegionId,
        format_level_max: u32,
    ) -> Judged {
        let mut node_row = match self.state.node(node)? {
            Some(row) if !row.removed && row.region == region => row,
            _ => return Err(invalid(format!("node {node} is no node of region {region}"))),
        };
        let region_row = self.known_region(region)?;
        if format_level_max < self.meta.format_level {
            let level = self.meta.format_level;
            return Err(invalid(format!(
                "node {node} understands format level {format_level_max}, in force is {level}"
            )));
        }
        let before = self.state.store(store)?;
        if let Some(row) = before {
            if row.region != region {
                return Err(invalid(format!("store {store} belongs to region {}", row.region)));
            }
            if row.open && row.node != node {
                return Err(invalid(format!("store {store} is kept by node {}", row.node)));
            }
        }
        if node_row.format_level_max != format_level_max {
            node_row.format_level_max = format_level_max;
            self.state.put(space::node(node), &node_row)?;
        }
        let boot = Boot(self.index.0);
        // A node keeps one store: what it kept before was wiped or replaced.
        let mut replaced = false;
        for (id, mut other) in self.state.stores()? {
            if other.node == node && other.open && id != store {
                other.open = false;
                replaced = true;
                self.state.put(space::store(id), &other)?;
            }
        }
        self.state.put(space::store(store), &StoreRow { region, node, boot, open: true })?;
        let came_back = before.is_some_and(|row| !row.open);
        if replaced || came_back {
            self.judge_all_again()?;
        }
        let fills = matches!(region_row.state, RegionState::Backfilling | RegionState::Ready);
        if fills && (replaced || came_back) {
            // What the region holds has changed as a whole: its blobs are considered anew before it counts again.
            self.restart_backfill(region, came_back)?;
        }
        Ok(Outcome::StoreOpened { boot })
    }

    pub(super) fn forget_store(&mut self, store: StoreId) -> Judged {
        let Some(row) = self.state.store(store)? else { return Ok(Outcome::StoreForgotten { done: true }) };
        if row.open {
            return Err(invalid(format!("store {store} is open")));
        }
        let again = Ok(Outcome::StoreForgotten { done: false });
        let step = COMMAND_ROWS_MAX / 4;
        let held = self.state.held_rows(store, None, step)?;
        let more = held.len() == step;
        for (digest, _) in held {
            self.state.delete(space::held(store, &digest))?;
            self.state.delete(space::holder(&digest, store))?;
        }
        if more {
            return again;
        }
        let condemned = self.state.under(&space::condemned_in(store), None, step)?;
        let more = condemned.len() == step;
        for (key, _) in condemned {
            self.state.delete(key)?;
        }
        if more {
            return again;
        }
        let is_last = !self.state.stores()?.iter().any(|(id, other)| *id != store && other.region == row.region);
        let leaving = self.state.region(row.region)?.is_some_and(|region| region.state == RegionState::Leaving);
        if is_last && leaving && !self.finish_region(row.region, step)? {
            return again;
        }
        self.state.delete(space::store(store))?;
        self.state.delete(space::store_counters(store))?;
        Ok(Outcome::StoreForgotten { done: true })
    }
}
