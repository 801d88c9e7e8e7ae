//! The series that every job touches, looked up once: by name and labels, each look-up costs a hash and some allocations.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use metrics::{Counter, Histogram, counter, histogram};

use super::record::{code_label, text};
use super::zeroes::tasks_of;
use super::{
    ATTEMPT_DURATION, ATTEMPTS, CHUNKS_PUBLISHED, JOB_DURATION, JOBS_FINISHED, JOBS_SUBMITTED, MODEL_OTHER, QUEUE_WAIT,
    REDIS_CALL_DURATION, RESULTS_READ, SETTLE_DURATION, TASK_OTHER, TIME_TO_FIRST_TOKEN, TOKENS_COMPLETION,
    TOKENS_PROMPT,
};
use crate::code::ErrorCode;
use crate::config::Config;
use crate::ids::PoolName;
use crate::job::Status;
use crate::queue::SCRIPTS;

static HOT: OnceLock<Hot> = OnceLock::new();

/// All of them.
struct Hot {
    pools: BTreeMap<PoolName, Pool>,
    scripts: BTreeMap<&'static str, Histogram>,
}

/// Those of one pool.
pub(super) struct Pool {
    pub(super) queue_wait: Histogram,
    pub(super) settle_duration: Histogram,
    pub(super) chunks_published: Counter,
    pub(super) results_read: Counter,
    attempted: Counter,
    tasks: BTreeMap<String, Task>,
    models: BTreeMap<String, Model>,
}

/// Those of one task in a pool.
pub(super) struct Task {
    pub(super) submitted: Counter,
    pub(super) attempt_duration: Histogram,
    pub(super) completed: Counter,
    pub(super) completed_after: Histogram,
}

/// Those of one model in a pool.
pub(super) struct Model {
    pub(super) first_token: Histogram,
    pub(super) prompt: Counter,
    pub(super) completion: Counter,
}

impl Pool {
    pub(super) fn new(config: &Config, pool: &PoolName) -> Self {
        let models = config.models_of_pool(pool).into_iter().chain([MODEL_OTHER]);
        Self {
            queue_wait: histogram!(QUEUE_WAIT, "pool" => text(pool)),
            settle_duration: histogram!(SETTLE_DURATION, "pool" => text(pool)),
            chunks_published: counter!(CHUNKS_PUBLISHED, "pool" => text(pool)),
            results_read: counter!(RESULTS_READ, "pool" => text(pool)),
            attempted: attempts(pool, None),
            tasks: tasks_of(config, pool).map(|task| (task.to_owned(), Task::new(pool, task))).collect(),
            models: models.map(|model| (model.to_owned(), Model::new(pool, model))).collect(),
        }
    }

    /// The series of a task; of one that the configuration does not name, [`TASK_OTHER`].
    pub(super) fn task(&self, task: &str) -> Option<&Task> {
        self.tasks.get(task).or_else(|| self.tasks.get(TASK_OTHER))
    }

    /// The label of a task.
    pub(super) fn task_label<'a>(&self, task: &'a str) -> &'a str {
        if self.tasks.contains_key(task) { task } else { TASK_OTHER }
    }

    /// The series of a model; of one that the configuration does not name, [`MODEL_OTHER`].
    pub(super) fn model(&self, model: &str) -> Option<&Model> {
        self.models.get(model).or_else(|| self.models.get(MODEL_OTHER))
    }

    pub(super) fn attempt(&self, pool: &PoolName, code: Option<ErrorCode>) {
        match code {
            None => self.attempted.increment(1),
            Some(_) => attempts(pool, code).increment(1),
        }
    }
}

impl Task {
    fn new(pool: &PoolName, task: &str) -> Self {
        let labels = [("pool", text(pool)), ("task", task.to_owned())];
        Self {
            submitted: counter!(JOBS_SUBMITTED, &labels),
            attempt_duration: histogram!(ATTEMPT_DURATION, &labels),
            completed: finished(pool, task, Status::Completed, None),
            completed_after: finished_after(pool, task, Status::Completed),
        }
    }
}

impl Model {
    fn new(pool: &PoolName, model: &str) -> Self {
        let labels = [("pool", text(pool)), ("model", model.to_owned())];
        Self {
            first_token: histogram!(TIME_TO_FIRST_TOKEN, &labels),
            prompt: counter!(TOKENS_PROMPT, &labels),
            completion: counter!(TOKENS_COMPLETION, &labels),
        }
    }
}

/// Looks all of them up in this process' recorder. Once: several servers of a process share one configuration.
pub(super) fn keep(config: &Config) {
    HOT.get_or_init(|| Hot {
        pools: config.pools.keys().map(|pool| (pool.clone(), Pool::new(config, pool))).collect(),
        scripts: SCRIPTS.iter().map(|script| (*script, redis_call(script))).collect(),
    });
}

/// The series of a pool; `None` where nothing is recorded.
pub(super) fn pool(pool: &PoolName) -> Option<&'static Pool> {
    HOT.get()?.pools.get(pool)
}

/// The series of a script's calls; `None` where nothing is recorded.
pub(super) fn script(name: &str) -> Option<&'static Histogram> {
    HOT.get()?.scripts.get(name)
}

pub(super) fn redis_call(script: &'static str) -> Histogram {
    histogram!(REDIS_CALL_DURATION, "script" => script)
}

pub(super) fn attempts(pool: &PoolName, code: Option<ErrorCode>) -> Counter {
    counter!(ATTEMPTS, "pool" => text(pool), "code" => code_label(code))
}

pub(super) fn finished(pool: &PoolName, task: &str, status: Status, code: Option<ErrorCode>) -> Counter {
    let (task, status) = (task.to_owned(), status.as_str());
    counter!(JOBS_FINISHED, "pool" => text(pool), "task" => task, "status" => status, "code" => code_label(code))
}

pub(super) fn finished_after(pool: &PoolName, task: &str, status: Status) -> Histogram {
    histogram!(JOB_DURATION, "pool" => text(pool), "task" => task.to_owned(), "status" => status.as_str())
}
