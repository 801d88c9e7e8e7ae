//! Every series from the start, so that alerts and rates have something to stand on.

use metrics::{counter, gauge, histogram};

use super::{
    ATTEMPTS, CHUNKS_DROPPED, CHUNKS_PUBLISHED, DEMAND, EXPIRED, HTTP_REQUEST_DURATION, HTTP_REQUESTS, JOB_DURATION,
    JOBS_FINISHED, JOBS_SUBMITTED, LEASE_LOST, MODEL_OTHER, OLDEST_QUEUED, PROMOTED, PRUNED, QUEUE_WAIT, RECLAIMED,
    REDIS_ERRORS, REDIS_RECONNECTS, Refusal, SETTLE_ABANDONED, SUBMIT_REFUSED, TIME_TO_FIRST_TOKEN, WORKER_SLOTS,
    WORKER_SLOTS_BUSY, add, code_label, jobs, queued_jobs, text, tokens,
};
use crate::code::ErrorCode;
use crate::config::{Config, TaskKind};
use crate::ids::PoolName;
use crate::job::{Priority, Status};

/// Statuses that HTTP answers bear; each exists at 0 from the start.
const HTTP_STATUSES: &[&str] = &["200", "202", "400", "401", "404", "405", "409", "413", "422", "429", "500", "503"];

/// Makes every series that the configuration names, at 0: an absent series makes an alert silent.
pub fn register_zeroes(config: &Config) {
    for pool in config.pools.keys() {
        zero_pool(pool);
        for model in config.models_of_pool(pool).into_iter().chain([MODEL_OTHER]) {
            tokens(pool, model, 0, 0);
            drop(histogram!(TIME_TO_FIRST_TOKEN, "pool" => text(pool), "model" => model.to_owned()));
        }
        let own = config.tasks.iter().filter(|(_, task)| task.pool.as_ref().is_none_or(|own| own == pool));
        let built_in = TaskKind::ALL.iter().map(|(name, _)| *name);
        for task in built_in.chain(own.map(|(name, _)| name.as_str())) {
            zero_task(pool, task);
        }
    }
    counter!(REDIS_ERRORS).absolute(0);
    counter!(REDIS_RECONNECTS).absolute(0);
    for status in HTTP_STATUSES {
        counter!(HTTP_REQUESTS, "status" => *status).absolute(0);
    }
    drop(histogram!(HTTP_REQUEST_DURATION));
}

fn zero_pool(pool: &PoolName) {
    for name in [RECLAIMED, LEASE_LOST, SETTLE_ABANDONED, CHUNKS_PUBLISHED, CHUNKS_DROPPED, PROMOTED, EXPIRED, PRUNED] {
        add(name, pool, 0);
    }
    for name in [OLDEST_QUEUED, DEMAND, WORKER_SLOTS, WORKER_SLOTS_BUSY] {
        gauge!(name, "pool" => text(pool)).set(0.0);
    }
    for refusal in Refusal::ALL {
        counter!(SUBMIT_REFUSED, "pool" => text(pool), "code" => refusal.as_str()).absolute(0);
    }
    for code in [None].into_iter().chain(ErrorCode::ALL.iter().copied().map(Some)) {
        counter!(ATTEMPTS, "pool" => text(pool), "code" => code_label(code)).absolute(0);
    }
    Status::ALL.iter().for_each(|status| jobs(pool, *status, 0));
    Priority::ALL.iter().for_each(|priority| queued_jobs(pool, *priority, 0));
    drop(histogram!(QUEUE_WAIT, "pool" => text(pool)));
}

fn zero_task(pool: &PoolName, task: &str) {
    let zero = |status: Status, code| {
        let labels = [
            ("pool", text(pool)),
            ("task", task.to_owned()),
            ("status", status.as_str().to_owned()),
            ("code", code_label(code).to_owned()),
        ];
        counter!(JOBS_FINISHED, &labels).absolute(0);
    };
    counter!(JOBS_SUBMITTED, "pool" => text(pool), "task" => task.to_owned()).absolute(0);
    zero(Status::Completed, None);
    zero(Status::Cancelled, Some(ErrorCode::Cancelled));
    zero(Status::Expired, Some(ErrorCode::QueueTimeout));
    let ends_otherwise = [ErrorCode::Cancelled, ErrorCode::QueueTimeout];
    for code in ErrorCode::ALL.iter().filter(|code| !ends_otherwise.contains(code)) {
        zero(Status::Failed, Some(*code));
    }
    for status in Status::ALL.iter().filter(|status| status.is_terminal()) {
        let status = status.as_str();
        drop(histogram!(JOB_DURATION, "pool" => text(pool), "task" => task.to_owned(), "status" => status));
    }
}
