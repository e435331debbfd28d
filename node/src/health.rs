//! `/healthz`, `/readyz` and `/metrics`, merged into the registry's HTTP door.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use serde_json::json;

use crate::phase::PhaseCell;
use crate::status::{Facts, Purpose};
use crate::telemetry::Metrics;

#[derive(Clone)]
struct Doors {
    phase: PhaseCell,
    metrics: Metrics,
}

/// The operators' paths beside `/v2/`.
pub fn router(phase: PhaseCell, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(Doors { phase, metrics })
}

async fn readyz(State(doors): State<Doors>, RawQuery(query): RawQuery) -> Response {
    let purpose = match query.as_deref() {
        None | Some("" | "for=pull") => Purpose::Pull,
        Some("for=push") => Purpose::Push,
        Some(_) => {
            return (StatusCode::BAD_REQUEST, "the only parameter is for=pull or for=push\n").into_response();
        }
    };
    let phase = doors.phase.get();
    let readiness = Facts::gather(&phase).readiness(purpose);
    let rooms = phase.rooms();
    let region = rooms.as_ref().map(|rooms| rooms.metadata.identity().region_name.as_str());
    let body = json!({ "ready": readiness.ready, "region": region, "impaired": readiness.impaired });
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn show_metrics(State(doors): State<Doors>) -> Response {
    match doors.metrics.render() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be rendered\n").into_response()
        }
    }
}
