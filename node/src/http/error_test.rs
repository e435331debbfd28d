use domain::{RegionName, RepositoryName};
use registry::Unavailable;

use super::*;

fn region() -> RegionName {
    RegionName::parse("tokyo").expect("valid")
}

fn repository() -> RepositoryName {
    RepositoryName::parse("team/api").expect("valid")
}

fn digest() -> Digest {
    Digest::Sha256([0xab; 32])
}

fn cut_off() -> Unavailable {
    Unavailable { region: region(), cut_off: true, detail: "no leader".to_owned() }
}

#[track_caller]
fn check(error: impl Into<Failure>, status: u16, code: &str, comes_back: bool) {
    let failure = error.into();
    assert_eq!(failure.shape(), (status, code, comes_back), "{failure:?}");
    assert!((400..500).contains(&status) != (code == "UNKNOWN" || code == "UNAVAILABLE"), "{code} on {status}");
}

#[test]
fn faults_of_reads_and_writes() {
    check(ReadFault::Unavailable(cut_off()), 503, "UNAVAILABLE", true);
    check(ReadFault::Internal { detail: String::new() }, 500, "UNKNOWN", false);
    check(WriteFault::Busy, 429, "TOOMANYREQUESTS", true);
    check(WriteFault::Unavailable(cut_off()), 503, "UNAVAILABLE", true);
    check(WriteFault::Unknown, 504, "UNKNOWN", false);
    check(WriteFault::Internal { detail: String::new() }, 500, "UNKNOWN", false);
    let unknown = Failure::from(WriteFault::Unknown).into_response();
    assert_eq!(unknown.headers().get(OUTCOME).map(HeaderValue::as_bytes), Some(b"unknown".as_slice()));
}

#[test]
fn blobs() {
    let (digest, repository) = (digest(), repository());
    check(
        blob::ReadError::Unknown { digest, repository: repository.clone(), revision: Revision(7) },
        404,
        "BLOB_UNKNOWN",
        false,
    );
    check(blob::ReadError::Fetch(FetchError::NoHolder { digest }), 503, "UNAVAILABLE", true);
    let detail = String::new();
    check(FetchError::Unreachable { digest, detail: detail.clone() }, 503, "UNAVAILABLE", true);
    check(FetchError::Local { digest, detail }, 503, "UNAVAILABLE", true);
    check(blob::ReadError::Read(ReadFault::Unavailable(cut_off())), 503, "UNAVAILABLE", true);
    check(blob::DeleteError::Unknown { digest, repository: repository.clone() }, 404, "BLOB_UNKNOWN", false);
    check(blob::DeleteError::Referenced { digest, repository }, 405, "DENIED", false);
    check(blob::DeleteError::Precondition { current: digest }, 412, "DENIED", false);
    check(blob::DeleteError::Write(WriteFault::Busy), 429, "TOOMANYREQUESTS", true);
}

#[test]
fn uploads() {
    let detail = String::new();
    check(upload::Error::Unknown, 404, "BLOB_UPLOAD_UNKNOWN", false);
    check(upload::Error::Offset { offset: 1 }, 416, "BLOB_UPLOAD_INVALID", false);
    check(upload::Error::Body { detail: detail.clone() }, 400, "BLOB_UPLOAD_INVALID", false);
    check(upload::Error::Length { expected: 1, given: 2 }, 400, "SIZE_INVALID", false);
    check(
        upload::Error::Digest(Box::new(upload::WrongDigest { expected: digest(), actual: digest() })),
        400,
        "DIGEST_INVALID",
        false,
    );
    check(upload::Error::TooMany, 429, "TOOMANYREQUESTS", true);
    check(upload::Error::Full { region: region(), free: 1, reserve: 2 }, 503, "UNAVAILABLE", true);
    check(upload::Error::OwnerUnreachable { region: region(), owner: region() }, 503, "UNAVAILABLE", true);
    check(upload::Error::Storage { detail }, 503, "UNAVAILABLE", true);
    check(upload::Error::Write(WriteFault::Unavailable(cut_off())), 503, "UNAVAILABLE", true);
    check(upload::Error::Read(ReadFault::Unavailable(cut_off())), 503, "UNAVAILABLE", true);
    let bad = content_range::parse("x").expect_err("malformed");
    check(bad, 400, "BLOB_UPLOAD_INVALID", false);
}

