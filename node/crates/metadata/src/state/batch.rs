//! One write transaction over the state: entries are applied to it, then it is committed as a whole.
//!
//! Changes gather in memory over a snapshot and go into the table in key order at the commit, so that a row which many
//! entries of a batch change (counters) is written and hashed once. The batch holds the ledger's only writer from its
//! beginning, so nothing can change below it. Memory is bounded by what the caller puts in (64 entries or 8 MiB).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use domain::{RegionId, Revision, StoreId};
use kv::ledger::{Entry, Ledger, Snapshot, Sync, Write};

use super::codec::Row;
use super::hash::{self, Sum};
use super::places::HashRow;
use super::read::{Direction, Read, parts};
use super::space::{self, Space};
use super::{Error, TABLE};

/// Hashes kept of the last ticks, so that a tick proposed before its predecessor was applied still finds its own.
const RECORDED_MAX: usize = 4;

/// What a batch changed, for those who wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Regions whose wanted rows changed.
    pub wanted: BTreeSet<RegionId>,
    /// Stores whose condemned rows changed.
    pub condemned: BTreeSet<StoreId>,
    /// Some holder row changed.
    pub holders: bool,
    /// Regions, nodes, stores or policies changed (counters do not count).
    pub cluster: bool,
    /// A tick carried another hash than this node recorded at the same index.
    pub divergence: Option<Divergence>,
}

/// Two nodes disagree about the state at one index (promise 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The index.
    pub index: Revision,
    /// Hash recorded here.
    pub ours: [u8; 32],
    /// Hash the leader's tick carried.
    pub theirs: [u8; 32],
}

/// A changed row.
struct Slot {
    value: Option<Vec<u8>>,
    /// Its part of the sum as it stands.
    summed: Option<Sum>,
    dirty: bool,
}

/// Entries being applied. Dropped without [`Batch::commit`] it changes nothing.
pub struct Batch {
    write: Write,
    base: Snapshot,
    slots: BTreeMap<Vec<u8>, Slot>,
    dirty: Vec<Vec<u8>>,
    sum: Sum,
    recorded: Vec<(Revision, [u8; 32])>,
    touched: Touched,
    changes: u64,
    bytes: u64,
}

impl Batch {
    /// Begins; waits for the ledger's writer.
    pub fn begin(ledger: &Ledger) -> Result<Self, Error> {
        // The writer first: what the snapshot shows cannot change from then on.
        let write = ledger.write()?;
        let base = ledger.read()?;
        let row: HashRow = base.row(&space::single(Space::Hash))?.unwrap_or_default();
        Ok(Batch {
            write,
            base,
            slots: BTreeMap::new(),
            dirty: Vec::new(),
            sum: Sum::from_bytes(row.hash),
            recorded: row.recorded,
            touched: Touched::default(),
            changes: 0,
            bytes: 0,
        })
    }

    /// Log id last applied, as the shell encodes it; goes with the rows of this batch.
    pub fn set_last_applied(&mut self, raw: &[u8]) -> Result<(), Error> {
        self.put_value(space::single(Space::LastApplied), raw.to_vec())
    }

    /// Raft membership, as the shell encodes it; part of the state hash.
    pub fn set_membership(&mut self, raw: &[u8]) -> Result<(), Error> {
        self.put_value(space::single(Space::Membership), raw.to_vec())
    }

    /// Bytes of keys and values changed so far, for the caller's decision when to sync. Unit: bytes.
    pub fn bytes_changed(&self) -> u64 {
        self.bytes
    }

    /// Ends the batch: all its rows become visible at once, and durable if `sync` says so.
    pub fn commit(mut self, sync: Sync) -> Result<Touched, Error> {
        self.settle();
        let row = HashRow { hash: self.sum.to_bytes(), recorded: std::mem::take(&mut self.recorded) };
        {
            let mut table = self.write.table(TABLE)?;
            for (key, slot) in &self.slots {
                match &slot.value {
                    Some(value) => table.put(key, value)?,
                    None => {
                        table.delete(key)?;
                    }
                }
            }
            table.put(&space::single(Space::Hash), &row.encode())?;
        }
        self.write.commit(sync)?;
        Ok(self.touched)
    }

