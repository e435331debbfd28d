//! Values about the cluster itself: facts, regions, nodes, stores, policies, counters.

use domain::{Boot, ClusterId, Digest, Durability, NodeId, Place, RegionId, RegionName, Revision};

use super::codec::{Bad, Reader, Row, Writer};
use crate::handle::Removal;
use crate::outcome::Outcome;
use crate::rows::{Departure, Meta, Policy, RegionState};
use crate::wire;

impl Row for Meta {
    fn write(&self, to: &mut Writer) {
        let Meta { cluster, incarnation, format_level, cluster_time_ms, horizon, next_region, next_node, mac_key } =
            self;
        to.raw(cluster.as_bytes());
        to.u32(*incarnation);
        to.u32(*format_level);
        to.u64(*cluster_time_ms);
        to.u64(horizon.0);
        to.u32(*next_region);
        to.u64(*next_node);
        to.raw(mac_key);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Meta {
            cluster: ClusterId(from.array()?),
            incarnation: from.u32()?,
            format_level: from.u32()?,
            cluster_time_ms: from.u64()?,
            horizon: from.revision()?,
            next_region: from.u32()?,
            next_node: from.u64()?,
            mac_key: from.array()?,
        })
    }
}

/// The state hash, and the hashes recorded at the last ticks, newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HashRow {
    pub(crate) hash: [u8; 32],
    pub(crate) recorded: Vec<(Revision, [u8; 32])>,
}

impl Row for HashRow {
    fn write(&self, to: &mut Writer) {
        to.raw(&self.hash);
        to.list(&self.recorded, |to, (index, hash)| {
            to.u64(index.0);
            to.raw(hash);
        });
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let hash = from.array()?;
        let recorded = from.list(|from| Ok((from.revision()?, from.array()?)))?;
        Ok(HashRow { hash, recorded })
    }
}

/// This node's own mark, outside of the replicated rows: a majority of the voters has another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DivergedRow {
    /// Where the hashes differ.
    pub(crate) index: Revision,
    /// Hash recorded here.
    pub(crate) ours: [u8; 32],
    /// Hash of the majority.
    pub(crate) theirs: [u8; 32],
    /// The voters of the majority.
    pub(crate) right: Vec<NodeId>,
}

impl Row for DivergedRow {
    fn write(&self, to: &mut Writer) {
        to.u64(self.index.0);
        to.raw(&self.ours);
        to.raw(&self.theirs);
        to.list(&self.right, |to, node| to.u64(node.0));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let (index, ours, theirs) = (from.revision()?, from.array()?, from.array()?);
        let right = from.list(|from| from.u64().map(NodeId))?;
        Ok(DivergedRow { index, ours, theirs, right })
    }
}

