//! Requests that the HTTP library refuses by itself, before any handler sees them: heads that are too large or garbled.
//!
//! Its answers have no body. They are replaced on their way out, for clients are promised the same shape of error
//! wherever it comes from. They are told apart by when they are written: while no answer of a handler is under way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::error::{Code, Failure};

/// What is still taken of a refused request, and for how long: closed earlier, a connection is reset under the answer.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Whether handlers' answers are under way on a connection.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    open: AtomicUsize,
    /// Every byte of every handler's answer was written.
    quiet: AtomicBool,
}

/// A request that handlers work on, until its answer's body is dropped.
#[derive(Debug)]
pub(super) struct Open {
    state: Arc<State>,
}

impl Answers {
    pub(super) fn new() -> Self {
        Answers { state: Arc::new(State { open: AtomicUsize::new(0), quiet: AtomicBool::new(true) }) }
    }

    pub(super) fn open(&self) -> Open {
        self.state.open.fetch_add(1, Ordering::Relaxed);
        self.state.quiet.store(false, Ordering::Relaxed);
        Open { state: self.state.clone() }
    }

    fn is_quiet(&self) -> bool {
        self.state.quiet.load(Ordering::Relaxed)
    }

    /// The library flushes a connection once it has written what it had.
    fn flushed(&self) {
        if self.state.open.load(Ordering::Relaxed) == 0 {
            self.state.quiet.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is written in place of the library's answer.
struct Instead {
    bytes: Vec<u8>,
    sent: usize,
    /// Length of the library's answer.
    of: usize,
    closed: bool,
    drained: usize,
    late: Pin<Box<Sleep>>,
}

impl Instead {
    fn of(answer: &[u8], is_head: bool) -> Option<Self> {
        let mut bytes = rewrite(answer)?;
        if is_head && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            // An answer to HEAD has a length and no body.
            bytes.truncate(end + 4);
        }
        let late = Box::pin(tokio::time::sleep(DRAIN_MAX));
        Some(Instead { bytes, sent: 0, of: answer.len(), closed: false, drained: 0, late })
    }

    /// Ready with the length of the library's answer.
    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        if !self.closed {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
            self.closed = true;
        }
        while self.drained < DRAIN_BYTES_MAX && self.late.as_mut().poll(context).is_pending() {
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.drained += buffer.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(self.of))
    }
}

/// The same answer with an error of the registry in it; `None` for what is no answer of the library's own.
fn rewrite(answer: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(answer).ok()?.strip_suffix("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?.get(..3)?;
    let status = StatusCode::from_bytes(code.as_bytes()).ok().filter(StatusCode::is_client_error)?;
    let message = match status {
        StatusCode::URI_TOO_LONG => "the URL is longer than any of this registry",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "the request's head has more than 64 KiB or 100 lines, or announces a body longer than any"
        }
        _ => "this is no request of HTTP/1.1",
    };
    let (headers, body) = Failure::new(status, Code::Unsupported, message).into_parts();
    let kept = head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
    let mut bytes = Vec::new();
    for line in kept {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    for (name, value) in &headers {
        bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.as_bytes());
    Some(bytes)
}

/// A connection on which the library's own refusals are replaced.
pub(super) struct Spoken<S> {
    stream: S,
    answers: Answers,
    instead: Option<Instead>,
    /// Something was written since the last flush.
    has_written: bool,
    /// The next bytes that come begin a request.
    is_between: bool,
    /// The request being read begins as HEAD does.
    is_head: bool,
}

impl<S> Spoken<S> {
    pub(super) fn new(stream: S, answers: Answers) -> Self {
        Spoken { stream, answers, instead: None, has_written: false, is_between: true, is_head: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Spoken<S> {
    /// Writes what stands in place of `bytes`; `None` when nothing does.
    fn replaced(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.instead.is_none() && self.answers.is_quiet() {
            self.instead = Instead::of(bytes, self.is_head);
        }
        let written = self.instead.as_mut()?.poll(&mut self.stream, context);
        if written.is_ready() {
            self.instead = None;
        }
        Some(written)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Spoken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = &buffer.filled()[before..];
        if self.is_between && !came.is_empty() {
            self.is_between = false;
            self.is_head = came.starts_with(b"HEAD ");
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Spoken<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.replaced(context, bytes) {
            Some(written) => written,
            None => {
                self.has_written = true;
                Pin::new(&mut self.stream).poll_write(context, bytes)
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.answers.is_quiet() {
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            if let Some(written) = self.replaced(context, &bytes) {
                return written;
            }
        }
        self.has_written = true;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.answers.flushed();
            self.is_between |= std::mem::take(&mut self.has_written) && self.answers.is_quiet();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_refusal_is_replaced() {
        let answer = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let text = String::from_utf8(rewrite(answer).expect("replaced")).expect("text");
        assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"), "{text}");
        assert!(text.contains("\r\ndocker-distribution-api-version: registry/2.0\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("content-length: {}", body.len())) && !head.contains("length: 0"), "{text}");
        assert!(body.starts_with(r#"{"errors":[{"code":"UNSUPPORTED""#), "{body}");
        for other in [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 400 Bad\r\n", b"x"]
        {
            assert!(rewrite(other).is_none());
        }
    }

    #[test]
    fn an_answer_under_way_is_let_through() {
        let answers = Answers::new();
        assert!(answers.is_quiet());
        let open = answers.open();
        answers.flushed();
        assert!(!answers.is_quiet(), "its body is not through");
        drop(open);
        assert!(!answers.is_quiet(), "it may wait to be written");
        answers.flushed();
        assert!(answers.is_quiet());
    }
}