    /// Number of rows changed so far, repeated changes counted again.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn put<R: Row>(&mut self, key: Vec<u8>, row: &R) -> Result<(), Error> {
        self.put_value(key, row.encode())
    }

    pub(crate) fn delete(&mut self, key: Vec<u8>) -> Result<(), Error> {
        self.change(key, None)
    }

    fn put_value(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
        self.change(key, Some(value))
    }

    fn change(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), Error> {
        let bytes = key.len() + value.as_ref().map_or(0, Vec::len);
        if let Some(slot) = self.slots.get_mut(&key) {
            if slot.value == value {
                return Ok(());
            }
            slot.value = value;
            if !slot.dirty {
                slot.dirty = true;
                self.dirty.push(key.clone());
            }
        } else {
            let before = self.base.value(&key)?;
            if before == value {
                return Ok(());
            }
            let summed = before.filter(|_| hash::is_hashed(&key)).map(|value| hash::row(&key, &value));
            self.slots.insert(key.clone(), Slot { value, summed, dirty: true });
            self.dirty.push(key.clone());
        }
        self.bytes += bytes as u64;
        self.changes += 1;
        self.note(&key)
    }

    fn note(&mut self, key: &[u8]) -> Result<(), Error> {
        let Some(&space) = key.first() else { return Ok(()) };
        if space == Space::Wanted as u8 {
            let region = parts(key, 1)?.u32().map_err(super::read::bad(key))?;
            self.touched.wanted.insert(RegionId(region));
        } else if space == Space::Condemned as u8 {
            let store = parts(key, 1)?.store().map_err(super::read::bad(key))?;
            self.touched.condemned.insert(store);
        } else if space == Space::Holders as u8 {
            self.touched.holders = true;
        } else if [Space::Regions, Space::Nodes, Space::Stores, Space::Policies].iter().any(|&s| s as u8 == space) {
            self.touched.cluster = true;
        }
        Ok(())
    }

    /// Brings the sum up to date with the rows.
    fn settle(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.dirty = false;
            if !hash::is_hashed(&key) {
                continue;
            }
            if let Some(old) = slot.summed.take() {
                self.sum.subtract(old);
            }
            slot.summed = slot.value.as_ref().map(|value| hash::row(&key, value));
            if let Some(new) = slot.summed {
                self.sum.add(new);
            }
        }
    }

    /// Records the hash at the end of a tick's entry, for the next tick to carry.
    pub(crate) fn record_hash(&mut self, index: Revision) {
        self.settle();
        self.recorded.push((index, self.sum.to_bytes()));
        if self.recorded.len() > RECORDED_MAX {
            self.recorded.remove(0);
        }
    }

    /// Compares the hash a tick carries with the one recorded here at that index, where one was.
    pub(crate) fn compare_hash(&mut self, index: Revision, theirs: [u8; 32]) {
        if let Some((_, ours)) = self.recorded.iter().find(|(at, _)| *at == index)
            && *ours != theirs
        {
            self.touched.divergence = Some(Divergence { index, ours: *ours, theirs });
        }
    }
}

impl Read for Batch {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.slots.get(key) {
            Some(slot) => Ok(slot.value.clone()),
            None => self.base.value(key),
        }
    }

    fn entries(
        &self,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let crossed = matches!(
            (lower, upper),
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) if a >= b
        );
        if crossed {
            return self.base.entries(lower, upper, direction, limit);
        }
        let scan = self.base.scan(TABLE, (lower, upper))?;
        let slots = self.slots.range::<[u8], _>((lower, upper)).map(|(key, slot)| (key, slot.value.as_ref()));
        match direction {
            Direction::Up => merge(scan, slots, limit, |a, b| a < b),
            Direction::Down => merge(scan.rev(), slots.rev(), limit, |a, b| a > b),
        }
    }
}

/// Merges committed rows with changed ones, which win; `before` orders keys along the walk.
fn merge<'a>(
    base: impl Iterator<Item = Result<Entry, kv::ledger::Error>>,
    slots: impl Iterator<Item = (&'a Vec<u8>, Option<&'a Vec<u8>>)>,
    limit: usize,
    before: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<Vec<Entry>, Error> {
    let mut base = base.peekable();
    let mut slots = slots.peekable();
    let mut found = Vec::new();
    while found.len() < limit {
        let from_base = match (base.peek(), slots.peek()) {
            (None, None) => break,
            (Some(_), None) | (Some(Err(_)), _) => true,
            (None, Some(_)) => false,
            (Some(Ok((key, _))), Some((changed, _))) => {
                if key == *changed {
                    base.next();
                    false
                } else {
                    before(key, changed)
                }
            }
        };
        if from_base {
            found.extend(base.next().transpose()?);
        } else if let Some((key, Some(value))) = slots.next() {
            found.push((key.clone(), value.clone()));
        }
    }
    Ok(found)
}
