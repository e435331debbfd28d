//! Errors as clients see them: status, one of the specification's codes, and a message a person can act on.
//!
//! Every error of the registry's rooms is mapped here, exhaustively and without `_`, so that a new variant does not
//! compile before somebody has decided what clients are told.

use axum::body::Body;
use domain::{Digest, Revision, content_range};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use registry::{ReadFault, WriteFault, blob, listing, manifest, referrers, upload};
use replication::handle::FetchError;
use serde_json::{Value, json};

use super::headers::{self, OUTCOME};

/// Codes of errors. On 4xx only those of the specification; the last two on 5xx.
///
/// Source: OCI distribution-spec, "Error Codes".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Denied,
    Unsupported,
    TooManyRequests,
    Unknown,
    Unavailable,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::Denied => "DENIED",
            Code::Unsupported => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unknown => "UNKNOWN",
            Code::Unavailable => "UNAVAILABLE",
        }
    }
}

/// One entry of an error's body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    message: String,
    detail: Value,
}

/// An answer that is an error.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: Code,
    entries: Vec<Entry>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Seconds after which a client that was told to come back should.
const RETRY_AFTER_S: u16 = 2;
/// The same, where bytes have to travel first.
const RETRY_AFTER_BYTES_S: u16 = 5;

impl Failure {
    pub(super) fn new(status: StatusCode, code: Code, message: impl std::fmt::Display) -> Self {
        let entries = vec![Entry { message: message.to_string(), detail: Value::Null }];
        Failure { status, code, entries, headers: Vec::new() }
    }

    /// 400.
    pub(super) fn bad(code: Code, message: impl std::fmt::Display) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404 of a path that the registry does not have.
    pub(super) fn not_found(path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        Failure::new(StatusCode::NOT_FOUND, Code::Unsupported, format_args!("`{shown}` is no path of the registry"))
    }

    /// 405.
    pub(super) fn wrong_method(method: &Method, allowed: &[Method]) -> Self {
        let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let shown: String = method.as_str().chars().take(20).collect();
        let message = format!("{shown} is not known here, {list} are");
        let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message);
        failure.with(header::ALLOW, &list)
    }

    /// 429.
    pub(super) fn too_many(message: impl std::fmt::Display) -> Self {
        Failure::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, message).retry_after(1)
    }

    /// 412: what is there is not what the client named.
    pub(super) fn precondition(message: impl std::fmt::Display, current: Option<Digest>) -> Self {
        let detail = json!({ "current": current.map(|digest| digest.to_string()) });
        Failure::new(StatusCode::PRECONDITION_FAILED, Code::Denied, message).detail(detail)
    }

    /// 503.
    pub(super) fn unavailable(message: impl std::fmt::Display) -> Self {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message).retry_after(RETRY_AFTER_S)
    }

    /// 500: ours to look into.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %error, "request failed for a reason no client can cause");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, error)
    }

    /// Sets a header; values that cannot be one are left out.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    fn retry_after(self, seconds: u16) -> Self {
        self.with(header::RETRY_AFTER, &seconds.to_string())
    }

    /// Which state says so: what is not there is told from a proved one.
    fn at(self, revision: Revision) -> Self {
        self.with(headers::REVISION, &revision.to_string())
    }

    fn detail(mut self, detail: Value) -> Self {
        for entry in &mut self.entries {
            entry.detail = detail.clone();
        }
        self
    }

    /// The response. On HEAD its body is left out on the way.
    pub(super) fn into_response(self) -> Response<Body> {
        let status = self.status;
        let (headers, body) = self.into_parts();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// The response's headers and body.
    pub(super) fn into_parts(self) -> (HeaderMap, String) {
        let code = self.code.text();
        let entry = |Entry { message, detail }: Entry| json!({ "code": code, "message": message, "detail": detail });
        let errors: Vec<Value> = self.entries.into_iter().map(entry).collect();
        let body = json!({ "errors": errors }).to_string();
        let mut headers: HeaderMap = self.headers.into_iter().collect();
        headers.insert(headers::API_VERSION, headers::API_VERSION_VALUE);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        (headers, body)
    }

    #[cfg(test)]
    fn shape(&self) -> (u16, &'static str, bool) {
        (self.status.as_u16(), self.code.text(), self.headers.iter().any(|(name, _)| name == header::RETRY_AFTER))
    }
}

