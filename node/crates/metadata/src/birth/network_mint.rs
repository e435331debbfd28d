//! Asking a member for an id.

use std::time::Duration;

use domain::{ClusterId, Incarnation, NodeId, RegionId, RequestId, Revision};
use proto::raft as pb;
use proto::raft::birth_client::BirthClient;

use super::{Config, Error};
use crate::command::{Command, NewNode, Proposal};
use crate::handle::ChannelClass;
use crate::raft::config::Timing;
use crate::raft::peers;
use crate::wire;

/// Longest wait for a member's answer: a proposal may take 30 s to be resolved.
const ANSWER_MAX: Duration = Duration::from_secs(40);

/// What the cluster made of this node.
pub(crate) struct Minted {
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) node: NodeId,
    pub(crate) region: RegionId,
}

/// Has a member mint this node, or finds the ids of an earlier, unfinished join again.
pub(crate) async fn ask(
    config: &Config,
    member: &str,
    node: &NewNode,
    replace: Option<NodeId>,
) -> Result<Minted, Error> {
    let unavailable = |detail: String| Error::Unavailable { detail: format!("member {member}: {detail}") };
    let endpoint = peers::endpoint(member, ChannelClass::Raft, &Timing::of(config))
        .ok_or_else(|| Error::Refused { detail: format!("`{member}` is not an address of the form host:port") })?;
    let channel = endpoint.connect().await.map_err(|error| {
        unavailable(format!("does not answer ({}); name another member, or see that it runs", root_cause(&error)))
    })?;
    // Id, index, time and region are the member's to fill in.
    let proposal = Proposal {
        request: RequestId::default(),
        as_of: Revision(0),
        wall_ms: 0,
        actor: String::new(),
        region: RegionId(0),
        command: Command::MintNode { node: node.clone(), replace },
    };
    let request = pb::MintRequest { proposal: wire::encode_proposal(&proposal) };
    let reply = tokio::time::timeout(ANSWER_MAX, BirthClient::new(channel).mint(request))
        .await
        .map_err(|_| unavailable("did not answer in time; try again".to_owned()))?
        .map_err(|status| unavailable(in_words(&status)))?
        .into_inner();
    let pb::MintReply { cluster, incarnation, node, region, refused, unavailable: not_now } = reply;
    if !refused.is_empty() {
        return Err(Error::Refused { detail: refused });
    }
    if !not_now.is_empty() {
        return Err(unavailable(not_now));
    }
    let cluster =
        ClusterId::from_slice(&cluster).ok_or_else(|| unavailable("sent a malformed cluster id".to_owned()))?;
    Ok(Minted { cluster, incarnation: Incarnation(incarnation), node: NodeId(node), region: RegionId(region) })
}

/// Why a member gave no answer of its own.
fn in_words(status: &tonic::Status) -> String {
    if status.code() == tonic::Code::Unimplemented {
        return "belongs to no cluster itself".to_owned();
    }
    if std::error::Error::source(status).is_some() || status.message().is_empty() {
        return "ended the connection without an answer: is it the registry's port?".to_owned();
    }
    status.message().to_owned()
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
