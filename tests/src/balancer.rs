//! A balancer before several regions that hands every request to the next one, whatever connection it comes on.
//!
//! It passes bodies on as they come, both ways, and an answer as soon as its head is there, also while the request's body
//! is still being sent. It changes nothing but what belongs to a connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

type Answered = Response<Either<Incoming, Full<Bytes>>>;

/// A listening balancer. Ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// Who is told of every request that has got the head of its answer: the region that gave it, and what it was.
pub type Witness = Box<dyn Fn(&str, &Method, &Uri, StatusCode) + Send + Sync>;

/// What its connections share.
struct Shared {
    regions: Vec<String>,
    turn: AtomicUsize,
    witness: Option<Witness>,
    /// Connections to regions.
    drivers: Mutex<JoinSet<()>>,
}

impl Balancer {
    /// Listens on a free loopback port before `regions` (`host:port` of their registries).
    pub async fn listen(regions: Vec<String>) -> Balancer {
        Balancer::listen_on(0, regions, None).await
    }

    /// Listens on this loopback port (0: a free one), and tells `witness` of every request.
    pub async fn listen_on(port: u16, regions: Vec<String>, witness: Option<Witness>) -> Balancer {
        assert!(!regions.is_empty(), "a balancer stands before something");
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the loopback port is free");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared { regions, turn: AtomicUsize::new(0), witness, drivers: Mutex::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    Some(_) = clients.join_next() => continue,
                };
                if let Ok((stream, _)) = accepted {
                    clients.spawn(serve(shared.clone(), stream));
                }
            }
        });
        Balancer { address, _tasks: tasks }
    }

    /// `host:port` that clients use.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.pass_on(request).await) }
    });
    // What breaks is seen by the client, or was its doing.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

impl Shared {
    async fn pass_on(&self, request: Request<Incoming>) -> Answered {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let region = &self.regions[turn % self.regions.len()];
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let mut answer = self.ask(region, request).await.unwrap_or_else(|why| {
            let mut answer = Response::new(Either::Right(Full::from(format!("{region}: {why}"))));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        });
        if let Some(witness) = &self.witness {
            witness(region, &method, &uri, answer.status());
        }
        // A client may still be sending what nobody reads: its connection is not used again.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }

    async fn ask(&self, region: &str, mut request: Request<Incoming>) -> Result<Answered, String> {
        let stream = TcpStream::connect(region).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        {
            let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
            while drivers.try_join_next().is_some() {}
            drivers.spawn(async move {
                driver.await.ok();
            });
        }
        // Both belong to the client's own connection.
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().remove(EXPECT);
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        Ok(answer.map(Either::Left))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::client::{Ask, Client};

    /// Answers every connection with its name.
    async fn named(name: &'static str) -> (String, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback ports are free");
        let address = listener.local_addr().expect("it listens").to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.expect("a request comes");
                assert!(head[..read].ends_with(b"\r\n\r\n"), "a head in one piece");
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                stream.write_all(answer.as_bytes()).await.expect("the balancer listens");
            }
        });
        (address, tasks)
    }

    #[tokio::test]
    async fn every_request_goes_to_the_next_region() {
        let regions = [named("a").await, named("b").await, named("c").await];
        let balancer = Balancer::listen(regions.iter().map(|(address, _)| address.clone()).collect()).await;
        let client = Client::new(balancer.address());
        let mut seen = String::new();
        for _ in 0..7 {
            seen += &client.send(Ask::new(Method::GET, "/")).await.expect("it answers").text();
        }
        assert_eq!(seen, "abcabca");
    }
}
