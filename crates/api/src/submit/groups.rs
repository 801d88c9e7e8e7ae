//! Single submits that come together go to Redis together.
//!
//! A script costs as much to begin as a job costs within it. So while a call of the shard is under way, what comes waits
//! and goes in the next one; on an idle API a submit goes at once and alone. Calls that wait until Redis made their jobs
//! durable wait at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use overshot_common::config::Durability;
use overshot_common::ids::Shard;
use overshot_common::queue::{Error, Limits, NewJob, Queue, Submitted};
use tokio::sync::oneshot;

/// Most jobs of a call, and most bytes of each: together they fit one script, so that a group fails or goes as one.
const JOBS_MAX: usize = 100;
const BYTES_MAX: usize = 10 << 10;
/// Most calls of a shard that wait for Redis at the same time.
const WAITS_MAX: usize = 16;

/// The submits of all shards on their way to Redis.
#[derive(Debug)]
pub(crate) struct Groups {
    queue: Queue,
    lanes: Mutex<HashMap<Shard, Lane>>,
}

/// One shard's.
#[derive(Debug, Default)]
struct Lane {
    waiting: Vec<Waiting>,
    /// Calls under way, or about to be.
    calls: usize,
}

#[derive(Debug)]
struct Waiting {
    job: NewJob,
    answer: oneshot::Sender<Result<Submitted, Error>>,
}

impl Groups {
    pub(crate) fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, lanes: Mutex::default() })
    }

    /// Enqueues one job, with others of its shard where there are some.
    ///
    /// Cancel safety: a dropped future leaves the job on its way.
    pub(crate) async fn enqueue(self: &Arc<Self>, limits: Limits, job: NewJob) -> Result<Submitted, Error> {
        // A large input would hold up its neighbours, and costs more than its script.
        if job.input.get().len() > BYTES_MAX {
            return Box::pin(one(&self.queue, limits, &job)).await;
        }
        let (answer, answered) = oneshot::channel();
        let most_calls = if limits.durability == Durability::Memory { 1 } else { WAITS_MAX };
        let shard = job.id.shard.clone();
        if self.join(&shard, Waiting { job, answer }, most_calls) {
            let call = Call { groups: self.clone(), shard, over: false };
            tokio::spawn(call.run(limits));
        }
        answered.await.unwrap_or_else(|_| Err(Error::Unavailable("the call was given up".to_owned())))
    }

    /// Whether the one that joined has to make a call.
    fn join(&self, shard: &Shard, waiting: Waiting, most_calls: usize) -> bool {
        let mut lanes = self.lanes();
        let lane = match lanes.get_mut(shard) {
            Some(lane) => lane,
            None => lanes.entry(shard.clone()).or_default(),
        };
        lane.waiting.push(waiting);
        let calls = lane.calls < most_calls;
        lane.calls += usize::from(calls);
        calls
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Shard, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// Takes those who waited longest.
    fn take(&mut self, most: usize) -> Vec<Waiting> {
        let count = self.waiting.len().min(most);
        self.waiting.drain(..count).collect()
    }
}

/// The right to make calls for a shard, until nobody waits.
struct Call {
    groups: Arc<Groups>,
    shard: Shard,
    over: bool,
}

impl Call {
    async fn run(mut self, limits: Limits) {
        while let Some(group) = self.next() {
            let (jobs, answers): (Vec<NewJob>, Vec<_>) = group.into_iter().map(|one| (one.job, one.answer)).unzip();
            match self.groups.queue.enqueue(&self.shard, limits, &jobs).await {
                Ok(submitted) => answers.into_iter().zip(submitted).for_each(|(answer, submitted)| {
                    answer.send(Ok(submitted)).ok();
                }),
                Err(error) if error.is_transient() => {
                    // Who waits already would only wait as long again.
                    let others = self.of_lane(|lane| lane.take(usize::MAX)).into_iter().map(|one| one.answer);
                    answers.into_iter().chain(others).for_each(|answer| {
                        answer.send(Err(error.clone())).ok();
                    });
                }
                // What one job does to a call is not its neighbours' fault. Sent again, an accepted one exists.
                Err(_) => {
                    for (answer, job) in answers.into_iter().zip(&jobs) {
                        answer.send(Box::pin(one(&self.groups.queue, limits, job)).await).ok();
                    }
                }
            }
        }
    }

    /// Those of the next call; when nobody waits, the right ends in the same instant.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let group = self.of_lane(|lane| {
            let group = lane.take(JOBS_MAX);
            lane.calls -= usize::from(group.is_empty());
            group
        });
        self.over = group.is_empty();
        (!self.over).then_some(group)
    }

    fn of_lane<T>(&self, change: impl FnOnce(&mut Lane) -> T) -> T {
        change(self.groups.lanes().get_mut(&self.shard).expect("who joined made the lane, and none is removed"))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Only a panic ends it early.
        if !self.over {
            self.of_lane(|lane| lane.calls -= 1);
        }
    }
}

async fn one(queue: &Queue, limits: Limits, job: &NewJob) -> Result<Submitted, Error> {
    let submitted = queue.enqueue(&job.id.shard, limits, std::slice::from_ref(job)).await?;
    submitted.into_iter().next().ok_or_else(|| Error::Corrupt("enqueue answered nothing".to_owned()))
}
