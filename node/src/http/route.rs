//! Methods that each resource knows.

use domain::path::Resource;
use http::Method;

/// Methods of a resource; others are answered with 405 and these.
pub(super) fn methods(resource: &Resource) -> &'static [Method] {
    const READ: &[Method] = &[Method::GET, Method::HEAD];
    match resource {
        Resource::Base | Resource::BaseWithoutSlash | Resource::Catalog | Resource::Tags | Resource::Referrers(_) => {
            READ
        }
        Resource::Manifest(_) => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
        Resource::Blob(_) => &[Method::GET, Method::HEAD, Method::DELETE],
        Resource::Uploads => &[Method::POST],
        Resource::Upload(_) => &[Method::GET, Method::HEAD, Method::PATCH, Method::PUT, Method::DELETE],
    }
}
