//! Why a job is not running.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::future::try_join_all;
use overshot_common::config::ProviderConfig;
use overshot_common::job::{Job, JobError, Priority, Status, times};
use overshot_common::provider::{self, Breaker, LimitUse};
use overshot_common::queue::{Error, Place, PoolNumbers};
use serde::Serialize;
use utoipa::ToSchema;

use super::providers::status_of;
use crate::app::App;
use crate::error::ApiError;
use crate::openapi::bodies::JobPath;
use crate::pace;
use crate::params::{By, Id};

/// Why a job is where it is: the first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// It has ended.
    Ended,
    /// A worker runs it.
    Running,
    /// It is not due yet.
    NotDue,
    /// It waits for its next attempt.
    RetryDelay,
    /// Another job holds its concurrency key.
    WaitingForKey,
    /// Claims of its pool are stopped.
    Paused,
    /// Nobody is there to run it.
    NoLiveWorker,
    /// Every provider that serves it is down.
    ProviderDown,
    /// No provider that serves it has room: a limit of theirs is reached.
    ProviderLimited,
    /// Every provider that serves it runs another model.
    WaitingForTurn,
    /// It is due and will be in its stream in a moment.
    AboutToQueue,
    /// Others come first, or no worker has a free slot.
    Queued,
}

/// Why a job is where it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// Always `explanation`.
    object: &'static str,
    id: String,
    status: Status,
    reason: Reason,
    /// For people.
    summary: String,
    paused: bool,
    live_workers: u64,
    /// Jobs that come first, of its own priority and of higher ones.
    position: Option<u64>,
    /// Whether more come first than were counted.
    position_at_least: bool,
    waiting_for_key: Option<WaitingForKey>,
    run_at: Option<String>,
    due_in_seconds: Option<f64>,
    expires_at: Option<String>,
    /// By what the shard got done of late; `None` where nobody saw that.
    eta_seconds: Option<f64>,
    /// Who may serve it, in order of preference; none once it has ended. Of a pinned job that has run, all of its pool.
    providers: Vec<Server>,
    /// Why its last attempt failed, or was put off.
    last_error: Option<JobError>,
}

/// What it waits for.
#[derive(Debug, Serialize, ToSchema)]
struct WaitingForKey {
    key: String,
    held_by: Option<String>,
    waiters_before: u64,
}

/// A provider that may serve it, as its workers told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExplainedProvider)]
struct Server {
    provider: String,
    state: provider::State,
    /// The circuit that the job meets; none: the breaker is off.
    breaker: Option<Breaker>,
    /// The limit of which most is used; none: it has no limits.
    limit: Option<LimitUse>,
    /// The model that it runs, where it runs one at a time and is at work.
    runs: Option<String>,
    /// Whether the job would wait for it to come back.
    #[serde(skip)]
    down: bool,
}

/// Explains why a job is not running.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/explain",
    tag = "jobs",
    params(JobPath),
    responses(
        (status = 200, description = "why it is where it is", body = Explanation),
        (status = 404, description = "there is no such job, or its retention is over"),
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    By(caller): By,
    Id(id): Id,
) -> Result<Json<Explanation>, ApiError> {
    let job = app.job(&id, false).await?;
    let liveness = app.config.worker.liveness;
    let (mut place, numbers, tallies, providers) = futures_util::try_join!(
        app.queue.place(&id),
        app.queue.numbers(&id.shard, liveness),
        app.queue.tallies(&id.shard),
        servers(&app, &job)
    )?;
    if let Some(holder) = place.key_holder.take_if(|_| caller.service().is_some())
        && app.queue.get(&holder, false).await?.is_some_and(|job| caller.sees_job(&job))
    {
        place.key_holder = Some(holder);
    }
    let pace = app.paces.note(&id.shard, &tallies);
    let eta = |jobs| pace::eta(jobs, pace, tallies.pace, numbers.oldest_queued);
    Ok(Json(explain(&job, place, &numbers, eta, providers)))
}

