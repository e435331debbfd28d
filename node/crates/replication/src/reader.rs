//! What clients read: the local copy, else a flight from behind, else verified groups straight from a holder.
//!
//! A reader holds at most one group. A slow one reads the staging file long after the flight has landed.

use std::sync::Arc;
use std::time::Duration;

use blobs::Groups;
use blobs::handle::{ByteStream, ReadError, Stored};
use bytes::Bytes;
use domain::{ByteRange, CopyId, Digest, NodeId, limits};
use futures_util::{StreamExt, stream};
use metadata::handle::ChannelClass;
use metadata::rows;
use tokio::sync::OwnedSemaphorePermit;

use crate::config::{FAR_AHEAD_BYTES, GROUP, UNSETTLED_MAX};
use crate::core::{Core, stored};
use crate::flight::{End, Flight, Follower};
use crate::handle::FetchError;
use crate::network::{self, RemoteRead, SourceError};
use crate::transfer::{self, ROUND_PAUSE, ROUNDS_MAX, told};
use crate::wire::ReadRequest;

/// How long a client waits for a free flight before its bytes are passed through without staging.
const SLOT_WAIT: Duration = Duration::from_millis(500);

/// Bytes of a blob, from wherever they are. Errors before the first byte are returned, later ones end the stream.
pub(crate) async fn read(
    core: &Arc<Core>,
    digest: Digest,
    blob: rows::Blob,
    range: ByteRange,
) -> Result<ByteStream<FetchError>, FetchError> {
    if range.start >= range.end {
        return Ok(stream::empty().boxed());
    }
    let (facts, bad) = core.facts(&digest)?;
    // What has landed and could not be reported yet is read where it lies.
    let Some(copy) = facts.copy_here.or_else(|| core.landed(&digest)) else {
        return Reader::new(core.clone(), digest, blob, range).begin(bad).await;
    };
    let mut here = stored(digest, copy, &blob);
    if core.is_suspect(copy)
        && let Ok(bytes) = Reader::new(core.clone(), digest, blob.clone(), range).pass_through().await
    {
        return Ok(bytes);
    }
    let mut opened = core.blobs.read_for_client(here, range).await;
    if let Err(failure) = &opened
        && let Some(newer) = core.newer(here, failure)
    {
        here = newer;
        opened = core.blobs.read_for_client(here, range).await;
    }
    match opened {
        Ok(bytes) => Ok(watched(core.clone(), here, bytes)),
        Err(failure) => {
            core.heal(here, &failure).await;
            instead(core, here, blob, range, &failure).await
        }
    }
}

/// The copy here failed before its first byte.
async fn instead(
    core: &Arc<Core>,
    stored: Stored,
    blob: rows::Blob,
    range: ByteRange,
    failure: &ReadError,
) -> Result<ByteStream<FetchError>, FetchError> {
    let digest = stored.digest;
    let local = |error: &ReadError| FetchError::Local { digest, detail: error.to_string() };
    let reader = Reader::new(core.clone(), digest, blob, range);
    // Given up just now; its loss may even be reported already.
    if core.facts(&digest).is_ok_and(|(facts, _)| facts.copy_here.is_none()) {
        return reader.begin(Some(stored.copy)).await;
    }
    match failure {
        // It stays: nothing is staged, the bytes pass through from elsewhere.
        ReadError::Damaged { .. } | ReadError::Missing => reader.pass_through().await,
        // The bytes may be good.
        ReadError::Storage { .. } | ReadError::Unreadable { .. } => {
            reader.pass_through().await.map_err(|_| local(failure))
        }
        ReadError::NoGroups => match reader.pass_through().await {
            Ok(bytes) => Ok(bytes),
            Err(_) => {
                core.rebuilt(stored).await;
                let bytes = core.blobs.read_for_client(stored, range).await.map_err(|error| local(&error))?;
                Ok(watched(core.clone(), stored, bytes))
            }
        },
    }
}

/// Passes a local read on; damage in the middle ends it and heals the copy.
fn watched(core: Arc<Core>, stored: Stored, bytes: ByteStream<ReadError>) -> ByteStream<FetchError> {
    stream::unfold(Some((core, bytes)), move |state| async move {
        let (core, mut bytes) = state?;
        match bytes.next().await? {
            Ok(piece) => Some((Ok(piece), Some((core, bytes)))),
            Err(failure) => {
                core.heal(stored, &failure).await;
                let error = FetchError::Local { digest: stored.digest, detail: failure.to_string() };
                Some((Err(error), None))
            }
        }
    })
    .boxed()
}

/// Where a reader takes its next bytes from.
enum Mode {
    Behind(Follower),
    Direct(Box<Direct>),
}

struct Reader {
    core: Arc<Core>,
    digest: Digest,
    blob: rows::Blob,
    cursor: u64,
    end: u64,
    /// Some bytes were delivered.
    begun: bool,
    mode: Mode,
}

impl Reader {
    fn new(core: Arc<Core>, digest: Digest, blob: rows::Blob, range: ByteRange) -> Self {
        let mode = Mode::Direct(Box::default());
        Reader { core, digest, blob, cursor: range.start, end: range.end, begun: false, mode }
    }

