//! Moves the bytes of flights: from holders into staging, group by group, and at the end into the store.
//!
//! Holds at most one group and one message per transfer. After a break it goes on from the verified offset with the next
//! holder; when every holder has failed without a byte of progress, the flight fails and staging stays for the next try.

use std::sync::Arc;
use std::time::Duration;

use blobs::handle::{Ingest, Pin, PlacedBlob, ReadError};
use bytes::Bytes;
use domain::{Digest, NodeId, Revision};
use metadata::command::HeldCopy;
use metadata::handle::ChannelClass;
use runtime::{TaskKind, clock};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info, warn};

use crate::config::GROUP;
use crate::core::Core;
use crate::flight::{Departed, End, Flight};
use crate::handle::FetchError;
use crate::network::{self, SourceError};
use crate::report::Settled;
use crate::wire::{ReadRequest, Small, SmallReply};

/// Groups between two looks whether anybody still wants an unattended transfer.
const GROUPS_PER_LOOK: u64 = 16;
/// Further rounds over all holders that a transfer with progress makes, and the pause before the first; it doubles.
pub(crate) const ROUNDS_MAX: u32 = 3;
pub(crate) const ROUND_PAUSE: Duration = Duration::from_millis(250);
/// A transfer held up by the bandwidth looks so often whether somebody waits for it now.
const PACE_LOOK: Duration = Duration::from_millis(100);

/// Why one attempt with one holder ended.
enum Attempt {
    /// The holder's fault.
    Source(SourceError),
    /// Ours.
    Local(String),
    /// Nobody wants it any more.
    Unwanted,
}

/// Drives a flight to its end in a task of its own.
pub(crate) fn launch(core: &Arc<Core>, departed: Departed, permit: OwnedSemaphorePermit) {
    let core = core.clone();
    let tasks = core.tasks.clone();
    tasks.spawn(TaskKind::Transfer, "fetch", async move {
        let flight = departed.flight.clone();
        core.counters.running.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let result = tokio::select! {
            () = core.tasks.cancelled() => Err(local(&flight, "the node stops")),
            result = carry(&core, &flight) => result,
        };
        core.counters.running.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        drop(permit);
        arrive(&core, &departed, result).await;
    });
}

/// Drives several flights of small blobs over one stream of one holder. Those it does not bring end as failed.
pub(crate) fn launch_batch(core: &Arc<Core>, departed: Vec<Departed>, source: NodeId, permit: OwnedSemaphorePermit) {
    let core = core.clone();
    let tasks = core.tasks.clone();
    tasks.spawn(TaskKind::Transfer, "fetch small", async move {
        core.counters.running.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut waiting = departed;
        let result = tokio::select! {
            () = core.tasks.cancelled() => Ok(()),
            result = carry_batch(&core, &mut waiting, source) => result,
        };
        core.counters.running.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        drop(permit);
        if let Err(error) = &result {
            debug!(peer = %source, left = waiting.len(), error = error.detail(), "batch of small blobs broke off");
            if let Some(departed) = waiting.first() {
                core.source_failed(source, &departed.flight.digest, error);
            }
        }
        for departed in waiting {
            let detail = result.as_ref().err().map_or("not in the batch", SourceError::detail);
            let error = local(&departed.flight, detail);
            core.transfer_failed(
                &departed.flight.digest,
                &FetchError::Unreachable { digest: departed.flight.digest, detail: detail.to_owned() },
            );
            // A holder that answered and did not bring it would not bring it the next time either.
            if !matches!(result, Err(SourceError::Unreachable(_))) {
                core.pass_over(&departed.flight.digest, source);
            }
            departed.flight.end(End::Failed(error));
        }
        core.wake.notify_one();
    });
}

fn local(flight: &Flight, detail: impl std::fmt::Display) -> FetchError {
    FetchError::Local { digest: flight.digest, detail: detail.to_string() }
}