impl From<ReadFault> for Failure {
    fn from(fault: ReadFault) -> Self {
        match &fault {
            ReadFault::Unavailable(_) => Failure::unavailable(&fault),
            ReadFault::Internal { .. } => Failure::internal(&fault),
        }
    }
}

impl From<WriteFault> for Failure {
    fn from(fault: WriteFault) -> Self {
        match &fault {
            WriteFault::Busy => Failure::too_many(&fault),
            WriteFault::Unavailable(_) => Failure::unavailable(&fault),
            WriteFault::Unknown => {
                Failure::new(StatusCode::GATEWAY_TIMEOUT, Code::Unknown, &fault).with(OUTCOME, "unknown")
            }
            WriteFault::Internal { .. } => Failure::internal(&fault),
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let detail = |digest: &Digest| json!({ "digest": digest.to_string() });
        match &error {
            FetchError::NoHolder { digest } => {
                let message = format!("{error}: no open region has its bytes; push it again to heal it");
                Failure::unavailable(message).detail(detail(digest))
            }
            FetchError::Unreachable { digest, .. } | FetchError::Local { digest, .. } => {
                Failure::unavailable(&error).detail(detail(digest))
            }
        }
    }
}

impl From<blob::ReadError> for Failure {
    fn from(error: blob::ReadError) -> Self {
        match error {
            blob::ReadError::Unknown { digest, revision, .. } => {
                Failure::new(StatusCode::NOT_FOUND, Code::BlobUnknown, &error)
                    .detail(json!({ "digest": digest.to_string() }))
                    .at(revision)
            }
            blob::ReadError::Fetch(error) => error.into(),
            blob::ReadError::Read(fault) => fault.into(),
        }
    }
}

impl From<blob::DeleteError> for Failure {
    fn from(error: blob::DeleteError) -> Self {
        match error {
            blob::DeleteError::Unknown { .. } => Failure::new(StatusCode::NOT_FOUND, Code::BlobUnknown, &error),
            blob::DeleteError::Referenced { .. } => {
                let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, Code::Denied, &error);
                failure.with(header::ALLOW, "GET, HEAD")
            }
            blob::DeleteError::Precondition { current } => Failure::precondition(&error, Some(current)),
            blob::DeleteError::Write(fault) => fault.into(),
            blob::DeleteError::Read(fault) => fault.into(),
        }
    }
}

impl From<upload::Error> for Failure {
    fn from(error: upload::Error) -> Self {
        match error {
            upload::Error::Unknown | upload::Error::Ended { .. } => {
                Failure::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, &error)
            }
            upload::Error::Offset { .. } => {
                Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, &error)
            }
            upload::Error::Body { .. } => Failure::bad(Code::BlobUploadInvalid, &error),
            upload::Error::Length { .. } => Failure::bad(Code::SizeInvalid, &error),
            upload::Error::Digest(ref wrong) => {
                let detail = json!({ "expected": wrong.expected.to_string(), "actual": wrong.actual.to_string() });
                Failure::bad(Code::DigestInvalid, &error).detail(detail)
            }
            upload::Error::TooMany => Failure::too_many(&error),
            upload::Error::Full { .. } | upload::Error::OwnerUnreachable { .. } => Failure::unavailable(&error),
            upload::Error::Storage { .. } => {
                tracing::error!(error = %error, "upload failed");
                Failure::unavailable(&error)
            }
            upload::Error::Write(fault) => fault.into(),
            upload::Error::Read(fault) => fault.into(),
        }
    }
}

