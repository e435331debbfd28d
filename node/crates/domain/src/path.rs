//! Paths of requests, read from the right: repository names hold slashes and may hold components called `blobs` or
//! `manifests`. Names and references are only cut out here, and parsed by whom they concern.

use percent_encoding::percent_decode_str;

/// A path below `/v2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The repository's name as written, where the resource has one.
    pub name: Option<String>,
    /// What is asked for.
    pub resource: Resource,
}

/// Resources of the distribution specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/v2/`.
    Base,
    /// `/v2`, which is sent on to `/v2/`.
    BaseWithoutSlash,
    /// `/v2/_catalog`, of Docker.
    Catalog,
    /// `/v2/NAME/tags/list`.
    Tags,
    /// `/v2/NAME/manifests/REFERENCE`.
    Manifest(String),
    /// `/v2/NAME/blobs/DIGEST`.
    Blob(String),
    /// `/v2/NAME/blobs/uploads/`, also without the last slash.
    Uploads,
    /// `/v2/NAME/blobs/uploads/ID`.
    Upload(String),
    /// `/v2/NAME/referrers/DIGEST`.
    Referrers(String),
}

/// Reads a path; none for what the registry does not have.
pub fn parse(path: &str) -> Option<Path> {
    // What is no text becomes what no name, tag or digest holds, and is refused by whom it concerns.
    let path = percent_decode_str(path).decode_utf8_lossy();
    let rest = match path.strip_prefix("/v2")? {
        "" => return Some(Path { name: None, resource: Resource::BaseWithoutSlash }),
        "/" => return Some(Path { name: None, resource: Resource::Base }),
        "/_catalog" => return Some(Path { name: None, resource: Resource::Catalog }),
        rest => rest.strip_prefix('/')?,
    };
    let (head, last) = rest.rsplit_once('/')?;
    let (name, resource) = match split(head) {
        (Some(name), "tags") if last == "list" => (name, Resource::Tags),
        (Some(name), "manifests") => (name, Resource::Manifest(last.to_owned())),
        (Some(name), "referrers") => (name, Resource::Referrers(last.to_owned())),
        (Some(name), "blobs") if last == "uploads" => (name, Resource::Uploads),
        (Some(name), "blobs") => (name, Resource::Blob(last.to_owned())),
        (Some(head), "uploads") => match split(head) {
            (Some(name), "blobs") if last.is_empty() => (name, Resource::Uploads),
            (Some(name), "blobs") => (name, Resource::Upload(last.to_owned())),
            _ => return None,
        },
        _ => return None,
    };
    Some(Path { name: Some(name.to_owned()), resource })
}

/// Splits off the last component.
fn split(path: &str) -> (Option<&str>, &str) {
    match path.rsplit_once('/') {
        Some((head, last)) => (Some(head), last),
        None => (None, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Option<(Option<String>, Resource)> {
        parse(path).map(|path| (path.name, path.resource))
    }

    fn named(name: &str, resource: Resource) -> Option<(Option<String>, Resource)> {
        Some((Some(name.to_owned()), resource))
    }

    #[test]
    fn every_resource_is_found() {
        assert_eq!(at("/v2"), Some((None, Resource::BaseWithoutSlash)));
        assert_eq!(at("/v2/"), Some((None, Resource::Base)));
        assert_eq!(at("/v2/_catalog"), Some((None, Resource::Catalog)));
        assert_eq!(at("/v2/a/tags/list"), named("a", Resource::Tags));
        assert_eq!(at("/v2/a/b/manifests/v1"), named("a/b", Resource::Manifest("v1".to_owned())));
        assert_eq!(at("/v2/a/blobs/sha256%3Aab"), named("a", Resource::Blob("sha256:ab".to_owned())));
        assert_eq!(at("/v2/a/blobs/uploads/"), named("a", Resource::Uploads));
        assert_eq!(at("/v2/a/blobs/uploads"), named("a", Resource::Uploads));
        assert_eq!(at("/v2/a/blobs/uploads/x.1.y"), named("a", Resource::Upload("x.1.y".to_owned())));
        assert_eq!(at("/v2/a/referrers/d"), named("a", Resource::Referrers("d".to_owned())));
    }

    #[test]
    fn names_may_look_like_resources() {
        assert_eq!(at("/v2/x/blobs/manifests/y/tags/list"), named("x/blobs/manifests/y", Resource::Tags));
        assert_eq!(at("/v2/x/blobs/uploads/manifests/t"), named("x/blobs/uploads", Resource::Manifest("t".to_owned())));
        assert_eq!(at("/v2/a/manifests/blobs/uploads/"), named("a/manifests", Resource::Uploads));
        assert_eq!(at("/v2/tags/list/tags/list"), named("tags/list", Resource::Tags));
        assert_eq!(at("/v2/a//b/tags/list"), named("a//b", Resource::Tags));
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in ["", "/", "/v1/", "/v2x", "/v2/a", "/v2/tags/list", "/v2/a/tags/", "/v2/a/tags/list/", "/v2/a/x/y"]
        {
            assert_eq!(at(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_text_is_left_to_whom_it_concerns() {
        assert_eq!(at("/v2/a/%ff/tags/list"), named("a/\u{fffd}", Resource::Tags));
        assert_eq!(at("/v2/a/blobs/sha256:%ff"), named("a", Resource::Blob("sha256:\u{fffd}".to_owned())));
    }
}
