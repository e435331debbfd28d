//! openraft's log storage over the log file.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use domain::limits;
use futures_util::Stream;
use kv::ledger::Ledger;
use openraft::errors::LeaderChanged;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{mpsc, oneshot};

use crate::raft::log_writer::{self, COMMITTED, ENTRIES, FACTS, Order, PURGED, Shared, SharedState, VOTE};
use crate::raft::types::{Entry, LeaderId, LogId, TypeConfig, Vote};
use crate::raft::wire;

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    ledger: Ledger,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

fn storage(error: impl ToString) -> io::Error {
    io::Error::other(error.to_string())
}

impl LogStore {
    /// Reads the facts and starts the writer thread, which ends with the last clone.
    pub(crate) fn open(ledger: Ledger) -> io::Result<Self> {
        let snapshot = ledger.read().map_err(storage)?;
        let fact = |name| snapshot.get(FACTS, name).map_err(storage);
        let log_id = |bytes: Option<Vec<u8>>| bytes.map(|bytes| wire::decode_log_id(&bytes)).transpose();
        let purged = log_id(fact(PURGED)?)?;
        let committed = log_id(fact(COMMITTED)?)?;
        let vote = fact(VOTE)?.map(|bytes| wire::decode_vote(&bytes)).transpose()?;
        let bytes = fact(log_writer::BYTES)?.and_then(|raw| raw.try_into().ok()).map_or(0, u64::from_be_bytes);
        let newest = snapshot.scan_all(ENTRIES).map_err(storage)?.next_back().transpose().map_err(storage)?;
        let last = match newest {
            Some((_, value)) => Some(wire::decode_entry(value.into())?.log_id).max(purged),
            None => purged,
        };
        let state = SharedState {
            last,
            purged,
            vote,
            // A committed index above the flushed log would brick the node (ground.md §4).
            committed: committed.min(last),
            bytes,
            flushed: last.map_or(0, |id| id.index),
            ..SharedState::default()
        };
        let shared = Arc::new(Shared::default());
        *shared.lock() = state;
        let (orders, received) = mpsc::channel(log_writer::QUEUE);
        let writer = (ledger.clone(), shared.clone());
        std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || log_writer::run(&writer.0, &writer.1, received))?;
        Ok(LogStore { ledger, shared, orders })
    }

    /// Bytes of entries in the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.lock().bytes
    }

    /// Newest purged index; 0 while nothing was purged.
    pub(crate) fn purged(&self) -> u64 {
        self.shared.lock().purged.map_or(0, |id| id.index)
    }

    /// The committed id as the disk knew it at start.
    pub(crate) fn committed(&self) -> Option<LogId> {
        self.shared.lock().committed
    }

    /// Why the disk takes no more, if it failed.
    pub(crate) fn failed(&self) -> Option<String> {
        self.shared.lock().failed.clone()
    }

    async fn order(&self, order: Order) -> io::Result<()> {
        self.orders.send(order).await.map_err(|_| storage("the log writer has stopped"))
    }

    async fn order_and_wait(&self, make: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Order) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        self.order(make(done)).await?;
        result.await.map_err(|_| storage("the log writer has stopped"))?
    }

    /// Entries of `start..end`, at most `limits::BATCH_BYTES_MAX` of them but at least one, off the async threads when
    /// they are not at hand.
    pub(crate) async fn read_some(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        if let Some(found) = self.read_recent(start, end)? {
            return Ok(found);
        }
        let store = self.clone();
        let read = move || store.read_disk(start, end);
        tokio::task::spawn_blocking(read).await.map_err(storage)?
    }

    fn read_recent(&self, start: u64, end: u64) -> io::Result<Option<Vec<Entry>>> {
        let found: Vec<Bytes> = {
            let state = self.shared.lock();
            match state.recent.front() {
                Some((first, _)) if *first <= start => {}
                _ => return Ok(None),
            }
            let skip = usize::try_from(start - state.recent[0].0).unwrap_or(usize::MAX);
            let mut bytes = 0;
            let within = |(index, value): &&(u64, Bytes)| {
                let fits = bytes == 0 || bytes + value.len() <= limits::BATCH_BYTES_MAX;
                bytes += value.len();
                *index < end && fits
            };
            state.recent.iter().skip(skip).take_while(within).map(|(_, value)| value.clone()).collect()
        };
        let decode = |value: Bytes| wire::decode_entry(value).map_err(io::Error::from);
        found.into_iter().map(decode).collect::<io::Result<_>>().map(Some)
    }

    fn read_disk(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let snapshot = self.ledger.read().map_err(storage)?;
        let (first, last) = (start.to_be_bytes(), end.to_be_bytes());
        let bounds = (Bound::Included(&first[..]), Bound::Excluded(&last[..]));
        let mut entries = Vec::new();
        let mut bytes = 0;
        for row in snapshot.scan(ENTRIES, bounds).map_err(storage)? {
            let (_, value) = row.map_err(storage)?;
            if bytes > 0 && bytes + value.len() > limits::BATCH_BYTES_MAX {
                break;
            }
            bytes += value.len();
            entries.push(wire::decode_entry(value.into())?);
        }
        // Entries that were accepted since, but are not flushed, follow from memory.
        if entries.is_empty() {
            return Ok(self.read_recent(start, end)?.unwrap_or_default());
        }
        Ok(entries)
    }

    /// All of `start..end` in chunks bounded by bytes.
    fn chunks(self, start: u64, end: u64) -> impl Stream<Item = io::Result<Entry>> + Send {
        use futures_util::{StreamExt, TryStreamExt};
        futures_util::stream::try_unfold((self, start), move |(store, at)| async move {
            let entries = store.read_some(at, end).await?;
            let Some(last) = entries.last() else { return Ok::<_, io::Error>(None) };
            let next = last.log_id.index + 1;
            let items = futures_util::stream::iter(entries.into_iter().map(Ok::<_, io::Error>));
            Ok(Some((items, (store, next))))
        })
        .try_flatten()
        .boxed()
    }
}

