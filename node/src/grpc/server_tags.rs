//! Histories of tags, and going back in them.

use std::collections::BTreeMap;

use domain::limits::TAG_HISTORY_MAX;
use domain::{RegionId, Revision, Tag};
use metadata::handle::Origin;
use proto::admin::{
    RollbackTagRequest, RollbackTagResponse, TagHistoryRequest, TagHistoryResponse, TagMove as WireMove,
};
use registry::history::{Past, RolledBack};
use tonic::{Code, Status};

use super::refusal::{from_history, from_state, refuse};
use super::server::parse_repository;
use crate::rooms::Rooms;

pub(super) async fn history(rooms: &Rooms, request: TagHistoryRequest) -> Result<TagHistoryResponse, Status> {
    let TagHistoryRequest { repository, tag, limit } = request;
    let (repository, tag) = (parse_repository(&repository)?, parse_tag(&tag)?);
    let limit = if limit == 0 { TAG_HISTORY_MAX } else { limit as usize };
    let found = rooms.registry.tag_history(&repository, &tag, limit).await;
    let (moves, as_of) = found.map_err(|error| from_history(&error))?;
    let regions = rooms.metadata.local().and_then(|view| view.regions()).map_err(|error| from_state(&error))?;
    let names: BTreeMap<RegionId, String> = regions.into_iter().map(|row| (row.id, row.name.to_string())).collect();
    let show = |Past { step, is_stored }: Past| WireMove {
        revision: step.revision.0,
        digest: step.digest.map(|digest| digest.to_string()).unwrap_or_default(),
        stored: is_stored,
        at_ms: step.at_ms,
        actor: step.actor,
        region: names.get(&step.region).cloned().unwrap_or_else(|| step.region.to_string()),
    };
    Ok(TagHistoryResponse { revision: as_of.revision.0, moves: moves.into_iter().map(show).collect() })
}

pub(super) async fn rollback(
    rooms: &Rooms,
    origin: Origin,
    request: RollbackTagRequest,
) -> Result<RollbackTagResponse, Status> {
    let RollbackTagRequest { repository, tag, to } = request;
    let (repository, tag) = (parse_repository(&repository)?, parse_tag(&tag)?);
    let done = rooms.registry.tag_rollback(&repository, &tag, to.map(Revision), origin).await;
    let RolledBack { from, to, revision } = done.map_err(|error| from_history(&error))?;
    Ok(RollbackTagResponse {
        revision: revision.0,
        from: from.map(|digest| digest.to_string()).unwrap_or_default(),
        to: to.to_string(),
    })
}

fn parse_tag(text: &str) -> Result<Tag, Status> {
    Tag::parse(text).map_err(|error| refuse(Code::InvalidArgument, error.to_string(), "write the tag alone"))
}
