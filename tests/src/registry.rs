//! What registry clients do, step by step, at one region or at the next one with every request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::client::{Answer, Ask, Client, Failure, Open, Payload};
use crate::content::Content;
use crate::image::{Blob, Image, Manifest};
use crate::wait;

/// How long one large body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(300);
/// What a pull says it takes.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// Why a step did not succeed.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Certainly not done, and a retry may help: 503, 429, or nothing was sent.
    NotNow(String),
    /// It may have been done: 504, or the connection broke.
    Unknown(String),
    /// An answer that one registry would not give here.
    Wrong(String),
}

impl Trouble {
    /// Whether the same step may be tried again.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Trouble::Wrong(_))
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        match failure {
            Failure::NotSent(text) => Trouble::NotNow(text),
            Failure::Unknown(text) => Trouble::Unknown(text),
        }
    }
}

/// What a pull found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The manifest was marked as possibly stale.
    pub is_stale: bool,
}

/// A registry as a client sees it: one region, or several that take turns with every request.
pub struct Registry {
    clients: Vec<Client>,
    turn: AtomicUsize,
}

impl Registry {
    /// One region.
    pub fn at(address: impl Into<String>) -> Registry {
        Registry::rotating([address])
    }

    /// Every request goes to the next region.
    pub fn rotating<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Registry {
        let clients: Vec<Client> = addresses.into_iter().map(Client::new).collect();
        assert!(!clients.is_empty(), "a registry has an address");
        Registry { clients, turn: AtomicUsize::new(0) }
    }

    fn client(&self) -> &Client {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.clients[turn % self.clients.len()]
    }

