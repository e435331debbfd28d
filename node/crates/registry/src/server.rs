//! The service behind which this node's sessions are worked on by requests that arrived at other nodes.

use std::time::Duration;

use bytes::Bytes;
use domain::limits;
use futures_util::stream;
use proto::sessions::sessions_server::{Sessions as Service, SessionsServer};
use proto::sessions::{BodyPart, Broken, SessionReply, SessionRequest, body_part};
use tonic::{Request, Response, Status, Streaming};

use crate::handle::Handle;
use crate::local::Local;
use crate::session_id::SessionId;
use crate::upload::{Body, BodyError, Closing, Error, Sessions};
use crate::wire::{self, Answer, Opening};

/// Longest pause between two parts: the door of the passing node gives up on its client earlier, and a link that is gone
/// is noticed by its own keepalive.
const PART_WAIT_MAX: Duration = Duration::from_millis(limits::BODY_IDLE_MS_MAX + 60_000);

pub(crate) fn service(handle: Handle) -> SessionsServer<Server> {
    SessionsServer::new(Server { handle })
}

pub(crate) struct Server {
    handle: Handle,
}

impl Server {
    fn local(&self) -> Local {
        Local::new(&self.handle)
    }

    fn id(&self, key: blobs::handle::SessionKey) -> SessionId {
        SessionId { key, node: self.handle.node() }
    }
}

#[tonic::async_trait]
impl Service for Server {
    async fn status(&self, request: Request<SessionRequest>) -> Result<Response<SessionReply>, Status> {
        let (key, repository) = wire::read_session(request.into_inner()).map_err(invalid)?;
        Ok(reply(self.local().status(self.id(key), &repository).await.map(Answer::Offset)))
    }

    async fn cancel(&self, request: Request<SessionRequest>) -> Result<Response<SessionReply>, Status> {
        let (key, repository) = wire::read_session(request.into_inner()).map_err(invalid)?;
        Ok(reply(self.local().cancel(self.id(key), &repository).await.map(Answer::Cancelled)))
    }

    async fn append(&self, request: Request<Streaming<BodyPart>>) -> Result<Response<SessionReply>, Status> {
        let (opening, body) = open(request.into_inner()).await?;
        let id = self.id(opening.session);
        let appended = self.local().append(id, &opening.repository, opening.chunk, body).await;
        Ok(reply(appended.map(Answer::Offset)))
    }

    async fn close(&self, request: Request<Streaming<BodyPart>>) -> Result<Response<SessionReply>, Status> {
        let (opening, body) = open(request.into_inner()).await?;
        let Opening { session, repository, chunk, digest, actor } = opening;
        let digest = digest.ok_or_else(|| invalid(wire::malformed("close without a digest")))?;
        let closing = Closing { digest, chunk, body: Some(body), actor };
        let recorded = self.local().close(self.id(session), &repository, closing).await;
        Ok(reply(recorded.map(Answer::Recorded)))
    }
}

fn reply(answer: Result<Answer, Error>) -> Response<SessionReply> {
    Response::new(wire::write_reply(answer))
}

fn invalid(error: wire::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Reads the first part and makes the rest a body.
async fn open(mut parts: Streaming<BodyPart>) -> Result<(Opening, Body), Status> {
    let first = parts.message().await?.and_then(|part| part.part);
    let Some(body_part::Part::Begin(begin)) = first else {
        return Err(invalid(wire::malformed("body without a beginning")));
    };
    let opening = Opening::try_from(begin).map_err(invalid)?;
    let body = stream::unfold(Some(parts), |parts| async move {
        let mut parts = parts?;
        let came = tokio::time::timeout(PART_WAIT_MAX, parts.message()).await;
        let read = read_part(came.unwrap_or_else(|_| Err(Status::deadline_exceeded("nothing came for too long"))))?;
        let rest = read.is_ok().then_some(parts);
        Some((read, rest))
    });
    Ok((opening, Box::pin(body)))
}

/// The next bytes of a body; `None` at its proper end.
///
/// A stream may end without a word because the node that passes it on gave up, or because the link to it broke: the
/// transport shows both alike, and after both the client is told that nothing was done.
fn read_part(came: Result<Option<BodyPart>, Status>) -> Option<Result<Bytes, BodyError>> {
    let link = |detail: &str| Some(Err(BodyError::of_link(detail)));
    match came {
        Ok(Some(BodyPart { part: Some(body_part::Part::Data(data)) })) => Some(Ok(data)),
        Ok(Some(BodyPart { part: Some(body_part::Part::End(_)) })) => None,
        Ok(Some(BodyPart { part: Some(body_part::Part::Broken(Broken { detail })) })) => {
            Some(Err(BodyError::of_client(detail)))
        }
        Ok(Some(BodyPart { part: Some(body_part::Part::Begin(_)) | None })) => {
            link("a part of a body came out of place")
        }
        Ok(None) => link("the body ended before its end"),
        Err(status) => link(status.message()),
    }
}

#[cfg(test)]
mod tests {
    use blobs::handle::BodyFault;
    use proto::sessions::End;

    use super::*;

    #[test]
    fn only_what_a_client_left_behind_is_kept() {
        let part = |part| Ok(Some(BodyPart { part: Some(part) }));
        let data = read_part(part(body_part::Part::Data(Bytes::from_static(b"ab"))));
        assert!(matches!(data, Some(Ok(bytes)) if bytes == b"ab"[..]));
        assert!(read_part(part(body_part::Part::End(End {}))).is_none());
        let client = read_part(part(body_part::Part::Broken(Broken { detail: "reset".to_owned() })));
        assert_eq!(client, Some(Err(BodyError::of_client("reset"))));
        for broken in [Ok(None), Err(Status::cancelled("reset")), Ok(Some(BodyPart { part: None }))] {
            let Some(Err(error)) = read_part(broken) else { panic!("not an end of a body") };
            assert!(!error.keeps_what_came(), "{error}");
        }
    }
}
