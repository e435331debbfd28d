//! A plain HTTP client: one connection a request, nothing retried, nothing hidden.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use runtime::{TaskKind, Tasks};

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(60);

type Out = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) asked: String,
}

/// A request in the making.
pub(crate) struct Asking {
    door: SocketAddr,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Out,
    tasks: Tasks,
}

impl Asking {
    pub(crate) fn new(door: SocketAddr, method: &str, path: &str, tasks: Tasks) -> Self {
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Asking { door, method, path: path.to_owned(), headers: Vec::new(), body, tasks }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A body with `Content-Length`.
    pub(crate) fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Full::new(bytes.into()).map_err(|never| match never {}).boxed();
        self
    }

    /// A body in chunked coding.
    pub(crate) fn chunked(mut self, bytes: impl Into<Bytes>) -> Self {
        let bytes: Bytes = bytes.into();
        let pieces: Vec<Bytes> = bytes.chunks(100_000).map(Bytes::copy_from_slice).collect();
        let frames = futures_util::stream::iter(pieces).map(|piece| Ok(Frame::data(piece)));
        self.body = BodyExt::boxed(StreamBody::new(frames));
        self
    }

    /// A body whose connection breaks after these bytes, `announced` having been promised.
    pub(crate) fn broken(mut self, bytes: impl Into<Bytes>, announced: usize) -> Self {
        let frames: Vec<Result<Frame<Bytes>, std::io::Error>> =
            vec![Ok(Frame::data(bytes.into())), Err(std::io::Error::other("cut"))];
        // The bytes are on their way before the cut.
        let frames = futures_util::stream::iter(frames).then(|frame| async {
            if frame.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            frame
        });
        self.body = BodyExt::boxed(StreamBody::new(frames));
        self.header("content-length", announced.to_string())
    }

    /// Sends it; an error where the connection broke.
    pub(crate) async fn try_send(self) -> Result<Answer, hyper::Error> {
        let asked = format!("{} {} at {}", self.method, self.path, self.door);
        let stream = tokio::net::TcpStream::connect(self.door).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.tasks.spawn(TaskKind::Request, "client", async move {
            // Its end shows in the answer.
            let _ = connection.await;
        });
        let mut request = Request::builder().method(self.method).uri(&self.path).header("host", "example.com");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let sent = sender.send_request(request.body(self.body).unwrap());
        let response = tokio::time::timeout(LIMIT, sent).await.unwrap_or_else(|_| panic!("no answer to {asked}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, asked })
    }

    /// Sends it and wants an answer.
    pub(crate) async fn send(self) -> Answer {
        let asked = format!("{} {}", self.method, self.path);
        self.try_send().await.unwrap_or_else(|error| panic!("{asked}: {error}"))
    }
}

impl Answer {
    /// Wants a status. Every error body is checked on the way.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]).into_owned();
        assert_eq!(self.status, status, "{}: {text}", self.asked);
        assert_eq!(self.header("docker-distribution-api-version"), Some("registry/2.0"), "{}", self.asked);
        assert!(self.headers.contains_key("longshore-region"), "{}", self.asked);
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            assert!(self.headers.contains_key("retry-after"), "{}", self.asked);
        }
        self
    }

    /// Wants an error with a code of the specification, or without a body on HEAD.
    #[track_caller]
    pub(crate) fn error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        if answer.asked.starts_with("HEAD") {
            assert!(answer.body.is_empty(), "{}", answer.asked);
        } else {
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["errors"][0]["code"], code, "{}: {body}", answer.asked);
        }
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    pub(crate) fn has(self, name: &str, value: impl AsRef<str>) -> Self {
        assert_eq!(self.header(name), Some(value.as_ref()), "{name} of {}", self.asked);
        self
    }

    #[track_caller]
    pub(crate) fn is(self, bytes: &[u8]) -> Self {
        assert!(self.body == bytes, "{} bytes of {} are not the {} wanted", self.body.len(), self.asked, bytes.len());
        self
    }

    pub(crate) fn location(&self) -> String {
        let location = self.header("location").unwrap_or_else(|| panic!("no Location: {}", self.asked)).to_owned();
        assert!(location.starts_with("/v2/"), "{location} is not path-absolute");
        location
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}
