//! The registry's HTTP door: one file per resource of the distribution specification.
//!
//! Paths are read from the right, requests are turned into calls of [`registry::Handle`], errors into status codes
//! ([`error`]). The door keeps no state but its limits: requests at once, bytes of manifests being read, idle time of
//! bodies. Nothing below `/v2/` is ever compressed, and every answer of known length says so on HEAD too.

mod base;
mod blobs;
mod body;
mod byteranges;
mod catalog;
mod error;
mod framing;
mod headers;
pub mod listen;
mod manifests;
mod paging;
mod referrers;
mod refused;
mod route;
mod tags;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use domain::RepositoryName;
use domain::path::{self, Path, Resource};
use domain::query::Query;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use metadata::handle::Origin;
use registry::{Asked, Handle};
use runtime::Tasks;
use tokio::sync::Semaphore;
use tracing::Instrument;

pub use listen::serve;

use body::{Guarded, RequestBody};
use error::{Code, Failure};

/// Limits of the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections open at once. More wait in the listen queue, where they cost the node nothing.
    pub connections_max: usize,
    /// Requests worked on at once; above it HTTP 429.
    pub requests_max: usize,
    /// Manifests being read at once. Unit: bytes. More wait, briefly, and are then refused with HTTP 429.
    pub manifest_bytes_max: usize,
    /// Longest pause between two pieces of a request's body.
    pub body_idle_max: Duration,
    /// Longest time in which a client takes nothing of an answer: it holds a place among the requests.
    pub write_stall_max: Duration,
    /// `OCI-Chunk-Min-Length`, when one is announced. Smaller chunks are taken all the same.
    pub chunk_bytes_min: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            connections_max: 4096,
            requests_max: 1024,
            manifest_bytes_max: 64 * 1024 * 1024,
            body_idle_max: Duration::from_mins(1),
            write_stall_max: Duration::from_mins(1),
            chunk_bytes_min: None,
        }
    }
}

/// What the door's handlers share.
struct Door {
    registry: Handle,
    settings: Settings,
    tasks: Tasks,
    requests: Arc<Semaphore>,
    manifest_bytes: Arc<Semaphore>,
}

/// A request as the resources see it: what it asks, without its body.
struct Asking {
    door: Arc<Door>,
    method: Method,
    headers: HeaderMap,
    query: Query,
    asked: Asked,
}

