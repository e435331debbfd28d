//! A client for one connection: plain HTTP/1.1, kept alive, opened anew when the server closed it.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::target::Target;
use crate::failure::{Exit, Failure, explain};

/// A request's body.
pub(crate) type Body = BoxBody<Bytes, std::convert::Infallible>;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// No answer for so long is a failure: larger than any bound a registry waits itself.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
/// Most of an answer's text that is shown in an error.
const SHOWN_MAX: usize = 300;

/// One connection to a registry.
pub(crate) struct Client {
    target: Target,
    sender: Option<SendRequest<Body>>,
    /// Drives the connection; ends with the client.
    driver: JoinSet<()>,
}

impl Client {
    pub(crate) fn new(target: Target) -> Self {
        Client { target, sender: None, driver: JoinSet::new() }
    }

    /// Sends a request and returns the answer with its body unread.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<Incoming>, Failure> {
        let target = self.target.clone();
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &target.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| unreachable_target(&target, &error.to_string()))?;
        let sender = self.connected().await?;
        let answer = tokio::time::timeout(ANSWER_DEADLINE, sender.send_request(request)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.sender = None;
                Err(unreachable_target(&target, &format!("the connection broke: {error}")))
            }
            Err(_) => Err(unreachable_target(&target, &format!("no answer within {} s", ANSWER_DEADLINE.as_secs()))),
        }
    }

    /// Sends a request and reads the answer, which must have this status; gives its headers.
    pub(crate) async fn expect(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
        status: StatusCode,
    ) -> Result<http::HeaderMap, Failure> {
        let answer = self.send(method, path, headers, body).await?;
        let (parts, body) = answer.into_parts();
        let text = body.collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        if parts.status != status {
            return Err(self.refused(method, path, parts.status, &text));
        }
        Ok(parts.headers)
    }

    /// Reads a body of a GET that must succeed; `seen` is given every piece.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        mut seen: impl FnMut(&Bytes),
    ) -> Result<u64, Failure> {
        let answer = self.send("GET", path, headers, empty()).await?;
        let (parts, mut body) = answer.into_parts();
        if parts.status != StatusCode::OK {
            let text = body.collect().await.map_err(|error| self.broken(&error))?.to_bytes();
            return Err(self.refused("GET", path, parts.status, &text));
        }
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            if let Some(piece) = frame.data_ref() {
                length += piece.len() as u64;
                seen(piece);
            }
        }
        Ok(length)
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Body>, Failure> {
        let ready = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.sender = Some(self.connect().await?);
        }
        self.sender.as_mut().ok_or_else(|| unreachable_target(&self.target, "the connection closed"))
    }

    async fn connect(&mut self) -> Result<SendRequest<Body>, Failure> {
        let authority = &self.target.authority;
        let stream = match tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(authority)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable_target(&self.target, &explain(&error))),
            Err(_) => return Err(unreachable_target(&self.target, "no connection within 5 s")),
        };
        stream.set_nodelay(true).map_err(|error| unreachable_target(&self.target, &explain(&error)))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable_target(&self.target, &error.to_string()))?;
        self.driver.spawn(async move {
            // Its end shows in the request it breaks.
            let _ended = connection.await;
        });
        Ok(sender)
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        unreachable_target(&self.target, &format!("the answer broke off: {error}"))
    }

    fn refused(&self, method: &str, path: &str, status: StatusCode, text: &[u8]) -> Failure {
        let text = String::from_utf8_lossy(&text[..text.len().min(SHOWN_MAX)]).into_owned();
        let exit = if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            Exit::NotNow
        } else {
            Exit::Failed
        };
        let what = format!("{} answered {status} to {method} {path}", self.target.url());
        Failure::new(exit, what, "look at the registry's log").with_details(vec![text.trim().to_owned()])
    }
}

fn unreachable_target(target: &Target, why: &str) -> Failure {
    let what = format!("{}: {why}", target.url());
    Failure::new(Exit::NotNow, what, "start the registry (`cluster-cli dev` for a local cluster) or name another")
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}

/// A body of several pieces, none of them copied.
pub(crate) fn pieces(pieces: Vec<Bytes>) -> Body {
    let frames = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}
