//! Headers of our own, of OCI and of Docker; conditions on entity tags.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use domain::{RegionName, Revision, entity_tag};
use futures_util::stream;
use http::response::Builder;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use registry::{AsOf, Asked, Consistency};

use super::error::{Code, Failure};

pub(super) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
pub(super) const API_VERSION_VALUE: HeaderValue = HeaderValue::from_static("registry/2.0");
pub(super) const REGION: HeaderName = HeaderName::from_static("longshore-region");
pub(super) const NODE: HeaderName = HeaderName::from_static("longshore-node");
pub(super) const REVISION: HeaderName = HeaderName::from_static("longshore-revision");
pub(super) const MIN_REVISION: HeaderName = HeaderName::from_static("longshore-min-revision");
pub(super) const CONSISTENCY: HeaderName = HeaderName::from_static("longshore-consistency");
pub(super) const OUTCOME: HeaderName = HeaderName::from_static("longshore-outcome");
pub(super) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(super) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What a read asks by `Longshore-Consistency` and `Longshore-Min-Revision`.
pub(super) fn asked(headers: &HeaderMap) -> Result<Asked, Failure> {
    let bad = |message: &str| Failure::bad(Code::Unsupported, message);
    let consistency = match headers.get(CONSISTENCY).map(|value| value.as_bytes()) {
        None => None,
        Some(b"strict") => Some(Consistency::Strict),
        Some(b"local") => Some(Consistency::Local),
        Some(_) => return Err(bad("Longshore-Consistency is neither strict nor local")),
    };
    let min_revision = match headers.get(MIN_REVISION) {
        None => None,
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
            Some(Revision(number.ok_or_else(|| bad("Longshore-Min-Revision is not a revision"))?))
        }
    };
    Ok(Asked { consistency, min_revision })
}

/// Says which state an answer reflects, and warns when it may not be the newest.
pub(super) fn with_as_of(response: Builder, as_of: AsOf, region: &RegionName) -> Builder {
    let response = response.header(REVISION, as_of.revision.0);
    if as_of.stale {
        let warning =
            format!("299 - \"stale: {region} cannot confirm with the other regions that this is the newest\"");
        response.header(header::WARNING, warning)
    } else {
        response
    }
}

/// Builds the response. It fails only for header values that were not made of checked text.
pub(super) fn finish(response: Builder, body: Body) -> Result<Response<Body>, Failure> {
    response.body(body).map_err(|error| Failure::internal(&error))
}

/// HTTP 304. Its body has no known length: an empty one would be given `Content-Length: 0`, which is not the length of
/// what the client has. Source: RFC 9110 §8.6.
pub(super) fn not_modified(response: Builder) -> Result<Response<Body>, Failure> {
    let nothing = stream::empty::<Result<Bytes, Infallible>>();
    finish(response.status(StatusCode::NOT_MODIFIED), Body::from_stream(nothing))
}

/// Entity tags of a header, over all its lines; `None` when it is absent.
fn entity_tags<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Vec<&'h str>> {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek()?;
    let texts = lines.filter_map(|line| line.to_str().ok());
    Some(texts.flat_map(entity_tag::list).collect())
}

/// Whether the client has what `tag` (quoted) names. Source: RFC 9110 §13.1.2, weak comparison.
pub(super) fn if_none_match(headers: &HeaderMap, tag: &str) -> bool {
    let same = |text: &str| text == "*" || entity_tag::without_weakness(text) == tag;
    entity_tags(headers, &header::IF_NONE_MATCH).is_some_and(|tags| tags.into_iter().any(same))
}

/// What `If-Match` and `If-None-Match` ask of a put.
pub(super) enum Preconditions {
    /// Nothing.
    None,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match: *`.
    Present,
    /// `If-Match` with entity tags, without their quotes.
    Matches(Vec<String>),
}

/// Reads the preconditions of a put.
pub(super) fn preconditions(headers: &HeaderMap) -> Result<Preconditions, Failure> {
    let bad = |message: &str| Failure::bad(Code::Unsupported, message);
    let (matches, none) = (entity_tags(headers, &header::IF_MATCH), entity_tags(headers, &header::IF_NONE_MATCH));
    match (matches, none) {
        (None, None) => Ok(Preconditions::None),
        (Some(_), Some(_)) => Err(bad("If-Match and If-None-Match cannot be combined")),
        (None, Some(tags)) if tags == ["*"] => Ok(Preconditions::Absent),
        (None, Some(_)) => Err(bad("a put knows If-None-Match: * alone")),
        (Some(tags), None) if tags == ["*"] => Ok(Preconditions::Present),
        (Some(tags), None) => {
            Ok(Preconditions::Matches(tags.into_iter().map(|tag| entity_tag::opaque(tag).to_owned()).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn conditions_are_read_over_all_lines() {
        let none = |values: &[&str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(header::IF_NONE_MATCH, value.parse().expect("a value"));
            }
            if_none_match(&map, "\"d\"")
        };
        assert!(
            none(&["\"d\""])
                && none(&["*"])
                && none(&["W/\"d\""])
                && none(&["\"x\", \"d\""])
                && none(&["\"x\"", "\"d\""])
        );
        assert!(!none(&[]) && !none(&["\"x\""]) && !none(&["d"]) && !none(&["\"a,*,b\""]));
    }

    #[test]
    fn preconditions_of_a_put() {
        let read = |pairs: &[(HeaderName, &str)]| preconditions(&headers(pairs));
        assert!(matches!(read(&[]), Ok(Preconditions::None)));
        assert!(matches!(read(&[(header::IF_NONE_MATCH, "*")]), Ok(Preconditions::Absent)));
        assert!(matches!(read(&[(header::IF_MATCH, "*")]), Ok(Preconditions::Present)));
        let Ok(Preconditions::Matches(tags)) = read(&[(header::IF_MATCH, "\"sha256:a\", sha256:b")]) else {
            panic!("digests")
        };
        assert_eq!(tags, ["sha256:a", "sha256:b"]);
        assert!(read(&[(header::IF_NONE_MATCH, "\"d\"")]).is_err());
        assert!(read(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]).is_err());
    }

    #[test]
    fn reads_say_what_they_need() {
        let read = |pairs: &[(HeaderName, &str)]| asked(&headers(pairs));
        assert_eq!(read(&[]).ok(), Some(Asked::default()));
        let both = read(&[(CONSISTENCY, "local"), (MIN_REVISION, "7")]).ok();
        assert_eq!(both, Some(Asked { consistency: Some(Consistency::Local), min_revision: Some(Revision(7)) }));
        assert!(read(&[(CONSISTENCY, "eventual")]).is_err() && read(&[(MIN_REVISION, "-1")]).is_err());
    }

    #[test]
    fn a_stale_answer_says_so() {
        let region = RegionName::parse("tokyo").expect("valid");
        let of = |stale| {
            let as_of = AsOf { revision: Revision(9), stale };
            finish(with_as_of(Response::builder(), as_of, &region), Body::empty()).expect("a response")
        };
        assert_eq!(of(false).headers().get(REVISION).map(|value| value.as_bytes()), Some(b"9".as_slice()));
        assert!(!of(false).headers().contains_key(header::WARNING));
        let stale = of(true);
        let warning = stale.headers().get(header::WARNING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert!(warning.starts_with("299 - \"stale: tokyo "), "{warning}");
    }
}
