//! What refers to a subject, as an index.

use axum::body::Body;
use domain::{Digest, RepositoryName, media_type};
use http::{HeaderValue, Response};
use metadata::rows::Referrer;
use registry::referrers::Of;
use serde_json::{Map, Value, json};

use super::error::{Code, Failure};
use super::{Asking, headers, json_page, paging};

/// `GET /v2/NAME/referrers/DIGEST`: never 404.
pub(super) async fn list(asking: &Asking, name: RepositoryName, digest: &str) -> Result<Response<Body>, Failure> {
    let subject = Digest::parse(digest).map_err(|error| Failure::bad(Code::DigestInvalid, error))?;
    let filter = asking.query.get("artifactType").filter(|text| !text.is_empty()).map(str::to_owned);
    let page = paging::page(&asking.query)?;
    // Ours, and a digest; anything else begins at the beginning.
    let last = page.last.as_deref().and_then(|text| Digest::parse(text).ok());
    let path = format!("/v2/{name}/referrers/{subject}");
    let of = Of { repository: name, subject, artifact_type: filter.clone(), last, rows: page.rows };
    let asked = paging::after_the_page_before(&asking.query, asking.asked);
    let page = asking.registry().referrers(of, asked).await?;
    let last = page.rows.last().filter(|_| page.more).map(|row| row.digest.to_string());
    let link = last.map(|last| paging::link(&path, &asking.query, &last, page.revision()));
    let as_of = page.as_of;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": page.rows.into_iter().map(descriptor).collect::<Vec<_>>(),
    });
    let mut response = json_page(asking, media_type::OCI_INDEX, index.to_string().into_bytes(), as_of, link)?;
    if filter.is_some() {
        response.headers_mut().insert(headers::FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

fn descriptor(row: Referrer) -> Value {
    let Referrer { digest, media_type, size, artifact_type, annotations } = row;
    let mut shown = Map::new();
    shown.insert("mediaType".to_owned(), media_type.into());
    shown.insert("digest".to_owned(), digest.to_string().into());
    shown.insert("size".to_owned(), size.into());
    if let Some(artifact_type) = artifact_type {
        shown.insert("artifactType".to_owned(), artifact_type.into());
    }
    if !annotations.is_empty() {
        let annotations: Map<String, Value> = annotations.into_iter().map(|(key, value)| (key, value.into())).collect();
        shown.insert("annotations".to_owned(), annotations.into());
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_leaves_out_what_is_not_there() {
        let digest = Digest::Sha256([1; 32]);
        let row = |artifact_type: Option<&str>, annotations: &[(&str, &str)]| Referrer {
            digest,
            media_type: "m".to_owned(),
            size: 3,
            artifact_type: artifact_type.map(str::to_owned),
            annotations: annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        assert_eq!(
            descriptor(row(Some("t"), &[("k", "v")])),
            json!({ "mediaType": "m", "digest": digest.to_string(), "size": 3, "artifactType": "t", "annotations": { "k": "v" } })
        );
        assert_eq!(descriptor(row(None, &[])), json!({ "mediaType": "m", "digest": digest.to_string(), "size": 3 }));
    }
}