/// Those who may serve a job, and how they are.
async fn servers(app: &App, job: &Job) -> Result<Vec<Server>, Error> {
    let model = job.model.as_deref();
    // Later the record tells who ran it last, whether pinned or not.
    let pinned = job.provider.as_deref().filter(|_| job.attempts == 0 && job.error.is_none());
    let serves = |(name, config): &(&str, &ProviderConfig)| {
        let has = |model: &str| config.models.is_empty() || config.models.iter().any(|one| one == model);
        !job.status.is_terminal() && pinned.is_none_or(|pinned| pinned == *name) && model.is_none_or(has)
    };
    let all = app.config.providers_of_pool(&job.id.shard.pool).filter(serves);
    try_join_all(all.map(async |(name, config)| {
        let status = status_of(app, name).await?;
        Ok(Server {
            provider: name.to_owned(),
            state: provider::state(config, &status),
            breaker: provider::breaker(config, &status, model),
            limit: provider::fullest_limit(config, &status),
            runs: status.turn.as_ref().filter(|turn| turn.workers > 0).map(|turn| turn.model.clone()),
            down: provider::is_down_for(config, &status, model),
        })
    }))
    .await
}

fn explain(
    job: &Job,
    place: Place,
    numbers: &PoolNumbers,
    eta: impl FnOnce(u64) -> Option<Duration>,
    providers: Vec<Server>,
) -> Explanation {
    let due_in = job.run_at.map(|at| Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or_default());
    let waits = matches!(job.status, Status::Scheduled | Status::Retrying) && !place.in_stream && !place.awaits_turn;
    let reason = reason(job, &place, numbers, &providers, due_in.unwrap_or_default());
    let position =
        (place.in_stream || place.awaits_turn).then(|| place.before + before_its_priority(job.priority, numbers));
    let eta = position.filter(|_| reason == Reason::Queued).and_then(|position| eta(position + 1));
    let key = job.concurrency_key.as_ref().filter(|_| job.status == Status::Blocked);
    let mut explanation = Explanation {
        object: "explanation",
        id: job.id.to_string(),
        status: job.status,
        reason,
        summary: String::new(),
        paused: numbers.paused,
        live_workers: numbers.live_workers,
        position,
        position_at_least: place.more,
        waiting_for_key: key.map(|key| WaitingForKey {
            key: key.clone(),
            held_by: place.key_holder.map(|holder| holder.to_string()),
            waiters_before: place.key_waiters_before,
        }),
        run_at: job.run_at.map(times::text),
        due_in_seconds: due_in.filter(|_| waits).map(|time| time.as_secs_f64()),
        expires_at: job.expires_at.map(times::text),
        eta_seconds: eta.map(|time| time.as_secs_f64()),
        providers,
        last_error: job.error.clone(),
    };
    explanation.summary = explanation.sentence(job);
    explanation
}

fn reason(job: &Job, place: &Place, numbers: &PoolNumbers, providers: &[Server], due_in: Duration) -> Reason {
    let full = |server: &Server| server.limit.is_some_and(|limit| limit.is_reached());
    let none_takes = !providers.is_empty() && providers.iter().all(|server| server.down || full(server));
    let other = |server: &Server| server.runs.as_ref().is_some_and(|runs| job.model.as_ref() != Some(runs));
    let none_runs_it =
        !providers.is_empty() && providers.iter().all(|server| server.down || full(server) || other(server));
    let may_be_claimed = place.in_stream || place.awaits_turn;
    match job.status {
        status if status.is_terminal() => Reason::Ended,
        Status::Running => Reason::Running,
        Status::Blocked => Reason::WaitingForKey,
        _ if may_be_claimed && numbers.paused => Reason::Paused,
        _ if may_be_claimed && numbers.live_workers == 0 => Reason::NoLiveWorker,
        _ if may_be_claimed && none_takes && providers.iter().all(|server| server.down) => Reason::ProviderDown,
        _ if may_be_claimed && none_takes => Reason::ProviderLimited,
        _ if place.awaits_turn && none_runs_it => Reason::WaitingForTurn,
        _ if may_be_claimed => Reason::Queued,
        Status::Scheduled if !due_in.is_zero() => Reason::NotDue,
        Status::Retrying if !due_in.is_zero() => Reason::RetryDelay,
        _ => Reason::AboutToQueue,
    }
}

