//! The functions that change a metric.
//!
//! What every job does goes through the kept handles of `hot.rs`, made by [`super::start`]; all else looks its series up by
//! name and labels.

use std::time::Duration;

use metrics::{counter, gauge};

use super::hot;
use super::{
    CHUNKS_DROPPED, CODE_OK, DEMAND, DRAINING, EXPIRED, HANDED_BACK, JOBS, LEASE_LOST, LIVE_WORKERS, OLDEST_QUEUED,
    PAUSED, PROMOTED, PROVIDER_BREAKER_STATE, PROVIDER_LIMIT, PROVIDER_LIMIT_RATIO, PROVIDER_LIMIT_USED, PROVIDER_UP,
    PRUNED, QUEUED_BYTES, QUEUED_JOBS, RECLAIMED, REDIS_ERRORS, REDIS_MAX_MEMORY, REDIS_RECONNECTS, REDIS_SCRIPT_MEAN,
    REDIS_SCRIPT_RATIO, REDIS_UP, REDIS_USED_MEMORY, RETRIED, SETTLE_ABANDONED, SNOOZED, SPANS_EXPORTED, SPANS_LOST,
    SUBMIT_REFUSED, WORKER_SLOTS, WORKER_SLOTS_BUSY,
};
use crate::code::ErrorCode;
use crate::config::ProviderConfig;
use crate::ids::PoolName;
use crate::job::{Priority, Status};
use crate::provider::{self, Breaker, State};
use crate::queue::{PoolNumbers, ProviderStatus, ServerLoad};

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

/// A job was accepted.
pub fn job_submitted(pool: &PoolName, task: &str) {
    if let Some(series) = hot::pool(pool).and_then(|pool| pool.task(task)) {
        series.submitted.increment(1);
    }
}

/// A job reached a terminal status, `duration` after it was accepted.
pub fn job_finished(pool: &PoolName, task: &str, status: Status, code: Option<ErrorCode>, duration: Duration) {
    let Some(all) = hot::all() else { return };
    let Some(series) = all.pool(pool) else { return };
    if let (Status::Completed, Some(series)) = (status, series.task(task)) {
        series.completed.increment(1);
        series.completed_after.record(duration);
    } else {
        let task = series.task_label(task);
        hot::finished(pool, task, status, code).increment(1);
        all.finished_after(pool, task, status).record(duration);
    }
}

/// A submit was refused.
pub fn submit_refused(pool: &PoolName, refusal: Refusal) {
    counter!(SUBMIT_REFUSED, "pool" => text(pool), "code" => refusal.as_str()).increment(1);
}

/// A job was claimed, so long after it was due.
pub fn queue_wait(pool: &PoolName, waited: Duration) {
    if let Some(series) = hot::pool(pool) {
        series.queue_wait.record(waited);
    }
}

/// The first chunk of an attempt came, so long after its start. `model` is a [`super::model_label`].
pub fn time_to_first_token(pool: &PoolName, model: &str, time: Duration) {
    if let Some(series) = hot::pool(pool).and_then(|pool| pool.model(model)) {
        series.first_token.record(time);
    }
}

/// An attempt that counts ended after `duration`; without a code it went well.
pub fn attempt_ended(pool: &PoolName, task: &str, code: Option<ErrorCode>, duration: Duration) {
    let Some(series) = hot::pool(pool) else { return };
    series.attempt(pool, code);
    if let Some(series) = series.task(task) {
        series.attempt_duration.record(duration);
    }
}

/// The outcome of an attempt was written, so long after its end.
pub fn settled(pool: &PoolName, after: Duration) {
    if let Some(series) = hot::pool(pool) {
        series.settle_duration.record(after);
    }
}

/// An attempt failed, and the job runs again.
pub fn retried(pool: &PoolName, code: Option<ErrorCode>) {
    counter!(RETRIED, "pool" => text(pool), "code" => code_label(code)).increment(1);
}

/// An attempt was handed back.
pub fn handed_back(pool: &PoolName) {
    add(HANDED_BACK, pool, 1);
}

