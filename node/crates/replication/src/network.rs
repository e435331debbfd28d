//! Asking a peer for bytes: the client side of `blobs.proto`. Every wait has a deadline, by progress.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::{Digest, NodeId, limits};
use metadata::handle::ChannelClass;
use proto::blobs as wire;
use proto::blobs::blobs_client::BlobsClient;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::core::Standing;
use crate::wire::{Part, ReadRequest, SmallReply, digest_to_wire};

/// Why a source did not deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceError {
    /// Nobody answers there, or the connection broke: the fault is the node's.
    Unreachable(String),
    /// The node is well but has no good copy, or sent something else: the fault is this copy's.
    Copy(String),
}

impl SourceError {
    pub(crate) fn detail(&self) -> &str {
        match self {
            SourceError::Unreachable(detail) | SourceError::Copy(detail) => detail,
        }
    }
}

fn from_status(status: &Status) -> SourceError {
    let detail = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::NotFound | Code::DataLoss | Code::InvalidArgument | Code::OutOfRange => SourceError::Copy(detail),
        _ => SourceError::Unreachable(detail),
    }
}

fn late(what: &str, limit: Duration) -> SourceError {
    SourceError::Unreachable(format!("{what} took longer than {} ms", limit.as_millis()))
}

fn malformed(error: &crate::wire::Malformed) -> SourceError {
    SourceError::Copy(error.to_string())
}

fn client(cluster: &dyn Cluster, node: NodeId, class: ChannelClass) -> Result<BlobsClient<Channel>, SourceError> {
    let unknown = || SourceError::Unreachable("node is not known".to_owned());
    let channel = cluster.channel(node, class).ok_or_else(unknown)?;
    Ok(BlobsClient::new(channel).max_decoding_message_size(2 * limits::GROUP_BYTES))
}

/// A running read from a peer.
pub(crate) struct RemoteRead {
    stream: Streaming<wire::ReadReply>,
    progress: Duration,
    /// Group values of the whole blob when they were asked for; not proved yet.
    pub(crate) values: Bytes,
    left_over: Bytes,
}

/// Begins a read; returns once header and group values are here. `size` is what the replicated state says.
pub(crate) async fn read(
    cluster: &dyn Cluster,
    config: &Config,
    (node, class): (NodeId, ChannelClass),
    request: ReadRequest,
    size: u64,
) -> Result<RemoteRead, SourceError> {
    let first = Duration::from_millis(config.first_byte_ms_max);
    let mut client = client(cluster, node, class)?;
    let opening = async {
        let reply = client.read(wire::ReadRequest::from(request)).await.map_err(|status| from_status(&status))?;
        let mut stream = reply.into_inner();
        let header = match next(&mut stream).await? {
            Some(Part::Header(header)) => header,
            _ => return Err(SourceError::Copy("answer does not begin with a header".to_owned())),
        };
        Ok((stream, header))
    };
    let (stream, header) = tokio::time::timeout(first, opening).await.map_err(|_| late("first message", first))??;
    if header.size != size {
        return Err(SourceError::Copy(format!("copy has {} bytes, the blob has {size}", header.size)));
    }
    let expected = if request.with_values { blobs::group_count(size) * 32 } else { 0 };
    if header.values_bytes != expected {
        return Err(SourceError::Copy(format!("{} bytes of group values, {expected} expected", header.values_bytes)));
    }
    let progress = Duration::from_millis(config.progress_ms_max);
    let mut read = RemoteRead { stream, progress, values: Bytes::new(), left_over: Bytes::new() };
    read.values = read.receive_values(expected).await?;
    Ok(read)
}

async fn next(stream: &mut Streaming<wire::ReadReply>) -> Result<Option<Part>, SourceError> {
    match stream.message().await {
        Ok(Some(reply)) => Part::try_from(reply).map(Some).map_err(|error| malformed(&error)),
        Ok(None) => Ok(None),
        Err(status) => Err(from_status(&status)),
    }
}

impl RemoteRead {
    async fn part(&mut self) -> Result<Option<Part>, SourceError> {
        let limit = self.progress;
        tokio::time::timeout(limit, next(&mut self.stream)).await.map_err(|_| late("next message", limit))?
    }

    async fn receive_values(&mut self, expected: u64) -> Result<Bytes, SourceError> {
        let mut values = BytesMut::new();
        while (values.len() as u64) < expected {
            match self.part().await? {
                Some(Part::Values(more)) if (values.len() + more.len()) as u64 <= expected && !more.is_empty() => {
                    values.extend_from_slice(&more);
                }
                _ => return Err(SourceError::Copy("group values ended early".to_owned())),
            }
        }
        Ok(values.freeze())
    }

    /// The next `length` bytes, at most a group; holds no more than that and one message.
    pub(crate) async fn take(&mut self, length: usize) -> Result<Bytes, SourceError> {
        if self.left_over.len() >= length {
            return Ok(self.left_over.split_to(length));
        }
        let mut group = BytesMut::with_capacity(length);
        group.extend_from_slice(&std::mem::take(&mut self.left_over));
        while group.len() < length {
            let mut data = match self.part().await? {
                Some(Part::Data(data)) if !data.is_empty() => data,
                Some(_) => return Err(SourceError::Copy("something else than data in the data".to_owned())),
                None => return Err(SourceError::Unreachable("stream ended early".to_owned())),
            };
            let wanted = data.len().min(length - group.len());
            group.extend_from_slice(&data.split_to(wanted));
            self.left_over = data;
        }
        Ok(group.freeze())
    }
}

/// A running request for several small blobs.
pub(crate) struct RemoteBatch {
    stream: Streaming<wire::ReadManyReply>,
    limit: Duration,
}

/// Asks for several small blobs.
pub(crate) async fn read_many(
    cluster: &dyn Cluster,
    config: &Config,
    node: NodeId,
    digests: &[Digest],
) -> Result<RemoteBatch, SourceError> {
    let first = Duration::from_millis(config.first_byte_ms_max);
    let request = wire::ReadManyRequest { digests: digests.iter().map(digest_to_wire).collect() };
    let mut client = client(cluster, node, ChannelClass::Bulk)?;
    let reply = tokio::time::timeout(first, client.read_many(request))
        .await
        .map_err(|_| late("first message", first))?
        .map_err(|status| from_status(&status))?;
    Ok(RemoteBatch { stream: reply.into_inner(), limit: Duration::from_millis(config.progress_ms_max) })
}

impl RemoteBatch {
    /// The next blob; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<SmallReply>, SourceError> {
        let reply = tokio::time::timeout(self.limit, self.stream.message())
            .await
            .map_err(|_| late("next message", self.limit))?
            .map_err(|status| from_status(&status))?;
        reply.map(|reply| reply.try_into().map_err(|error| malformed(&error))).transpose()
    }
}

/// Tells a node which blobs somebody waits for; answers how far its region is.
pub(crate) async fn urge(
    cluster: &dyn Cluster,
    config: &Config,
    node: NodeId,
    digests: &[Digest],
) -> Result<Standing, SourceError> {
    let limit = Duration::from_millis(config.first_byte_ms_max);
    let request = wire::UrgeRequest { digests: digests.iter().map(digest_to_wire).collect() };
    let mut client = client(cluster, node, ChannelClass::Bulk)?;
    let reply = tokio::time::timeout(limit, client.urge(request))
        .await
        .map_err(|_| late("answer", limit))?
        .map_err(|status| from_status(&status))?;
    let wire::UrgeReply { received_bytes, held, arrived_bytes } = reply.into_inner();
    Ok(Standing { received: received_bytes, held, arrived: arrived_bytes, lacking: Vec::new() })
}
