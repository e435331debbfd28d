//! Upload sessions: begin, append, look, close, cancel; mounts, and whole blobs in one request.

use axum::body::Body;
use domain::content_range::{self, Chunk};
use domain::{Algorithm, Digest, RepositoryName};
use http::response::Builder;
use http::{Method, Response, StatusCode, header};
use registry::upload::{Closing, Error, Mounted, Recorded, Session};

use super::body::RequestBody;
use super::error::{Code, Failure};
use super::{Asking, headers};

/// `POST /v2/NAME/blobs/uploads/`.
pub(super) async fn begin(asking: &Asking, name: RepositoryName, body: RequestBody) -> Result<Response<Body>, Failure> {
    if let Some(algorithm) = asking.query.get("digest-algorithm") {
        // Any supported one may be named at the end, so there is nothing to remember.
        Algorithm::parse(algorithm).map_err(|error| Failure::bad(Code::DigestInvalid, error))?;
    }
    if let Some(text) = asking.query.get("mount") {
        let digest = digest(text)?;
        // A source that no repository can be called is one that does not hold the blob.
        return match asking.query.get("from").map(RepositoryName::parse).transpose() {
            Ok(from) => mount(asking, name, digest, from).await,
            Err(_) => started(asking, &name).await,
        };
    }
    match asking.query.get("digest") {
        Some(text) => {
            let digest = digest(text)?;
            let chunk = chunk(asking, &body)?;
            if chunk.is_some_and(|chunk| chunk.offset != 0) {
                return Err(Failure::bad(Code::BlobUploadInvalid, "a blob that comes in one request begins at byte 0"));
            }
            let closing = Closing { digest, chunk, body: some(body), actor: asking.origin().actor };
            let recorded = asking.registry().upload_whole(&name, closing).await?;
            created(&name, digest, recorded)
        }
        None => started(asking, &name).await,
    }
}

/// `/v2/NAME/blobs/uploads/ID`.
pub(super) async fn serve(
    asking: &Asking,
    name: RepositoryName,
    id: &str,
    body: RequestBody,
) -> Result<Response<Body>, Failure> {
    match asking.method {
        Method::PATCH => {
            let chunk = chunk(asking, &body)?;
            let session = asking.registry().append(&name, id, chunk, Box::pin(body)).await;
            let session = session.map_err(|error| refused(error, &name, id))?;
            headers::finish(session_response(StatusCode::ACCEPTED, &name, &session), Body::empty())
        }
        Method::PUT => close(asking, &name, id, body).await,
        Method::DELETE => {
            asking.registry().cancel_upload(&name, id).await?;
            headers::finish(Response::builder().status(StatusCode::NO_CONTENT), Body::empty())
        }
        _ => {
            let session = asking.registry().upload_status(&name, id).await?;
            headers::finish(session_response(StatusCode::NO_CONTENT, &name, &session), Body::empty())
        }
    }
}

async fn close(asking: &Asking, name: &RepositoryName, id: &str, body: RequestBody) -> Result<Response<Body>, Failure> {
    let text = asking.query.get("digest");
    let digest = digest(text.ok_or_else(|| Failure::bad(Code::DigestInvalid, "the query names no digest"))?)?;
    let chunk = chunk(asking, &body)?;
    let closing = Closing { digest, chunk, body: some(body), actor: asking.origin().actor };
    let recorded = asking.registry().close(name, id, closing).await;
    created(name, digest, recorded.map_err(|error| refused(error, name, id))?)
}

async fn mount(
    asking: &Asking,
    name: RepositoryName,
    digest: Digest,
    from: Option<RepositoryName>,
) -> Result<Response<Body>, Failure> {
    match asking.registry().mount(&name, digest, from, asking.origin()).await? {
        Mounted::Linked(recorded) => created(&name, digest, recorded),
        Mounted::Session(session) => headers::finish(begun(asking, &name, &session), Body::empty()),
    }
}

async fn started(asking: &Asking, name: &RepositoryName) -> Result<Response<Body>, Failure> {
    let session = asking.registry().create_upload(name).await?;
    headers::finish(begun(asking, name, &session), Body::empty())
}

fn begun(asking: &Asking, name: &RepositoryName, session: &Session) -> Builder {
    let response = session_response(StatusCode::ACCEPTED, name, session);
    match asking.door.settings.chunk_bytes_min {
        Some(bytes) => response.header(headers::CHUNK_MIN, bytes),
        None => response,
    }
}

fn digest(text: &str) -> Result<Digest, Failure> {
    Digest::parse(text).map_err(|error| Failure::bad(Code::DigestInvalid, error))
}

fn some(body: RequestBody) -> Option<registry::upload::Body> {
    if body.is_empty() { None } else { Some(Box::pin(body)) }
}

/// `Content-Range`, which must fit `Content-Length` where both are given.
fn chunk(asking: &Asking, body: &RequestBody) -> Result<Option<Chunk>, Failure> {
    let Some(value) = asking.headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let chunk = content_range::parse(value.to_str().unwrap_or_default())?;
    match body.announced() {
        Some(given) if given != chunk.length => Err(Error::Length { expected: chunk.length, given }.into()),
        _ => Ok(Some(chunk)),
    }
}

fn location(name: &RepositoryName, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// `0-LAST`, inclusive; `0-0` for a fresh session too, as is customary.
fn range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// A refusal; one that tells the client where to go on carries what it needs for that.
fn refused(error: Error, name: &RepositoryName, id: &str) -> Failure {
    let offset = match &error {
        Error::Offset { offset } => Some(*offset),
        _ => None,
    };
    let failure = Failure::from(error);
    match offset {
        Some(offset) => failure.with(header::LOCATION, &location(name, id)).with(header::RANGE, &range(offset)),
        None => failure,
    }
}

fn session_response(status: StatusCode, name: &RepositoryName, session: &Session) -> Builder {
    let response = Response::builder().status(status);
    // A 204 has no length by definition; a 202 has an empty body and says so.
    let response = if status == StatusCode::NO_CONTENT { response } else { response.header(header::CONTENT_LENGTH, 0) };
    response
        .header(header::LOCATION, location(name, &session.id))
        .header(header::RANGE, range(session.offset))
        .header(headers::UPLOAD_UUID, &session.uuid)
}

fn created(name: &RepositoryName, digest: Digest, recorded: Recorded) -> Result<Response<Body>, Failure> {
    let response = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{name}/blobs/{digest}"))
        .header(headers::DIGEST, digest.to_string())
        .header(headers::REVISION, recorded.revision.0)
        .header(header::CONTENT_LENGTH, 0);
    headers::finish(response, Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive() {
        assert_eq!([range(0), range(1), range(1024)], ["0-0", "0-0", "0-1023"]);
    }

    #[test]
    fn a_refused_chunk_tells_where_to_go_on() {
        let name = RepositoryName::parse("team/api").expect("valid");
        let response = refused(Error::Offset { offset: 1024 }, &name, "id").into_response();
        assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        let value = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(value(header::LOCATION), Some("/v2/team/api/blobs/uploads/id"));
        assert_eq!(value(header::RANGE), Some("0-1023"));
        let other = refused(Error::Unknown, &name, "id").into_response();
        assert!(!other.headers().contains_key(header::LOCATION));
    }
}