/// Ends a flight, and keeps it known until its possession is settled.
async fn arrive(core: &Arc<Core>, departed: &Departed, result: Result<Option<(PlacedBlob, Pin)>, FetchError>) {
    let flight = &departed.flight;
    match result {
        Ok(placed) => {
            let landed = placed.is_some().then(|| core.flights.land());
            if let Some((placed, _)) = &placed {
                flight.place(placed.copy);
            }
            flight.end(End::Complete);
            core.transfer_done(&flight.digest);
            // The slot is free already.
            core.wake.notify_one();
            if let Some((placed, pin)) = placed {
                settle(core, flight, &placed, pin).await;
            }
            drop(landed);
        }
        Err(error) => {
            if matches!(error, FetchError::Local { .. }) && !core.tasks.token().is_cancelled() && core.may_warn() {
                warn!(digest = %flight.digest, error = %error, "transfer failed here");
            } else {
                debug!(digest = %flight.digest, error = %error, "transfer failed");
            }
            core.transfer_failed(&flight.digest, &error);
            flight.end(End::Failed(error));
        }
    }
    core.wake.notify_one();
}

async fn settle(core: &Arc<Core>, flight: &Flight, placed: &PlacedBlob, pin: Pin) {
    core.counters.fetched_blobs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let copy = HeldCopy { digest: placed.digest, copy: placed.copy };
    // With most slots free no company is to be expected: a fresh push is not held up.
    let is_lonely = core.fetch_slots.available_permits() * 2 >= core.config.fetches_max;
    let urgent = is_lonely || flight.is_urgent() || flight.followers() > 0 || core.is_urgent(&flight.digest);
    let settled = core.reporter.held(copy, pin, urgent).await;
    debug!(digest = %placed.digest, copy = %placed.copy, bytes = placed.size, ?settled, "fetched");
    let is_vain = match settled {
        Settled::Applied(revision) => is_passed_over(core, &copy, revision),
        Settled::Refused => true,
        Settled::Abandoned => false,
    };
    if is_vain && let Err(error) = core.blobs.delete_copy(copy.digest, copy.copy).await {
        warn!(digest = %copy.digest, copy = %copy.copy, error = %error, "unwanted copy not deleted");
    }
}

/// Whether `apply` passed the copy over, because the blob is gone or a newer copy came. Only a state that has seen the
/// report can tell.
fn is_passed_over(core: &Core, copy: &HeldCopy, reported: Revision) -> bool {
    core.cluster.facts(&copy.digest).is_ok_and(|facts| facts.revision >= reported && facts.copy_here != Some(copy.copy))
}

/// Brings all bytes here. None = they were staged, but nobody here wants to keep them.
async fn carry(core: &Arc<Core>, flight: &Arc<Flight>) -> Result<Option<(PlacedBlob, Pin)>, FetchError> {
    let digest = flight.digest;
    let mut ingest: Option<Ingest> = None;
    let mut tried: Vec<(NodeId, SourceError)> = Vec::new();
    let mut rounds = 0;
    loop {
        let (facts, _) = core.facts(&digest)?;
        flight.note_wanted(facts.wanted);
        let holders = facts.holders;
        if holders.is_empty() {
            return Err(FetchError::NoHolder { digest });
        }
        let ordered = core.order(&digest, flight.blob.size, &holders);
        let Some(node) = ordered.into_iter().find(|node| tried.iter().all(|(other, _)| other != node)) else {
            // What has begun is not given up for a short break: readers may be in the middle of their bodies.
            if flight.written() > 0 && rounds < ROUNDS_MAX {
                tokio::time::sleep(ROUND_PAUSE * (1 << rounds)).await;
                rounds += 1;
                tried.clear();
                continue;
            }
            return Err(FetchError::Unreachable { digest, detail: told(&tried) });
        };
        let before = flight.written();
        match attempt(core, flight, &mut ingest, node).await {
            Ok(()) => break,
            Err(Attempt::Source(error)) => {
                core.source_failed(node, &digest, &error);
                if flight.written() > before {
                    rounds = 0;
                    tried.clear();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                } else {
                    tried.push((node, error));
                }
            }
            Err(Attempt::Local(detail)) => return Err(local(flight, detail)),
            Err(Attempt::Unwanted) => {
                if let Some(ingest) = ingest {
                    ingest.discard().await;
                }
                return Ok(None);
            }
        }
    }
    match ingest {
        Some(ingest) => land(core, flight, ingest).await,
        None => Err(local(flight, "transfer ended without staging")),
    }
}

