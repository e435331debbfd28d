//! Sending and receiving spooled snapshots, by resumable gRPC streams.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use domain::{NodeId, limits};
use proto::raft as pb;
use runtime::{TaskKind, clock, random};
use tokio::io::AsyncWriteExt;
use tonic::Status;

use crate::raft::member::Member;
use crate::raft::network::client::Client;
use crate::raft::snapshot::{self, Spool, SpoolFile, Spools, Unplaced};
use crate::raft::types::{SnapshotMeta, Vote};
use crate::raft::wire;

/// Longest time for building a received snapshot, and for one answer of a peer.
const INSTALL_MAX: Duration = Duration::from_secs(15 * 60);
/// Longest silence of the sender before the receiver gives the stream up.
const CHUNK_WAIT_MAX: Duration = Duration::from_secs(10);

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("snapshot: {error}"))
}

/// Sends this node's state to a peer, from where an earlier transfer broke off. Gives the peer's vote.
pub(crate) async fn send(
    mut client: Client,
    target: NodeId,
    vote: Vote,
    meta: SnapshotMeta,
    spool: Spool,
) -> Result<Vote, Status> {
    let Spool::Own(state) = spool else { return Err(internal("a received snapshot cannot be sent on")) };
    let started = clock::now();
    // A peer that is away costs no spool, which would hold up the purging of the log.
    let answers = tokio::time::timeout(CHUNK_WAIT_MAX, client.offer_snapshot(pb::SnapshotHead::default())).await;
    match answers {
        Ok(Ok(_)) => {}
        Ok(Err(status)) if status.code() == tonic::Code::InvalidArgument => {}
        Ok(Err(status)) => return Err(status),
        Err(_) => return Err(Status::deadline_exceeded("the peer does not answer")),
    }
    let hold = {
        let state = state.clone();
        let making = move || Spools::get(&state, &meta);
        tokio::task::spawn_blocking(making).await.map_err(internal)?.map_err(internal)?
    };
    let file = hold.file.clone();
    let head = head_of(&vote, &file);
    let offering = client.offer_snapshot(head.clone());
    let offset = tokio::time::timeout(CHUNK_WAIT_MAX, offering)
        .await
        .map_err(|_| Status::deadline_exceeded("the peer did not answer the offer of a snapshot"))??
        .into_inner()
        .offset;
    tracing::info!(peer = %target, bytes = file.bytes, offset, "snapshot transfer begins");
    let chunks = {
        let (path, state) = (file.path.clone(), state.clone());
        futures_util::stream::unfold((Some(head), offset), move |(head, offset)| {
            let (path, state) = (path.clone(), state.clone());
            async move {
                let reading = tokio::task::spawn_blocking(move || read_chunk(&path, offset));
                let data = reading
                    .await
                    .ok()?
                    .inspect_err(|error| tracing::warn!(%error, "spooled snapshot cannot be read"))
                    .ok()?;
                if data.is_empty() && head.is_none() {
                    return None;
                }
                let next = offset + data.len() as u64;
                state.spools().traffic.sent_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                Some((pb::SnapshotChunk { head, offset, data }, (None, next)))
            }
        })
    };
    let reply = tokio::time::timeout(INSTALL_MAX, client.send_snapshot(chunks))
        .await
        .map_err(|_| Status::deadline_exceeded("the peer did not install the snapshot in time"))??
        .into_inner();
    state.spools().finish(&file.path);
    tracing::info!(peer = %target, elapsed_ms = clock::elapsed_ms(started), "snapshot transferred and installed");
    reply.vote.map(wire::vote_from_wire).ok_or_else(|| internal("the reply has no vote"))
}

fn head_of(vote: &Vote, file: &SpoolFile) -> pb::SnapshotHead {
    pb::SnapshotHead {
        vote: Some(wire::vote_to_wire(vote)),
        last: file.meta.last_log_id.as_ref().map(wire::log_id_to_wire),
        membership: Some(wire::stored_membership_to_wire(&file.meta.last_membership)),
        bytes: file.bytes,
        blake3: Bytes::copy_from_slice(&file.blake3),
    }
}

fn read_chunk(path: &std::path::Path, offset: u64) -> std::io::Result<Bytes> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut data = Vec::with_capacity(limits::BULK_MESSAGE_BYTES);
    file.take(limits::BULK_MESSAGE_BYTES as u64).read_to_end(&mut data)?;
    Ok(data.into())
}

struct Incoming {
    part: PathBuf,
    name: PathBuf,
}

/// The part file and the note of whose bytes it holds.
fn incoming(member: &Member) -> Incoming {
    let folder = member.file().snapshots();
    Incoming { part: folder.join("incoming.part"), name: folder.join("incoming.blake3") }
}

