//! Regions and nodes: how they come, change and go.

use domain::limits::COMMAND_ROWS_MAX;
use domain::{NodeId, RegionId};

use super::cluster::{node_row, region_row};
use super::{Entry, Judged, Stop, invalid};
use crate::command::NewNode;
use crate::outcome::Outcome;
use crate::rows::RegionState;
use crate::state::Error;
use crate::state::places::{RegionCounters, RegionRow};
use crate::state::read::Read;
use crate::state::space;

impl Entry<'_> {
    pub(super) fn known_region(&self, region: RegionId) -> Result<RegionRow, Stop> {
        self.state.region(region)?.ok_or_else(|| invalid(format!("region {region} is not known")))
    }

    pub(super) fn mint_node(&mut self, node: &NewNode, replace: Option<NodeId>) -> Judged {
        let regions = self.state.regions()?;
        let existing = regions.into_iter().find(|(_, row)| row.name == node.region);
        let region = match &existing {
            Some((id, row)) => {
                if row.state == RegionState::Leaving || self.state.departure(*id)?.is_some() {
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
        let mut closed = false;
        for (id, mut store) in self.state.stores()? {
            if store.node == node && store.open {
                store.open = false;
                closed = true;
                self.state.put(space::store(id), &store)?;
            }
        }
        if closed { self.judge_all_again() } else { Ok(()) }
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
        let row = self.known_region(region)?;
        if row.state != RegionState::Leaving {
            if !self.another_is_ready(region)? {
                return Err(invalid(format!("no other region is ready, region {region} cannot leave")));
            }
            if !force {
                return self.depart(region);
            }
            self.take_out(region)?;
        }
        if !self.state.stores()?.iter().any(|(_, store)| store.region == region) {
            self.finish_region(region, COMMAND_ROWS_MAX)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn another_is_ready(&self, region: RegionId) -> Result<bool, Error> {
        Ok(self.state.regions()?.iter().any(|(id, row)| *id != region && row.state == RegionState::Ready))
    }

    /// Removes a region: its nodes are gone and its stores lost. Their rows are cleared by further commands.
    pub(super) fn take_out(&mut self, region: RegionId) -> Result<(), Error> {
        self.state.delete(space::departure(region))?;
        if let Some(mut row) = self.state.region(region)? {
            row.state = RegionState::Leaving;
            self.state.put(space::region(region), &row)?;
        }
        for (node, row) in self.state.nodes()? {
            if row.region == region && !row.removed {
                self.remove_node(node)?;
            }
        }
        Ok(())
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
