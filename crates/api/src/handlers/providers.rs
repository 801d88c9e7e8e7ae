//! How the providers are: what their workers told, read and not asked anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::future::try_join_all;
use overshot_common::config::{ProviderConfig, ProviderKind};
use overshot_common::job::times;
use overshot_common::provider::{self, Breaker};
use overshot_common::queue::{Circuit, Error, ProviderStatus, TurnStatus};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;

/// The configured providers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProviderList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Provider>,
}

/// One provider, as its workers see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderStatus)]
struct Provider {
    /// Always `provider`.
    object: &'static str,
    provider: String,
    kind: &'static str,
    models: Vec<String>,
    /// Whether a worker has told of it.
    configured: bool,
    state: provider::State,
    ok: bool,
    /// Whether the last report is old: its workers are gone.
    stale: bool,
    reported_at: Option<String>,
    answered_at: Option<String>,
    /// How long the last answer took.
    latency_ms: Option<u64>,
    /// By model; `*` is the provider itself. None: the breaker is off.
    breaker: Option<BTreeMap<String, CircuitView>>,
    /// What it has loaded, where it tells.
    loaded: Option<Value>,
    /// Where it runs one model at a time.
    turn: Option<Turn>,
    limits: Limits,
    last_error: Option<LastError>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderCircuit)]
struct CircuitView {
    state: Breaker,
    /// In a row.
    failures: u64,
    open_until: Option<String>,
    /// It asked to be left alone.
    paused_until: Option<String>,
}

/// Which model it runs; between turns, which it ran last.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderTurn)]
struct Turn {
    model: String,
    /// Workers that have jobs of it in flight.
    workers: u64,
    /// The model that has the next turn, because it has waited too long.
    next: Option<String>,
}

/// None: no limit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderLimits)]
struct Limits {
    max_in_flight: Option<Use>,
    requests_per_minute: Option<Use>,
    tokens_per_minute: Option<Use>,
}

/// A limit, and how much of it all workers use.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderLimit)]
struct Use {
    limit: u64,
    used: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderError)]
struct LastError {
    code: String,
    at: Option<String>,
}

/// Tells of each configured provider how it is.
#[utoipa::path(
    get,
    path = "/api/v1/providers/status",
    tag = "fleet",
    responses((status = 200, description = "the providers", body = ProviderList)),
)]
pub(crate) async fn status(State(app): State<Arc<App>>) -> Result<Json<ProviderList>, ApiError> {
    let liveness = app.config.worker.liveness;
    let providers = app.config.providers.iter().map(async |(name, config)| {
        let status = status_of(&app, name).await?;
        Ok::<_, ApiError>(shown(name, config, &status, liveness))
    });
    Ok(Json(ProviderList { object: "list", data: try_join_all(providers).await? }))
}

/// How a provider is, with the turn of its server, which others may share.
pub(super) async fn status_of(app: &App, name: &str) -> Result<ProviderStatus, Error> {
    let mut status = app.queue.provider_status(name).await?;
    if let Some(server) = app.config.turns_of(name).filter(|server| server != name) {
        status.turn = app.queue.provider_status(&server).await?.turn;
    }
    Ok(status)
}

fn shown(name: &str, config: &ProviderConfig, status: &ProviderStatus, liveness: Duration) -> Provider {
    let (state, reported) = (provider::state(config, status), status.fact("reported"));
    let circuits = status.circuits.iter().map(|(model, stored)| (model.clone(), circuit(stored, status.now)));
    let used = |limit: Option<u64>, used| limit.map(|limit| Use { limit, used });
    Provider {
        object: "provider",
        provider: name.to_owned(),
        kind: match config.kind {
            ProviderKind::OpenAi(_) => "openai",
            ProviderKind::Ollama(_) => "ollama",
            ProviderKind::Simulated(_) => "simulated",
        },
        models: config.models.clone(),
        configured: state != provider::State::Unconfigured,
        state,
        ok: state == provider::State::Ok,
        stale: provider::is_stale(status, liveness),
        reported_at: at(reported),
        answered_at: at(status.fact("answered")),
        latency_ms: status.facts.get("latency").and_then(|ms| ms.parse().ok()),
        breaker: config.breaker.is_some().then(|| circuits.collect()),
        loaded: status.facts.get("loaded").and_then(|loaded| serde_json::from_str(loaded).ok()),
        turn: status.turn.clone().map(|TurnStatus { model, workers, next }| Turn { model, workers, next }),
        limits: Limits {
            max_in_flight: used(config.limits.max_in_flight.map(u64::from), status.in_flight),
            requests_per_minute: used(config.limits.requests_per_minute.map(u64::from), status.requests),
            tokens_per_minute: used(config.limits.tokens_per_minute, status.tokens),
        },
        last_error: status
            .facts
            .get("error")
            .map(|code| LastError { code: code.clone(), at: at(status.fact("error_at")) }),
    }
}

fn circuit(circuit: &Circuit, now: u64) -> CircuitView {
    let ahead = |time: u64| at(time).filter(|_| time > now);
    CircuitView {
        state: Breaker::of(circuit, now),
        failures: circuit.consecutive,
        open_until: ahead(circuit.until),
        paused_until: ahead(circuit.paused),
    }
}

/// A time in ms; 0 is none.
fn at(time: u64) -> Option<String> {
    (time > 0).then(|| times::from_ms(time).map(times::text)).flatten()
}
