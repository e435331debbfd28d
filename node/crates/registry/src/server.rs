//! The service behind which this node's sessions are worked on by requests that arrived at other nodes.

use std::time::Duration;

use futures_util::stream;
use proto::sessions::sessions_server::{Sessions as Service, SessionsServer};
use proto::sessions::{BodyPart, SessionReply, SessionRequest, body_part};
use tonic::{Request, Response, Status, Streaming};

use crate::handle::Handle;
use crate::local::Local;
use crate::session_id::SessionId;
use crate::upload::{Body, BodyError, Closing, Error, Sessions};
use crate::wire::{self, Answer, Opening};

/// Longest pause between two parts; the door of the passing node gives up on its client earlier.
const PART_WAIT_MAX: Duration = Duration::from_secs(90);

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
        let broken = |detail: String| Some((Err(BodyError { detail }), None));
        match tokio::time::timeout(PART_WAIT_MAX, parts.message()).await {
            Ok(Ok(Some(BodyPart { part: Some(body_part::Part::Data(data)) }))) => Some((Ok(data), Some(parts))),
            Ok(Ok(Some(BodyPart { part: Some(body_part::Part::End(_)) }))) => None,
            Ok(Ok(Some(_))) => broken("a part of a body came out of place".to_owned()),
            Ok(Ok(None)) => broken("the body ended before its end".to_owned()),
            Ok(Err(status)) => broken(status.message().to_owned()),
            Err(_) => broken("nothing came for too long".to_owned()),
        }
    });
    Ok((opening, Box::pin(body)))
}
