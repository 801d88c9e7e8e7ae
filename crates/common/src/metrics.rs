//! Every metric: its name, kind, unit, labels and help, and the only functions that change one.
//!
//! Labels are `pool task model status code provider priority` and never a job, an owner or a tenant. Gauges of a
//! whole queue come from every process: read them with `max by (pool)`, not `sum`.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::code::ErrorCode;
use crate::config::Config;
use crate::ids::PoolName;
use crate::job::{Priority, Status};

#[cfg(test)]
mod tests;
mod zeroes;

pub use zeroes::register_zeroes;

/// The label `code` of what went well.
pub const CODE_OK: &str = "none";
/// The label `model` of a model that the configuration does not name.
pub const MODEL_OTHER: &str = "other";

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
        if self.name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count }
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
    JOBS_FINISHED = Counter "jobs_finished_total" ["pool", "task", "status", "code"] "Jobs that reached a terminal status";
    SUBMIT_REFUSED = Counter "submit_refused_total" ["pool", "code"] "Submits refused, by the code of the answer";
    QUEUE_WAIT = Histogram "queue_wait_seconds" ["pool"] "From the time a job was due to its claim";
    JOB_DURATION = Histogram "job_duration_seconds" ["pool", "task", "status"] "From accepted to terminal";
    TIME_TO_FIRST_TOKEN = Histogram "time_to_first_token_seconds" ["pool", "model"] "From the start of an attempt to its first chunk";
    ATTEMPTS = Counter "attempts_total" ["pool", "code"] "Attempts ended; code none went well";
    RECLAIMED = Counter "reclaimed_total" ["pool"] "Jobs taken from a worker that died or fell silent";
    LEASE_LOST = Counter "lease_lost_total" ["pool"] "Leases that a worker found lost while it still ran the job";
    SETTLE_ABANDONED = Counter "settle_abandoned_total" ["pool"] "Outcomes that could not be written before the lease was over";
    JOBS = Gauge "jobs" ["pool", "status"] "Jobs by status";
    QUEUED_JOBS = Gauge "queued_jobs" ["pool", "priority"] "Jobs in a stream, waiting for a claim";
    OLDEST_QUEUED = Gauge "oldest_queued_seconds" ["pool"] "Age of the job that waits longest";
    DEMAND = Gauge "demand" ["pool"] "Queued, due and running jobs: the number to scale on";
    WORKER_SLOTS = Gauge "worker_slots" ["pool"] "Jobs that this worker can run at once";
    WORKER_SLOTS_BUSY = Gauge "worker_slots_busy" ["pool"] "Jobs that this worker runs now";
    TOKENS_PROMPT = Counter "tokens_prompt_total" ["pool", "model"] "Prompt tokens that providers counted";
    TOKENS_COMPLETION = Counter "tokens_completion_total" ["pool", "model"] "Completion tokens that providers counted";
    CHUNKS_PUBLISHED = Counter "chunks_published_total" ["pool"] "Chunks kept and published";
    CHUNKS_DROPPED = Counter "chunks_dropped_total" ["pool"] "Chunks that could not be published or passed the cap of their job";
    REDIS_ERRORS = Counter "redis_errors_total" [] "Redis commands that failed";
    REDIS_RECONNECTS = Counter "redis_reconnects_total" [] "Connections to Redis made anew";
    PROMOTED = Counter "promoted_total" ["pool"] "Due jobs moved into a stream by this process";
    EXPIRED = Counter "expired_total" ["pool"] "Jobs ended by this process for waiting past their deadline";
    PRUNED = Counter "pruned_total" ["pool"] "Ended jobs forgotten by this process";
    HTTP_REQUESTS = Counter "http_requests_total" ["status"] "HTTP requests answered";
    HTTP_REQUEST_DURATION = Histogram "http_request_duration_seconds" [] "From the request's head to the head of the answer";
}

/// Why a submit was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The pool's admission limits are reached.
    QueueFull,
    /// The concurrency key is held.
    RunAlreadyActive,
    /// The same idempotency key came with another body.
    IdempotencyKeyReused,
    /// Nobody serves the pool and the caller would not wait.
    NoLiveWorker,
    /// Redis is away or unfit, or the process drains.
    Unavailable,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::QueueFull, Self::RunAlreadyActive, Self::IdempotencyKeyReused, Self::NoLiveWorker, Self::Unavailable];

    /// The label `code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::RunAlreadyActive => "run_already_active",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::NoLiveWorker => "no_live_worker",
            Self::Unavailable => "unavailable",
        }
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), BUCKETS_SECONDS)
}

/// The recorder of this process, which may run several servers; installed at the first call.
///
/// `None` where another part of the process recorded first. Somebody must call `run_upkeep()` on it every few seconds.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let handle = builder().ok()?.install_recorder().ok()?;
        describe_all();
        Some(handle)
    };
    RECORDER.get_or_init(install).as_ref()
}

/// Tells the recorder unit and help of every metric.
pub fn describe_all() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit(), metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit(), metric.help),
            Kind::Histogram => {
                metrics::describe_histogram!(metric.name, metric.unit(), metric.help)
            }
        }
    }
}

/// The label of a model: its name where the providers of `pool` name it, else [`MODEL_OTHER`], so that callers
/// cannot make series without end.
pub fn model_label<'a>(config: &'a Config, pool: &PoolName, model: Option<&str>) -> &'a str {
    let mut named = config.providers_of_pool(pool).flat_map(|(_, provider)| &provider.models);
    model.and_then(|model| named.find(|named| *named == model)).map_or(MODEL_OTHER, String::as_str)
}

