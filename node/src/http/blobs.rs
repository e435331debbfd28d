//! Blobs: whole, in ranges, by head alone; and their removal from a repository.

use axum::body::Body;
use bytes::Bytes;
use domain::range::{Requested, parse_range};
use domain::{ByteRange, Digest, RepositoryName};
use futures_util::{StreamExt, stream};
use http::response::Builder;
use http::{HeaderValue, Method, Response, StatusCode, header};
use registry::blob::{Found, ReadError};

use super::byteranges::{Layout, content_range};
use super::error::{Code, Failure};
use super::{Asking, headers};

/// `/v2/NAME/blobs/DIGEST`.
pub(super) async fn serve(asking: &Asking, name: RepositoryName, digest: &str) -> Result<Response<Body>, Failure> {
    let digest = Digest::parse(digest).map_err(|error| Failure::bad(Code::DigestInvalid, error))?;
    match asking.method {
        Method::DELETE => {
            let condition = headers::condition(&asking.headers)?;
            let as_of = asking.registry().blob_delete(&name, digest, condition, asking.origin()).await?;
            let response = Response::builder().status(StatusCode::ACCEPTED).header(header::CONTENT_LENGTH, 0);
            headers::finish(headers::with_as_of(response, as_of, asking.registry().region()), Body::empty())
        }
        Method::HEAD => head(asking, &name, digest).await,
        _ => get(asking, &name, digest).await,
    }
}

async fn head(asking: &Asking, name: &RepositoryName, digest: Digest) -> Result<Response<Body>, Failure> {
    let found = asking.registry().blob_head(name, digest, asking.asked).await?;
    let response = described(asking, digest, &found);
    headers::if_match(&asking.headers, &digest)?;
    if headers::if_none_match(&asking.headers, &tag(&digest)) {
        return headers::not_modified(response);
    }
    let response = response.header(header::CONTENT_LENGTH, found.row.size);
    headers::finish(response.header(header::CONTENT_TYPE, "application/octet-stream"), Body::empty())
}

async fn get(asking: &Asking, name: &RepositoryName, digest: Digest) -> Result<Response<Body>, Failure> {
    let found = asking.registry().blob_find(name, digest, asking.asked).await?;
    let response = described(asking, digest, &found);
    headers::if_match(&asking.headers, &digest)?;
    if headers::if_none_match(&asking.headers, &tag(&digest)) {
        return headers::not_modified(response);
    }
    let size = found.row.size;
    match requested(asking, &digest, size) {
        Requested::Whole => {
            let response = response.header(header::CONTENT_TYPE, "application/octet-stream");
            whole(asking, response, digest, found).await
        }
        Requested::One(range) => {
            let body = read(asking, digest, &found, range).await?;
            let response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_RANGE, content_range(range, size))
                .header(header::CONTENT_LENGTH, range.bytes());
            headers::finish(response, body)
        }
        Requested::Many(ranges) => match Layout::of(&digest, size, &ranges) {
            Some(layout) => many(asking, response, digest, found, layout).await,
            None => {
                let response = response.header(header::CONTENT_TYPE, "application/octet-stream");
                whole(asking, response, digest, found).await
            }
        },
        Requested::Unsatisfiable => {
            // Not to be kept, so without what says how long the blob may be.
            let response = headers::with_as_of(Response::builder(), found.as_of, asking.registry().region())
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
                .header(header::CONTENT_RANGE, format!("bytes */{size}"))
                .header(header::CONTENT_LENGTH, 0);
            headers::finish(response, Body::empty())
        }
    }
}

/// What `Range` asks for, unless `If-Range` names another blob than this one.
fn requested(asking: &Asking, digest: &Digest, size: u64) -> Requested {
    let Some(range) = asking.headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Requested::Whole;
    };
    match asking.headers.get(header::IF_RANGE) {
        Some(condition) if condition.as_bytes() != tag(digest).as_bytes() => Requested::Whole,
        Some(_) | None => parse_range(range, size),
    }
}

async fn whole(asking: &Asking, response: Builder, digest: Digest, found: Found) -> Result<Response<Body>, Failure> {
    let size = found.row.size;
    let body = match size {
        0 => Body::empty(),
        size => read(asking, digest, &found, ByteRange { start: 0, end: size }).await?,
    };
    headers::finish(response.header(header::CONTENT_LENGTH, size), body)
}

/// Several ranges. The first is opened before the status leaves, so that what cannot be read at all is no broken body.
async fn many(
    asking: &Asking,
    response: Builder,
    digest: Digest,
    found: Found,
    layout: Layout,
) -> Result<Response<Body>, Failure> {
    let response = response
        .status(StatusCode::PARTIAL_CONTENT)
        .header(header::CONTENT_TYPE, layout.content_type())
        .header(header::CONTENT_LENGTH, layout.bytes());
    let registry = asking.registry().clone();
    let mut first = match layout.parts.first() {
        Some((_, range)) => Some(registry.blob_read(digest, found.row.clone(), *range).await?),
        None => None,
    };
    let end = Bytes::from(layout.end);
    let parts = layout.parts.into_iter().map(move |(head, range)| (head, range, first.take()));
    let parts = stream::iter(parts).then(move |(head, range, opened)| {
        let (registry, row) = (registry.clone(), found.row.clone());
        async move {
            let body = match opened {
                Some(body) => body,
                None => match registry.blob_read(digest, row, range).await {
                    Ok(body) => body,
                    Err(ReadError::Fetch(error)) => stream::iter([Err(error)]).boxed(),
                    Err(error @ (ReadError::Unknown { .. } | ReadError::Read(_))) => {
                        let detail = error.to_string();
                        stream::iter([Err(replication::handle::FetchError::Local { digest, detail })]).boxed()
                    }
                },
            };
            stream::iter([Ok(Bytes::from(head))]).chain(body)
        }
    });
    let body = parts.flatten().chain(stream::iter([Ok(end)]));
    headers::finish(response, Body::from_stream(body))
}

async fn read(asking: &Asking, digest: Digest, found: &Found, range: ByteRange) -> Result<Body, Failure> {
    let body = asking.registry().blob_read(digest, found.row.clone(), range).await?;
    Ok(Body::from_stream(body.inspect(move |piece| {
        if let Err(error) = piece {
            // The connection is cut before `Content-Length` is reached; whoever heals the copy logs the damage.
            tracing::warn!(%digest, error = %error, "blob could not be served to its end");
        }
    })))
}

fn tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// What every answer with a blob, or with a part of it, says.
fn described(asking: &Asking, digest: Digest, found: &Found) -> Builder {
    let response = Response::builder()
        .header(headers::DIGEST, digest.to_string())
        .header(header::ETAG, tag(&digest))
        .header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
        .header(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
    headers::with_as_of(response, found.as_of, asking.registry().region())
}