/// What every holder said.
pub(crate) fn told(tried: &[(NodeId, SourceError)]) -> String {
    let told: Vec<String> = tried.iter().map(|(node, error)| format!("node {node}: {}", error.detail())).collect();
    told.join("; ")
}

/// Fetches from one holder what is still missing.
async fn attempt(
    core: &Arc<Core>,
    flight: &Arc<Flight>,
    ingest: &mut Option<Ingest>,
    node: NodeId,
) -> Result<(), Attempt> {
    let size = flight.blob.size;
    let mut running = core.running(node);
    let start = ingest.as_ref().map_or(0, Ingest::written);
    if start > 0 && start == size {
        return Ok(());
    }
    let with_values = ingest.is_none() && size > GROUP;
    let request = ReadRequest { digest: flight.digest, start, end: size, with_values };
    let (cluster, source) = (core.cluster.as_ref(), (node, ChannelClass::Bulk));
    let mut remote = network::read(cluster, &core.config, source, request, size).await.map_err(Attempt::Source)?;
    let ingest = match ingest {
        Some(ingest) => ingest,
        None => {
            let values = if with_values { remote.values.clone() } else { one_value(flight) };
            ingest.insert(begin(core, flight, values).await?)
        }
    };
    if ingest.written() != start {
        // An earlier transfer left verified groups behind.
        info!(digest = %flight.digest, offset = ingest.written(), "transfer resumed");
        // It may have left all of them, and have ended before it could place them: then nothing is left to ask for.
        if ingest.written() < size {
            let request = ReadRequest { start: ingest.written(), with_values: false, ..request };
            remote = network::read(cluster, &core.config, source, request, size).await.map_err(Attempt::Source)?;
        }
    }
    let reader = ingest.reader();
    flight.publish(&reader, ingest.written());
    while ingest.written() < size {
        let offset = ingest.written();
        let length = usize::try_from(GROUP.min(size - offset)).expect("a group fits");
        pace(core, flight, length).await;
        let group = remote.take(length).await.map_err(Attempt::Source)?;
        match ingest.write_group(group).await {
            Ok(()) => {}
            Err(ReadError::Damaged { detail }) => {
                return Err(Attempt::Source(SourceError::Copy(format!("sent damaged bytes: {detail}"))));
            }
            Err(error) => return Err(Attempt::Local(error.to_string())),
        }
        running.received(length);
        if flight.is_wanted() {
            core.arrived(length);
        }
        flight.publish(&reader, ingest.written());
        if (offset / GROUP).is_multiple_of(GROUPS_PER_LOOK) && is_unwanted(core, flight) {
            return Err(Attempt::Unwanted);
        }
    }
    Ok(())
}

/// Keeps background transfers within the operator's bandwidth; whom somebody waits for is not held up.
async fn pace(core: &Core, flight: &Flight, bytes: usize) {
    let waited_for = || flight.followers() > 0 || flight.is_urgent();
    if waited_for() {
        return;
    }
    let begin = core.paced(bytes);
    while !waited_for() {
        let rest = begin.saturating_duration_since(clock::now());
        if rest.is_zero() {
            return;
        }
        tokio::time::sleep(rest.min(PACE_LOOK)).await;
    }
}

/// Of a blob of one group the root is the value.
fn one_value(flight: &Flight) -> Bytes {
    Bytes::copy_from_slice(flight.blob.root.as_bytes())
}

