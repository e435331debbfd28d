//! Handing leadership on: whichever node is asked, the leader does it.

use domain::NodeId;
use metadata::handle::{ChannelClass, TransferError};
use proto::admin::admin_client::AdminClient;
use proto::admin::{TransferLeaderRequest, TransferLeaderResponse};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Request, Status};

use super::refusal::{from_transfer, refuse};
use super::server_status::{NODE_DEADLINE, reason};
use crate::rooms::Rooms;

/// Says that a node passes on what it was asked: it is not passed on again.
const PASSED_ON: &str = "longshore-passed-on";

pub(super) fn is_passed_on(metadata: &MetadataMap) -> bool {
    metadata.contains_key(PASSED_ON)
}

/// Hands leadership to `to`, or has the leader do that.
pub(super) async fn transfer(
    rooms: &Rooms,
    to: Option<NodeId>,
    passed_on: bool,
) -> Result<TransferLeaderResponse, Status> {
    match rooms.metadata.transfer_leadership(to).await {
        Ok(node) => Ok(TransferLeaderResponse { leader: node.0 }),
        Err(TransferError::NotLeader(Some(leader))) if !passed_on => pass_on(rooms, leader, to).await,
        Err(error) => Err(from_transfer(&error)),
    }
}

async fn pass_on(rooms: &Rooms, leader: NodeId, to: Option<NodeId>) -> Result<TransferLeaderResponse, Status> {
    let next = "see who leads with `cluster-cli status --verbose`, then run it again";
    let silent = |why: &str| refuse(Code::Unavailable, format!("node {leader} leads and was not reached: {why}"), next);
    let channel = rooms.metadata.channel(leader, ChannelClass::Forward);
    let channel = channel.ok_or_else(|| silent("its address is not known here"))?;
    let mut request = Request::new(TransferLeaderRequest { to: to.map_or(String::new(), |node| node.to_string()) });
    request.metadata_mut().insert(PASSED_ON, AsciiMetadataValue::from_static("1"));
    let limit = rooms.metadata.failover_wait() + NODE_DEADLINE;
    match tokio::time::timeout(limit, AdminClient::new(channel).transfer_leader(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if std::error::Error::source(&status).is_some() => Err(silent(&reason(&status))),
        // The leader's own refusal, with its own words on what to do next.
        Ok(Err(status)) => Err(status),
        Err(_) => Err(silent("it does not answer")),
    }
}
