//! The cluster itself: birth, time, policies.

use domain::limits::{IMMUTABLE_GLOBS_MAX, REQUEST_HORIZON_MS};
use domain::{ClusterId, Durability, NodeId, RegionId, RepositoryName, Revision};
use std::ops::Bound;

use super::{Entry, Judged, glob, invalid};
use crate::command::NewNode;
use crate::outcome::Outcome;
use crate::rows::{Meta, Policy, RegionState};
use crate::state::places::{Mark, NodeRow, RegionRow};
use crate::state::read::{Direction, Read, bad, decode, parts};
use crate::state::space::{self, Space};
use crate::state::{Batch, Error};

/// Longest step of cluster time one tick may take: twice the longest interval between ticks (60 s).
const TICK_MS_MAX: u64 = 120_000;
/// Marks are not set closer than this, so that there are few of them however often a leader ticks.
const MARK_MS_MIN: u64 = 5_000;

/// Format level that a cluster is born at. Written by every node that applies Genesis, whatever its release understands:
/// what a row says never depends on who applies it.
const BIRTH_FORMAT_LEVEL: u32 = 1;

/// The first entry of a cluster.
pub(super) fn genesis(
    state: &mut Batch,
    index: Revision,
    cluster: ClusterId,
    mac_key: [u8; 32],
    node: &NewNode,
    durability: Durability,
) -> Result<(), Error> {
    let meta = Meta {
        cluster,
        incarnation: 1,
        format_level: BIRTH_FORMAT_LEVEL,
        cluster_time_ms: 0,
        horizon: Revision(0),
        next_region: 2,
        next_node: 2,
        mac_key,
    };
    state.put(space::single(Space::Meta), &meta)?;
    state.put(space::mark(index.0), &Mark(0))?;
    let region = region_row(node, RegionState::Ready);
    state.put(space::region(RegionId(1)), &region)?;
    state.put(space::node(NodeId(1)), &node_row(node, RegionId(1), BIRTH_FORMAT_LEVEL))?;
    state.put(space::policy(""), &Policy { durability, sparse: false, immutable_tags: Vec::new() })
}

pub(super) fn region_row(node: &NewNode, state: RegionState) -> RegionRow {
    let NewNode { region, place, public_url, peer_address: _, certificate: _ } = node;
    RegionRow { name: region.clone(), place: *place, public_url: public_url.clone(), state, cordoned: false }
}

/// A node's row, at a level that every node of the cluster understands: what it understands itself its `OpenStore` says.
pub(super) fn node_row(node: &NewNode, region: RegionId, format_level_max: u32) -> NodeRow {
    NodeRow {
        region,
        peer_address: node.peer_address.clone(),
        certificate: node.certificate.clone(),
        format_level_max,
        removed: false,
    }
}

impl Entry<'_> {
    pub(super) fn tick(&mut self, elapsed_ms: u64, hash_index: Revision, hash: [u8; 32]) -> Judged {
        self.state.compare_hash(hash_index, hash);
        self.meta.cluster_time_ms += elapsed_ms.min(TICK_MS_MAX);
        let now_ms = self.meta.cluster_time_ms;
        let prefix = space::single(Space::Marks);
        let mut marks = Vec::new();
        for (key, value) in self.state.under(&prefix, None, usize::MAX)? {
            let index = parts(&key, 1)?.u64().map_err(bad(&key))?;
            let Mark(time_ms) = decode(&key, &value)?;
            marks.push((index, time_ms));
        }
        if marks.last().is_none_or(|(_, time_ms)| time_ms + MARK_MS_MIN <= now_ms) {
            self.state.put(space::mark(self.index.0), &Mark(now_ms))?;
        }
        // The newest mark that is old enough is the horizon; the ones before it have done their duty.
        if let Some(&(horizon, _)) = marks.iter().rfind(|(_, time_ms)| time_ms + REQUEST_HORIZON_MS <= now_ms) {
            self.meta.horizon = self.meta.horizon.max(Revision(horizon));
            for (index, _) in marks.iter().take_while(|(index, _)| *index < horizon) {
                self.state.delete(space::mark(*index))?;
            }
        }
        self.write_meta()?;
        Ok(Outcome::Done)
    }

    pub(super) fn write_meta(&mut self) -> Result<(), Error> {
        self.state.put(space::single(Space::Meta), &self.meta)
    }

    pub(super) fn set_policy(
        &mut self,
        prefix: &str,
        durability: Option<Durability>,
        sparse: Option<bool>,
        immutable_tags: Option<&[String]>,
    ) -> Judged {
        if !prefix.is_empty() && RepositoryName::parse(prefix).is_err() {
            return Err(invalid(format!("policy prefix `{prefix}` is not made of whole repository components")));
        }
        let regions = self.state.regions()?;
        let departing = self.state.departing()?.map(|(region, _)| region);
        let stays = |(id, row): &&(RegionId, RegionRow)| row.state != RegionState::Leaving && Some(*id) != departing;
        let staying = regions.iter().filter(stays).count();
        if let Some(Durability::AtLeast(copies)) = durability
            && copies as usize > staying
        {
            return Err(invalid(format!("durability {copies} asks for more copies than the {staying} regions hold")));
        }
        let globs = immutable_tags.unwrap_or_default();
        if globs.len() > IMMUTABLE_GLOBS_MAX {
            return Err(invalid(format!("a policy holds at most {IMMUTABLE_GLOBS_MAX} globs of immutable tags")));
        }
        if let Some(glob) = globs.iter().find(|glob| !glob::is_well_formed(glob)) {
            return Err(invalid(format!("glob `{glob}` is not made of characters of tags, `*` and `?`")));
        }
        // What the command leaves open is taken from the policy in force so far.
        let (_, before) = self.state.policy_of(prefix)?;
        let policy = Policy {
            durability: durability.unwrap_or(before.durability),
            sparse: sparse.unwrap_or(before.sparse),
            immutable_tags: immutable_tags.map_or(before.immutable_tags, <[String]>::to_vec),
        };
        self.state.put(space::policy(prefix), &policy)?;
        Ok(Outcome::Done)
    }

    /// The last entry under a prefix.
    pub(super) fn last_under(&self, prefix: &[u8]) -> Result<Option<kv::ledger::Entry>, Error> {
        let end = kv::ledger::prefix_end(prefix);
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.state.entries(Bound::Included(prefix), upper, Direction::Down, 1)?.pop())
    }
}