/// Jobs of higher priorities, which mostly go first.
fn before_its_priority(priority: Priority, numbers: &PoolNumbers) -> u64 {
    Priority::ALL.iter().zip(numbers.by_priority).take_while(|(higher, _)| **higher != priority).map(|(_, n)| n).sum()
}

impl Explanation {
    fn sentence(&self, job: &Job) -> String {
        let pool = &job.id.shard.pool;
        let error = job.error.as_ref().map_or_else(String::new, |error| format!(" after {}", error.code));
        match self.reason {
            Reason::Ended => format!("The job has ended as {}.", self.status.as_str()),
            Reason::Running if job.cancel_requested_at.is_some() => "The job runs and was asked to stop.".to_owned(),
            Reason::Running => {
                format!("The job runs on worker {}.", job.worker_id.as_ref().map_or("?", |worker| worker.as_str()))
            }
            Reason::NotDue => format!("The job is due in {}{error}.", shown(self.due_in_seconds)),
            Reason::RetryDelay => format!("The job runs again in {}{error}.", shown(self.due_in_seconds)),
            Reason::AboutToQueue => "The job is due and enters its queue in a moment.".to_owned(),
            Reason::WaitingForKey => match self.waiting_for_key.as_ref().and_then(|key| key.held_by.as_ref()) {
                Some(holder) => format!("The job waits for its concurrency key, which {holder} holds."),
                None => "The job waits for its concurrency key.".to_owned(),
            },
            Reason::Paused => format!("The pool {pool} is paused; {}.", self.others()),
            Reason::NoLiveWorker => format!("No live worker serves the pool {pool}; {}.", self.others()),
            Reason::ProviderDown => format!("No provider that serves the job answers; {}.", self.others()),
            Reason::ProviderLimited => {
                let limits = self.providers.iter().filter_map(|server| Some((&server.provider, server.limit?)));
                let limits = limits.filter(|(_, limit)| limit.is_reached());
                let told = limits.map(|(name, LimitUse { name: limit, value, threshold })| {
                    format!("{limit} of {name} is reached ({value} of {threshold})")
                });
                format!("The job waits for a provider: {}; {}.", told.collect::<Vec<_>>().join(", "), self.others())
            }
            Reason::WaitingForTurn => {
                let runs = self.providers.iter().filter_map(|server| Some((&server.provider, server.runs.as_ref()?)));
                let runs: Vec<_> = runs.map(|(name, model)| format!("{name} runs {model}")).collect();
                format!("The job waits for its model's turn: {}; {}.", runs.join(", "), self.others())
            }
            Reason::Queued => {
                let eta = self.eta_seconds.map(|time| format!(", about {} at the pace of late", shown(Some(time))));
                format!("The job waits for a free slot; {}{}.", self.others(), eta.unwrap_or_default())
            }
        }
    }

    fn others(&self) -> String {
        let least = if self.position_at_least { "at least " } else { "" };
        match self.position.unwrap_or(0) {
            0 => "no other job comes first".to_owned(),
            1 => "1 other job comes first".to_owned(),
            count => format!("{least}{count} other jobs come first"),
        }
    }
}

/// A time for people, to the second.
fn shown(seconds: Option<f64>) -> String {
    let time = Duration::from_secs_f64(seconds.unwrap_or(0.0).clamp(0.0, 1e9).ceil());
    humantime::format_duration(time).to_string()
}
