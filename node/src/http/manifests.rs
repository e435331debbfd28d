//! Manifests.

use std::time::Duration;

use axum::body::Body;
use domain::limits::{MANIFEST_BYTES_MAX, TAGS_PER_PUT_MAX};
use domain::query::Query;
use domain::{Reference, RepositoryName, Tag, manifest, reference};
use http::{Method, Response, StatusCode, header};
use registry::manifest::Put;
use tokio::sync::OwnedSemaphorePermit;

use super::Asking;
use super::body::{CollectError, RequestBody};
use super::error::{Code, Failure};
use super::headers;

/// Values of `tag` that are read at all, the same ones again included.
const TAG_VALUES_MAX: usize = 1000;
/// Lines of `OCI-Tag`.
const TAG_LINES_MAX: usize = 32;
/// Longest wait for other manifests to be read first.
const TURN_MAX: Duration = Duration::from_secs(10);
/// Longest time a client may take to send a manifest, however steadily: it holds a part of the door's memory.
const BODY_MAX: Duration = Duration::from_mins(2);

/// `/v2/NAME/manifests/REFERENCE`.
pub(super) async fn serve(
    asking: &Asking,
    name: RepositoryName,
    reference: &str,
    body: RequestBody,
) -> Result<Response<Body>, Failure> {
    let reference = Reference::parse(reference).map_err(|error| match error {
        reference::Error::Digest(error) => Failure::bad(Code::DigestInvalid, error),
        reference::Error::Tag(error) => Failure::bad(Code::ManifestInvalid, error),
    })?;
    match asking.method {
        Method::PUT => put(asking, name, reference, body).await,
        Method::DELETE => delete(asking, name, &reference).await,
        _ => get(asking, name, &reference).await,
    }
}

async fn get(asking: &Asking, name: RepositoryName, reference: &Reference) -> Result<Response<Body>, Failure> {
    let found = asking.registry().manifest(&name, reference, asking.asked, asking.is_head()).await?;
    let tag = format!("\"{}\"", found.digest);
    let response = Response::builder().header(headers::DIGEST, found.digest.to_string()).header(header::ETAG, &tag);
    let response = headers::with_as_of(response, found.as_of, asking.registry().region());
    headers::if_match(&asking.headers, &found.digest)?;
    if headers::if_none_match(&asking.headers, &tag) {
        return headers::not_modified(response);
    }
    let response =
        response.header(header::CONTENT_TYPE, found.media_type).header(header::CONTENT_LENGTH, found.body.len());
    headers::finish(response, if asking.is_head() { Body::empty() } else { Body::from(found.body) })
}

async fn put(
    asking: &Asking,
    name: RepositoryName,
    reference: Reference,
    body: RequestBody,
) -> Result<Response<Body>, Failure> {
    if asking.headers.contains_key(header::CONTENT_RANGE) {
        // RFC 9110 §14.5: taking a part for the whole would store what nobody meant.
        return Err(Failure::bad(Code::ManifestInvalid, "a manifest is put whole, not in ranges"));
    }
    let tags = tags(&reference, &asking.query)?;
    let condition = headers::condition(&asking.headers)?;
    let content_type = asking.headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let content_type = content_type.map(std::borrow::Cow::into_owned);
    let (body, permit) = read(asking, body).await?;
    let location = format!("/v2/{name}/manifests/");
    let put = Put { repository: name, reference, tags, body, content_type, condition, origin: asking.origin() };
    let stored = asking.registry().manifest_put(put).await?;
    drop(permit);
    let mut response = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, format!("{location}{}", stored.digest))
        .header(headers::DIGEST, stored.digest.to_string())
        .header(headers::REVISION, stored.revision.0)
        .header(header::CONTENT_LENGTH, 0);
    if let Some(subject) = stored.subject {
        response = response.header(headers::SUBJECT, subject.to_string());
    }
    for line in tag_lines(&stored.tags) {
        response = response.header(headers::TAG, line);
    }
    headers::finish(response, Body::empty())
}

async fn delete(asking: &Asking, name: RepositoryName, reference: &Reference) -> Result<Response<Body>, Failure> {
    let condition = headers::condition(&asking.headers)?;
    let as_of = asking.registry().manifest_delete(&name, reference, condition, asking.origin()).await?;
    let response = Response::builder().status(StatusCode::ACCEPTED).header(header::CONTENT_LENGTH, 0);
    headers::finish(headers::with_as_of(response, as_of, asking.registry().region()), Body::empty())
}

