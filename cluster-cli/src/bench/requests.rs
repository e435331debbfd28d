//! What a registry's client asks, as far as the benchmark needs it.

use bytes::Bytes;
use http::{StatusCode, header};
use ring::digest::{Context, SHA256};

use super::content::{Blob, sha256_name};
use super::http::{Body, Client, empty, full};
use super::target::path_of;
use crate::failure::Failure;

const OCTETS: &str = "application/octet-stream";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes a body under a digest: a session, and one closing PUT.
async fn push(client: &mut Client, repository: &str, digest: &str, size: usize, body: Body) -> Result<(), Failure> {
    let begin = format!("/v2/{repository}/blobs/uploads/");
    let length = [("content-length", "0")];
    let headers = client.expect("POST", &begin, &length, empty(), StatusCode::ACCEPTED).await?;
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| Failure::failed("the upload session came without a Location", ""))?;
    let path = path_of(location);
    let joint = if path.contains('?') { '&' } else { '?' };
    let close = format!("{path}{joint}digest={digest}");
    let size = size.to_string();
    let headers = [("content-length", size.as_str()), ("content-type", OCTETS)];
    client.expect("PUT", &close, &headers, body, StatusCode::CREATED).await.map(drop)
}

/// Pushes a blob.
pub(crate) async fn push_blob(client: &mut Client, repository: &str, blob: &Blob) -> Result<(), Failure> {
    push(client, repository, &blob.digest, blob.size(), blob.body()).await
}

/// Pushes some bytes and gives their digest.
pub(crate) async fn push_bytes(client: &mut Client, repository: &str, bytes: Bytes) -> Result<String, Failure> {
    let mut context = Context::new(&SHA256);
    context.update(&bytes);
    let digest = sha256_name(context);
    push(client, repository, &digest, bytes.len(), full(bytes)).await?;
    Ok(digest)
}

/// Pulls a blob and checks how long it is.
pub(crate) async fn pull_blob(client: &mut Client, repository: &str, blob: &Blob) -> Result<(), Failure> {
    let length = client.get(&format!("/v2/{repository}/blobs/{}", blob.digest), &[], |_| ()).await?;
    if length == blob.size() as u64 {
        return Ok(());
    }
    Err(Failure::failed(format!("{} came with {length} bytes instead of {}", blob.digest, blob.size()), ""))
}

/// Pulls a blob and checks every byte of it.
pub(crate) async fn check_blob(client: &mut Client, repository: &str, blob: &Blob) -> Result<(), Failure> {
    let mut context = Context::new(&SHA256);
    client.get(&format!("/v2/{repository}/blobs/{}", blob.digest), &[], |piece| context.update(piece)).await?;
    let digest = sha256_name(context);
    if digest == blob.digest {
        return Ok(());
    }
    Err(Failure::failed(format!("the bytes that came for {} hash to {digest}", blob.digest), ""))
}

/// Puts a manifest under a tag.
pub(crate) async fn put_manifest(client: &mut Client, repository: &str, tag: &str, body: Bytes) -> Result<(), Failure> {
    let length = body.len().to_string();
    let headers = [("content-type", MANIFEST), ("content-length", length.as_str())];
    let path = format!("/v2/{repository}/manifests/{tag}");
    client.expect("PUT", &path, &headers, full(body), StatusCode::CREATED).await.map(drop)
}

/// Gets a manifest by tag.
pub(crate) async fn get_manifest(client: &mut Client, repository: &str, tag: &str) -> Result<(), Failure> {
    let path = format!("/v2/{repository}/manifests/{tag}");
    client.get(&path, &[("accept", MANIFEST)], |_| ()).await.map(drop)
}
