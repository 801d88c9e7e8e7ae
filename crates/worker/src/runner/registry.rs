//! The attempts that this process holds in one shard, and how they are told to stop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use overshot_common::ids::LocalId;
use overshot_common::queue::Held;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Why an attempt stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stop {
    /// A caller wants the job cancelled.
    Cancelled = 1,
    /// The grant does not hold any more: another may run the job.
    Lost = 2,
    /// The worker drains, or cannot know whether the grant holds: the job goes back, its attempt not counted.
    HandBack = 3,
}

/// One run of one job in this process.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) held: Held,
    pub(crate) begun: Instant,
    /// The last progress, in ms after `begun`.
    progress_ms: AtomicU64,
    /// The first [`Stop`] that was asked for, 0 none.
    stop: AtomicU8,
    stopped: Notify,
}

impl Attempt {
    pub(crate) fn new(held: Held) -> Self {
        Self {
            held,
            begun: Instant::now(),
            progress_ms: AtomicU64::new(0),
            stop: AtomicU8::new(0),
            stopped: Notify::new(),
        }
    }

    /// Asks the attempt to stop. The first reason stays.
    pub(crate) fn stop(&self, why: Stop) {
        if self.stop.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.stopped.notify_one();
        }
    }

    /// Why the attempt has to stop, if it has to.
    pub(crate) fn asked_to_stop(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Stop::Cancelled),
            2 => Some(Stop::Lost),
            _ => Some(Stop::HandBack),
        }
    }

    /// Waits until the attempt has to stop. For one waiter, the executor. Cancel safe.
    pub(crate) async fn stopped(&self) -> Stop {
        loop {
            if let Some(why) = self.asked_to_stop() {
                return why;
            }
            self.stopped.notified().await;
        }
    }

    /// Notes that the attempt goes on.
    pub(crate) fn progressed(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress_ms.store(ms, Ordering::Relaxed);
    }

    /// When the attempt went on last.
    pub(crate) fn last_progress(&self) -> Instant {
        self.begun + Duration::from_millis(self.progress_ms.load(Ordering::Relaxed))
    }
}

/// The attempts of one shard. An attempt is in it from its claim until its outcome is written or given up.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    attempts: Mutex<HashMap<LocalId, Arc<Attempt>>>,
}

impl Registry {
    /// Takes an attempt in. An older one of the same job has lost its grant.
    pub(crate) fn enter(&self, held: Held) -> Arc<Attempt> {
        let attempt = Arc::new(Attempt::new(held));
        let older = self.lock().insert(attempt.held.id.local, attempt.clone());
        if let Some(older) = older {
            older.stop(Stop::Lost);
        }
        attempt
    }

    /// Lets an attempt go, unless a newer one of the same job has its place.
    pub(crate) fn leave(&self, attempt: &Arc<Attempt>) {
        let mut attempts = self.lock();
        if attempts.get(&attempt.held.id.local).is_some_and(|found| Arc::ptr_eq(found, attempt)) {
            attempts.remove(&attempt.held.id.local);
        }
    }

    pub(crate) fn get(&self, job: LocalId) -> Option<Arc<Attempt>> {
        self.lock().get(&job).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Attempt>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn stop_all(&self, why: Stop) {
        self.lock().values().for_each(|attempt| attempt.stop(why));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LocalId, Arc<Attempt>>> {
        self.attempts.lock().expect("no holder of this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use overshot_common::ids::{JobId, PoolName};

    use super::*;

    fn held(id: &JobId, grant: &str) -> Held {
        Held { id: id.clone(), grant: grant.parse().unwrap() }
    }

    fn job() -> JobId {
        JobId::new("chat".parse::<PoolName>().unwrap().place())
    }

    #[test]
    fn a_new_grant_of_the_same_job_makes_the_older_attempt_lost() {
        let (registry, id) = (Registry::default(), job());
        let older = registry.enter(held(&id, "1.a"));
        let newer = registry.enter(held(&id, "2.b"));
        assert_eq!((older.asked_to_stop(), newer.asked_to_stop()), (Some(Stop::Lost), None));
        registry.leave(&older);
        assert!(Arc::ptr_eq(&registry.get(id.local).unwrap(), &newer));
        registry.leave(&newer);
        assert_eq!(registry.len(), 0);
    }

    #[tokio::test]
    async fn the_first_reason_to_stop_is_the_one_that_counts() {
        let attempt = Attempt::new(held(&job(), "1.a"));
        attempt.stop(Stop::Cancelled);
        attempt.stop(Stop::HandBack);
        assert_eq!(attempt.stopped().await, Stop::Cancelled);
    }
}
