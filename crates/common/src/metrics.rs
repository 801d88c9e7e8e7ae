//! Every metric: its name, kind, unit, labels and help. [`record`] has the only functions that change one.
//!
//! Labels are `pool task model status code provider limit priority`, beside them `script` and `version`, and never a job, an
//! owner or a tenant. Gauges of a whole queue come from every API process: read them with `max by (pool)`, not `sum`.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::Unit;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::ids::PoolName;

mod histogram;
mod hot;
pub mod record;
#[cfg(test)]
mod tests;
mod zeroes;

pub use record::*;

/// The label `code` of what went well.
pub const CODE_OK: &str = "none";
/// The label `model` of a model that the configuration does not name.
pub const MODEL_OTHER: &str = "other";
/// The label `task` of a task that the configuration does not name: another process' may.
pub const TASK_OTHER: &str = "other";

/// How often the event loop is asked how late it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The upper bounds of every histogram, in seconds: from a queue hop to the longest job.
pub const BUCKETS_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0, 1800.0, 3600.0,
];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One metric, as declared.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The full name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Which labels it bears.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl Metric {
    /// The unit, as the name tells it.
    pub fn unit(&self) -> Unit {
        match self.name {
            name if name.ends_with("_seconds") => Unit::Seconds,
            name if name.ends_with("_bytes") => Unit::Bytes,
            _ => Unit::Count,
        }
    }
}

/// Declares the metrics and the list of all, so that none can be forgotten.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $constant: &str = concat!("overshot_", $name);)*

        /// Every metric.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $constant,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        },)*];
    };
}

metrics! {
    JOBS_SUBMITTED = Counter "jobs_submitted_total" ["pool", "task"] "Jobs accepted";
    SUBMIT_REFUSED = Counter "submit_refused_total" ["pool", "code"] "Submits refused, by the code of the answer";
    QUEUE_WAIT = Histogram "queue_wait_seconds" ["pool"] "From the time a job was due to its claim";
    TIME_TO_FIRST_TOKEN = Histogram "time_to_first_token_seconds" ["pool", "model"] "From the start of an attempt to its first chunk";
    ATTEMPT_DURATION = Histogram "attempt_duration_seconds" ["pool", "task"] "From the claim to the end of an attempt that counts";
    ATTEMPTS = Counter "attempts_total" ["pool", "code"] "Attempts ended; code none went well";
    SETTLE_DURATION = Histogram "settle_duration_seconds" ["pool"] "From the end of an attempt to its outcome being written";
    JOBS_FINISHED = Counter "jobs_finished_total" ["pool", "task", "status", "code"] "Jobs that a worker or a reaper brought to a terminal status";
    JOB_DURATION = Histogram "job_duration_seconds" ["pool", "task", "status"] "From accepted to terminal";
    RETRIED = Counter "retried_total" ["pool", "code"] "Failed attempts after which the job runs again";
    HANDED_BACK = Counter "handed_back_total" ["pool"] "Attempts returned to the queue uncounted, by a worker that drains or lost touch with Redis";
    SNOOZED = Counter "snoozed_total" ["pool"] "Attempts put off uncounted, because the provider was full, limited or asleep";
    RECLAIMED = Counter "reclaimed_total" ["pool"] "Jobs taken from a worker that died or fell silent";
    LEASE_LOST = Counter "lease_lost_total" ["pool"] "Leases that a worker found lost while it still ran the job";
    SETTLE_ABANDONED = Counter "settle_abandoned_total" ["pool"] "Outcomes that could not be written before the lease was over";
    TOKENS_PROMPT = Counter "tokens_prompt_total" ["pool", "model"] "Prompt tokens that providers counted";
    TOKENS_COMPLETION = Counter "tokens_completion_total" ["pool", "model"] "Completion tokens that providers counted";
    CHUNKS_PUBLISHED = Counter "chunks_published_total" ["pool"] "Chunks kept and published";
    CHUNKS_DROPPED = Counter "chunks_dropped_total" ["pool"] "Chunks that could not be published or passed the cap of their job";
    RESULTS_READ = Counter "results_read_total" ["pool"] "Answers and event streams that bore a completed job";
    PROMOTED = Counter "promoted_total" ["pool"] "Due jobs moved into a stream by this process";
    EXPIRED = Counter "expired_total" ["pool"] "Jobs ended by this process for waiting past their deadline";
    PRUNED = Counter "pruned_total" ["pool"] "Ended jobs forgotten by this process";
    JOBS = Gauge "jobs" ["pool", "status"] "Jobs by status";
    QUEUED_JOBS = Gauge "queued_jobs" ["pool", "priority"] "Jobs in a stream, waiting for a claim";
    QUEUED_BYTES = Gauge "queued_bytes" ["pool"] "Bytes of input that wait";
    OLDEST_QUEUED = Gauge "oldest_queued_seconds" ["pool"] "Age of the job that waits longest";
    DEMAND = Gauge "demand" ["pool"] "Queued, due and running jobs: the number to scale on";
    LIVE_WORKERS = Gauge "live_workers" ["pool"] "Workers that beat lately";
    PAUSED = Gauge "paused" ["pool"] "1 while claims are stopped";
    PROVIDER_UP = Gauge "provider_up" ["provider"] "1 while the provider answers or sleeps, as its workers tell; 0 while it is down or nobody tells of it";
    PROVIDER_BREAKER_STATE = Gauge "provider_breaker_state" ["provider"] "The worst of the provider's circuits: 0 closed, 1 half-open, 2 open";
    PROVIDER_LIMIT_RATIO = Gauge "provider_limit_used_ratio" ["provider"] "Share of the provider's fullest limit that is used, 0 without limits";
    PROVIDER_LIMIT = Gauge "provider_limit" ["provider", "limit"] "What a limit of the provider allows, 0 without it";
    PROVIDER_LIMIT_USED = Gauge "provider_limit_used" ["provider", "limit"] "How much of a limit of the provider all workers use, 0 without it";
    POOL_PROVIDER_INFO = Gauge "pool_provider_info" ["pool", "provider"] "1; the pool's jobs may go to the provider";
    WORKER_SLOTS = Gauge "worker_slots" ["pool"] "Jobs that this worker can run at once";
    WORKER_SLOTS_BUSY = Gauge "worker_slots_busy" ["pool"] "Jobs that this worker runs now";
    DRAINING = Gauge "draining" [] "1 while this process drains";
    REDIS_UP = Gauge "redis_up" [] "1 while Redis answers this process";
    REDIS_CALL_DURATION = Histogram "redis_call_duration_seconds" ["script"] "Round trip of a script, tries and reconnects included";
    REDIS_ERRORS = Counter "redis_errors_total" [] "Redis commands that failed";
    REDIS_RECONNECTS = Counter "redis_reconnects_total" [] "Connections to Redis made anew";
    REDIS_SCRIPT_MEAN = Gauge "redis_script_mean_seconds" [] "Time that a script took within Redis, the mean since the look before";
    REDIS_SCRIPT_RATIO = Gauge "redis_script_busy_ratio" [] "Share of its time that Redis spent in scripts since the look before; of a cluster, the mean of its nodes";
    REDIS_USED_MEMORY = Gauge "redis_used_memory_bytes" [] "Memory that Redis uses; of a cluster, the fullest node";
    REDIS_MAX_MEMORY = Gauge "redis_max_memory_bytes" [] "Memory that Redis may use, 0 without a limit";
    HTTP_REQUESTS = Counter "http_requests_total" ["status"] "HTTP requests answered";
    HTTP_REQUEST_DURATION = Histogram "http_request_duration_seconds" [] "From the request's head to the head of the answer";
    SPANS_EXPORTED = Counter "spans_exported_total" [] "Spans of traces that the collector took";
    SPANS_LOST = Counter "spans_lost_total" [] "Spans of traces that were dropped, or that the collector did not take";
    EVENT_LOOP_LAG = Histogram "event_loop_lag_seconds" [] "How late a timer of this process fired";
    BUILD_INFO = Gauge "build_info" ["version"] "1; the version is in the label";
}

