//! Every series from the start, so that alerts and rates have something to stand on.

use metrics::{counter, gauge};

use super::hot::{Hot, attempts, finished};
use super::record::{add, code_label, jobs, queued_jobs, text};
use super::{
    BUILD_INFO, CHUNKS_DROPPED, DEMAND, DRAINING, EXPIRED, HANDED_BACK, LEASE_LOST, LIVE_WORKERS, OLDEST_QUEUED,
    PAUSED, POOL_PROVIDER_INFO, PROMOTED, PROVIDER_BREAKER_STATE, PROVIDER_LIMIT, PROVIDER_LIMIT_RATIO,
    PROVIDER_LIMIT_USED, PROVIDER_UP, PRUNED, QUEUED_BYTES, RECLAIMED, REDIS_ERRORS, REDIS_MAX_MEMORY,
    REDIS_RECONNECTS, REDIS_SCRIPT_MEAN, REDIS_SCRIPT_RATIO, REDIS_UP, REDIS_USED_MEMORY, RETRIED, Refusal,
    SETTLE_ABANDONED, SNOOZED, SPANS_EXPORTED, SPANS_LOST, SUBMIT_REFUSED, TASK_OTHER, WORKER_SLOTS, WORKER_SLOTS_BUSY,
};
use crate::code::ErrorCode;
use crate::config::{Config, TaskKind};
use crate::ids::PoolName;
use crate::job::{Priority, Status};
use crate::provider::LIMITS;

/// Statuses that HTTP answers bear; each exists at 0 from the start.
pub(super) const HTTP_STATUSES: &[u16] = &[200, 202, 400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 503];
/// Counters of a pool alone.
const OF_POOL: [&str; 9] =
    [HANDED_BACK, SNOOZED, RECLAIMED, LEASE_LOST, SETTLE_ABANDONED, CHUNKS_DROPPED, PROMOTED, EXPIRED, PRUNED];

/// Makes every series that the configuration names, at 0: an absent series makes an alert silent.
///
/// Those of `hot` are made with it.
pub(super) fn register_zeroes(config: &Config, hot: &Hot) {
    for pool in config.pools.keys() {
        zero_pool(pool);
        tasks_of(config, pool).for_each(|task| zero_task(hot, pool, task));
        for (provider, _) in config.providers_of_pool(pool) {
            gauge!(POOL_PROVIDER_INFO, "pool" => text(pool), "provider" => provider.to_owned()).set(1.0);
        }
    }
    for provider in config.providers.keys() {
        for name in [PROVIDER_UP, PROVIDER_BREAKER_STATE, PROVIDER_LIMIT_RATIO] {
            gauge!(name, "provider" => provider.clone()).set(0.0);
        }
        for limit in LIMITS {
            for name in [PROVIDER_LIMIT, PROVIDER_LIMIT_USED] {
                gauge!(name, "provider" => provider.clone(), "limit" => limit).set(0.0);
            }
        }
    }
    for name in [REDIS_ERRORS, REDIS_RECONNECTS, SPANS_EXPORTED, SPANS_LOST] {
        counter!(name).absolute(0);
    }
    for name in [DRAINING, REDIS_UP, REDIS_SCRIPT_MEAN, REDIS_SCRIPT_RATIO, REDIS_USED_MEMORY, REDIS_MAX_MEMORY] {
        gauge!(name).set(0.0);
    }
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// The tasks that may run in a pool, by label: the built-in ones, those configured for it, and the rest as one.
pub(super) fn tasks_of<'a>(config: &'a Config, pool: &'a PoolName) -> impl Iterator<Item = &'a str> {
    let own = config.tasks.iter().filter(move |(_, task)| task.pool.as_ref().is_none_or(|own| own == pool));
    let built_in = TaskKind::ALL.iter().map(|(name, _)| *name);
    built_in.chain(own.map(|(name, _)| name.as_str())).chain([TASK_OTHER])
}

fn zero_pool(pool: &PoolName) {
    OF_POOL.iter().for_each(|name| add(name, pool, 0));
    for name in [QUEUED_BYTES, OLDEST_QUEUED, DEMAND, LIVE_WORKERS, PAUSED, WORKER_SLOTS, WORKER_SLOTS_BUSY] {
        gauge!(name, "pool" => text(pool)).set(0.0);
    }
    for refusal in Refusal::ALL {
        counter!(SUBMIT_REFUSED, "pool" => text(pool), "code" => refusal.as_str()).absolute(0);
    }
    for code in ErrorCode::ALL {
        attempts(pool, Some(*code)).absolute(0);
        counter!(RETRIED, "pool" => text(pool), "code" => code_label(Some(*code))).absolute(0);
    }
    Status::ALL.iter().for_each(|status| jobs(pool, *status, 0));
    Priority::ALL.iter().for_each(|priority| queued_jobs(pool, *priority, 0));
}

fn zero_task(hot: &Hot, pool: &PoolName, task: &str) {
    finished(pool, task, Status::Cancelled, Some(ErrorCode::Cancelled)).absolute(0);
    finished(pool, task, Status::Expired, Some(ErrorCode::QueueTimeout)).absolute(0);
    let ends_otherwise = [ErrorCode::Cancelled, ErrorCode::QueueTimeout];
    for code in ErrorCode::ALL.iter().filter(|code| !ends_otherwise.contains(code)) {
        finished(pool, task, Status::Failed, Some(*code)).absolute(0);
    }
    for status in Status::ALL.iter().filter(|status| status.is_terminal()) {
        drop(hot.finished_after(pool, task, *status));
    }
}
