//! What stands open: who we are, whether we live, whether we are ready, and the metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use overshot_common::queue::Queue;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

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
    async fn answered(&self, queue: &Queue) -> bool {
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

/// `GET /`
pub(crate) async fn index() -> Json<Value> {
    Json(json!({
        "name": "overshot",
        "version": env!("CARGO_PKG_VERSION"),
        "links": { "jobs": "/api/v1/jobs", "pools": "/api/v1/pools", "workers": "/api/v1/workers",
            "health": "/healthz", "ready": "/readyz", "metrics": "/metrics" },
    }))
}

/// `GET /healthz`
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    if app.stopping.is_cancelled() {
        return Err(ApiError::draining());
    }
    let state = *app.redis.borrow();
    match state {
        RedisState::Starting => Err(ApiError::unavailable("redis_unavailable", "redis was not found ready yet")),
        RedisState::Unfit => Err(ApiError::unavailable("redis_unfit", "redis may lose jobs; the log tells why")),
        RedisState::Fit if app.ping.answered(&app.probe).await => Ok(Json(json!({ "status": "ok" }))),
        RedisState::Fit => Err(ApiError::unavailable("redis_unavailable", "redis does not answer")),
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics_page::render(&app).await).into_response()
}