/// This node's own mark, outside of the replicated rows: it was taken out of the cluster.
impl Row for Removal {
    fn write(&self, to: &mut Writer) {
        let Removal { successor, revision, told_by } = self;
        to.option(successor.map(|node| node.0), Writer::u64);
        to.u64(revision.0);
        to.u64(told_by.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let successor = from.option(Reader::u64)?.map(NodeId);
        Ok(Removal { successor, revision: from.revision()?, told_by: NodeId(from.u64()?) })
    }
}

/// Cluster time at an index. Unit: milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) u64);

impl Row for Mark {
    fn write(&self, to: &mut Writer) {
        to.u64(self.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.u64().map(Mark)
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestRow {
    pub(crate) revision: Revision,
    pub(crate) outcome: Outcome,
}

impl Row for RequestRow {
    fn write(&self, to: &mut Writer) {
        to.u64(self.revision.0);
        to.bytes(&wire::encode_outcome(&self.outcome));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let revision = from.revision()?;
        let bytes = bytes::Bytes::copy_from_slice(from.bytes()?);
        let outcome = wire::decode_outcome(bytes).map_err(|_| Bad("recorded outcome is malformed"))?;
        Ok(RequestRow { revision, outcome })
    }
}

/// A number of blobs and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.blobs += 1;
        self.bytes += bytes;
    }

    pub(crate) fn subtract(&mut self, bytes: u64) {
        self.blobs = self.blobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Like `subtract`, but one stays counted: only the cursor at its end says that nothing is left.
    pub(crate) fn subtract_but_one(&mut self, bytes: u64) {
        self.blobs = self.blobs.saturating_sub(1).max(self.blobs.min(1));
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Row for Tally {
    fn write(&self, to: &mut Writer) {
        to.u64(self.blobs);
        to.u64(self.bytes);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Tally { blobs: from.u64()?, bytes: from.u64()? })
    }
}

/// A region, without its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionRow {
    pub(crate) name: RegionName,
    pub(crate) place: Place,
    pub(crate) public_url: String,
    pub(crate) state: RegionState,
    pub(crate) cordoned: bool,
}

impl Row for RegionRow {
    fn write(&self, to: &mut Writer) {
        let RegionRow { name, place, public_url, state, cordoned } = self;
        to.str(name.as_str());
        to.i32(place.latitude_micros);
        to.i32(place.longitude_micros);
        to.str(public_url);
        to.u8(match state {
            RegionState::Joining => 1,
            RegionState::Backfilling => 2,
            RegionState::Ready => 3,
            RegionState::Leaving => 4,
        });
        to.bool(*cordoned);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(RegionRow {
            name: RegionName::parse(from.str()?).map_err(|_| Bad("region name is malformed"))?,
            place: Place { latitude_micros: from.i32()?, longitude_micros: from.i32()? },
            public_url: from.string()?,
            state: match from.u8()? {
                1 => RegionState::Joining,
                2 => RegionState::Backfilling,
                3 => RegionState::Ready,
                4 => RegionState::Leaving,
                _ => return Err(Bad("region state is not known")),
            },
            cordoned: from.bool()?,
        })
    }
}

/// Backlog and backfill of a region; apart from the region, for it changes with every push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegionCounters {
    pub(crate) wanted: Tally,
    pub(crate) cursor: Option<Digest>,
    pub(crate) beyond: Tally,
    pub(crate) total: Tally,
}

impl Row for RegionCounters {
    fn write(&self, to: &mut Writer) {
        let RegionCounters { wanted, cursor, beyond, total } = self;
        wanted.write(to);
        to.option(cursor.as_ref(), Writer::digest);
        beyond.write(to);
        total.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(RegionCounters {
            wanted: Tally::read(from)?,
            cursor: from.option(Reader::digest)?,
            beyond: Tally::read(from)?,
            total: Tally::read(from)?,
        })
    }
}

impl Row for Departure {
    fn write(&self, to: &mut Writer) {
        let Departure { next } = self;
        to.option(next.as_ref(), Writer::digest);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Departure { next: from.option(Reader::digest)? })
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub(crate) region: RegionId,
    pub(crate) peer_address: String,
    pub(crate) certificate: Vec<u8>,
    pub(crate) format_level_max: u32,
    pub(crate) removed: bool,
}

impl Row for NodeRow {
    fn write(&self, to: &mut Writer) {
        let NodeRow { region, peer_address, certificate, format_level_max, removed } = self;
        to.u32(region.0);
        to.str(peer_address);
        to.bytes(certificate);
        to.u32(*format_level_max);
        to.bool(*removed);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(NodeRow {
            region: RegionId(from.u32()?),
            peer_address: from.string()?,
            certificate: from.bytes()?.to_vec(),
            format_level_max: from.u32()?,
            removed: from.bool()?,
        })
    }
}

/// A store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreRow {
    pub(crate) region: RegionId,
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    pub(crate) open: bool,
}

impl Row for StoreRow {
    fn write(&self, to: &mut Writer) {
        let StoreRow { region, node, boot, open } = self;
        to.u32(region.0);
        to.u64(node.0);
        to.u64(boot.0);
        to.bool(*open);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(StoreRow {
            region: RegionId(from.u32()?),
            node: NodeId(from.u64()?),
            boot: Boot(from.u64()?),
            open: from.bool()?,
        })
    }
}

impl Row for Policy {
    fn write(&self, to: &mut Writer) {
        let Policy { durability, sparse, immutable_tags } = self;
        let (kind, count) = match durability {
            Durability::Local => (1, 0),
            Durability::Majority => (2, 0),
            Durability::All => (3, 0),
            Durability::AtLeast(count) => (4, *count),
        };
        to.u8(kind);
        to.u32(count);
        to.bool(*sparse);
        to.list(immutable_tags, |to, glob| to.str(glob));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let durability = match (from.u8()?, from.u32()?) {
            (1, 0) => Durability::Local,
            (2, 0) => Durability::Majority,
            (3, 0) => Durability::All,
            (4, count) => Durability::AtLeast(count),
            _ => return Err(Bad("durability is not known")),
        };
        Ok(Policy { durability, sparse: from.bool()?, immutable_tags: from.list(Reader::string)? })
    }
}

/// A row whose key says it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present;

impl Row for Present {
    fn write(&self, _: &mut Writer) {}

    fn read(_: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Present)
    }
}
