//! The log of a run: what clients asked and were told, what ran, what broke, and what was there in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::forget::Holding;

mod fault;

pub use fault::Fault;

/// A job's name, made by the workload before it is submitted. Its id is what the API makes of it.
pub type Name = Arc<str>;

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, in ms since the start, by one monotonic clock for all.
    pub at: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The workload is about to submit a job.
    Planned {
        /// The job.
        job: Name,
        /// What it is to be.
        plan: Plan,
    },
    /// A client sends a call.
    Invoked {
        /// Names the call.
        call: u64,
        /// The job that it is about.
        job: Name,
        /// What it asks.
        op: Op,
    },
    /// A call came back, or was given up.
    Returned {
        /// Which call.
        call: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// A client saw the job's record.
    Seen {
        /// The job.
        job: Name,
        /// Its id.
        id: String,
        /// What it saw.
        view: View,
    },
    /// A client was told that there is no such job, although the job had been accepted.
    Missing {
        /// The job.
        job: Name,
    },
    /// A reader of `/events` got something.
    Read {
        /// Names the reader; one reader sees each chunk at most once, over all of its connections.
        reader: u64,
        /// The job that it reads.
        job: Name,
        /// What it got.
        item: Item,
    },
    /// The provider was asked: a run of the job has begun.
    RunBegan {
        /// Names the run.
        run: u64,
        /// The job.
        job: Name,
    },
    /// The provider's answer has ended.
    RunEnded {
        /// Which run.
        run: u64,
        /// How.
        how: RunEnd,
    },
    /// What the queue answered to a run's settlement. Only where the history is made inside one process.
    Settled {
        /// Which run.
        run: u64,
        /// The answer.
        answer: Answer,
    },
    /// What the queue answered to a run's renewal. Only where the history is made inside one process.
    Renewed {
        /// Which run.
        run: u64,
        /// Whether the lease runs on.
        kept: bool,
    },
    /// Something breaks.
    FaultBegan {
        /// Names the fault.
        fault: u64,
        /// Of which kind it is.
        kind: Fault,
        /// What breaks.
        target: String,
    },
    /// It is whole again.
    FaultEnded {
        /// Which fault.
        fault: u64,
    },
    /// After the drain: the listing holds this job.
    Final {
        /// The job; the id again where it bears no name of ours.
        job: Name,
        /// Its id.
        id: String,
        /// How it stands.
        view: View,
    },
    /// After the drain: something that should be empty is not.
    Leftover {
        /// What.
        what: String,
        /// How many.
        count: u64,
    },
    /// The audit found as many records or entries amiss.
    Mended {
        /// How many.
        count: u64,
        /// What, and of which jobs.
        what: String,
    },
    /// The retention of all jobs is over.
    Forgotten {
        /// What Redis held before the first job.
        before: Holding,
        /// What it holds now.
        after: Holding,
    },
    /// A process panicked.
    Panicked {
        /// Which one, and its line.
        line: String,
    },
}

/// What a job is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// A word for the report.
    pub kind: &'static str,
    /// Jobs of the same key never run at the same time.
    pub key: Option<String>,
    /// Not before so many ms after the first submit.
    pub delay: u64,
    /// How many failures end it; 0: not judged.
    pub max_attempts: u64,
    /// How it may end.
    pub expects: Expects,
}

/// How a job may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expects {
    /// Completed, unless its failures used up its attempts.
    #[default]
    Completed,
    /// Failed.
    Failed,
    /// In any way: cancelled, say, or too late for that.
    Anything,
}

/// What a call asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// To accept the job.
    Submit,
    /// To cancel it.
    Cancel,
    /// To run it again after its end.
    Retry,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done; the job's id.
    Ok(String),
    /// It was certainly not done; the status code.
    Refused(u16),
    /// Nobody knows: no answer, or a 5xx.
    Unknown,
}

/// How a run ended, as the provider saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// With a whole answer.
    Answered,
    /// With an error.
    Failed,
    /// The worker closed the connection before the answer was whole.
    Dropped,
}

/// The queue's answer to a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It ended the job, now or by an earlier send of the same call.
    Accepted,
    /// The grant does not hold.
    Fenced,
}

/// A job's record, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// Its status.
    pub status: String,
    /// When it ended; empty while it has not.
    pub completed_at: String,
    /// How many runs were begun.
    pub attempts: u64,
    /// How many workers were lost under it.
    pub crashes: u64,
    /// The result's text.
    pub content: String,
    /// The error's code.
    pub error: String,
}

impl View {
    /// Whether the job has ended.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "cancelled" | "expired")
    }
}

/// What a reader of events gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Output starts anew.
    Attempt(u64),
    /// A piece of output.
    Chunk {
        /// Of which attempt.
        attempt: u64,
        /// Its number, from 1 in each attempt.
        seq: u64,
        /// Its text.
        text: String,
    },
    /// Chunks before this place are gone.
    Truncated,
    /// The end, with the status.
    Done(String),
}

/// All events of a run, in the order in which they happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The events.
    pub events: Vec<Event>,
}

impl History {
    /// Adds an event.
    pub fn push(&mut self, at: u64, what: What) {
        self.events.push(Event { at, what });
    }
}

/// The log while it is written, by many tasks.
#[derive(Debug)]
pub struct Log {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    history: History,
    /// The last number of each sort of names.
    numbers: BTreeMap<&'static str, u64>,
    completed: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self { start: Instant::now(), inner: Mutex::default() }
    }
}

impl Log {
    /// Writes an event down, now.
    pub fn record(&self, what: What) {
        let mut inner = self.inner();
        if matches!(&what, What::Seen { view, .. } if view.status == "completed") {
            inner.completed += 1;
        }
        // Read under the lock, so that the order is that of the times.
        let at = self.now();
        inner.history.push(at, what);
    }

    /// A fresh number among those of its sort, from 1.
    pub fn number(&self, sort: &'static str) -> u64 {
        let mut inner = self.inner();
        let number = inner.numbers.entry(sort).or_default();
        *number += 1;
        *number
    }

    /// Ms since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many jobs were seen completed so far.
    pub fn completed(&self) -> u64 {
        self.inner().completed
    }

    /// What was written so far.
    pub fn history(&self) -> History {
        self.inner().history.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock can panic")
    }
}
