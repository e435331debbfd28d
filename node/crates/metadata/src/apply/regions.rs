//! Regions and nodes: how they come, change and go.

use std::collections::BTreeSet;

use domain::limits::COMMAND_ROWS_MAX;
use domain::{NodeId, RegionId};

use super::cluster::{node_row, region_row};
use super::{Entry, Judged, Stop, invalid};
use crate::command::NewNode;
use crate::outcome::{Outcome, Refusal};
use crate::rows::RegionState;
use crate::state::Error;
use crate::state::places::{RegionCounters, RegionRow};
use crate::state::read::Read;
use crate::state::space;

/// Blobs that a refusal to leave names.
const LAST_COPIES_NAMED: usize = 100;
/// Held rows read at a time while looking for last copies.
const LAST_COPIES_PAGE: usize = 1000;

impl Entry<'_> {
    pub(super) fn known_region(&self, region: RegionId) -> Result<RegionRow, Stop> {
        self.state.region(region)?.ok_or_else(|| invalid(format!("region {region} is not known")))
    }

    pub(super) fn mint_node(&mut self, node: &NewNode, replace: Option<NodeId>) -> Judged {
        let regions = self.state.regions()?;
        let existing = regions.into_iter().find(|(_, row)| row.name == node.region);
        let region = match &existing {
            Some((id, row)) => {
                if row.state == RegionState::Leaving {
                    return Err(invalid(format!("region `{}` is leaving", node.region)));
                }
                let nodes = self.state.nodes()?;
                let live =
                    nodes.iter().find(|(other, row)| row.region == *id && !row.removed && Some(*other) != replace);
                if let Some((other, _)) = live {
                    return Err(invalid(format!("region `{}` is served by node {other}, replace it", node.region)));
                }
                *id
            }
            None => RegionId(self.meta.next_region),
        };
        if let Some(replaced) = replace {
            match self.state.node(replaced)? {
                Some(row) if row.region == region => {}
                _ => return Err(invalid(format!("node {replaced} is no node of region `{}`", node.region))),
            }
        }
        // Everything is judged; from here on it is done.
        if existing.is_none() {
            self.meta.next_region += 1;
        }
        let id = NodeId(self.meta.next_node);
        self.meta.next_node += 1;
        self.write_meta()?;
        if let Some(replaced) = replace {
            self.remove_node(replaced)?;
        }
        let cordoned = existing.is_some_and(|(_, row)| row.cordoned);
        let row = RegionRow { cordoned, ..region_row(node, RegionState::Joining) };
        self.state.put(space::region(region), &row)?;
        // Wanted rows stay, with their count; the position and what lies beyond it are set when the backfill begins.
        let counters = RegionCounters { wanted: self.state.region_counters(region)?.wanted, ..Default::default() };
        self.state.put(space::region_counters(region), &counters)?;
        self.state.put(space::node(id), &node_row(node, region, self.meta.format_level))?;
        Ok(Outcome::Minted { node: id, region })
    }

    /// Marks a node as removed and its stores as lost.
    fn remove_node(&mut self, node: NodeId) -> Result<(), Error> {
        if let Some(mut row) = self.state.node(node)? {
            row.removed = true;
            self.state.put(space::node(node), &row)?;
        }
        for (id, mut store) in self.state.stores()? {
            if store.node == node && store.open {
                store.open = false;
                self.state.put(space::store(id), &store)?;
            }
        }
        Ok(())
    }

    pub(super) fn set_node_address(&mut self, node: NodeId, peer_address: &str) -> Judged {
        match self.state.node(node)? {
            Some(mut row) if !row.removed => {
                row.peer_address = peer_address.to_owned();
                self.state.put(space::node(node), &row)?;
                Ok(Outcome::Done)
            }
            _ => Err(invalid(format!("node {node} is not known"))),
        }
    }

    pub(super) fn set_region_state(&mut self, region: RegionId, state: RegionState) -> Judged {
        let mut row = self.known_region(region)?;
        match (row.state, state) {
            (from, to) if from == to => return Ok(Outcome::Done),
            (RegionState::Joining, RegionState::Backfilling) => {
                self.restart_backfill(region, false)?;
                return Ok(Outcome::Done);
            }
            (RegionState::Backfilling, RegionState::Ready) => {
                let beyond = self.state.region_counters(region)?.beyond;
                if beyond.blobs > 0 {
                    return Err(invalid(format!("region {region} has not considered {} blobs yet", beyond.blobs)));
                }
            }
            (_, RegionState::Leaving) => {
                return Err(invalid(format!("region {region} leaves by being removed")));
            }
            (from, to) => return Err(invalid(format!("region {region} cannot turn from {from:?} to {to:?}"))),
        }
        row.state = state;
        self.state.put(space::region(region), &row)?;
        Ok(Outcome::Done)
    }

    pub(super) fn set_cordoned(&mut self, region: RegionId, cordoned: bool) -> Judged {
        let mut row = self.known_region(region)?;
        row.cordoned = cordoned;
        self.state.put(space::region(region), &row)?;
        Ok(Outcome::Done)
    }

    pub(super) fn remove_region(&mut self, region: RegionId, force: bool) -> Judged {
        let mut row = self.known_region(region)?;
        if row.state != RegionState::Leaving {
            let others = self.state.regions()?;
            if !others.iter().any(|(id, row)| *id != region && row.state == RegionState::Ready) {
                return Err(invalid(format!("no other region is ready, region {region} cannot leave")));
            }
            if !force {
                self.refuse_last_copies(region)?;
            }
            row.state = RegionState::Leaving;
            self.state.put(space::region(region), &row)?;
            for (node, row) in self.state.nodes()? {
                if row.region == region && !row.removed {
                    self.remove_node(node)?;
                }
            }
        }
        if !self.state.stores()?.iter().any(|(_, store)| store.region == region) {
            self.finish_region(region, COMMAND_ROWS_MAX)?;
        }
        Ok(Outcome::Done)
    }

    /// Reads every row the region's stores hold: long for a large region, but rare, and without a write.
    fn refuse_last_copies(&self, region: RegionId) -> Result<(), Stop> {
        let stores = self.state.stores()?;
        let leaving: BTreeSet<_> =
            stores.iter().filter(|(_, row)| row.region == region && row.open).map(|(id, _)| *id).collect();
        let (mut count, mut bytes, mut digests) = (0, 0, BTreeSet::new());
        for store in &leaving {
            let mut last = None;
            loop {
                let page = self.state.held_rows(*store, last.as_ref(), LAST_COPIES_PAGE)?;
                for (digest, _) in &page {
                    let elsewhere = self.state.holders(digest)?.iter().any(|holder| holder.region != region);
                    let Some(blob) = self.state.blob(digest)? else { continue };
                    if !elsewhere && blob.references > 0 {
                        count += 1;
                        bytes += blob.size;
                        if digests.len() < LAST_COPIES_NAMED {
                            digests.insert(*digest);
                        }
                    }
                }
                match page.last() {
                    Some((digest, _)) if page.len() == LAST_COPIES_PAGE => last = Some(*digest),
                    _ => break,
                }
            }
        }
        if count == 0 {
            return Ok(());
        }
        Err(Refusal::LastCopies { count, bytes, digests: digests.into_iter().collect() }.into())
    }

    /// Clears at most `limit` wanted rows of a leaving region without stores; with none left the region is gone.
    pub(super) fn finish_region(&mut self, region: RegionId, limit: usize) -> Result<bool, Error> {
        let wanted = self.state.under(&space::wanted_in(region), None, limit)?;
        let done = wanted.len() < limit;
        let mut counters = self.state.region_counters(region)?;
        for (key, value) in wanted {
            let row: crate::state::content::WantedRow = crate::state::read::decode(&key, &value)?;
            counters.wanted.subtract(row.size);
            self.state.delete(key)?;
        }
        if done {
            self.state.delete(space::region(region))?;
            self.state.delete(space::region_counters(region))?;
        } else {
            self.state.put(space::region_counters(region), &counters)?;
        }
        Ok(done)
    }
}
