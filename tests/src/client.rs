//! A raw HTTP/1 client with honest outcomes: what was answered, what was certainly not sent, what may have happened.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::content::{Content, Sha256};

/// How long an answer may take, unless a request says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Nothing was sent: it certainly did not happen.
    NotSent(String),
    /// Something was sent, no answer came: it may have happened.
    Unknown(String),
}

/// A body to send.
#[derive(Clone, Debug, Default)]
pub enum Payload {
    /// `Content-Length: 0`.
    #[default]
    Empty,
    /// With its length.
    Given(Bytes),
    /// With its length, made as it is sent.
    Generated(Content),
    /// In chunked coding, without a length.
    Chunked(Bytes),
}

/// A request before it is sent.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers beside `Host` and the length.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub payload: Payload,
    /// Until the answer's head.
    pub deadline: Duration,
}

impl Ask {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Ask {
        Ask { method, path: path.into(), headers: Vec::new(), payload: Payload::Empty, deadline: DEADLINE }
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Ask {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a body.
    pub fn payload(mut self, payload: Payload) -> Ask {
        self.payload = payload;
        self
    }

    /// With another deadline.
    pub fn within(mut self, deadline: Duration) -> Ask {
        self.deadline = deadline;
        self
    }
}

/// An answer whose body is read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// A header as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// Whether the answer says that it may be stale.
    pub fn is_marked_stale(&self) -> bool {
        self.headers.get_all("warning").iter().any(|value| String::from_utf8_lossy(value.as_bytes()).contains("stale"))
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first error code of an OCI error body; empty when there is none.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What a body turned out to be, without keeping it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// Bytes that came.
    pub len: u64,
    /// `sha256:…` of them.
    pub sha256: String,
    /// Whether the body ended as announced.
    pub is_complete: bool,
}

/// An answer whose body is still to be read.
pub struct Open {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
    sender: SendRequest<Sent>,
    idle: Idle,
}

impl Open {
    /// A header as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Some(Ok(bytes));
                    }
                }
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }

    /// Reads to the end; a body that breaks off is a failure.
    pub async fn whole(mut self) -> Result<Answer, Failure> {
        let mut body = BytesMut::new();
        while let Some(next) = self.next().await {
            body.extend_from_slice(&next.map_err(Failure::Unknown)?);
        }
        let answer = Answer { status: self.status, headers: std::mem::take(&mut self.headers), body: body.freeze() };
        self.give_back();
        Ok(answer)
    }

    /// Reads to the end and keeps the hash only.
    pub async fn hashed(mut self) -> Hashed {
        let mut hasher = Sha256::default();
        let mut len = 0;
        let mut is_complete = true;
        while let Some(next) = self.next().await {
            let Ok(bytes) = next else {
                is_complete = false;
                break;
            };
            hasher.update(&bytes);
            len += bytes.len() as u64;
        }
        // Aborted bodies are also told by a length that was announced and not reached.
        if let Ok(announced) = self.header("content-length").parse::<u64>() {
            is_complete &= announced == len;
        }
        if is_complete {
            self.give_back();
        }
        Hashed { len, sha256: hasher.finish(), is_complete }
    }

    fn give_back(self) {
        lock(&self.idle).push(self.sender);
    }
}

type Sent = Sending;
type Idle = Arc<Mutex<Vec<SendRequest<Sent>>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Speaks to one address. Cheap to clone; connections are kept and shared.
#[derive(Clone)]
pub struct Client {
    address: String,
    idle: Idle,
    drivers: Arc<Mutex<JoinSet<()>>>,
}

