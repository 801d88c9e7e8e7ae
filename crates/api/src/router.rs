//! All routes.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::error::{self, ApiError};
use crate::handlers::{bulk, events, health, jobs, keys, pools, results, workers};
use crate::middleware::{guard, observe};

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(health::index))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/api/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/api/v1/jobs/batch", post(bulk::submit))
        .route("/api/v1/jobs/cancel", post(bulk::cancel))
        .route("/api/v1/jobs/retry", post(bulk::retry))
        .route("/api/v1/jobs/{id}", get(jobs::show).patch(jobs::annotate).delete(jobs::cancel))
        .route("/api/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/api/v1/jobs/{id}/events", get(events::follow))
        .route("/api/v1/jobs/{id}/result", get(results::show))
        .route("/api/v1/keys/{*concurrency_key}", get(keys::show))
        .route("/api/v1/pools", get(pools::list))
        .route("/api/v1/pools/{pool}", get(pools::show))
        .route("/api/v1/pools/{pool}/pause", post(pools::pause))
        .route("/api/v1/pools/{pool}/resume", post(pools::resume))
        .route("/api/v1/pools/{pool}/demand", get(pools::demand))
        .route("/api/v1/workers", get(workers::list))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(CatchPanicLayer::custom(error::of_panic))
        .layer(from_fn(observe))
        .with_state(app)
}

async fn no_route(_: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

async fn no_method(_: Method) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
}
