//! One directed link between two regions: a TCP proxy that can delay, slow down, hold and break what passes.
//!
//! Delay is a queue: bytes leave in order, each `one_way` after it came, so that bandwidth stays what it was. A cut holds
//! every byte and every new connection, as a network does that drops packets: nothing is closed and nothing answers; a heal
//! delivers what was held. A reset closes what is open.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Largest piece that is passed on at once. Unit: bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces a direction of a connection holds: 64 MiB, more than 1 Gbit/s fills in half a second.
const PIECES_MAX: usize = 1024;

/// What a link does at the moment.
#[derive(Clone, Debug, Default)]
struct State {
    target: Option<String>,
    one_way: Duration,
    /// Of each connection and direction. Unit: bytes per second.
    rate_max: Option<u64>,
    cut: bool,
    resets: u64,
}

/// A listening link. Ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free loopback port. Connections wait until there is a target.
    pub async fn listen() -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, seen));
        Ok(Proxy { address, state, _tasks: tasks })
    }

    /// Where to dial instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes connections on to `target` (`host:port`).
    pub fn point_at(&self, target: String) {
        self.state.send_modify(|state| state.target = Some(target));
    }

    /// Delays every byte by `one_way`; a round trip takes twice that.
    pub fn delay(&self, one_way: Duration) {
        self.state.send_modify(|state| state.one_way = one_way);
    }

    /// Lets at most so many bytes a second through each direction of each connection.
    pub fn slow_down(&self, bytes_per_second: u64) {
        self.state.send_modify(|state| state.rate_max = Some(bytes_per_second));
    }

    /// Holds everything from now on.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Delivers what was held, and passes on again.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Closes every open connection.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }
}

async fn accept(listener: TcpListener, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, state.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(near: TcpStream, state: watch::Receiver<State>) {
    let resets = state.borrow().resets;
    let mut watched = state.clone();
    tokio::select! {
        _ = watched.wait_for(|state| state.resets != resets) => {}
        () = pass(near, state) => {}
    }
}

async fn pass(near: TcpStream, mut state: watch::Receiver<State>) {
    // The kernel has shaken hands with the near end already; its round trip is made up for here.
    let (target, one_way) = match state.wait_for(|state| !state.cut && state.target.is_some()).await {
        Ok(open) => (open.target.clone().unwrap_or_default(), open.one_way),
        Err(_) => return,
    };
    tokio::time::sleep(one_way * 2).await;
    let Ok(far) = TcpStream::connect(&target).await else { return };
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // A broken half ends its direction; the other one goes on, as half-closed connections do.
    tokio::join!(direction(near_read, far_write, state.clone()), direction(far_read, near_write, state));
}

/// A piece and when it is due. The end of the stream is an empty piece.
struct Held {
    due: Instant,
    bytes: Bytes,
}

async fn direction(read: OwnedReadHalf, write: OwnedWriteHalf, state: watch::Receiver<State>) {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::join!(take_in(read, sender, state.clone()), give_out(write, receiver, state));
}

async fn take_in(mut read: OwnedReadHalf, sender: mpsc::Sender<Held>, state: watch::Receiver<State>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE_BYTES);
        let came = read.read_buf(&mut buffer).await.unwrap_or(0);
        let due = Instant::now() + state.borrow().one_way;
        if sender.send(Held { due, bytes: buffer.split().freeze() }).await.is_err() || came == 0 {
            return;
        }
    }
}