impl From<content_range::Error> for Failure {
    fn from(error: content_range::Error) -> Self {
        Failure::bad(Code::BlobUploadInvalid, error)
    }
}

impl From<manifest::GetError> for Failure {
    fn from(error: manifest::GetError) -> Self {
        match error {
            manifest::GetError::UnknownRepository { revision, .. } => {
                Failure::new(StatusCode::NOT_FOUND, Code::NameUnknown, &error).at(revision)
            }
            manifest::GetError::Unknown { ref reference, revision, .. } => {
                Failure::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, &error)
                    .detail(json!({ "reference": reference.to_string() }))
                    .at(revision)
            }
            manifest::GetError::Read(fault) => fault.into(),
        }
    }
}

impl From<manifest::PutError> for Failure {
    fn from(error: manifest::PutError) -> Self {
        match error {
            manifest::PutError::Invalid(error) => error.into(),
            manifest::PutError::Digest { .. } => Failure::bad(Code::DigestInvalid, &error),
            manifest::PutError::Missing { ref repository, ref digests } => {
                let entry = |digest: &Digest| Entry {
                    message: format!("`{digest}` is not in `{repository}`; push it before the manifest that names it"),
                    detail: json!({ "digest": digest.to_string() }),
                };
                let entries = digests.iter().map(entry).collect();
                Failure { entries, ..Failure::bad(Code::ManifestBlobUnknown, "") }
            }
            manifest::PutError::Precondition { current } => Failure::precondition(&error, current),
            manifest::PutError::Immutable { .. } => Failure::new(StatusCode::FORBIDDEN, Code::Denied, &error),
            manifest::PutError::NotDurable { .. } => Failure::unavailable(&error).retry_after(RETRY_AFTER_BYTES_S),
            manifest::PutError::Write(fault) => fault.into(),
            manifest::PutError::Read(fault) => fault.into(),
        }
    }
}

impl From<domain::manifest::Error> for Failure {
    fn from(error: domain::manifest::Error) -> Self {
        use domain::manifest::Error;
        match &error {
            Error::TooLarge { .. } => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ManifestInvalid, &error),
            Error::NoType
            | Error::Type { .. }
            | Error::TypesDiffer { .. }
            | Error::Json { .. }
            | Error::Schema1
            | Error::SchemaVersion { .. }
            | Error::Missing { .. }
            | Error::Ambiguous { .. }
            | Error::TooManyChildren
            | Error::Digest(_) => Failure::bad(Code::ManifestInvalid, &error),
        }
    }
}

impl From<manifest::DeleteError> for Failure {
    fn from(error: manifest::DeleteError) -> Self {
        match error {
            manifest::DeleteError::UnknownRepository { .. } => {
                Failure::new(StatusCode::NOT_FOUND, Code::NameUnknown, &error)
            }
            manifest::DeleteError::Unknown { .. } => Failure::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, &error),
            manifest::DeleteError::Immutable { .. } => Failure::new(StatusCode::FORBIDDEN, Code::Denied, &error),
            manifest::DeleteError::Precondition { current } => Failure::precondition(&error, Some(current)),
            manifest::DeleteError::Write(fault) => fault.into(),
            manifest::DeleteError::Read(fault) => fault.into(),
        }
    }
}

impl From<listing::Error> for Failure {
    fn from(error: listing::Error) -> Self {
        match error {
            listing::Error::UnknownRepository { revision, .. } => {
                Failure::new(StatusCode::NOT_FOUND, Code::NameUnknown, &error).at(revision)
            }
            listing::Error::Read(fault) => fault.into(),
        }
    }
}

impl From<referrers::Error> for Failure {
    fn from(error: referrers::Error) -> Self {
        let referrers::Error(fault) = error;
        fault.into()
    }
}

#[cfg(test)]
#[path = "error_test.rs"]
mod tests;
