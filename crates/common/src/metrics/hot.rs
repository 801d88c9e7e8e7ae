//! The series that every job and every request touches, looked up once: by name and labels, each look-up costs a hash and some
//! allocations.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use metrics::{Counter, counter};

use super::histogram::{Histogram, Histograms};
use super::record::{code_label, text};
use super::zeroes::{HTTP_STATUSES, tasks_of};
use super::{
    ATTEMPT_DURATION, ATTEMPTS, CHUNKS_PUBLISHED, EVENT_LOOP_LAG, HTTP_REQUEST_DURATION, HTTP_REQUESTS, JOB_DURATION,
    JOBS_FINISHED, JOBS_SUBMITTED, MODEL_OTHER, QUEUE_WAIT, REDIS_CALL_DURATION, RESULTS_READ, SETTLE_DURATION,
    TASK_OTHER, TIME_TO_FIRST_TOKEN, TOKENS_COMPLETION, TOKENS_PROMPT,
};
use crate::code::ErrorCode;
use crate::config::Config;
use crate::ids::PoolName;
use crate::job::Status;
use crate::queue::SCRIPTS;

static HOT: OnceLock<Hot> = OnceLock::new();

/// All of them.
pub(super) struct Hot {
    pools: Vec<(PoolName, Pool)>,
    scripts: Vec<(&'static str, Histogram)>,
    statuses: Vec<(u16, Counter)>,
    pub(super) request_duration: Histogram,
    pub(super) event_loop_lag: Histogram,
    histograms: Histograms,
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
    fn new(histograms: &Histograms, config: &Config, pool: &PoolName) -> Self {
        let of_pool = [pool.as_str()];
        let models = config.models_of_pool(pool).into_iter().chain([MODEL_OTHER]);
        Self {
            queue_wait: histograms.of(QUEUE_WAIT, &of_pool),
            settle_duration: histograms.of(SETTLE_DURATION, &of_pool),
            chunks_published: counter!(CHUNKS_PUBLISHED, "pool" => text(pool)),
            results_read: counter!(RESULTS_READ, "pool" => text(pool)),
            attempted: attempts(pool, None),
            tasks: tasks_of(config, pool).map(|task| (task.to_owned(), Task::new(histograms, pool, task))).collect(),
            models: models.map(|model| (model.to_owned(), Model::new(histograms, pool, model))).collect(),
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
    fn new(histograms: &Histograms, pool: &PoolName, task: &str) -> Self {
        let labels = [("pool", text(pool)), ("task", task.to_owned())];
        Self {
            submitted: counter!(JOBS_SUBMITTED, &labels),
            attempt_duration: histograms.of(ATTEMPT_DURATION, &[pool.as_str(), task]),
            completed: finished(pool, task, Status::Completed, None),
            completed_after: finished_after(histograms, pool, task, Status::Completed),
        }
    }
}

impl Model {
    fn new(histograms: &Histograms, pool: &PoolName, model: &str) -> Self {
        let labels = [("pool", text(pool)), ("model", model.to_owned())];
        Self {
            first_token: histograms.of(TIME_TO_FIRST_TOKEN, &[pool.as_str(), model]),
            prompt: counter!(TOKENS_PROMPT, &labels),
            completion: counter!(TOKENS_COMPLETION, &labels),
        }
    }
}

impl Hot {
    /// Looks all of them up in the recorder, which makes them where they are not there yet.
    pub(super) fn new(config: &Config) -> Self {
        let histograms = Histograms::new();
        let pools = config.pools.keys().map(|pool| (pool.clone(), Pool::new(&histograms, config, pool)));
        let script = |name: &&'static str| (*name, histograms.of(REDIS_CALL_DURATION, &[name]));
        Self {
            pools: pools.collect(),
            scripts: SCRIPTS.iter().map(script).collect(),
            statuses: HTTP_STATUSES.iter().map(|status| (*status, answered(*status))).collect(),
            request_duration: histograms.of(HTTP_REQUEST_DURATION, &[]),
            event_loop_lag: histograms.of(EVENT_LOOP_LAG, &[]),
            histograms,
        }
    }

    /// The series of a pool. Names of one configuration share their text, so that most need no comparing.
    pub(super) fn pool(&self, pool: &PoolName) -> Option<&Pool> {
        let same = self.pools.iter().find(|(name, _)| std::ptr::eq(name.as_str(), pool.as_str()));
        same.or_else(|| self.pools.iter().find(|(name, _)| name == pool)).map(|(_, series)| series)
    }

    /// The series of a script's calls.
    pub(super) fn script(&self, name: &str) -> Option<&Histogram> {
        let same = self.scripts.iter().find(|(script, _)| std::ptr::eq(*script, name));
        same.or_else(|| self.scripts.iter().find(|(script, _)| *script == name)).map(|(_, series)| series)
    }

    /// The series of jobs that took so long to end with `status`.
    pub(super) fn finished_after(&self, pool: &PoolName, task: &str, status: Status) -> Histogram {
        finished_after(&self.histograms, pool, task, status)
    }

    /// An answer was sent.
    pub(super) fn answered(&self, status: u16) {
        match self.statuses.iter().find(|(known, _)| *known == status) {
            Some((_, series)) => series.increment(1),
            None => answered(status).increment(1),
        }
    }

    /// The histograms' part of the page.
    pub(super) fn render(&self, page: &mut String) {
        self.histograms.render(page);
    }
}

/// Makes them for this process. Once: several servers of a process share one configuration.
pub(super) fn keep(config: &Config) -> &'static Hot {
    HOT.get_or_init(|| Hot::new(config))
}

/// All of them; `None` where nothing is recorded.
pub(super) fn all() -> Option<&'static Hot> {
    HOT.get()
}

/// The series of a pool; `None` where nothing is recorded.
pub(super) fn pool(pool: &PoolName) -> Option<&'static Pool> {
    HOT.get()?.pool(pool)
}

pub(super) fn attempts(pool: &PoolName, code: Option<ErrorCode>) -> Counter {
    counter!(ATTEMPTS, "pool" => text(pool), "code" => code_label(code))
}

pub(super) fn finished(pool: &PoolName, task: &str, status: Status, code: Option<ErrorCode>) -> Counter {
    let (task, status) = (task.to_owned(), status.as_str());
    counter!(JOBS_FINISHED, "pool" => text(pool), "task" => task, "status" => status, "code" => code_label(code))
}

fn finished_after(histograms: &Histograms, pool: &PoolName, task: &str, status: Status) -> Histogram {
    histograms.of(JOB_DURATION, &[pool.as_str(), task, status.as_str()])
}

fn answered(status: u16) -> Counter {
    counter!(HTTP_REQUESTS, "status" => status.to_string())
}