/// The recorder of this process, which may run several servers; installed at the first call.
fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let handle = PrometheusBuilder::new().install_recorder().ok()?;
        describe_all();
        Some(handle)
    };
    RECORDER.get_or_init(install).as_ref()
}

/// Makes this process record, unless it does already; whether it does. `false`: another part of it recorded first.
pub fn install() -> bool {
    recorder().is_some()
}

/// What Prometheus reads; `None` where another part of the process records.
pub fn page() -> Option<String> {
    let mut page = recorder()?.render();
    if let Some(all) = hot::all() {
        all.render(&mut page);
    }
    Some(page)
}

/// Makes every series that the configuration names, at 0, where this process has a recorder of its own.
pub fn start(config: &Config) {
    if install() {
        zeroes::register_zeroes(config, hot::keep(config));
    }
}

/// Measures how late timers fire, until `stopping`.
pub async fn tend(stopping: CancellationToken) {
    loop {
        let due = Instant::now() + LOOK_EVERY;
        if stopping.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
            return;
        }
        event_loop_lag(due.elapsed());
    }
}

/// Tells the recorder unit and help of every metric that it holds.
fn describe_all() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit(), metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit(), metric.help),
            // `histogram` writes these.
            Kind::Histogram => {}
        }
    }
}

/// The label of a model: its name where the providers of `pool` name it, else [`MODEL_OTHER`], so that callers
/// cannot make series without end.
pub fn model_label<'a>(config: &'a Config, pool: &PoolName, model: Option<&str>) -> &'a str {
    let mut named = config.providers_of_pool(pool).flat_map(|(_, provider)| &provider.models);
    model.and_then(|model| named.find(|named| *named == model)).map_or(MODEL_OTHER, String::as_str)
}
