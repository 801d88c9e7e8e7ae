//! `/health/detail`: every component of the fleet, judged.
//!
//! Open like its siblings, for those who probe; what the components tell in `data` (names of services and providers) takes a
//! token that may read the fleet, where there are tokens.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use overshot_common::job::times;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::overview;

mod components;

/// How long a report is good for, however many ask.
const FRESH: Duration = Duration::from_secs(1);
/// How long one component may take: all are looked at at the same time, and an answer is due within 12 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// How well something is; the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Degraded,
    Down,
}

/// One component.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Component {
    name: &'static str,
    status: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl Component {
    fn new(name: &'static str, data: &impl Serialize) -> Self {
        Self { name, status: Level::Ok, error: None, data: serde_json::to_value(data).ok() }
    }

    /// What is wrong; the worst level counts, and everything is told.
    fn but(mut self, level: Level, error: impl Into<String>) -> Self {
        self.status = self.status.max(level);
        self.error = Some(match self.error {
            Some(before) => format!("{before}; {}", error.into()),
            None => error.into(),
        });
        self
    }

    fn down(name: &'static str, error: &str) -> Self {
        Self { name, status: Level::Down, error: Some(error.to_owned()), data: None }
    }
}

/// Every component, judged.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = HealthDetail)]
pub(crate) struct Report {
    status: Level,
    generated_at: String,
    components: Vec<Component>,
}

/// The last report.
#[derive(Debug, Default)]
pub(crate) struct Detail {
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

/// Judges every component of the fleet; the worst is the status.
#[utoipa::path(
    get,
    path = "/health/detail",
    tag = "health",
    responses(
        (status = 200, description = "nothing is down", body = Report),
        (status = 503, description = "something is down; the components that could be looked at", body = Report),
    ),
)]
pub(crate) async fn show(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let report = report(&app).await;
    let status = if report.status == Level::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    // Who may read the counters may read this.
    if app.access.admit(&headers, &Method::GET, "/api/v1/stats").is_ok() {
        return (status, Json(&*report)).into_response();
    }
    let mut report = Report::clone(&report);
    report.components.iter_mut().for_each(|component| component.data = None);
    (status, Json(report)).into_response()
}

async fn report(app: &App) -> Arc<Report> {
    let mut last = app.detail.last.lock().await;
    if let Some((_, report)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return report.clone();
    }
    // On the heap: it looks at much at once.
    let report = Arc::new(Box::pin(assemble(app)).await);
    *last = Some((Instant::now(), report.clone()));
    report
}

/// Looks at all components at once. What needs Redis is left out while Redis does not answer.
async fn assemble(app: &App) -> Report {
    let overview = tokio::time::timeout(PATIENCE, overview::read(app, &app.probe));
    let running = tokio::time::timeout(PATIENCE, components::oldest_running(app));
    let redis = tokio::time::timeout(PATIENCE, components::redis(app));
    let providers = tokio::time::timeout(PATIENCE, components::providers(app));
    let (redis, providers, overview, running, infra) =
        tokio::join!(redis, providers, overview, running, app.infra.look());
    let mut found = vec![redis.unwrap_or_else(|_| Component::down("redis", "redis does not answer in time"))];
    found.push(providers.unwrap_or_else(|_| components::providers_unread()));
    if let Ok(Ok(pools)) = overview {
        let oldest_running = running.ok().and_then(Result::ok).flatten();
        found.push(components::queue(app, &pools, oldest_running));
        found.push(components::errors(app, &pools));
        found.push(components::throughput(&pools));
    } else if found[0].status != Level::Down {
        found[0] = found[0].clone().but(Level::Down, "the queue's counters cannot be read");
    }
    found.push(components::infra(&infra));
    let status = found.iter().map(|component| component.status).max().unwrap_or(Level::Ok);
    Report { status, generated_at: times::text(jiff::Timestamp::now()), components: found }
}