/// Opens staging after proving the values.
async fn begin(core: &Core, flight: &Flight, values: Bytes) -> Result<Ingest, Attempt> {
    let (size, root) = (flight.blob.size, flight.blob.root);
    if blobs::Groups::prove(size, &root, values.clone()).is_none() {
        return Err(Attempt::Source(SourceError::Copy("group values do not lead to the root".to_owned())));
    }
    core.blobs.ingest(flight.digest, size, root, values).await.map_err(|error| Attempt::Local(error.to_string()))
}

fn is_unwanted(core: &Core, flight: &Flight) -> bool {
    flight.followers() == 0
        && core.facts(&flight.digest).is_ok_and(|(facts, bad)| !keeps(facts.wanted, facts.copy_here, bad, flight))
}

/// Whether this region is to hold what the flight brings: it wants it, or its own copy is bad and about to be reported.
fn keeps(wanted: bool, copy_here: Option<domain::CopyId>, bad: Option<domain::CopyId>, flight: &Flight) -> bool {
    copy_here.is_none() && (wanted || (bad.is_some() && bad == flight.replaces))
}

/// All bytes are staged: keeps them if this region still lacks a copy, else lets its readers finish and drops them.
async fn land(core: &Core, flight: &Flight, ingest: Ingest) -> Result<Option<(PlacedBlob, Pin)>, FetchError> {
    let (facts, bad) = core.facts(&flight.digest)?;
    if !keeps(facts.wanted, facts.copy_here, bad, flight) {
        ingest.discard().await;
        return Ok(None);
    }
    match ingest.finish().await {
        Ok(placed) => Ok(Some(placed)),
        Err(error) => Err(local(flight, error)),
    }
}

/// Takes small blobs out of `waiting` as they arrive.
async fn carry_batch(core: &Arc<Core>, waiting: &mut Vec<Departed>, source: NodeId) -> Result<(), SourceError> {
    let digests: Vec<Digest> = waiting.iter().map(|departed| departed.flight.digest).collect();
    let mut running = core.running(source);
    let mut batch = network::read_many(core.cluster.as_ref(), &core.config, source, &digests).await?;
    while let Some(SmallReply { digest, small }) = batch.next().await? {
        let Some(at) = waiting.iter().position(|departed| departed.flight.digest == digest) else {
            return Err(SourceError::Copy("answer for a blob that was not asked for".to_owned()));
        };
        let Small::Data(bytes) = small else { continue };
        let departed = waiting.swap_remove(at);
        pace(core, &departed.flight, bytes.len()).await;
        running.received(bytes.len());
        core.arrived(bytes.len());
        let landed = stage_small(core, &departed.flight, bytes).await;
        let core = core.clone();
        let tasks = core.tasks.clone();
        // Settling waits for a quorum; the stream goes on meanwhile.
        tasks.spawn(TaskKind::Transfer, "settle small", async move {
            let has_failed = landed.is_err();
            arrive(&core, &departed, landed).await;
            if has_failed {
                core.pass_over(&departed.flight.digest, source);
            }
        });
    }
    Ok(())
}

/// Stages a blob of one message and keeps it if it is still lacking.
async fn stage_small(core: &Core, flight: &Flight, bytes: Bytes) -> Result<Option<(PlacedBlob, Pin)>, FetchError> {
    let mut ingest = match begin(core, flight, one_value(flight)).await {
        Ok(ingest) => ingest,
        Err(Attempt::Source(error)) => return Err(local(flight, error.detail())),
        Err(Attempt::Local(detail)) => return Err(local(flight, detail)),
        Err(Attempt::Unwanted) => return Ok(None),
    };
    if bytes.len() as u64 != flight.blob.size {
        return Err(local(flight, format!("holder sent {} bytes of {}", bytes.len(), flight.blob.size)));
    }
    if ingest.written() < flight.blob.size {
        ingest.write_group(bytes).await.map_err(|error| local(flight, error))?;
    }
    flight.publish(&ingest.reader(), ingest.written());
    land(core, flight, ingest).await
}
