//! What a request says of its own frame: the host it is for, and how its body is coded. The HTTP library takes more than
//! HTTP/1.1 allows, and two readers of such a request may see two requests.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};

use super::error::{Code, Failure};

/// Refuses a request whose frame is in doubt; its connection ends with it.
pub(super) fn check(parts: &Parts) -> Result<(), Failure> {
    let checked = host(parts).and_then(|()| coding(&parts.headers));
    checked.map_err(|failure| failure.with(header::CONNECTION, "close"))
}

/// One `Host` that can be one; HTTP/1.0 may do without. Source: RFC 9112 §3.2.
fn host(parts: &Parts) -> Result<(), Failure> {
    let bad = |message: &str| Failure::bad(Code::Unsupported, message);
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, None) if parts.version == Version::HTTP_11 => Err(bad("the request names no Host")),
        (None, None) => Ok(()),
        (Some(host), None) if is_host(host) => Ok(()),
        (Some(_), None) => Err(bad("the request's Host is none")),
        (_, Some(_)) => Err(bad("the request names more than one Host")),
    }
}

/// A host and perhaps a port, by the characters they are made of. Empty where the target has no authority.
/// Source: RFC 3986 §3.2.2.
fn is_host(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}

/// `chunked` alone is undone on the way in. Source: RFC 9112 §6.1.
fn coding(headers: &HeaderMap) -> Result<(), Failure> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_plain = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if is_plain {
        return Ok(());
    }
    let message = "of all transfer codings only chunked is known here, once";
    Err(Failure::new(StatusCode::NOT_IMPLEMENTED, Code::Unsupported, message))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judged(version: Version, lines: &[(&str, &str)]) -> Result<(), StatusCode> {
        let mut request = Request::builder().version(version);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        check(&parts).map_err(|failure| {
            let response = failure.into_response();
            assert_eq!(response.headers()[header::CONNECTION], "close");
            response.status()
        })
    }

    #[test]
    fn a_request_names_one_host() {
        let bad = Err(StatusCode::BAD_REQUEST);
        for host in ["registry.example.com", "127.0.0.1:5000", "[::1]:5000", ""] {
            assert_eq!(judged(Version::HTTP_11, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["a b", "a/b", "a@b", "a\tb"] {
            assert_eq!(judged(Version::HTTP_11, &[("host", host)]), bad, "{host}");
        }
        assert_eq!(judged(Version::HTTP_11, &[]), bad);
        assert_eq!(judged(Version::HTTP_11, &[("host", "a"), ("host", "a")]), bad);
        assert_eq!(judged(Version::HTTP_10, &[]), Ok(()));
    }

    #[test]
    fn bodies_are_chunked_or_as_they_are() {
        let coded = |values: &[&'static str]| {
            let lines: Vec<_> =
                values.iter().map(|value| ("transfer-encoding", *value)).chain([("host", "a")]).collect();
            judged(Version::HTTP_11, &lines)
        };
        assert_eq!((coded(&[]), coded(&["chunked"]), coded(&["Chunked"])), (Ok(()), Ok(()), Ok(())));
        for other in [&["gzip, chunked"][..], &["chunked, chunked"], &["gzip", "chunked"], &["identity"]] {
            assert_eq!(coded(other), Err(StatusCode::NOT_IMPLEMENTED), "{other:?}");
        }
    }
}
