//! The listening socket: connections, their limits and their end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use domain::limits::REQUEST_HEAD_BYTES_MAX;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use runtime::{TaskKind, Tasks};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use super::Settings;
use super::body::Guarded;
use super::refused::{Answers, Spoken};

/// Longest time for a request's head, idle time before it included.
const HEAD_MAX: Duration = Duration::from_mins(2);
/// Silence after which the other side's machine is asked whether it is still there, and how often before it counts as
/// gone: within two minutes, also behind address translation that has forgotten the connection.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Pause after a failed accept: it fails again at once while no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves HTTP/1 until `ended`; then takes no more connections, and lets the open ones finish their request.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    settings: Settings,
    ended: CancellationToken,
    tasks: Tasks,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = ended.cancelled() => return Ok(()),
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, routes.clone(), settings.write_stall_max, ended.clone());
                tasks.spawn(TaskKind::Request, "http connection", async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only that one connection failed before it was taken.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Connections of the peer door.
pub fn peers(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(KEEPALIVE_IDLE))
        .with_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .with_keepalive_retries(Some(KEEPALIVE_PROBES))
}

/// Small answers leave at once, and a machine that went away without a word is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

async fn connection(stream: TcpStream, routes: Router, write_stall_max: Duration, ended: CancellationToken) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(error = %error, "connection without nodelay or keepalive");
    }
    let (routes, answers) = (TowerToHyperService::new(routes), Answers::new());
    let stream = Spoken::new(Watched::new(stream, write_stall_max), answers.clone());
    let service = service_fn(move |request| {
        let (open, answered) = (answers.open(), routes.call(request));
        async move { answered.await.map(|response| response.map(|body| Guarded::new(body, open))) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    builder.max_buf_size(REQUEST_HEAD_BYTES_MAX).max_header_size(REQUEST_HEAD_BYTES_MAX);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = ended.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        // Clients close early as they please; that is no event of ours.
        tracing::debug!(error = %error, "connection ended early");
    }
}

/// A connection whose writes fail once the other side has taken nothing for too long.
struct Watched<S> {
    stream: S,
    stall_max: Duration,
    /// Set while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    fn new(stream: S, stall_max: Duration) -> Self {
        Watched { stream, stall_max, stall: None }
    }

    fn watch(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall_max = self.stall_max;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max)));
        let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing for too long"));
        stall.as_mut().poll(context).map(|()| late())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn both_doors_notice_machines_that_went_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (near, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_near, (public, _)) = (near.expect("connected"), accepted.expect("accepted"));
        prepare(&public).expect("options are set");
        let mut incoming = peers(listener);
        let (near, peer) = tokio::join!(TcpStream::connect(address), incoming.next());
        let (_near, peer) = (near.expect("connected"), peer.expect("a stream").expect("accepted"));
        for stream in [&public, &peer] {
            assert!(stream.nodelay().expect("an option"));
            assert!(sockopt::socket_keepalive(stream).expect("an option"));
            assert_eq!(sockopt::tcp_keepidle(stream).expect("an option"), KEEPALIVE_IDLE);
            assert_eq!(sockopt::tcp_keepintvl(stream).expect("an option"), KEEPALIVE_INTERVAL);
            assert_eq!(sockopt::tcp_keepcnt(stream).expect("an option"), KEEPALIVE_PROBES);
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut watched = Watched::new(near, Duration::from_millis(50));
        let error = watched.write_all(b"12345678").await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 4];
        far.read_exact(&mut taken).await.expect("what was written");
        watched.write_all(b"5678").await.expect("there is room again");
        assert!(watched.stall.is_none());
    }
}
