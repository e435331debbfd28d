//! The one thread that writes the log file: appends are coalesced, one durable commit answers many (ground.md §4).

use std::collections::VecDeque;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use domain::limits;
use kv::ledger::{Error, Ledger, Sync, Table};
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use crate::raft::types::{LogId, TypeConfig, Vote};
use crate::raft::wire;

/// Table of entries: index u64 big-endian → encoded entry.
pub(crate) const ENTRIES: &str = "entries";
/// Table of single rows, keyed by the names below.
pub(crate) const FACTS: &str = "facts";
pub(crate) const VOTE: &[u8] = b"vote";
pub(crate) const COMMITTED: &[u8] = b"committed";
pub(crate) const PURGED: &[u8] = b"purged";
pub(crate) const BYTES: &[u8] = b"bytes";
pub(crate) const STAMP: &[u8] = b"stamp";

/// Entries removed by one purge step, so that a purge never holds up appends for long.
const PURGE_STEP: usize = 256;
/// Orders that wait for the writer at once.
pub(crate) const QUEUE: usize = 1024;

/// What the writer is asked to do; orders take effect in the order they were sent.
pub(crate) enum Order {
    /// Append entries, encoded.
    Append { entries: Vec<(LogId, Bytes)>, flushed: IOFlushed<TypeConfig> },
    /// Remove every entry with an index of at least `from`.
    Truncate { from: u64, done: oneshot::Sender<io::Result<()>> },
    /// Remove entries up to `upto`, in steps.
    Purge { upto: LogId },
    /// Save the vote.
    Vote { vote: Vote, done: oneshot::Sender<io::Result<()>> },
}

/// What readers need to know of the log without the disk.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<SharedState>,
}

#[derive(Clone, Default)]
pub(crate) struct SharedState {
    /// Last entry accepted, flushed or not.
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Vote>,
    /// Newest committed id; written along with the next append.
    pub(crate) committed: Option<LogId>,
    /// Bytes of entries in the file.
    pub(crate) bytes: u64,
    /// Newest entries, encoded: all that are not flushed yet, and some more.
    pub(crate) recent: VecDeque<(u64, Bytes)>,
    pub(crate) recent_bytes: usize,
    /// Highest flushed index.
    pub(crate) flushed: u64,
    /// The disk failed: nothing is accepted any more.
    pub(crate) failed: Option<String>,
}

impl Shared {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, SharedState> {
        // Every change under the lock is a few plain assignments.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedState {
    /// Keeps an accepted entry at hand.
    pub(crate) fn remember(&mut self, index: u64, bytes: Bytes) {
        self.recent_bytes += bytes.len();
        self.recent.push_back((index, bytes));
        self.trim();
    }

    /// Forgets what is flushed beyond the budget.
    fn trim(&mut self) {
        while self.recent_bytes > limits::BATCH_BYTES_MAX
            && let Some((index, bytes)) = self.recent.front()
            && *index <= self.flushed
        {
            self.recent_bytes -= bytes.len();
            self.recent.pop_front();
        }
    }

    /// Forgets entries from `from` on.
    pub(crate) fn forget_from(&mut self, from: u64) {
        while let Some((index, bytes)) = self.recent.back()
            && *index >= from
        {
            self.recent_bytes -= bytes.len();
            self.recent.pop_back();
        }
        self.flushed = self.flushed.min(from.saturating_sub(1));
    }
}

/// Runs until every sender is gone.
pub(crate) fn run(ledger: &Ledger, shared: &Shared, mut orders: mpsc::Receiver<Order>) {
    let mut purging: Option<LogId> = None;
    loop {
        let mut batch = Vec::new();
        if purging.is_none() {
            match orders.blocking_recv() {
                Some(order) => batch.push(order),
                None => return,
            }
        }
        let mut bytes = batch.iter().map(weight).sum::<usize>();
        while bytes < limits::BATCH_BYTES_MAX
            && let Ok(order) = orders.try_recv()
        {
            bytes += weight(&order);
            batch.push(order);
        }
        let outcome = write(ledger, shared, &batch, &mut purging);
        if let Err(error) = &outcome {
            tracing::error!(error = %error, "raft log cannot be written, this node takes no more writes");
            shared.lock().failed = Some(error.to_string());
            purging = None;
        }
        answer(shared, batch, &outcome);
        if outcome.is_err() && orders.is_closed() {
            return;
        }
    }
}

fn weight(order: &Order) -> usize {
    match order {
        Order::Append { entries, .. } => entries.iter().map(|(_, bytes)| bytes.len() + 64).sum(),
        Order::Truncate { .. } | Order::Purge { .. } | Order::Vote { .. } => 64,
    }
}

fn answer(shared: &Shared, batch: Vec<Order>, outcome: &Result<(), Error>) {
    let result = || match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::other(error.to_string())),
    };
    for order in batch {
        match order {
            Order::Append { entries, flushed } => {
                if let (Ok(()), Some((last, _))) = (outcome, entries.last()) {
                    let mut state = shared.lock();
                    state.flushed = state.flushed.max(last.index);
                    state.trim();
                }
                flushed.io_completed(result());
            }
            // Whoever asked may have gone away.
            Order::Truncate { from, done } => {
                let mut state = shared.lock();
                state.flushed = state.flushed.min(from.saturating_sub(1));
                drop(state);
                drop(done.send(result()));
            }
            Order::Vote { done, .. } => drop(done.send(result())),
            Order::Purge { .. } => {}
        }
    }
}