async fn give_out(mut write: OwnedWriteHalf, mut pieces: mpsc::Receiver<Held>, mut state: watch::Receiver<State>) {
    let mut free_at = Instant::now();
    while let Some(held) = pieces.recv().await {
        let rate_max = state.borrow().rate_max;
        let takes = rate_max.map_or(0.0, |rate| held.bytes.len() as f64 / rate as f64);
        free_at = free_at.max(held.due) + Duration::from_secs_f64(takes);
        tokio::time::sleep_until(free_at).await;
        if state.wait_for(|state| !state.cut).await.is_err() {
            return;
        }
        let done = if held.bytes.is_empty() { write.shutdown().await } else { write.write_all(&held.bytes).await };
        if done.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;
    use tokio::time::{Instant, timeout};

    use super::Proxy;

    /// An echo server and a link to it.
    async fn echo() -> (Proxy, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let target = listener.local_addr().expect("it listens").to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                open.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        let proxy = Proxy::listen().await.expect("a loopback port is free");
        proxy.point_at(target);
        (proxy, tasks)
    }

    async fn say(stream: &mut TcpStream, words: &[u8]) {
        stream.write_all(words).await.expect("the link takes bytes");
    }

    async fn hear(stream: &mut TcpStream, len: usize) -> Vec<u8> {
        let mut heard = vec![0; len];
        stream.read_exact(&mut heard).await.expect("the link gives bytes");
        heard
    }

    #[tokio::test]
    async fn bytes_pass_in_order_and_ends_are_passed_on() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.expect("the link listens");
        let words: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut read, mut write) = stream.split();
        let send = async {
            write.write_all(&words).await.expect("the link takes bytes");
            write.shutdown().await.expect("the link takes the end");
        };
        let mut heard = Vec::new();
        let receive = async { read.read_to_end(&mut heard).await.expect("the end is passed on") };
        tokio::join!(send, receive);
        assert!(heard == words, "echoed bytes differ");
    }

    #[tokio::test]
    async fn delay_takes_a_round_trip_and_keeps_bandwidth() {
        let (proxy, _server) = echo().await;
        proxy.delay(Duration::from_millis(40));
        let mut stream = TcpStream::connect(proxy.address()).await.expect("the link listens");
        say(&mut stream, b"warm").await;
        hear(&mut stream, 4).await;
        let start = Instant::now();
        say(&mut stream, b"ping").await;
        hear(&mut stream, 4).await;
        assert!(start.elapsed() >= Duration::from_millis(80), "a round trip took {:?}", start.elapsed());
        // Four MiB are 64 pieces: were they delayed one after the other, they would take over five seconds.
        let (mut read, mut write) = stream.split();
        let block = vec![7; 4 * 1024 * 1024];
        let mut heard = vec![0; block.len()];
        let both = async { tokio::join!(write.write_all(&block), read.read_exact(&mut heard)) };
        let (sent, received) =
            timeout(Duration::from_secs(4), both).await.expect("delays add up instead of overlapping");
        sent.and(received.map(drop)).expect("the link passes bytes");
    }

    #[tokio::test]
    async fn a_slow_link_takes_its_time_for_bytes() {
        let (proxy, _server) = echo().await;
        proxy.slow_down(1024 * 1024);
        let mut stream = TcpStream::connect(proxy.address()).await.expect("the link listens");
        let start = Instant::now();
        let block = vec![7; 512 * 1024];
        let (mut read, mut write) = stream.split();
        let mut heard = vec![0; block.len()];
        let (sent, received) = tokio::join!(write.write_all(&block), read.read_exact(&mut heard));
        sent.and(received.map(drop)).expect("the link passes bytes");
        assert!(start.elapsed() >= Duration::from_millis(450), "half a second's bytes took {:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_cut_holds_bytes_and_connections_and_a_heal_delivers_them() {
        let (proxy, _server) = echo().await;
        let mut old = TcpStream::connect(proxy.address()).await.expect("the link listens");
        say(&mut old, b"one").await;
        assert_eq!(hear(&mut old, 3).await, b"one");
        proxy.cut();
        say(&mut old, b"two").await;
        let mut new = TcpStream::connect(proxy.address()).await.expect("the kernel accepts");
        say(&mut new, b"new").await;
        let held = timeout(Duration::from_millis(200), hear(&mut old, 3)).await;
        assert!(held.is_err(), "a cut link passed bytes");
        proxy.heal();
        assert_eq!(hear(&mut new, 3).await, b"new");
        assert_eq!(hear(&mut old, 3).await, b"two");
    }

    #[tokio::test]
    async fn a_reset_closes_what_is_open_and_takes_new_connections() {
        let (proxy, _server) = echo().await;
        let mut old = TcpStream::connect(proxy.address()).await.expect("the link listens");
        say(&mut old, b"one").await;
        hear(&mut old, 3).await;
        proxy.reset();
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(5), old.read_to_end(&mut rest)).await.expect("the connection ends");
        assert!(ended.is_err() || rest.is_empty());
        let mut new = TcpStream::connect(proxy.address()).await.expect("the link listens");
        say(&mut new, b"new").await;
        assert_eq!(hear(&mut new, 3).await, b"new");
    }
}
