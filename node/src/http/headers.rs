//! Headers of our own, of OCI and of Docker; conditions on entity tags.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use domain::{Digest, RegionName, Revision, entity_tag};
use futures_util::stream;
use http::response::Builder;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use registry::{AsOf, Asked, Condition, Consistency};

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
    Ok(Asked { consistency, min_revision, after: None })
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

/// What `If-Match` asks. Compared strongly: a weak entity tag matches nothing.
///
/// Source: RFC 9110 §13.1.1.
fn matching(headers: &HeaderMap) -> Option<Condition> {
    let tags = entity_tags(headers, &header::IF_MATCH)?;
    if tags.contains(&"*") {
        return Some(Condition::Present);
    }
    let strong = tags.into_iter().filter(|tag| entity_tag::without_weakness(tag) == *tag);
    Some(Condition::Matches(digests(strong)))
}

/// What `If-None-Match` asks of a write. Compared weakly.
fn differing(headers: &HeaderMap) -> Option<Condition> {
    let tags = entity_tags(headers, &header::IF_NONE_MATCH)?;
    if tags.contains(&"*") {
        return Some(Condition::Absent);
    }
    Some(Condition::Differs(digests(tags)))
}

/// What entity tags name. What is no digest names nothing that could be there.
fn digests<'h>(tags: impl IntoIterator<Item = &'h str>) -> Vec<Digest> {
    tags.into_iter().filter_map(|tag| Digest::parse(entity_tag::opaque(tag)).ok()).collect()
}

/// The condition of a write.
pub(super) fn condition(headers: &HeaderMap) -> Result<Option<Condition>, Failure> {
    match (matching(headers), differing(headers)) {
        (Some(_), Some(_)) => Err(Failure::bad(Code::Unsupported, "If-Match and If-None-Match cannot be combined")),
        (matches, differs) => Ok(matches.or(differs)),
    }
}

/// Refuses a read whose client wants something else than what is there. Source: RFC 9110 §13.1.1.
pub(super) fn if_match(headers: &HeaderMap, current: &Digest) -> Result<(), Failure> {
    match matching(headers) {
        Some(condition) if !condition.holds(current) => {
            let message = format!("the precondition does not hold: `{current}` is there now");
            Err(Failure::precondition(message, Some(*current)))
        }
        Some(_) | None => Ok(()),
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
        let (a, b) = (Digest::Sha256([0xaa; 32]), Digest::Sha512([0xbb; 64]));
        let read = |name: HeaderName, lines: &[String]| {
            let mut map = HeaderMap::new();
            for line in lines {
                map.append(name.clone(), line.parse().expect("a value"));
            }
            condition(&map).expect("one of both").expect("a condition")
        };
        let matches = |lines: &[String]| read(header::IF_MATCH, lines);
        let differs = |lines: &[String]| read(header::IF_NONE_MATCH, lines);
        assert_eq!(condition(&HeaderMap::new()).ok(), Some(None));
        assert_eq!((matches(&["*".to_owned()]), differs(&["*".to_owned()])), (Condition::Present, Condition::Absent));
        let lists = [vec![format!("\"{a}\", {b}")], vec![format!("\"{a}\""), format!("\"none\",\"{b}\"")]];
        for lines in lists {
            assert_eq!(matches(&lines), Condition::Matches(vec![a, b]));
            assert_eq!(differs(&lines), Condition::Differs(vec![a, b]));
        }
        assert_eq!(matches(&[format!("\"{a}\""), "*".to_owned()]), Condition::Present);
        // Strong comparison never takes a weak entity tag, weak comparison does.
        let weak = [format!("W/\"{a}\"")];
        assert_eq!((matches(&weak), differs(&weak)), (Condition::Matches(vec![]), Condition::Differs(vec![a])));
        let both = headers(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]);
        assert!(condition(&both).is_err());
    }

    #[test]
    fn a_read_of_something_else_is_refused() {
        let (here, other) = (Digest::Sha256([0xaa; 32]), Digest::Sha256([0xbb; 32]));
        let read = |text: String| if_match(&headers(&[(header::IF_MATCH, &text)]), &here).is_ok();
        assert!(if_match(&HeaderMap::new(), &here).is_ok());
        assert!(read("*".to_owned()) && read(format!("\"{other}\", \"{here}\"")));
        assert!(!read(format!("\"{other}\"")) && !read(format!("W/\"{here}\"")) && !read(String::new()));
    }

    #[test]
    fn reads_say_what_they_need() {
        let read = |pairs: &[(HeaderName, &str)]| asked(&headers(pairs));
        assert_eq!(read(&[]).ok(), Some(Asked::default()));
        let both = read(&[(CONSISTENCY, "local"), (MIN_REVISION, "7")]).ok();
        assert_eq!(
            both,
            Some(Asked { consistency: Some(Consistency::Local), min_revision: Some(Revision(7)), after: None })
        );
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
