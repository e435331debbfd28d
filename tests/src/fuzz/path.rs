//! Paths of requests.

use domain::path::{Path, Resource, parse};

use super::{percent_decoded, percent_encoded};

/// Reads the bytes as a path.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = parse(text);
    assert_eq!(read, parse(text), "the same twice");
    assert_eq!(read, oracle(text), "{text:?}");
    if let Some(path) = read {
        assert_eq!(parse(&written(&path)), Some(path), "it is read back");
    }
}

/// The resource by the last components, and the components before them as the name.
///
/// Source: OCI distribution-spec, "Endpoints"; Docker's catalog.
fn oracle(text: &str) -> Option<Path> {
    let decoded = percent_decoded(text);
    let decoded = String::from_utf8_lossy(&decoded);
    let components: Vec<&str> = decoded.split('/').collect();
    let (name, resource) = match components.as_slice() {
        ["", "v2"] => return Some(Path { name: None, resource: Resource::BaseWithoutSlash }),
        ["", "v2", ""] => return Some(Path { name: None, resource: Resource::Base }),
        ["", "v2", "_catalog"] => return Some(Path { name: None, resource: Resource::Catalog }),
        ["", "v2", name @ .., "tags", "list"] => (name, Resource::Tags),
        ["", "v2", name @ .., "manifests", reference] => (name, Resource::Manifest((*reference).to_owned())),
        ["", "v2", name @ .., "referrers", digest] => (name, Resource::Referrers((*digest).to_owned())),
        ["", "v2", name @ .., "blobs", "uploads"] => (name, Resource::Uploads),
        ["", "v2", name @ .., "blobs", digest] => (name, Resource::Blob((*digest).to_owned())),
        ["", "v2", name @ .., "blobs", "uploads", ""] => (name, Resource::Uploads),
        ["", "v2", name @ .., "blobs", "uploads", id] => (name, Resource::Upload((*id).to_owned())),
        _ => return None,
    };
    (!name.is_empty()).then(|| Path { name: Some(name.join("/")), resource })
}

fn written(path: &Path) -> String {
    let name = percent_encoded(path.name.as_deref().unwrap_or_default(), "/");
    let last = |text: &str| percent_encoded(text, "");
    match &path.resource {
        Resource::BaseWithoutSlash => "/v2".to_owned(),
        Resource::Base => "/v2/".to_owned(),
        Resource::Catalog => "/v2/_catalog".to_owned(),
        Resource::Tags => format!("/v2/{name}/tags/list"),
        Resource::Manifest(reference) => format!("/v2/{name}/manifests/{}", last(reference)),
        Resource::Referrers(digest) => format!("/v2/{name}/referrers/{}", last(digest)),
        Resource::Blob(digest) => format!("/v2/{name}/blobs/{}", last(digest)),
        Resource::Uploads => format!("/v2/{name}/blobs/uploads/"),
        Resource::Upload(id) => format!("/v2/{name}/blobs/uploads/{}", last(id)),
    }
}