/// Values of `OCI-Tag`: a line a tag, and lists in those lines where there are many, for common HTTP libraries refuse
/// answers of more than 100 header lines.
fn tag_lines(tags: &[Tag]) -> Vec<String> {
    let join = |tags: &[Tag]| tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", ");
    tags.chunks(tags.len().div_ceil(TAG_LINES_MAX).max(1)).map(join).collect()
}

/// Tags that `?tag=` names, each once. Beside a tag in the path the parameter is ignored.
fn tags(reference: &Reference, query: &Query) -> Result<Vec<Tag>, Failure> {
    let mut tags = Vec::new();
    if matches!(reference, Reference::Tag(_)) {
        return Ok(tags);
    }
    let too_many = || {
        let message = format!("a put may name {TAGS_PER_PUT_MAX} tags");
        Failure::new(StatusCode::URI_TOO_LONG, Code::ManifestInvalid, message)
    };
    for (count, text) in query.all("tag").enumerate() {
        if count == TAG_VALUES_MAX {
            return Err(too_many());
        }
        let tag = Tag::parse(text).map_err(|error| Failure::bad(Code::ManifestInvalid, error))?;
        if tags.contains(&tag) {
            continue;
        }
        if tags.len() == TAGS_PER_PUT_MAX {
            return Err(too_many());
        }
        tags.push(tag);
    }
    Ok(tags)
}

/// Reads the body, with its share of what all manifests being read may take together.
async fn read(asking: &Asking, body: RequestBody) -> Result<(bytes::Bytes, OwnedSemaphorePermit), Failure> {
    let too_large = |given: usize| Failure::from(manifest::Error::TooLarge { given });
    let budget = &asking.door.manifest_bytes;
    let broken = |detail: String| Failure::bad(Code::ManifestInvalid, format_args!("request body broke off: {detail}"));
    match tokio::time::timeout(BODY_MAX, body.collect(MANIFEST_BYTES_MAX, budget, TURN_MAX)).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(CollectError::TooLarge { given })) => Err(too_large(given)),
        Ok(Err(CollectError::Busy)) => Err(Failure::too_many("too many manifests are being pushed at once")),
        Ok(Err(CollectError::Broken(error))) => Err(broken(error.to_string())),
        Err(_) => Err(broken(format!("it did not come within {} s", BODY_MAX.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use domain::Digest;

    use super::*;

    #[test]
    fn tags_are_told_in_a_bounded_number_of_lines() {
        let tags: Vec<Tag> = (0..100).map(|at| Tag::parse(&format!("t{at}")).expect("valid")).collect();
        assert_eq!(tag_lines(&tags[..2]), ["t0", "t1"]);
        assert!(tag_lines(&[]).is_empty());
        let lines = tag_lines(&tags);
        assert!(lines.len() <= TAG_LINES_MAX);
        assert_eq!(lines.join(", ").split(", ").count(), 100);
    }

    #[test]
    fn tags_of_the_query_are_distinct_bounded_and_only_beside_a_digest() {
        let digest = Reference::Digest(Digest::Sha256([0; 32]));
        let read = |reference: &Reference, text: &str| {
            tags(reference, &Query::parse(text)).map(|tags| tags.iter().map(Tag::to_string).collect::<Vec<_>>())
        };
        assert_eq!(read(&digest, "tag=a&tag=b&tag=a").ok(), Some(vec!["a".to_owned(), "b".to_owned()]));
        let tag = Reference::Tag(Tag::parse("t").expect("valid"));
        assert_eq!(read(&tag, "tag=a&tag=.bad").ok(), Some(Vec::new()));
        assert!(read(&digest, "tag=a&tag=.bad").is_err());
        let many = |count: usize| (0..count).map(|at| format!("tag=t{at}")).collect::<Vec<_>>().join("&");
        assert_eq!(read(&digest, &many(TAGS_PER_PUT_MAX)).map(|tags| tags.len()).ok(), Some(TAGS_PER_PUT_MAX));
        let again = format!("{}&tag=t0", many(TAGS_PER_PUT_MAX));
        assert_eq!(read(&digest, &again).map(|tags| tags.len()).ok(), Some(TAGS_PER_PUT_MAX));
        for text in [many(TAGS_PER_PUT_MAX + 1), "tag=a&".repeat(TAG_VALUES_MAX + 1)] {
            let refused = read(&digest, &text).err().map(|failure| failure.into_response().status());
            assert_eq!(refused, Some(StatusCode::URI_TOO_LONG));
        }
    }
}