    /// Sends as it is.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Failure> {
        self.client().send(ask).await
    }

    /// Sends as it is; the body is left to the caller.
    pub async fn open(&self, ask: Ask) -> Result<Open, Failure> {
        self.client().open(ask).await
    }

    /// Sends a body piece by piece, in chunked coding unless the headers name a length.
    pub async fn open_stream(
        &self,
        ask: Ask,
        pieces: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Open, Failure> {
        self.client().open_stream(ask, pieces).await
    }

    /// Sends, and takes every status but `expected` as trouble.
    pub async fn expect(&self, ask: Ask, expected: StatusCode) -> Result<Answer, Trouble> {
        let what = format!("{} {}", ask.method, ask.path);
        let answer = self.send(ask).await?;
        judge(&what, expected, answer)
    }

    /// Opens an upload; gives its location.
    pub async fn begin(&self, repository: &str) -> Result<String, Trouble> {
        let ask = Ask::new(Method::POST, format!("/v2/{repository}/blobs/uploads/"));
        let answer = self.expect(ask, StatusCode::ACCEPTED).await?;
        Ok(answer.header("location").to_owned())
    }

    /// Uploads a blob: POST, then one PUT.
    pub async fn push_blob(&self, repository: &str, blob: &Blob) -> Result<Answer, Trouble> {
        let location = self.begin(repository).await?;
        let payload = match blob {
            Blob::Generated(content) => Payload::Generated(content.clone()),
            Blob::Given(bytes) => Payload::Given(bytes.clone()),
        };
        self.finish(&location, &blob.digest(), payload).await
    }

    /// The closing PUT.
    pub async fn finish(&self, location: &str, digest: &str, payload: Payload) -> Result<Answer, Trouble> {
        let ask = Ask::new(Method::PUT, with_digest(location, digest)).payload(payload).within(BODY_DEADLINE);
        let ask = ask.header("content-type", "application/octet-stream");
        let answer = self.expect(ask, StatusCode::CREATED).await?;
        let said = answer.header("docker-content-digest");
        if said == digest {
            Ok(answer)
        } else {
            Err(Trouble::Wrong(format!("closing PUT of {digest} answered {said:?}")))
        }
    }

    /// A PATCH of `bytes` at `offset`; gives the next location.
    pub async fn patch(&self, location: &str, offset: u64, bytes: Bytes) -> Result<String, Trouble> {
        let last = offset + bytes.len() as u64 - 1;
        let ask = Ask::new(Method::PATCH, location)
            .header("content-range", format!("{offset}-{last}"))
            .header("content-type", "application/octet-stream")
            .payload(Payload::Given(bytes))
            .within(BODY_DEADLINE);
        let answer = self.expect(ask, StatusCode::ACCEPTED).await?;
        let range = answer.header("range");
        if range != format!("0-{last}") {
            return Err(Trouble::Wrong(format!("PATCH up to {last} answered range {range:?}")));
        }
        Ok(answer.header("location").to_owned())
    }

    /// Uploads a blob in chunks: POST, PATCHes, an empty PUT.
    pub async fn push_chunks(&self, repository: &str, content: &Content, chunk: u64) -> Result<Answer, Trouble> {
        let mut location = self.begin(repository).await?;
        let mut offset = 0;
        while offset < content.len() {
            let end = (offset + chunk).min(content.len());
            location = self.patch(&location, offset, content.slice(offset..end)).await?;
            offset = end;
        }
        self.finish(&location, content.digest(), Payload::Empty).await
    }

    /// Puts a manifest under a tag or its digest.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Manifest,
    ) -> Result<Answer, Trouble> {
        let ask = Ask::new(Method::PUT, format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", manifest.media_type)
            .payload(Payload::Given(manifest.body.clone()));
        self.expect(ask, StatusCode::CREATED).await
    }

    /// Pushes an image: blobs, then the manifest under `tag`. The revision that answered.
    pub async fn push_image(&self, repository: &str, tag: &str, image: &Image) -> Result<Answer, Trouble> {
        for blob in &image.blobs {
            self.push_blob(repository, blob).await?;
        }
        self.put_manifest(repository, tag, &image.manifest).await
    }

    /// As [`Registry::push_image`], every step repeated while a retry may help, up to `within` for all of it.
    pub async fn push_image_patiently(
        &self,
        repository: &str,
        tag: &str,
        image: &Image,
        within: Duration,
    ) -> Result<Answer, Trouble> {
        let deadline = Instant::now() + within;
        for blob in &image.blobs {
            patiently(deadline, || self.push_blob(repository, blob)).await?;
        }
        patiently(deadline, || self.put_manifest(repository, tag, &image.manifest)).await
    }

    /// Gets a manifest.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Answer, Trouble> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.expect(Ask::new(Method::GET, path).header("accept", ACCEPT), StatusCode::OK).await
    }

    /// Gets a blob and compares every byte, by its hash.
    pub async fn pull_blob(&self, repository: &str, digest: &str, len: u64) -> Result<(), Trouble> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let open = self.open(Ask::new(Method::GET, &path)).await?;
        if open.status != StatusCode::OK {
            let answer = open.whole().await?;
            return judge(&format!("GET {path}"), StatusCode::OK, answer).map(drop);
        }
        let hashed = tokio::time::timeout(BODY_DEADLINE, open.hashed())
            .await
            .map_err(|_| Trouble::Unknown(format!("GET {path}: the body did not end")))?;
        if !hashed.is_complete {
            return Err(Trouble::Unknown(format!("GET {path}: the body broke off after {} bytes", hashed.len)));
        }
        if hashed.sha256 != digest || hashed.len != len {
            return Err(Trouble::Wrong(format!(
                "GET {path}: a complete body of {} bytes is {}",
                hashed.len, hashed.sha256
            )));
        }
        Ok(())
    }

    /// Pulls an image by tag or digest and compares every byte.
    pub async fn pull_image(&self, repository: &str, reference: &str, image: &Image) -> Result<Pulled, Trouble> {
        let answer = self.manifest(repository, reference).await?;
        if answer.body != image.manifest.body {
            let said = answer.header("docker-content-digest");
            return Err(Trouble::Wrong(format!("{repository}:{reference} is {said}, not {}", image.manifest.digest)));
        }
        if answer.header("content-type") != image.manifest.media_type {
            return Err(Trouble::Wrong(format!("{repository}:{reference} has type {}", answer.header("content-type"))));
        }
        for blob in &image.blobs {
            self.pull_blob(repository, &blob.digest(), blob.len()).await?;
        }
        Ok(Pulled { is_stale: answer.is_marked_stale() })
    }

    /// As [`Registry::pull_image`], repeated while a retry may help.
    pub async fn pull_image_patiently(
        &self,
        repository: &str,
        reference: &str,
        image: &Image,
        within: Duration,
    ) -> Result<Pulled, Trouble> {
        patiently(Instant::now() + within, || self.pull_image(repository, reference, image)).await
    }

    /// All tags, page by page.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>, Trouble> {
        let ask = Ask::new(Method::GET, format!("/v2/{repository}/tags/list"));
        let answer = self.expect(ask, StatusCode::OK).await?;
        let body: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|error| Trouble::Wrong(format!("tag list: {error}")))?;
        let tags = body["tags"].as_array().ok_or_else(|| Trouble::Wrong(format!("tag list: {body}")))?;
        Ok(tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect())
    }
}

/// Repeats a step while a retry may help, up to `deadline`.
pub async fn patiently<T, F, Fut>(deadline: Instant, mut step: F) -> Result<T, Trouble>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Trouble>>,
{
    loop {
        match step().await {
            Err(trouble) if trouble.is_retryable() && Instant::now() < deadline => wait::breath().await,
            done => return done,
        }
    }
}

/// A session's location with the closing digest.
pub fn with_digest(location: &str, digest: &str) -> String {
    let joint = if location.contains('?') { '&' } else { '?' };
    format!("{location}{joint}digest={digest}")
}

fn judge(what: &str, expected: StatusCode, answer: Answer) -> Result<Answer, Trouble> {
    if answer.status == expected {
        return Ok(answer);
    }
    let text = format!("{what}: {} {}", answer.status, answer.text());
    match answer.status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS if answer.header("retry-after").is_empty() => {
            Err(Trouble::Wrong(format!("{text} (without Retry-After)")))
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Err(Trouble::NotNow(text)),
        StatusCode::GATEWAY_TIMEOUT => Err(Trouble::Unknown(text)),
        _ => Err(Trouble::Wrong(text)),
    }
}