/// How much of an offered snapshot is here already.
pub(crate) async fn offered(member: &Member, head: pb::SnapshotHead) -> Result<u64, Status> {
    let Ok(_one) = member.receiving().try_lock() else {
        return Err(Status::unavailable("a snapshot is being received"));
    };
    if head.blake3.is_empty() {
        return Err(Status::invalid_argument("the offer names no snapshot"));
    }
    let files = incoming(member);
    tokio::fs::create_dir_all(member.file().snapshots()).await.map_err(internal)?;
    let known = tokio::fs::read(&files.name).await.unwrap_or_default();
    if known == head.blake3.as_ref() {
        let length = tokio::fs::metadata(&files.part).await.map_or(0, |metadata| metadata.len());
        if length <= head.bytes {
            return Ok(length);
        }
    }
    tokio::fs::write(&files.part, b"").await.map_err(internal)?;
    tokio::fs::write(&files.name, &head.blake3).await.map_err(internal)?;
    Ok(0)
}

/// Receives the rest of an offered snapshot, builds the state file and has it installed.
///
/// What was received is built and installed by a task of its own: a sender that gives up meanwhile must not leave a
/// half-built file to the library.
pub(crate) async fn receive(member: &Member, mut chunks: tonic::Streaming<pb::SnapshotChunk>) -> Result<Vote, Status> {
    let Ok(one) = member.receiving().clone().try_lock_owned() else {
        return Err(Status::unavailable("a snapshot is being received"));
    };
    let head = fill(member, &mut chunks).await?;
    let (done, installed) = tokio::sync::oneshot::channel();
    let owner = member.clone();
    member.tasks().spawn(TaskKind::Transfer, "snapshot-install", async move {
        let result = install(&owner, head).await;
        drop(one);
        // The sender may have gone away.
        drop(done.send(result));
    });
    installed.await.map_err(|_| Status::unavailable("this node is stopping"))?
}

async fn install(member: &Member, head: pb::SnapshotHead) -> Result<Vote, Status> {
    let started = clock::now();
    let pb::SnapshotHead { vote, last, membership, bytes, blake3 } = head;
    let vote = vote.map(wire::vote_from_wire).ok_or_else(|| Status::invalid_argument("vote is missing"))?;
    let membership = membership.ok_or_else(|| Status::invalid_argument("membership is missing"))?;
    let meta = SnapshotMeta {
        last_log_id: last.map(wire::log_id_from_wire),
        last_membership: wire::stored_membership_from_wire(membership)?,
    };
    let blake3: [u8; 32] = blake3.as_ref().try_into().map_err(|_| Status::invalid_argument("hash is not 32 bytes"))?;
    let files = incoming(member);
    // A name of its own: the library may still hold that of an earlier attempt.
    let name = domain::digest::encode_hex(&random::bytes::<8>());
    let target = member.file().snapshots().join(format!("{name}.state"));
    // Dropped once the library has answered: it has moved the file by then, or never will.
    let _unplaced = Unplaced(target.clone());
    let built = {
        let (part, target) = (files.part.clone(), target.clone());
        tokio::task::spawn_blocking(move || snapshot::build(&part, blake3, &target)).await.map_err(internal)?
    };
    // Whether it was good or not, the next offer begins anew.
    drop(tokio::fs::remove_file(&files.name).await);
    drop(tokio::fs::remove_file(&files.part).await);
    built.inspect_err(|error| tracing::warn!(%error, "received snapshot cannot be used")).map_err(internal)?;
    tracing::info!(bytes, elapsed_ms = clock::elapsed_ms(started), "snapshot received and verified");
    let snapshot = openraft::storage::Snapshot { meta, snapshot: Spool::Received(target) };
    let response = member.raft().install_full_snapshot(vote, snapshot).await.map_err(internal)?;
    Ok(response.vote)
}

async fn fill(member: &Member, chunks: &mut tonic::Streaming<pb::SnapshotChunk>) -> Result<pb::SnapshotHead, Status> {
    let files = incoming(member);
    let mut head: Option<pb::SnapshotHead> = None;
    let mut part = tokio::fs::OpenOptions::new().append(true).open(&files.part).await.map_err(internal)?;
    let mut length = part.metadata().await.map_err(internal)?.len();
    let traffic = &member.file().spools().traffic;
    traffic.resumed_bytes.fetch_add(length, Ordering::Relaxed);
    loop {
        let message = tokio::time::timeout(CHUNK_WAIT_MAX, chunks.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the sender of the snapshot went silent"))?;
        let chunk = match message {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(status) => {
                part.flush().await.map_err(internal)?;
                return Err(status);
            }
        };
        let pb::SnapshotChunk { head: announced, offset, data } = chunk;
        head = announced.or(head);
        if offset != length {
            return Err(Status::aborted(format!("chunk begins at {offset}, {length} bytes are here")));
        }
        part.write_all(&data).await.map_err(internal)?;
        length += data.len() as u64;
        traffic.received_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(leader) = head.as_ref().and_then(|head| head.vote.as_ref()) {
            member.heard_leader(NodeId(leader.node));
        }
    }
    part.flush().await.map_err(internal)?;
    let head = head.ok_or_else(|| Status::invalid_argument("the stream has no head"))?;
    if length == head.bytes { Ok(head) } else { Err(Status::data_loss("the snapshot ended early")) }
}

#[cfg(test)]
#[path = "transfer_test.rs"]
mod tests;
