//! The peers' door to our blobs: the server side of `blobs.proto`. Serves only verified local copies.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use blobs::handle::{ByteStream, ReadError};
use bytes::{Bytes, BytesMut};
use domain::{ByteRange, Digest, limits};
use futures_util::{Stream, StreamExt};
use proto::blobs as wire;
use proto::blobs::blobs_server::{Blobs, BlobsServer};
use runtime::TaskKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::config::SMALL_BLOB_BYTES;
use crate::core::{Core, stored};
use crate::wire::{self as ours, Header, Part, ReadRequest, Small, SmallReply};

/// Messages that wait for the network per stream. Unit: messages of at most `BULK_MESSAGE_BYTES`.
const QUEUE_MESSAGES: usize = 2;
/// How long a peer may leave a stream unread. Unit: milliseconds.
const UNREAD_MS_MAX: u64 = 300_000;

struct Server {
    core: Arc<Core>,
}

/// The service, to be added to the node's peer door.
pub(crate) fn service(core: Arc<Core>) -> BlobsServer<impl Blobs> {
    BlobsServer::new(Server { core }).max_decoding_message_size(limits::GROUP_BYTES)
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

fn invalid(error: &ours::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn failed(failure: &ReadError) -> Status {
    match failure {
        ReadError::Missing => Status::not_found(failure.to_string()),
        ReadError::Damaged { .. } => Status::data_loss(failure.to_string()),
        ReadError::NoGroups | ReadError::Storage { .. } => Status::unavailable(failure.to_string()),
    }
}

impl Server {
    /// The copy to serve, by the newest rows here.
    fn copy(&self, digest: &Digest) -> Result<blobs::handle::Stored, Status> {
        let (facts, _) = self.core.facts(digest).map_err(|error| Status::unavailable(error.to_string()))?;
        match (facts.blob, facts.copy_here) {
            (Some(blob), Some(copy)) => Ok(stored(*digest, copy, &blob)),
            _ => Err(Status::not_found("no copy here")),
        }
    }

    fn slot(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Status> {
        let slots = self.core.serve_slots.clone();
        slots.try_acquire_owned().map_err(|_| Status::resource_exhausted("too many reads are being served"))
    }

    /// One small blob, whole.
    async fn small(&self, digest: &Digest) -> Small {
        let Ok(stored) = self.copy(digest) else { return Small::Absent };
        if stored.size >= SMALL_BLOB_BYTES {
            return Small::Absent;
        }
        if stored.size == 0 {
            return Small::Data(Bytes::new());
        }
        let mut whole = BytesMut::new();
        let result = match self.core.blobs.read(stored, ByteRange { start: 0, end: stored.size }).await {
            Ok(mut bytes) => loop {
                match bytes.next().await {
                    Some(Ok(piece)) => whole.extend_from_slice(&piece),
                    Some(Err(failure)) => break Err(failure),
                    None => break Ok(()),
                }
            },
            Err(failure) => Err(failure),
        };
        match result {
            Ok(()) => Small::Data(whole.freeze()),
            Err(failure) => {
                self.core.heal(stored, &failure).await;
                match failure {
                    ReadError::Missing => Small::Absent,
                    ReadError::Damaged { .. } => Small::Damaged,
                    ReadError::NoGroups | ReadError::Storage { .. } => Small::Busy,
                }
            }
        }
    }
}

/// Sends within the deadline; false when the peer is gone or does not read.
async fn send<T>(queue: &mpsc::Sender<Result<T, Status>>, item: Result<T, Status>) -> bool {
    let limit = Duration::from_millis(UNREAD_MS_MAX);
    matches!(tokio::time::timeout(limit, queue.send(item)).await, Ok(Ok(())))
}

/// Sends bytes in messages of bounded size.
async fn send_all(
    queue: &mpsc::Sender<Result<wire::ReadReply, Status>>,
    mut bytes: Bytes,
    part: fn(Bytes) -> Part,
) -> bool {
    while !bytes.is_empty() {
        let message = bytes.split_to(bytes.len().min(limits::BULK_MESSAGE_BYTES));
        if !send(queue, Ok(part(message).into())).await {
            return false;
        }
    }
    true
}

async fn pump(
    core: Arc<Core>,
    stored: blobs::handle::Stored,
    values: Bytes,
    bytes: Option<ByteStream<ReadError>>,
    queue: mpsc::Sender<Result<wire::ReadReply, Status>>,
) {
    let header = Header { size: stored.size, copy: stored.copy, values_bytes: values.len() as u64 };
    if !send(&queue, Ok(Part::Header(header).into())).await || !send_all(&queue, values, Part::Values).await {
        return;
    }
    let Some(mut bytes) = bytes else { return };
    while let Some(piece) = bytes.next().await {
        match piece {
            Ok(piece) => {
                if !send_all(&queue, piece, Part::Data).await {
                    return;
                }
            }
            Err(failure) => {
                core.heal(stored, &failure).await;
                send(&queue, Err(failed(&failure))).await;
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl Blobs for Server {
    type ReadStream = Replies<wire::ReadReply>;
    type ReadManyStream = Replies<wire::ReadManyReply>;

    async fn read(&self, request: Request<wire::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = ReadRequest::try_from(request.into_inner()).map_err(|error| invalid(&error))?;
        let stored = self.copy(&request.digest)?;
        let slot = self.slot()?;
        if request.end > stored.size {
            return Err(Status::out_of_range(format!("blob has {} bytes", stored.size)));
        }
        let values = if request.with_values { self.core.blobs.group_values(stored).await } else { Ok(Bytes::new()) };
        let range = ByteRange { start: request.start, end: request.end };
        let opened = match values {
            Ok(values) if range.start == range.end => Ok((values, None)),
            Ok(values) => self.core.blobs.read(stored, range).await.map(|bytes| (values, Some(bytes))),
            Err(failure) => Err(failure),
        };
        let (values, bytes) = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                self.core.heal(stored, &failure).await;
                return Err(failed(&failure));
            }
        };
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
        let core = self.core.clone();
        let tasks = core.tasks.clone();
        tasks.spawn(TaskKind::Transfer, "serve blob", async move {
            let token = core.tasks.token();
            tokio::select! {
                () = token.cancelled() => {}
                () = pump(core, stored, values, bytes, sender) => {}
            }
            drop(slot);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn read_many(
        &self,
        request: Request<wire::ReadManyRequest>,
    ) -> Result<Response<Self::ReadManyStream>, Status> {
        let wire::ReadManyRequest { digests } = request.into_inner();
        let digests = ours::digests(&digests).map_err(|error| invalid(&error))?;
        let slot = self.slot()?;
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
        let server = Server { core: self.core.clone() };
        self.core.tasks.spawn(TaskKind::Transfer, "serve small blobs", async move {
            for digest in digests {
                let small = tokio::select! {
                    () = server.core.tasks.cancelled() => break,
                    small = server.small(&digest) => small,
                };
                if !send(&sender, Ok(SmallReply { digest, small }.into())).await {
                    break;
                }
            }
            drop(slot);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn urge(&self, request: Request<wire::UrgeRequest>) -> Result<Response<wire::UrgeReply>, Status> {
        let wire::UrgeRequest { digests } = request.into_inner();
        let digests = ours::digests(&digests).map_err(|error| invalid(&error))?;
        let mut reply = wire::UrgeReply { received_bytes: 0, held: 0 };
        let mut missing = Vec::new();
        for digest in &digests {
            let (facts, _) = self.core.facts(digest).map_err(|error| Status::unavailable(error.to_string()))?;
            if facts.copy_here.is_some() {
                reply.held += 1;
                continue;
            }
            missing.push(*digest);
            if let Some(flight) = self.core.flights.get(digest) {
                reply.received_bytes = reply.received_bytes.saturating_add(flight.written());
            }
        }
        self.core.urge(&missing);
        Ok(Response::new(reply))
    }
}