/// A job was accepted. `task` is a built-in or a configured name.
pub fn job_submitted(pool: &PoolName, task: &str) {
    counter!(JOBS_SUBMITTED, "pool" => text(pool), "task" => task.to_owned()).increment(1);
}

/// A job reached a terminal status, `duration` after it was accepted.
pub fn job_finished(pool: &PoolName, task: &str, status: Status, code: Option<ErrorCode>, duration: Duration) {
    let (pool, task, status) = (text(pool), task.to_owned(), status.as_str());
    let code = code_label(code);
    counter!(JOBS_FINISHED, "pool" => pool.clone(), "task" => task.clone(), "status" => status, "code" => code)
        .increment(1);
    histogram!(JOB_DURATION, "pool" => pool, "task" => task, "status" => status).record(duration);
}

/// A submit was refused.
pub fn submit_refused(pool: &PoolName, refusal: Refusal) {
    counter!(SUBMIT_REFUSED, "pool" => text(pool), "code" => refusal.as_str()).increment(1);
}

/// A job was claimed, so long after it was due.
pub fn queue_wait(pool: &PoolName, waited: Duration) {
    histogram!(QUEUE_WAIT, "pool" => text(pool)).record(waited);
}

/// The first chunk of an attempt came, so long after its start. `model` is a [`model_label`].
pub fn time_to_first_token(pool: &PoolName, model: &str, time: Duration) {
    histogram!(TIME_TO_FIRST_TOKEN, "pool" => text(pool), "model" => model.to_owned()).record(time);
}

/// An attempt ended; `None` is success.
pub fn attempt_ended(pool: &PoolName, code: Option<ErrorCode>) {
    counter!(ATTEMPTS, "pool" => text(pool), "code" => code_label(code)).increment(1);
}

/// Jobs were taken from a dead worker.
pub fn reclaimed(pool: &PoolName, count: u64) {
    add(RECLAIMED, pool, count);
}

/// A worker found a lease lost.
pub fn lease_lost(pool: &PoolName) {
    add(LEASE_LOST, pool, 1);
}

/// An outcome could not be written before the lease was over.
pub fn settle_abandoned(pool: &PoolName) {
    add(SETTLE_ABANDONED, pool, 1);
}

/// Sets how many jobs have `status`.
pub fn jobs(pool: &PoolName, status: Status, count: u64) {
    gauge!(JOBS, "pool" => text(pool), "status" => status.as_str()).set(as_f64(count));
}

/// Sets how many jobs wait with `priority`.
pub fn queued_jobs(pool: &PoolName, priority: Priority, count: u64) {
    gauge!(QUEUED_JOBS, "pool" => text(pool), "priority" => priority.as_str()).set(as_f64(count));
}

/// Sets the age of the job that waits longest; zero when none waits.
pub fn oldest_queued(pool: &PoolName, age: Duration) {
    gauge!(OLDEST_QUEUED, "pool" => text(pool)).set(age.as_secs_f64());
}

/// Sets the number to scale on.
pub fn demand(pool: &PoolName, count: u64) {
    gauge!(DEMAND, "pool" => text(pool)).set(as_f64(count));
}

/// Sets how many jobs this worker can run and runs.
pub fn worker_slots(pool: &PoolName, slots: u64, busy: u64) {
    gauge!(WORKER_SLOTS, "pool" => text(pool)).set(as_f64(slots));
    gauge!(WORKER_SLOTS_BUSY, "pool" => text(pool)).set(as_f64(busy));
}

/// A provider counted tokens. `model` is a [`model_label`].
pub fn tokens(pool: &PoolName, model: &str, prompt: u64, completion: u64) {
    let (pool, model) = (text(pool), model.to_owned());
    counter!(TOKENS_PROMPT, "pool" => pool.clone(), "model" => model.clone()).increment(prompt);
    counter!(TOKENS_COMPLETION, "pool" => pool, "model" => model).increment(completion);
}

/// Chunks were kept and published.
pub fn chunks_published(pool: &PoolName, count: u64) {
    add(CHUNKS_PUBLISHED, pool, count);
}

/// Chunks were lost to the cap or to Redis being away.
pub fn chunks_dropped(pool: &PoolName, count: u64) {
    add(CHUNKS_DROPPED, pool, count);
}

/// A Redis command failed.
pub fn redis_error() {
    counter!(REDIS_ERRORS).increment(1);
}

/// A connection to Redis was made anew.
pub fn redis_reconnect() {
    counter!(REDIS_RECONNECTS).increment(1);
}

/// Due jobs were moved into a stream.
pub fn promoted(pool: &PoolName, count: u64) {
    add(PROMOTED, pool, count);
}

/// Jobs were ended for waiting past their deadline.
pub fn expired(pool: &PoolName, count: u64) {
    add(EXPIRED, pool, count);
}

/// Ended jobs were forgotten.
pub fn pruned(pool: &PoolName, count: u64) {
    add(PRUNED, pool, count);
}

/// A request was answered with `status`, 100 to 599.
pub fn http_request(status: u16, duration: Duration) {
    counter!(HTTP_REQUESTS, "status" => status.to_string()).increment(1);
    histogram!(HTTP_REQUEST_DURATION).record(duration);
}

fn add(name: &'static str, pool: &PoolName, count: u64) {
    counter!(name, "pool" => text(pool)).increment(count);
}

fn text(pool: &PoolName) -> String {
    pool.as_str().to_owned()
}

fn code_label(code: Option<ErrorCode>) -> &'static str {
    code.map_or(CODE_OK, ErrorCode::as_str)
}

/// Counts pass 2^53 never.
fn as_f64(count: u64) -> f64 {
    count as f64
}
