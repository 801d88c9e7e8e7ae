//! The keeper: beats for the worker and keeps the leases of its jobs, on a thread, runtime and connection of its own
//! that busy work cannot starve.
//!
//! It also stops what may no longer run: jobs that callers cancelled, that lost their grant, or of which Redis has not
//! acknowledged for too long that this worker holds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use overshot_common::ids::WorkerId;
use overshot_common::queue::{self, Error, Events, Held, Queue, Renewal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::about::About;
use super::backoff::jittered;
use super::health::Health;
use super::registry::{Attempt, Stop};
use super::station::Station;

mod silence;

use silence::Silence;

/// Most jobs of one call.
const JOBS_PER_CALL: usize = 500;
/// Every so many renewals Redis also names the jobs that this worker holds and did not list.
const AUDIT_EVERY: u64 = 3;
/// Pause before a failed beat is sent again.
const RETRY: Duration = Duration::from_millis(250);
/// How long one call may take, tries included.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the keeper keeps.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) stations: Vec<Arc<Station>>,
    pub(crate) worker: WorkerId,
    pub(crate) liveness: Duration,
    pub(crate) about: About,
    pub(crate) health: Arc<Health>,
    /// Cancelled when a caller wants the worker to drain.
    pub(crate) drain: CancellationToken,
}

impl Keeper {
    /// Starts the thread; it ends at `shutdown`. Whatever else ends it cancels `broken`, too.
    ///
    /// # Errors
    /// When the system gives no thread, or no runtime for it.
    pub(crate) fn start(
        self,
        queue: &Queue,
        shutdown: CancellationToken,
        broken: CancellationToken,
    ) -> anyhow::Result<JoinHandle<()>> {
        let queue = queue.separate(PATIENCE)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("keeper".into());
        Ok(thread.spawn(move || {
            let _alarm = broken.drop_guard();
            runtime.block_on(self.run(queue, shutdown));
        })?)
    }

    async fn run(self, queue: Queue, shutdown: CancellationToken) {
        let at_once = Arc::new(Notify::new());
        let hints = self.heed_hints(&queue, &at_once);
        let keep = self.stations.iter().map(|station| {
            let watch = Watch::new(&self, station.clone(), queue.clone(), at_once.clone());
            async move { tokio::join!(watch.keep(), watch.stop_when_silent()) }
        });
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = hints => {}
            _ = futures_util::future::join_all(keep) => {}
        }
    }

    /// Stops cancelled jobs as soon as a caller's wish comes. Best effort: a renewal tells them, too.
    async fn heed_hints(&self, queue: &Queue, at_once: &Notify) {
        let events = Events::new(queue);
        let mut wishes = events.wishes_for(&self.worker).await;
        loop {
            let Some(wish) = wishes.next().await else {
                // Some may have been missed; the renewals know them.
                at_once.notify_waiters();
                continue;
            };
            if *wish == *queue::DRAIN {
                tracing::info!(worker.id = %self.worker, "told to drain");
                self.health.drain();
                self.drain.cancel();
                // The next beat says so; who asked waits for it.
                at_once.notify_waiters();
                continue;
            }
            let Some(Ok(job)) = wish.strip_prefix("cancel ").map(str::parse::<overshot_common::ids::JobId>) else {
                continue;
            };
            let station = self.stations.iter().find(|station| station.shard == job.shard);
            if let Some(attempt) = station.and_then(|station| station.registry.get(job.local)) {
                attempt.stop(Stop::Cancelled);
            }
        }
    }
}

/// The keeper's work for one shard.
struct Watch<'a> {
    keeper: &'a Keeper,
    station: Arc<Station>,
    queue: Queue,
    /// Renew now.
    at_once: Arc<Notify>,
    silence: Silence,
    renewals: std::cell::Cell<u64>,
    /// What the last audit found to be held and unknown here.
    unknown: std::cell::RefCell<Vec<Held>>,
    acknowledged: Notify,
    stopped: AtomicBool,
}