impl Client {
    /// A client of `address` (`host:port`).
    pub fn new(address: impl Into<String>) -> Client {
        Client { address: address.into(), idle: Arc::default(), drivers: Arc::default() }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends and reads the whole answer.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Failure> {
        let deadline = ask.deadline;
        match tokio::time::timeout(deadline, async { self.open(ask).await?.whole().await }).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::Unknown(format!("no whole answer within {deadline:?}"))),
        }
    }

    /// Sends and gives the answer as soon as its head is there.
    pub async fn open(&self, ask: Ask) -> Result<Open, Failure> {
        let body = Sending::from(ask.payload.clone());
        self.open_with(ask, body).await
    }

    /// Sends a body piece by piece, as the caller makes it, in chunked coding.
    pub async fn open_stream(
        &self,
        ask: Ask,
        pieces: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Open, Failure> {
        self.open_with(ask, Sending::streamed(pieces)).await
    }

    async fn open_with(&self, ask: Ask, body: Sending) -> Result<Open, Failure> {
        let has_body_usually = [Method::POST, Method::PUT, Method::PATCH].contains(&ask.method);
        let mut request = Request::builder().method(ask.method).uri(&ask.path);
        let headers = request.headers_mut().ok_or_else(|| Failure::NotSent(format!("bad path {}", ask.path)))?;
        if has_body_usually && matches!(ask.payload, Payload::Empty) && matches!(body, Sending::Whole(None)) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        headers.insert(HOST, HeaderValue::from_str(&self.address).expect("an address is a header value"));
        for (name, value) in &ask.headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("tests name headers well");
            headers.append(name, HeaderValue::from_str(value).expect("tests write header values well"));
        }
        let request = request.body(body).map_err(|error| Failure::NotSent(error.to_string()))?;
        let exchange = async {
            let mut sender = self.connection().await?;
            let answer = sender.send_request(request).await.map_err(|error| outcome(&error))?;
            let (head, body) = answer.into_parts();
            Ok(Open { status: head.status, headers: head.headers, body, sender, idle: self.idle.clone() })
        };
        match tokio::time::timeout(ask.deadline, exchange).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::Unknown(format!("no answer within {:?}", ask.deadline))),
        }
    }

    async fn connection(&self) -> Result<SendRequest<Sent>, Failure> {
        loop {
            let Some(mut kept) = lock(&self.idle).pop() else { break };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let not_sent = |error: &dyn std::fmt::Display| Failure::NotSent(format!("{}: {error}", self.address));
        let stream = TcpStream::connect(&self.address).await.map_err(|error| not_sent(&error))?;
        stream.set_nodelay(true).map_err(|error| not_sent(&error))?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| not_sent(&error))?;
        let mut drivers = lock(&self.drivers);
        while drivers.try_join_next().is_some() {}
        drivers.spawn(async move {
            // What ends a connection is told to the request that runs on it.
            driver.await.ok();
        });
        Ok(sender)
    }
}

fn outcome(error: &hyper::Error) -> Failure {
    if error.is_canceled() { Failure::NotSent(error.to_string()) } else { Failure::Unknown(error.to_string()) }
}

/// A body on its way out.
pub enum Sending {
    /// Pieces of known length.
    Sized {
        /// What is sent.
        content: Content,
        /// The next piece.
        next: u64,
    },
    /// One piece; none when empty.
    Whole(Option<Bytes>),
    /// Pieces without a length.
    Streamed(StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>),
}

impl Sending {
    fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Sending {
        Sending::Streamed(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece))).boxed()))
    }
}

impl From<Payload> for Sending {
    fn from(payload: Payload) -> Sending {
        match payload {
            Payload::Empty => Sending::Whole(None),
            Payload::Given(bytes) => Sending::Whole(Some(bytes)),
            Payload::Generated(content) => Sending::Sized { content, next: 0 },
            Payload::Chunked(bytes) => Sending::streamed(futures_util::stream::iter([bytes])),
        }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Sending::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Sending::Sized { content, next } => {
                let piece = content.piece(*next);
                *next += 1;
                Poll::Ready((!piece.is_empty()).then_some(Ok(Frame::data(piece))))
            }
            Sending::Streamed(stream) => Pin::new(stream).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Sending::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Sending::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Sending::Sized { content, .. } => SizeHint::with_exact(content.len()),
            Sending::Streamed(_) => SizeHint::default(),
        }
    }
}
