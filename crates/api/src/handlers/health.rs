//! What stands open: who we are, whether we live, whether we are ready, and the metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use overshot_common::queue::Queue;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;
use crate::metrics_page;
use crate::redis_watch::RedisState;

/// How long the answer to a ping is good for, and how long it may take.
const FRESH: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(1);

/// The last ping of Redis.
#[derive(Debug, Default)]
pub(crate) struct Ping {
    last: Mutex<Option<(Instant, bool)>>,
}

impl Ping {
    pub(crate) async fn answered(&self, queue: &Queue) -> bool {
        let mut last = self.last.lock().await;
        match *last {
            Some((at, answered)) if at.elapsed() < FRESH => answered,
            Some(_) | None => {
                let answered = matches!(tokio::time::timeout(PATIENCE, queue.ping()).await, Ok(Ok(())));
                *last = Some((Instant::now(), answered));
                answered
            }
        }
    }
}

/// Who this is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Index {
    name: &'static str,
    version: &'static str,
    /// Where to go on.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    links: Value,
}

/// That it lives, or is ready.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Fine {
    /// Always `ok`.
    status: &'static str,
}

const FINE: Json<Fine> = Json(Fine { status: "ok" });

/// Tells what this is, and where to go on.
#[utoipa::path(
    get,
    path = "/",
    tag = "health",
    responses((status = 200, description = "the name, the version and the main paths", body = Index)),
)]
pub(crate) async fn index() -> Json<Index> {
    Json(Index {
        name: "overshot",
        version: env!("CARGO_PKG_VERSION"),
        links: json!({ "jobs": "/api/v1/jobs", "pools": "/api/v1/pools", "workers": "/api/v1/workers",
            "health": "/healthz", "ready": "/readyz", "metrics": "/metrics",
            "openapi": "/openapi.json", "docs": "/docs" }),
    })
}

/// Tells that the process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses((status = 200, description = "it lives", body = Fine)),
)]
pub(crate) async fn healthz() -> Json<Fine> {
    FINE
}

/// Tells whether requests may be sent here. Providers and workers do not count.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "it takes requests", body = Fine),
        (status = 503, description = "Redis is away or unfit, or the process is stopping"),
    ),
)]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Fine>, ApiError> {
    if app.stopping.is_cancelled() {
        return Err(ApiError::draining());
    }
    let state = *app.redis.borrow();
    match state {
        RedisState::Starting => Err(ApiError::unavailable("redis_unavailable", "redis was not found ready yet")),
        RedisState::Unfit => Err(ApiError::unavailable("redis_unfit", "redis may lose jobs; the log tells why")),
        RedisState::Fit if app.ping.answered(&app.probe).await => Ok(FINE),
        RedisState::Fit => Err(ApiError::unavailable("redis_unavailable", "redis does not answer")),
    }
}

/// The metrics, in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "the metrics", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics_page::render(&app).await).into_response()
}