#[test]
fn manifests() {
    let (digest, repository) = (digest(), repository());
    let (reference, revision) = (domain::Reference::Digest(digest), Revision(7));
    let unknown = || repository.clone();
    check(manifest::GetError::UnknownRepository { repository: unknown(), revision }, 404, "NAME_UNKNOWN", false);
    let not_there = manifest::GetError::Unknown { repository: unknown(), reference: reference.clone(), revision };
    check(not_there, 404, "MANIFEST_UNKNOWN", false);
    check(manifest::GetError::Read(ReadFault::Unavailable(cut_off())), 503, "UNAVAILABLE", true);
    check(manifest::PutError::Digest { expected: digest, actual: digest }, 400, "DIGEST_INVALID", false);
    check(manifest::PutError::Precondition { current: None }, 412, "DENIED", false);
    let (tag, prefix) = ("v1".to_owned(), "team".to_owned());
    check(manifest::PutError::Immutable { tag: tag.clone(), prefix: prefix.clone() }, 403, "DENIED", false);
    check(manifest::PutError::NotDurable { missing: 1, have: 1, need: 2 }, 503, "UNAVAILABLE", true);
    check(manifest::PutError::Write(WriteFault::Unknown), 504, "UNKNOWN", false);
    check(manifest::PutError::Read(ReadFault::Unavailable(cut_off())), 503, "UNAVAILABLE", true);
    check(manifest::DeleteError::UnknownRepository { repository: unknown() }, 404, "NAME_UNKNOWN", false);
    check(manifest::DeleteError::Unknown { repository: unknown(), reference }, 404, "MANIFEST_UNKNOWN", false);
    check(manifest::DeleteError::Immutable { tag, prefix }, 403, "DENIED", false);
    check(manifest::DeleteError::Precondition { current: digest }, 412, "DENIED", false);
    check(manifest::DeleteError::Write(WriteFault::Busy), 429, "TOOMANYREQUESTS", true);
}

#[test]
fn manifests_that_cannot_be_read() {
    use domain::manifest::Error;
    let text = String::new;
    check(manifest::PutError::Invalid(Error::TooLarge { given: 5 }), 413, "MANIFEST_INVALID", false);
    for error in [
        Error::NoType,
        Error::Type { given: text() },
        Error::TypesDiffer { header: text(), body: text() },
        Error::Json { detail: text() },
        Error::Schema1,
        Error::SchemaVersion { given: text() },
        Error::Missing { media_type: "m", field: "f" },
        Error::Ambiguous { media_type: "m", field: "f" },
        Error::TooManyChildren,
        Error::Digest(domain::digest::Error::Shape { text: text() }),
    ] {
        check(error, 400, "MANIFEST_INVALID", false);
    }
}

#[test]
fn lists() {
    check(
        listing::Error::UnknownRepository { repository: repository(), revision: Revision(7) },
        404,
        "NAME_UNKNOWN",
        false,
    );
    check(listing::Error::Read(ReadFault::Unavailable(cut_off())), 503, "UNAVAILABLE", true);
    check(referrers::Error(ReadFault::Unavailable(cut_off())), 503, "UNAVAILABLE", true);
}

#[test]
fn what_is_not_there_names_the_state_that_says_so() {
    let (digest, repository, revision) = (digest(), repository(), Revision(7));
    let reference = domain::Reference::Digest(digest);
    let failures: [Failure; 4] = [
        blob::ReadError::Unknown { digest, repository: repository.clone(), revision }.into(),
        manifest::GetError::UnknownRepository { repository: repository.clone(), revision }.into(),
        manifest::GetError::Unknown { repository: repository.clone(), reference, revision }.into(),
        listing::Error::UnknownRepository { repository, revision }.into(),
    ];
    for failure in failures {
        let response = failure.into_response();
        assert_eq!(response.headers().get(headers::REVISION).map(HeaderValue::as_bytes), Some(b"7".as_slice()));
    }
}

async fn body(failure: Failure) -> Value {
    let bytes = axum::body::to_bytes(failure.into_response().into_body(), 1 << 20).await.expect("a body");
    serde_json::from_slice(&bytes).expect("json")
}

#[tokio::test]
async fn every_missing_digest_is_named() {
    let digests = vec![Digest::Sha256([1; 32]), Digest::Sha512([2; 64])];
    let error = manifest::PutError::Missing { repository: repository(), digests: digests.clone() };
    check(error.clone(), 400, "MANIFEST_BLOB_UNKNOWN", false);
    let body = body(error.into()).await;
    let named: Vec<&str> =
        body["errors"].as_array().expect("a list").iter().filter_map(|e| e["detail"]["digest"].as_str()).collect();
    assert_eq!(named, digests.iter().map(Digest::to_string).collect::<Vec<_>>());
    assert!(body["errors"].as_array().expect("a list").iter().all(|entry| entry["code"] == "MANIFEST_BLOB_UNKNOWN"));
}

#[tokio::test]
async fn a_region_that_is_cut_off_says_what_to_do() {
    let body = body(WriteFault::Unavailable(cut_off()).into()).await;
    let message = body["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    let expected = "tokyo is cut off from the other regions and cannot accept a push now; pulls work; retry, or push to another region (no leader)";
    assert_eq!(message, expected);
}

#[test]
fn a_wrong_method_names_the_right_ones() {
    let failure = Failure::wrong_method(&Method::PATCH, &[Method::GET, Method::HEAD]);
    assert_eq!(failure.shape(), (405, "UNSUPPORTED", false));
    assert_eq!(
        failure.into_response().headers().get(header::ALLOW).map(HeaderValue::as_bytes),
        Some(b"GET, HEAD".as_slice())
    );
}