/// An attempt was put off.
pub fn snoozed(pool: &PoolName) {
    add(SNOOZED, pool, 1);
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

/// Sets the gauges of a pool to its numbers.
pub fn pool_numbers(pool: &PoolName, numbers: &PoolNumbers) {
    for (status, count) in Status::ALL.iter().zip(numbers.by_status) {
        jobs(pool, *status, count);
    }
    for (priority, count) in Priority::ALL.iter().zip(numbers.by_priority) {
        queued_jobs(pool, *priority, count);
    }
    let set = |name, value| gauge!(name, "pool" => text(pool)).set(value);
    set(QUEUED_BYTES, as_f64(numbers.queued_bytes));
    set(OLDEST_QUEUED, numbers.oldest_queued.as_secs_f64());
    set(DEMAND, as_f64(numbers.demand()));
    set(LIVE_WORKERS, as_f64(numbers.live_workers));
    set(PAUSED, f64::from(u8::from(numbers.paused)));
}

/// Sets the gauges of a provider to what its workers told.
pub fn provider_status(name: &str, config: &ProviderConfig, status: &ProviderStatus) {
    let set = |metric, value| gauge!(metric, "provider" => name.to_owned()).set(value);
    let up = !matches!(provider::state(config, status), State::Down | State::Unconfigured);
    set(PROVIDER_UP, f64::from(u8::from(up)));
    let worst = status.circuits.values().map(|circuit| Breaker::of(circuit, status.now)).max();
    set(PROVIDER_BREAKER_STATE, f64::from(worst.map_or(0, |breaker| breaker as u8)));
    set(PROVIDER_LIMIT_RATIO, provider::fullest_limit(config, status).map_or(0.0, |limit| limit.ratio()));
    for limit in provider::limits(config, status) {
        let set =
            |metric, value| gauge!(metric, "provider" => name.to_owned(), "limit" => limit.name).set(as_f64(value));
        set(PROVIDER_LIMIT, limit.threshold);
        set(PROVIDER_LIMIT_USED, limit.value);
    }
}

/// Sets how many jobs have `status`.
pub(super) fn jobs(pool: &PoolName, status: Status, count: u64) {
    gauge!(JOBS, "pool" => text(pool), "status" => status.as_str()).set(as_f64(count));
}

/// Sets how many jobs wait with `priority`.
pub(super) fn queued_jobs(pool: &PoolName, priority: Priority, count: u64) {
    gauge!(QUEUED_JOBS, "pool" => text(pool), "priority" => priority.as_str()).set(as_f64(count));
}

/// Sets how many jobs this worker can run and runs.
pub fn worker_slots(pool: &PoolName, slots: u64, busy: u64) {
    gauge!(WORKER_SLOTS, "pool" => text(pool)).set(as_f64(slots));
    gauge!(WORKER_SLOTS_BUSY, "pool" => text(pool)).set(as_f64(busy));
}

/// Says whether this process drains.
pub fn draining(drains: bool) {
    gauge!(DRAINING).set(f64::from(u8::from(drains)));
}

/// A provider counted tokens. `model` is a [`super::model_label`].
pub fn tokens(pool: &PoolName, model: &str, prompt: u64, completion: u64) {
    if let Some(series) = hot::pool(pool).and_then(|pool| pool.model(model)) {
        series.prompt.increment(prompt);
        series.completion.increment(completion);
    }
}

/// Chunks were kept and published.
pub fn chunks_published(pool: &PoolName, count: u64) {
    if let Some(series) = hot::pool(pool) {
        series.chunks_published.increment(count);
    }
}

/// A completed job was handed to a reader.
pub fn result_read(pool: &PoolName) {
    if let Some(series) = hot::pool(pool) {
        series.results_read.increment(1);
    }
}

/// Chunks were lost to the cap or to Redis being away.
pub fn chunks_dropped(pool: &PoolName, count: u64) {
    add(CHUNKS_DROPPED, pool, count);
}

/// A script was called, and answered or not, after so long.
pub(crate) fn redis_call(script: &str, duration: Duration) {
    if let Some(series) = hot::all().and_then(|all| all.script(script)) {
        series.record(duration);
    }
}

/// Says whether Redis answers.
pub fn redis_up(up: bool) {
    gauge!(REDIS_UP).set(f64::from(u8::from(up)));
}

/// Sets the gauges of the server.
pub fn server_load(load: &ServerLoad) {
    gauge!(REDIS_SCRIPT_MEAN).set(load.script_mean.as_secs_f64());
    gauge!(REDIS_SCRIPT_RATIO).set(load.script_ratio);
    gauge!(REDIS_USED_MEMORY).set(as_f64(load.used_memory));
    gauge!(REDIS_MAX_MEMORY).set(as_f64(load.max_memory));
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
    if let Some(all) = hot::all() {
        all.answered(status);
        all.request_duration.record(duration);
    }
}

/// A collector took so many spans, or did not.
pub fn spans_exported(taken: bool, count: usize) {
    counter!(if taken { SPANS_EXPORTED } else { SPANS_LOST }).increment(count as u64);
}

/// A timer of this process fired so late.
pub(super) fn event_loop_lag(late: Duration) {
    if let Some(all) = hot::all() {
        all.event_loop_lag.record(late);
    }
}

pub(super) fn add(name: &'static str, pool: &PoolName, count: u64) {
    counter!(name, "pool" => text(pool)).increment(count);
}

pub(super) fn text(pool: &PoolName) -> String {
    pool.as_str().to_owned()
}

pub(super) fn code_label(code: Option<ErrorCode>) -> &'static str {
    code.map_or(CODE_OK, ErrorCode::as_str)
}

/// Counts pass 2^53 never.
fn as_f64(count: u64) -> f64 {
    count as f64
}
