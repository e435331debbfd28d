//! Requests at the registry's door, counted and timed by kind; never by repository, digest or address.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::metrics::{HTTP_REQUEST_SECONDS, HTTP_REQUESTS, Metrics};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    method: &'static str,
    route: &'static str,
}

/// Counters of the door. Cheap to clone.
#[derive(Clone)]
struct Requests {
    answered: Family<Answered, Counter>,
    seconds: Family<Timed, Histogram>,
}

/// Counts what passes through `routes`.
pub fn counted(routes: Router, metrics: &Metrics) -> Router {
    // 0.5 ms to 16 s.
    let buckets = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
    let requests = Requests { answered: Family::default(), seconds: Family::new_with_constructor(buckets) };
    metrics.register(|registry| {
        registry.register(HTTP_REQUESTS.name, HTTP_REQUESTS.help, requests.answered.clone());
        registry.register(HTTP_REQUEST_SECONDS.name, HTTP_REQUEST_SECONDS.help, requests.seconds.clone());
    });
    routes.layer(from_fn_with_state(requests, count))
}

async fn count(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let (method, route) = (method_of(request.method()), route_of(request.uri().path()));
    let began = runtime::clock::now();
    let response = next.run(request).await;
    let seconds = runtime::clock::now().saturating_duration_since(began).as_secs_f64();
    requests.seconds.get_or_create(&Timed { method, route }).observe(seconds);
    requests.answered.get_or_create(&Answered { method, route, code: response.status().as_u16() }).inc();
    response
}

/// Methods that clients use; anything else shares one label, so that nobody can make labels.
fn method_of(method: &http::Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].into_iter().find(|known| method == known).unwrap_or("other")
}

/// Kind of a path.
fn route_of(path: &str) -> &'static str {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["v2"] => "base",
        ["v2", "_catalog"] => "catalog",
        ["v2", .., "blobs", "uploads"] | ["v2", .., "blobs", "uploads", _] => "uploads",
        ["v2", .., "tags", "list"] => "tags",
        ["v2", .., "blobs", _] => "blobs",
        ["v2", .., "manifests", _] => "manifests",
        ["v2", .., "referrers", _] => "referrers",
        ["healthz" | "readyz" | "metrics"] => "operators",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::Service;

    use super::*;
    use crate::phase::PhaseCell;

    #[test]
    fn paths_fall_into_few_kinds() {
        for (path, kind) in [
            ("/v2/", "base"),
            ("/v2/_catalog", "catalog"),
            ("/v2/team/app/blobs/uploads/", "uploads"),
            ("/v2/team/app/blobs/uploads/abc", "uploads"),
            ("/v2/team/app/blobs/sha256:00", "blobs"),
            ("/v2/team/app/manifests/latest", "manifests"),
            ("/v2/a/tags/list", "tags"),
            ("/v2/a/referrers/sha256:00", "referrers"),
            ("/readyz", "operators"),
            ("/etc/passwd", "other"),
        ] {
            assert_eq!(route_of(path), kind, "{path}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_counted_by_kind_and_code() {
        let metrics = Metrics::new(PhaseCell::default());
        let mut routes = counted(Router::new().route("/v2/", get(async || "{}")), &metrics);
        for method in ["GET", "BREW"] {
            let request = Request::builder().method(method).uri("/v2/").body(Body::empty()).unwrap();
            let _answer = routes.call(request).await.unwrap();
        }
        let rendered = metrics.render().unwrap();
        let counted = "longshore_http_requests_total{method=\"GET\",route=\"base\",code=\"200\"} 1\n";
        assert!(rendered.contains(counted), "{rendered}");
        assert!(rendered.contains("{method=\"other\",route=\"base\",code=\"405\"} 1\n"), "{rendered}");
        assert!(
            rendered.contains("longshore_http_request_seconds_count{method=\"GET\",route=\"base\"} 1\n"),
            "{rendered}"
        );
    }
}
