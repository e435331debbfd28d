//! Tags of a repository.

use axum::body::Body;
use domain::RepositoryName;
use http::Response;
use serde_json::json;

use super::error::Failure;
use super::{Asking, json_page, paging};

/// `GET /v2/NAME/tags/list`.
pub(super) async fn list(asking: &Asking, name: RepositoryName) -> Result<Response<Body>, Failure> {
    let asked = paging::after_the_page_before(&asking.query, asking.asked);
    let page = asking.registry().tags(&name, paging::page(&asking.query)?, asked).await?;
    let path = format!("/v2/{name}/tags/list");
    let last = page.rows.last().filter(|_| page.more);
    let link = last.map(|last| paging::link(&path, &asking.query, last, page.revision()));
    let body = json!({ "name": name.as_str(), "tags": page.rows }).to_string().into_bytes();
    json_page(asking, "application/json", body, page.as_of, link)
}