impl<'a> Watch<'a> {
    fn new(keeper: &'a Keeper, station: Arc<Station>, queue: Queue, at_once: Arc<Notify>) -> Self {
        let silence = Silence::new(station.pool.settings.lease, keeper.liveness);
        Self {
            keeper,
            station,
            queue,
            at_once,
            silence,
            renewals: std::cell::Cell::default(),
            unknown: std::cell::RefCell::default(),
            acknowledged: Notify::new(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Beats every third of `liveness`, and renews with it when a third of the lease is over.
    async fn keep(&self) {
        let (beat_every, renew_every) = (self.keeper.liveness / 3, self.station.pool.settings.lease / 3);
        let mut renewed: Option<Instant> = None;
        let mut forced = false;
        loop {
            let sent = Instant::now();
            let next_beat = sent + jittered(beat_every);
            let renew = forced || renewed.is_none_or(|renewed| renewed + renew_every <= next_beat);
            let until = match self.call(renew).await {
                Ok(()) => {
                    self.heard(sent);
                    if renew {
                        renewed = Some(sent);
                    }
                    self.keeper.health.heard_from_redis(&self.station.shard, Ok(()));
                    next_beat.min(renewed.unwrap_or(sent) + jittered(renew_every))
                }
                Err(error) => {
                    self.keeper.health.heard_from_redis(&self.station.shard, Err(&error));
                    // The next one renews: who was away has much to learn about its jobs.
                    renewed = None;
                    Instant::now() + RETRY
                }
            };
            forced = tokio::select! {
                () = tokio::time::sleep_until(until) => false,
                () = self.at_once.notified() => true,
            };
        }
    }

    /// One beat, with the leases of all jobs if `renew`.
    async fn call(&self, renew: bool) -> Result<(), Error> {
        let attempts = if renew { self.station.registry.all() } else { Vec::new() };
        let about = self.keeper.about.to_json(&self.keeper.stations, self.keeper.health.draining());
        let audit = renew && self.renewals.get().is_multiple_of(AUDIT_EVERY);
        let mut groups = attempts.chunks(JOBS_PER_CALL).peekable();
        loop {
            let group = groups.next().unwrap_or_default();
            let last = groups.peek().is_none();
            self.renew(group, &about, audit && last).await?;
            if last {
                break;
            }
        }
        self.renewals.set(self.renewals.get() + u64::from(renew));
        Ok(())
    }

    async fn renew(&self, attempts: &[Arc<Attempt>], about: &str, audit: bool) -> Result<(), Error> {
        let held: Vec<Held> = attempts.iter().map(|attempt| attempt.held.clone()).collect();
        let (shard, worker, lease) = (&self.station.shard, &self.keeper.worker, self.station.pool.settings.lease);
        let (renewals, unlisted) = self.queue.renew(shard, worker, lease, about, &held, audit).await?;
        for (attempt, renewal) in attempts.iter().zip(renewals) {
            match renewal {
                Renewal::Renewed => {}
                Renewal::CancelRequested => attempt.stop(Stop::Cancelled),
                Renewal::Lost => attempt.stop(Stop::Lost),
            }
        }
        if audit { self.hand_back_unknown(unlisted).await } else { Ok(()) }
    }

    /// Hands back what this worker holds in Redis and does not know of: the reply of its claim was lost for good. Only at
    /// the second sight, for at the first the reply may be on its way.
    async fn hand_back_unknown(&self, unlisted: Vec<Held>) -> Result<(), Error> {
        let unknown = |held: &Held| {
            self.station.registry.get(held.id.local).is_none_or(|attempt| attempt.held.grant != held.grant)
        };
        let found: Vec<Held> = unlisted.into_iter().filter(unknown).collect();
        let before = self.unknown.replace(found.clone());
        let orphans: Vec<Held> = found.into_iter().filter(|held| before.contains(held)).collect();
        if !orphans.is_empty() {
            tracing::warn!(shard = %self.station.shard, jobs = orphans.len(), "unknown jobs handed back");
            self.queue.hand_back(&self.station.shard, &orphans).await?;
        }
        Ok(())
    }

    fn heard(&self, sent: Instant) {
        self.silence.heard(sent);
        self.stopped.store(false, Ordering::Relaxed);
        self.station.in_touch.send_if_modified(|since| {
            let news = since.is_none();
            *since = since.or(Some(sent));
            news
        });
        self.acknowledged.notify_one();
    }

    /// Stops every attempt when Redis has not acknowledged for so long that another worker may be given the jobs.
    async fn stop_when_silent(&self) {
        #[cfg(feature = "sabotage")]
        if overshot_common::queue::Sabotage::of_program().is_some_and(overshot_common::queue::Sabotage::workers_go_on) {
            return std::future::pending().await;
        }
        // Nothing runs before the first acknowledgement.
        self.acknowledged.notified().await;
        loop {
            self.silence.too_long().await;
            self.station.in_touch.send_replace(None);
            tracing::warn!(shard = %self.station.shard, "no word from redis: its jobs stop here");
            self.station.registry.stop_all(Stop::HandBack);
            self.stopped.store(true, Ordering::Relaxed);
            while self.stopped.load(Ordering::Relaxed) {
                self.acknowledged.notified().await;
            }
        }
    }
}