impl Asking {
    fn registry(&self) -> &Handle {
        &self.door.registry
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Who asks; nobody is known by name until requests are authenticated.
    fn origin(&self) -> Origin {
        Origin { actor: "anonymous".to_owned() }
    }
}

/// The registry's routes: everything at and below `/v2`.
pub fn router(registry: Handle, settings: Settings, tasks: Tasks) -> Router {
    let door = Arc::new(Door {
        registry,
        settings,
        tasks,
        requests: Arc::new(Semaphore::new(settings.requests_max)),
        manifest_bytes: Arc::new(Semaphore::new(settings.manifest_bytes_max)),
    });
    Router::new().fallback(move |request: Request<Body>| serve_one(door.clone(), request))
}

/// What a node says that has no rooms yet.
pub const NO_ROOMS: &str = "this node does not belong to a cluster yet, or is still opening; retry in a moment";

/// The routes of a node that serves nothing, and why: 503 for the registry, 404 for the rest.
pub fn closed(settings: Settings, tasks: Tasks, why: &str) -> Router {
    let why: Arc<str> = why.into();
    let idle_max = settings.body_idle_max;
    Router::new().fallback(async move |request: Request<Body>| {
        let (parts, body) = request.into_parts();
        // Drained when dropped, so that a client that is still sending gets to see the answer.
        let _body = RequestBody::new(body, &parts.headers, idle_max, tasks);
        let path = parts.uri.path();
        let failure = if path == "/v2" || path.starts_with("/v2/") {
            Failure::unavailable(why.as_ref())
        } else {
            Failure::not_found(path)
        };
        let mut response = failure.into_response();
        mark(&mut response);
        response
    })
}

async fn serve_one(door: Arc<Door>, request: Request<Body>) -> Response<Body> {
    let path: String = request.uri().path().chars().take(300).collect();
    let request_id = runtime::random::request_id();
    let span = tracing::info_span!("request", %request_id, method = %request.method(), path);
    let start = runtime::clock::now();
    async {
        let response = respond(door, request).await;
        let elapsed_ms = runtime::clock::elapsed_ms(start);
        tracing::debug!(status = response.status().as_u16(), elapsed_ms, "request answered");
        response
    }
    .instrument(span)
    .await
}

async fn respond(door: Arc<Door>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    // Made before anything is refused: it is drained when dropped, so that a client that is still sending gets to see
    // the answer.
    let body = RequestBody::new(body, &parts.headers, door.settings.body_idle_max, door.tasks.clone());
    let left = body.left();
    let mut response = match door.requests.clone().try_acquire_owned() {
        Ok(permit) => {
            let response = answer(&door, parts, body).await.unwrap_or_else(Failure::into_response);
            // A body that still streams counts as a request at work.
            response.map(|body| Body::new(Guarded::new(body, permit)))
        }
        Err(_) => Failure::too_many("too many requests are in flight in this region").into_response(),
    };
    mark(&mut response);
    if left.ends_the_connection() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let (region, node) = (door.registry.region().as_str(), door.registry.node().to_string());
    for (name, value) in [(headers::REGION, region), (headers::NODE, node.as_str())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Every answer names the protocol, errors too.
fn mark(response: &mut Response<Body>) {
    response.headers_mut().insert(headers::API_VERSION, headers::API_VERSION_VALUE);
}

async fn answer(door: &Arc<Door>, parts: Parts, body: RequestBody) -> Result<Response<Body>, Failure> {
    framing::check(&parts)?;
    let Some(path) = path::parse(parts.uri.path()) else { return Err(Failure::not_found(parts.uri.path())) };
    let Path { name, resource } = path;
    let allowed = route::methods(&resource);
    if !allowed.contains(&parts.method) {
        return Err(Failure::wrong_method(&parts.method, allowed));
    }
    let asking = Asking {
        door: door.clone(),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        asked: headers::asked(&parts.headers)?,
        method: parts.method,
        headers: parts.headers,
    };
    let name = match name {
        Some(name) => RepositoryName::parse(&name).map_err(|error| Failure::bad(Code::NameInvalid, error)),
        None => Err(Failure::not_found(parts.uri.path())),
    };
    match resource {
        Resource::Base => Ok(base::show()),
        Resource::BaseWithoutSlash => Ok(base::redirect()),
        Resource::Catalog => catalog::list(&asking).await,
        Resource::Tags => tags::list(&asking, name?).await,
        Resource::Manifest(reference) => manifests::serve(&asking, name?, &reference, body).await,
        Resource::Blob(digest) => blobs::serve(&asking, name?, &digest).await,
        Resource::Uploads => uploads::begin(&asking, name?, body).await,
        Resource::Upload(id) => uploads::serve(&asking, name?, &id, body).await,
        Resource::Referrers(digest) => referrers::list(&asking, name?, &digest).await,
    }
}

/// A JSON answer with its length, fingerprint and revision; 304 when the client has it already.
fn json_page(
    asking: &Asking,
    kind: &'static str,
    body: Vec<u8>,
    as_of: registry::AsOf,
    link: Option<String>,
) -> Result<Response<Body>, Failure> {
    let tag = format!("\"{}\"", registry::manifest::fingerprint(&body));
    let mut response = Response::builder().header(header::ETAG, &tag);
    if let Some(link) = link {
        response = response.header(header::LINK, link);
    }
    response = headers::with_as_of(response, as_of, asking.registry().region());
    if headers::if_none_match(&asking.headers, &tag) {
        return headers::not_modified(response);
    }
    let response = response.header(header::CONTENT_TYPE, kind).header(header::CONTENT_LENGTH, body.len());
    headers::finish(response, if asking.is_head() { Body::empty() } else { Body::from(body) })
}
