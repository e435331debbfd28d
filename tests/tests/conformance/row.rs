//! What a row has at hand: repositories of its own, a registry that may be several regions, and words for what it expects.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::balancer::Balancer;
use tests::client::{Answer, Ask, Client, Open, Payload};
use tests::cluster::Cluster;
use tests::content::{sha256, sha512};
use tests::image::{INDEX, MANIFEST};
use tests::registry::with_digest;
use tokio::sync::RwLock;

/// A named row.
pub(crate) type Row = (&'static str, fn(Arc<At>) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// Declares rows: each is a test of its own, named as the table names it.
macro_rules! rows {
    ($($(#[$attribute:meta])* async fn $name:ident($at:ident) $body:block)*) => {
        $($(#[$attribute])* async fn $name($at: std::sync::Arc<$crate::row::At>) $body)*

        pub(crate) fn rows() -> Vec<$crate::row::Row> {
            vec![$((stringify!($name), |at| Box::pin($name(at)))),*]
        }
    };
}
pub(crate) use rows;

/// Repositories under this name store manifests with missing children.
const SPARSE: &str = "sparse";
/// Tags `v*` of repositories under this name never move.
const IMMUTABLE: &str = "immutable";

/// The media type of image configurations.
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A media type of layers.
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Type of blobs on their way in.
pub(crate) const OCTETS: &str = "application/octet-stream";

/// Sets the policies that rows about sparse manifests and immutable tags stand on.
pub(crate) async fn allow_what_rows_need(cluster: &Cluster) {
    let mut admin = cluster.regions[0].admin().await.expect("the first region has an admin door");
    admin.set_sparse(SPARSE, true).await.expect("the policy is set");
    admin.set_immutable_tags(IMMUTABLE, "v*").await.expect("the policy is set");
}

/// A digest algorithm, as the table wants every blob row for both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Algorithm(fn(&[u8]) -> String);

/// Both of them.
pub(crate) const BOTH: [Algorithm; 2] = [Algorithm(sha256), Algorithm(sha512)];

impl Algorithm {
    /// `sha256:…` or `sha512:…`
    pub(crate) fn of(self, bytes: &[u8]) -> String {
        (self.0)(bytes)
    }
}

/// The regions that rows share.
pub(crate) type Shared = Arc<RwLock<Cluster>>;

/// Where a row runs.
pub(crate) struct At {
    registry: Client,
    /// Before the regions; none before one alone.
    _balancer: Option<Balancer>,
    /// Of each region.
    addresses: Vec<String>,
    /// For rows that disturb it.
    pub(crate) cluster: Shared,
    name: String,
    made: AtomicU64,
}

impl At {
    /// For the row `name`.
    pub(crate) async fn new(cluster: Shared, name: &str) -> At {
        let addresses: Vec<String> =
            cluster.read().await.regions.iter().map(|region| region.http.to_string()).collect();
        // Of its own, so that the regions' turns are the same with every run, whatever other rows do meanwhile.
        let balancer = if addresses.len() > 1 { Some(Balancer::listen(addresses.clone()).await) } else { None };
        let address = balancer.as_ref().map_or_else(|| addresses[0].clone(), Balancer::address);
        At {
            registry: Client::new(address),
            _balancer: balancer,
            addresses,
            cluster,
            name: name.replace('_', "-"),
            made: AtomicU64::new(0),
        }
    }

    /// A repository nobody has used.
    pub(crate) fn repository(&self) -> String {
        self.below("rows")
    }

    /// One that takes manifests whose children are missing.
    pub(crate) fn sparse_repository(&self) -> String {
        self.below(SPARSE)
    }

    /// One whose tags `v*` never move.
    pub(crate) fn immutable_repository(&self) -> String {
        self.below(IMMUTABLE)
    }

    fn below(&self, prefix: &str) -> String {
        format!("{prefix}/{}/{}", self.name, self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// Bytes that no other row pushes.
    pub(crate) fn bytes(&self, len: usize) -> Bytes {
        let seed = format!("{} {}", self.name, self.made.fetch_add(1, Ordering::Relaxed));
        let mut bytes = Vec::with_capacity(len + 64);
        let mut block = sha512(seed.as_bytes());
        while bytes.len() < len {
            bytes.extend_from_slice(block.as_bytes());
            block = sha512(block.as_bytes());
        }
        bytes.truncate(len);
        Bytes::from(bytes)
    }

    /// Sends. While nothing is broken no answer may be one that could be stale.
    pub(crate) async fn send(&self, ask: Ask) -> Answer {
        let what = format!("{} {}", ask.method, ask.path);
        let answer = self.registry.send(ask).await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        assert!(!answer.is_marked_stale(), "{what}: {:?}", answer.headers);
        answer
    }

    /// Sends a head and a body that never ends; the answer comes all the same.
    pub(crate) async fn send_endless(&self, ask: Ask, begin: Bytes) -> Answer {
        let what = format!("{} {}", ask.method, ask.path);
        let body = stream::iter([begin]).chain(stream::pending());
        let open = self.registry.open_stream(ask, body).await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        open.whole().await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"))
    }

    /// Sends; the body is left to the caller.
    pub(crate) async fn open(&self, ask: Ask) -> Open {
        let what = format!("{} {}", ask.method, ask.path);
        self.registry.open(ask).await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"))
    }

    /// GET.
    pub(crate) async fn get(&self, path: impl Into<String>) -> Answer {
        self.send(Ask::new(Method::GET, path)).await
    }

    /// HEAD.
    pub(crate) async fn head(&self, path: impl Into<String>) -> Answer {
        self.send(Ask::new(Method::HEAD, path)).await
    }

    /// DELETE.
    pub(crate) async fn delete(&self, path: impl Into<String>) -> Answer {
        self.send(Ask::new(Method::DELETE, path)).await
    }

    /// Opens a session; its location.
    pub(crate) async fn begin(&self, repository: &str) -> String {
        let answer = self.send(Ask::new(Method::POST, uploads(repository))).await.is(202);
        answer.location()
    }

    /// PATCH of a chunk at an offset.
    pub(crate) async fn patch(&self, location: &str, offset: usize, chunk: &[u8]) -> Answer {
        let range = format!("{offset}-{}", offset + chunk.len() - 1);
        let ask = Ask::new(Method::PATCH, location).header("content-range", range).header("content-type", OCTETS);
        self.send(ask.payload(Payload::Given(Bytes::copy_from_slice(chunk)))).await
    }

    /// The closing PUT with a body, perhaps an empty one.
    pub(crate) async fn close(&self, location: &str, digest: &str, body: &[u8]) -> Answer {
        let ask = Ask::new(Method::PUT, with_digest(location, digest)).header("content-type", OCTETS);
        self.send(ask.payload(Payload::Given(Bytes::copy_from_slice(body)))).await
    }

    /// Pushes a blob: POST and PUT.
    pub(crate) async fn push(&self, repository: &str, body: &[u8], algorithm: Algorithm) -> String {
        let digest = algorithm.of(body);
        let location = self.begin(repository).await;
        self.close(&location, &digest, body).await.created(&digest);
        digest
    }

    /// A 201's location gives the bytes back.
    pub(crate) async fn is_at_location(&self, answer: &Answer, bytes: &[u8]) {
        let got = self.get(answer.location()).await.is(200);
        assert_eq!(got.body, bytes, "the Location gives the same bytes");
    }

    /// HEAD says 404.
    pub(crate) async fn is_gone(&self, path: &str) {
        self.head(path).await.is(404);
    }

    /// PUT of a manifest.
    pub(crate) async fn put(&self, repository: &str, reference: &str, kind: &str, body: &[u8]) -> Answer {
        self.send(self.putting(repository, reference, kind, body)).await
    }

    /// The request of it, without a length, as the official suite sends it.
    pub(crate) fn putting(&self, repository: &str, reference: &str, kind: &str, body: &[u8]) -> Ask {
        let ask = Ask::new(Method::PUT, manifest(repository, reference)).header("content-type", kind);
        ask.payload(Payload::Chunked(Bytes::copy_from_slice(body)))
    }

    /// The same at any path.
    pub(crate) fn putting_at(&self, path: &str, kind: &str, body: &[u8]) -> Ask {
        let ask = Ask::new(Method::PUT, path).header("content-type", kind);
        ask.payload(Payload::Given(Bytes::copy_from_slice(body)))
    }

    /// A client that nobody else uses.
    pub(crate) fn one_client(&self) -> Client {
        Client::new(self.registry.address())
    }

    /// A client of the last region, past any balancer.
    pub(crate) fn last_region(&self) -> Client {
        self.client(self.addresses.len() - 1)
    }

    /// A client of each region.
    pub(crate) fn clients(&self) -> Vec<Client> {
        (0..self.addresses.len()).map(|region| self.client(region)).collect()
    }

    /// A client of that region.
    pub(crate) fn client(&self, region: usize) -> Client {
        Client::new(self.addresses[region].clone())
    }

    /// Pushes an image of one layer without a tag; its manifest.
    pub(crate) async fn image(&self, repository: &str, algorithm: Algorithm) -> Stored {
        let (config, layer) = (self.bytes(60), self.bytes(700));
        self.push(repository, &config, algorithm).await;
        self.push(repository, &layer, algorithm).await;
        let body = image(algorithm, &config, &[(LAYER, &layer)], &json!({}));
        let stored = Stored::new(MANIFEST, body, algorithm);
        let answer = self.store(repository, &stored).await;
        self.is_at_location(&answer, &stored.body).await;
        stored
    }

    /// Puts a manifest by its digest.
    pub(crate) async fn store(&self, repository: &str, stored: &Stored) -> Answer {
        self.put(repository, &stored.digest, stored.kind, &stored.body).await.created(&stored.digest)
    }

    /// Puts a manifest under a tag. The answer names the sha256 of the body, as the client named no digest.
    pub(crate) async fn tag(&self, repository: &str, tag: &str, stored: &Stored) -> Answer {
        self.put(repository, tag, stored.kind, &stored.body).await.created(&sha256(&stored.body))
    }

    /// The tags of a repository in the order of the answer.
    pub(crate) async fn tags(&self, repository: &str) -> Vec<String> {
        let answer = self.get(format!("/v2/{repository}/tags/list")).await.is(200);
        names(&answer, "tags")
    }
}

/// A manifest with its name.
pub(crate) struct Stored {
    pub(crate) kind: &'static str,
    pub(crate) body: Bytes,
    pub(crate) digest: String,
}

impl Stored {
    pub(crate) fn new(kind: &'static str, body: Bytes, algorithm: Algorithm) -> Stored {
        let digest = algorithm.of(&body);
        Stored { kind, body, digest }
    }

    /// An index over manifests.
    pub(crate) fn index(algorithm: Algorithm, children: &[&Stored], more: &Value) -> Stored {
        let entries: Vec<Value> = children.iter().map(|child| child.descriptor()).collect();
        let mut body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        add(&mut body, more);
        Stored::new(INDEX, Bytes::from(body.to_string()), algorithm)
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.kind, "digest": self.digest, "size": self.body.len()})
    }
}

fn add(body: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
}

/// A descriptor of bytes.
pub(crate) fn descriptor(algorithm: Algorithm, kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": algorithm.of(bytes), "size": bytes.len()})
}

/// An image manifest; `more` is added or put in place.
pub(crate) fn image(algorithm: Algorithm, config: &[u8], layers: &[(&str, &[u8])], more: &Value) -> Bytes {
    let layers: Vec<Value> = layers.iter().map(|(kind, bytes)| descriptor(algorithm, kind, bytes)).collect();
    let mut body = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(algorithm, CONFIG, config), "layers": layers,
    });
    add(&mut body, more);
    Bytes::from(body.to_string())
}

/// Where sessions are opened.
pub(crate) fn uploads(repository: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/")
}

/// A blob's path.
pub(crate) fn blob(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// A manifest's path.
pub(crate) fn manifest(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

/// The names in a list of an answer.
pub(crate) fn names(answer: &Answer, key: &str) -> Vec<String> {
    let body: Value = serde_json::from_slice(&answer.body).expect("a list is JSON");
    let list = body[key].as_array().unwrap_or_else(|| panic!("`{key}` is no list: {body}"));
    list.iter().map(|name| name.as_str().expect("names are text").to_owned()).collect()
}

/// The 14 codes of the specification, and the two that stand on 5xx.
const CODES: &[&str] = &[
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
];

/// What rows say of answers. Each takes the answer and gives it back, or fails with what was seen.
pub(crate) trait Expect: Sized {
    /// This status.
    fn is(self, status: u16) -> Self;
    /// This header.
    fn has(self, name: &str, value: impl AsRef<str>) -> Self;
    /// 201 for content under a digest: `Location`, `Docker-Content-Digest`.
    fn created(self, digest: &str) -> Self;
    /// A refusal in the specification's form.
    fn refused(self, status: u16, code: &str) -> Self;
    /// `Location`, as a path.
    fn location(&self) -> String;
}

impl Expect for Answer {
    fn is(self, status: u16) -> Self {
        let expected = StatusCode::from_u16(status).expect("a status");
        assert_eq!(self.status, expected, "{:?} {}", self.headers, self.text());
        assert_eq!(self.header("docker-distribution-api-version"), "registry/2.0", "on every answer");
        self
    }

    fn has(self, name: &str, value: impl AsRef<str>) -> Self {
        assert_eq!(self.header(name), value.as_ref(), "{name}: {:?}", self.headers);
        self
    }

    fn created(self, digest: &str) -> Self {
        let answer = self.is(201).has("docker-content-digest", digest);
        answer.location();
        answer
    }

    fn refused(self, status: u16, code: &str) -> Self {
        assert!(CODES.contains(&code), "{code} is none of the specification's codes");
        let answer = self.is(status);
        assert_eq!(answer.code(), code, "{}", answer.text());
        assert!(answer.header("content-type").starts_with("application/json"), "{:?}", answer.headers);
        answer
    }

    fn location(&self) -> String {
        let location = self.header("location");
        assert!(location.starts_with("/v2/"), "a Location is path-absolute: {location:?}");
        location.to_owned()
    }
}
