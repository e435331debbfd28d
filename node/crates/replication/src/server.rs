//! The peers' door to our blobs: the server side of `blobs.proto`. Serves only verified local copies.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use blobs::handle::{ByteStream, ReadError, Stored};
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
use crate::core::{Core, Standing, stored};
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
        // The fault is this copy's, not the node's: others may be asked for.
        ReadError::Damaged { .. } | ReadError::Unreadable { .. } => Status::data_loss(failure.to_string()),
        ReadError::NoGroups | ReadError::Storage { .. } => Status::unavailable(failure.to_string()),
    }
}

impl Server {
    /// The copy to serve, by the newest rows here.
    fn copy(&self, digest: &Digest) -> Result<Stored, Status> {
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

    /// Opens a copy for a peer; a newer one where that has just taken its place.
    async fn open(&self, stored: &mut Stored, request: &ReadRequest) -> Result<Opened, ReadError> {
        let opened = open(&self.core, *stored, request).await;
        match opened.as_ref().err().and_then(|failure| self.core.newer(*stored, failure)) {
            Some(newer) => {
                *stored = newer;
                open(&self.core, newer, request).await
            }
            None => opened,
        }
    }

    /// One small blob, whole.
    async fn small(&self, digest: &Digest) -> Small {
        let Ok(mut stored) = self.copy(digest) else { return Small::Absent };
        if stored.size >= SMALL_BLOB_BYTES {
            return Small::Absent;
        }
        if stored.size == 0 {
            return Small::Data(Bytes::new());
        }
        let request = ReadRequest { digest: *digest, start: 0, end: stored.size, with_values: false };
        let mut whole = BytesMut::new();
        let result = match self.open(&mut stored, &request).await {
            Ok((_, bytes)) => collect(bytes, &mut whole).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok(()) => Small::Data(whole.freeze()),
            Err(failure) => {
                self.core.heal(stored, &failure).await;
                match failure {
                    ReadError::Missing => Small::Absent,
                    ReadError::Damaged { .. } | ReadError::Unreadable { .. } => Small::Damaged,
                    ReadError::NoGroups | ReadError::Storage { .. } => Small::Busy,
                }
            }
        }
    }
}

/// Group values, when they were asked for, and bytes, when there are any.
type Opened = (Bytes, Option<ByteStream<ReadError>>);

async fn open(core: &Core, stored: Stored, request: &ReadRequest) -> Result<Opened, ReadError> {
    let ReadRequest { start, end, with_values, .. } = *request;
    let values = if with_values { core.blobs.group_values(stored).await? } else { Bytes::new() };
    let bytes = if start == end { None } else { Some(core.blobs.read(stored, ByteRange { start, end }).await?) };
    Ok((values, bytes))
}

async fn collect(bytes: Option<ByteStream<ReadError>>, whole: &mut BytesMut) -> Result<(), ReadError> {
    let Some(mut bytes) = bytes else { return Ok(()) };
    while let Some(piece) = bytes.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(())
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
    stored: Stored,
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
        let mut stored = self.copy(&request.digest)?;
        let slot = self.slot()?;
        if request.end > stored.size {
            return Err(Status::out_of_range(format!("blob has {} bytes", stored.size)));
        }
        let (values, bytes) = match self.open(&mut stored, &request).await {
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
        let standing = self.core.standing(&digests).map_err(|error| Status::unavailable(error.to_string()))?;
        self.core.urge(&standing.lacking);
        let Standing { received, held, arrived, lacking: _ } = standing;
        Ok(Response::new(wire::UrgeReply { received_bytes: received, held, arrived_bytes: arrived }))
    }
}