fn bounds<RB: RangeBounds<u64>>(range: &RB) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        use futures_util::TryStreamExt;
        let (start, end) = bounds(&range);
        self.clone().chunks(start, end).try_collect().await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read_some(start, end).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        use futures_util::StreamExt;
        // What is applied must be without a gap: a missing entry is an error here, not the end.
        let (start, end) = bounds(&range);
        let mut next = start;
        self.clone()
            .chunks(start, end)
            .map(move |entry| {
                let entry = entry?;
                if entry.log_id.index != next {
                    let detail = format!("log entry {next} is missing, {} follows", entry.log_id.index);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
                }
                next += 1;
                Ok(entry)
            })
            .boxed()
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        use futures_util::StreamExt;
        let (start, end) = bounds(&range);
        let shared = self.shared.clone();
        let check = move || {
            let vote = shared.lock().vote;
            match vote {
                Some(vote) if vote.is_committed() && *vote.leader_id() == leader => Ok(()),
                other => Err(LeaderBoundedStreamError::LeaderChanged(LeaderChanged::new(leader, other))),
            }
        };
        let mut failed = false;
        self.clone()
            .chunks(start, end)
            .map(move |entry| {
                check()?;
                entry.map_err(LeaderBoundedStreamError::IoError)
            })
            .take_while(move |entry| {
                let go_on = !failed;
                failed |= entry.is_err();
                std::future::ready(go_on)
            })
            .boxed()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.shared.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.order_and_wait(|done| Order::Vote { vote, done }).await?;
        self.shared.lock().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Awaited inside the library's core: only a cell is set, the next append takes it along.
        self.shared.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let state = self.shared.lock();
        Ok(state.committed.min(state.last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let encoded: Vec<(LogId, Bytes)> =
            entries.into_iter().map(|entry| (entry.log_id, Bytes::from(wire::encode_entry(&entry)))).collect();
        {
            let mut state = self.shared.lock();
            for (log_id, bytes) in &encoded {
                state.last = Some(*log_id);
                state.remember(log_id.index, bytes.clone());
            }
        }
        self.order(Order::Append { entries: encoded, flushed: callback }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        {
            let mut state = self.shared.lock();
            state.forget_from(from);
            state.last = last;
        }
        self.order_and_wait(|done| Order::Truncate { from, done }).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut state = self.shared.lock();
            state.purged = state.purged.max(Some(upto));
            state.last = state.last.max(Some(upto));
            while state.recent.front().is_some_and(|(index, _)| *index <= upto.index) {
                if let Some((_, bytes)) = state.recent.pop_front() {
                    state.recent_bytes -= bytes.len();
                }
            }
        }
        // Awaited inside the library's core: the steps run in the writer, between appends.
        self.order(Order::Purge { upto }).await
    }
}