    /// Joins or starts a flight, and waits for the first bytes. `bad` is the copy here that a new flight replaces.
    async fn begin(mut self, bad: Option<CopyId>) -> Result<ByteStream<FetchError>, FetchError> {
        if let Some(follower) = self.board(bad).await {
            self.mode = Mode::Behind(follower);
        }
        self.stream().await
    }

    /// Reads without a flight.
    async fn pass_through(self) -> Result<ByteStream<FetchError>, FetchError> {
        self.stream().await
    }

    async fn stream(mut self) -> Result<ByteStream<FetchError>, FetchError> {
        let first = self.next_piece().await?;
        let rest = stream::unfold(Some(self), |state| async move {
            let mut reader = state?;
            if reader.cursor >= reader.end {
                return None;
            }
            match reader.next_piece().await {
                Ok(piece) => Some((Ok(piece), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(stream::once(async move { Ok(first) }).chain(rest).boxed())
    }

    /// A place behind the flight of this blob; none when the range lies far ahead, too many flights are in the air, or too
    /// many have landed that cannot be settled.
    async fn board(&self, bad: Option<CopyId>) -> Option<Follower> {
        self.core.urge(&[self.digest]);
        if let Some(flight) = self.core.flights.get(&self.digest) {
            return Some(flight.follow());
        }
        // Without a quorum what lands cannot be settled: there is an end to what is kept in the hope of one.
        if self.cursor > FAR_AHEAD_BYTES || self.core.flights.unsettled() >= UNSETTLED_MAX {
            return None;
        }
        let slots = self.core.flight_slots.clone();
        let permit = tokio::time::timeout(SLOT_WAIT, slots.acquire_owned()).await.ok()?.ok()?;
        let flight = Flight::new(self.digest, self.blob.clone(), bad);
        flight.hurry();
        match self.core.flights.depart(flight.clone()) {
            Some(departed) => {
                let follower = flight.follow();
                transfer::launch(&self.core, departed, permit);
                Some(follower)
            }
            None => self.core.flights.get(&self.digest).map(|flight| flight.follow()),
        }
    }

    /// The next bytes at the cursor, which lies before the end.
    async fn next_piece(&mut self) -> Result<Bytes, FetchError> {
        loop {
            let piece = match &mut self.mode {
                Mode::Behind(follower) => match behind(follower, self.cursor, self.end, self.core.patience()).await? {
                    Some(piece) => piece,
                    None => {
                        self.mode = Mode::Direct(Box::new(Direct { begun: self.begun, ..Direct::default() }));
                        continue;
                    }
                },
                Mode::Direct(direct) => direct.next(&self.core, self.digest, &self.blob, self.cursor, self.end).await?,
            };
            self.cursor += piece.len() as u64;
            self.begun = true;
            return Ok(piece);
        }
    }
}

/// The next bytes from behind a flight; none when they must come from elsewhere.
async fn behind(
    follower: &mut Follower,
    cursor: u64,
    end: u64,
    patience: Duration,
) -> Result<Option<Bytes>, FetchError> {
    loop {
        let state = follower.state.borrow_and_update().clone();
        if let Some(reader) = &state.reader
            && state.written > cursor
        {
            let group_end = (cursor / GROUP + 1) * GROUP;
            // Whole groups, for the staging file is read and checked by them.
            let piece_end = group_end.min(state.written).min(end);
            // A staging file that cannot be read is passed by.
            return Ok(reader.read(ByteRange { start: cursor, end: piece_end }).await.ok());
        }
        match state.end {
            Some(End::Failed(FetchError::Local { .. })) | Some(End::Complete) => return Ok(None),
            Some(End::Failed(error)) => return Err(error),
            None if cursor > state.written.saturating_add(FAR_AHEAD_BYTES) => return Ok(None),
            None => {}
        }
        // A flight that stands still leaves its clients to other holders.
        if !matches!(tokio::time::timeout(patience, follower.state.changed()).await, Ok(Ok(()))) {
            return Ok(None);
        }
    }
}

/// The groups that a range touches, clipped to the size.
fn around(start: u64, end: u64, size: u64) -> (u64, u64) {
    (start / GROUP * GROUP, end.div_ceil(GROUP).saturating_mul(GROUP).min(size))
}

/// A stream of some groups from a holder.
struct Remote {
    node: NodeId,
    read: RemoteRead,
    /// Where its next group begins.
    at: u64,
    /// Where it ends.
    end: u64,
    /// The room that its groups take which are not asked for yet.
    _ahead: OwnedSemaphorePermit,
}

/// How far a direct read asks: a few groups at once while there is room, else for the one that it takes at once. A client
/// that stands still leaves the others unread, and with them the window of the connection.
fn ahead(core: &Core, start: u64, stop: u64) -> Option<(u64, OwnedSemaphorePermit)> {
    let groups = (stop - start).div_ceil(GROUP).min(core.config.direct_groups).max(1);
    let reserve = |groups: u64| {
        let spare = u32::try_from(groups - 1).ok()?;
        let permit = core.ahead_slots.clone().try_acquire_many_owned(spare).ok()?;
        Some((stop.min(start + groups * GROUP), permit))
    };
    reserve(groups).or_else(|| reserve(1))
}

/// Verified groups straight from holders, without staging.
#[derive(Default)]
struct Direct {
    values: Option<Groups>,
    remote: Option<Remote>,
    /// Holders that failed since the last group.
    tried: Vec<(NodeId, SourceError)>,
    /// The client has some bytes already.
    begun: bool,
    /// Further rounds over all holders since the last group.
    rounds: u32,
    /// Verified bytes and where they begin.
    group: Option<(u64, Bytes)>,
}

impl Direct {
    async fn next(
        &mut self,
        core: &Arc<Core>,
        digest: Digest,
        blob: &rows::Blob,
        cursor: u64,
        end: u64,
    ) -> Result<Bytes, FetchError> {
        loop {
            if let Some((start, group)) = &self.group
                && (*start..*start + group.len() as u64).contains(&cursor)
            {
                let from = usize::try_from(cursor - start).expect("within a group");
                let until = usize::try_from(end - start).unwrap_or(usize::MAX);
                let until = until.min(group.len()).min(from + limits::BULK_MESSAGE_BYTES);
                return Ok(group.slice(from..until));
            }
            let (start, stop) = around(cursor, end, blob.size);
            let node = match &self.remote {
                Some(remote) if remote.at == start => remote.node,
                _ => match self.choose(core, digest, blob.size) {
                    // A body that has begun is not broken off for a short break.
                    Err(FetchError::Unreachable { .. }) if self.begun && self.rounds < ROUNDS_MAX => {
                        tokio::time::sleep(ROUND_PAUSE * (1 << self.rounds)).await;
                        self.rounds += 1;
                        self.tried.clear();
                        continue;
                    }
                    chosen => chosen?,
                },
            };
            match self.fetch(core, digest, blob, node, start, stop).await {
                Ok(group) => {
                    self.tried.clear();
                    self.begun = true;
                    self.rounds = 0;
                    self.group = Some((start, group));
                }
                Err(error) => {
                    self.remote = None;
                    core.source_failed(node, &digest, &error);
                    self.tried.push((node, error));
                }
            }
        }
    }

    fn choose(&self, core: &Core, digest: Digest, size: u64) -> Result<NodeId, FetchError> {
        let holders = core.facts(&digest)?.0.holders;
        if holders.is_empty() {
            return Err(FetchError::NoHolder { digest });
        }
        let mut ordered = core.order(&digest, size, &holders).into_iter();
        ordered
            .find(|node| self.tried.iter().all(|(other, _)| other != node))
            .ok_or_else(|| FetchError::Unreachable { digest, detail: told(&self.tried) })
    }

    /// One verified group at `start`, from the open stream or from a new one that goes on towards `stop`.
    async fn fetch(
        &mut self,
        core: &Arc<Core>,
        digest: Digest,
        blob: &rows::Blob,
        node: NodeId,
        start: u64,
        stop: u64,
    ) -> Result<Bytes, SourceError> {
        let bad = |detail: &str| SourceError::Copy(detail.to_owned());
        let mut running = core.running(node);
        let reusable = self.remote.as_ref().is_some_and(|remote| remote.at == start);
        if !reusable {
            let with_values = self.values.is_none() && blob.size > GROUP;
            // What is left of an older stream gives its room back first.
            self.remote = None;
            let (end, ahead) = ahead(core, start, stop).ok_or_else(|| bad("nothing to ask for"))?;
            let request = ReadRequest { digest, start, end, with_values };
            let source = (node, ChannelClass::Direct);
            let remote = network::read(core.cluster.as_ref(), &core.config, source, request, blob.size).await?;
            if self.values.is_none() {
                let raw =
                    if with_values { remote.values.clone() } else { Bytes::copy_from_slice(blob.root.as_bytes()) };
                self.values = Groups::prove(blob.size, &blob.root, raw);
            }
            self.remote = Some(Remote { node, read: remote, at: start, end, _ahead: ahead });
        }
        let values = self.values.as_ref().ok_or_else(|| bad("group values do not lead to the root"))?;
        let remote = self.remote.as_mut().ok_or_else(|| bad("no stream"))?;
        let length = usize::try_from(GROUP.min(stop - start)).expect("a group fits");
        let group = remote.read.take(length).await?;
        if !values.verify(start / GROUP, &group) {
            return Err(bad("sent damaged bytes"));
        }
        remote.at = start + length as u64;
        if remote.at >= remote.end {
            self.remote = None;
        }
        running.received(length);
        Ok(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_widen_to_whole_groups() {
        assert_eq!(around(0, 1, 10), (0, 10));
        assert_eq!(around(GROUP + 5, GROUP + 6, 5 * GROUP), (GROUP, 2 * GROUP));
        assert_eq!(around(GROUP, 2 * GROUP, 2 * GROUP), (GROUP, 2 * GROUP));
        assert_eq!(around(2 * GROUP, 2 * GROUP + 3, 2 * GROUP + 3), (2 * GROUP, 2 * GROUP + 3));
    }
}
