//! Repositories of the registry.

use axum::body::Body;
use http::Response;
use serde_json::json;

use super::error::Failure;
use super::{Asking, json_page, paging};

/// `GET /v2/_catalog`.
pub(super) async fn list(asking: &Asking) -> Result<Response<Body>, Failure> {
    let asked = paging::after_the_page_before(&asking.query, asking.asked);
    let page = asking.registry().catalog(paging::page(&asking.query)?, asked).await?;
    let last = page.rows.last().filter(|_| page.more);
    let link = last.map(|last| paging::link("/v2/_catalog", &asking.query, last, page.revision()));
    let body = json!({ "repositories": page.rows }).to_string().into_bytes();
    json_page(asking, "application/json", body, page.as_of, link)
}