fn write(ledger: &Ledger, shared: &Shared, batch: &[Order], purging: &mut Option<LogId>) -> Result<(), Error> {
    if let Some(detail) = shared.lock().failed.clone() {
        return Err(Error::Io { detail });
    }
    let write = ledger.write()?;
    {
        let mut entries = write.table(ENTRIES)?;
        let mut facts = write.table(FACTS)?;
        let mut bytes = shared.lock().bytes;
        let mut last_written: Option<LogId> = None;
        for order in batch {
            match order {
                Order::Append { entries: new, .. } => {
                    for (log_id, encoded) in new {
                        entries.put(&log_id.index.to_be_bytes(), encoded)?;
                        bytes += encoded.len() as u64;
                        last_written = Some(*log_id);
                    }
                }
                Order::Truncate { from, .. } => bytes = bytes.saturating_sub(truncate(&mut entries, *from)?),
                Order::Purge { upto } => *purging = (*purging).max(Some(*upto)),
                Order::Vote { vote, .. } => facts.put(VOTE, &wire::encode_vote(vote))?,
            }
        }
        if let Some(upto) = *purging {
            let (removed, done) = purge(&mut entries, upto.index)?;
            bytes = bytes.saturating_sub(removed);
            // The id goes in first: a half-done purge is continued, entries below it are never read.
            facts.put(PURGED, &wire::encode_log_id(&upto))?;
            if done {
                *purging = None;
            }
        }
        facts.put(BYTES, &bytes.to_be_bytes())?;
        // Never beyond this very batch: a committed index above the flushed log would brick the node (ground.md §4).
        let committed = shared.lock().committed;
        if let Some(committed) = committed_in(committed, last_written) {
            facts.put(COMMITTED, &wire::encode_log_id(&committed))?;
        }
        shared.lock().bytes = bytes;
    }
    write.commit(Sync::Durable)
}

/// What is committed of a batch that ends with `last_written`. A committed id of a later leader says nothing about what
/// an earlier one wrote: that may be truncated by the very next order.
fn committed_in(committed: Option<LogId>, last_written: Option<LogId>) -> Option<LogId> {
    let (committed, last) = (committed?, last_written?);
    if committed.index <= last.index && committed <= last {
        Some(committed)
    } else {
        (committed.leader_id == last.leader_id).then_some(last)
    }
}

fn truncate(entries: &mut Table<'_>, from: u64) -> Result<u64, Error> {
    let from = from.to_be_bytes();
    let (_, bytes) = entries.delete_range_counted((Bound::Included(&from[..]), Bound::Unbounded), usize::MAX)?;
    Ok(bytes)
}

/// Removes one step of entries up to and including `upto`; bytes removed, and whether none is left.
fn purge(entries: &mut Table<'_>, upto: u64) -> Result<(u64, bool), Error> {
    let upto = upto.to_be_bytes();
    let bounds = (Bound::Unbounded, Bound::Included(&upto[..]));
    let (removed, bytes) = entries.delete_range_counted(bounds, PURGE_STEP)?;
    Ok((bytes, removed < PURGE_STEP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::LeaderId;

    #[test]
    fn a_later_leaders_commit_says_nothing_of_an_earlier_leaders_tail() {
        let id = |term, index| Some(LogId::new(LeaderId { term, node_id: 1 }, index));
        assert_eq!(committed_in(id(1, 5), id(1, 9)), id(1, 5));
        assert_eq!(committed_in(id(1, 5), id(2, 9)), id(1, 5));
        assert_eq!(committed_in(id(1, 9), id(1, 5)), id(1, 5), "never beyond the batch");
        assert_eq!(committed_in(id(2, 50), id(1, 60)), None, "the tail of term 1 may be truncated next");
        assert_eq!(committed_in(None, id(1, 1)), None);
        assert_eq!(committed_in(id(1, 1), None), None);
    }
}
