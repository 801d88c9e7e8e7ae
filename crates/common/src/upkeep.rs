//! The promoter, the reaper and the pruner: they run in every process, API and worker alike, without a leader.
//!
//! Each is a move of the queue on a timer. Owns no state: what one process began, another goes on with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Affinity, Config};
use crate::ids::{JobId, PoolName, Shard};
use crate::job::{Job, Status};
use crate::metrics;
use crate::queue::{self, Queue, ReclaimPolicy, Reclaimed};
use crate::task::chat;

/// How often each process looks for due jobs when it knows of none sooner.
///
/// What a process schedules itself, it promotes on time: this is for what others left behind.
const PROMOTE_EVERY: Duration = Duration::from_secs(3);
/// How often each process looks for jobs over their deadline or retention, and for what is amiss.
const TIDY_EVERY: Duration = Duration::from_secs(2);

/// How often each process adds the hours that are over a day old to the counters' total.
const FOLD_EVERY: Duration = Duration::from_secs(600);
/// How much of what an audit mended is named in its log line.
const MENDED_SHOWN: usize = 10;

/// Who runs the services: there are many workers, whose idling must cost Redis little, and few APIs, which are always up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An API process: looks often.
    Api,
    /// A worker process: looks less often.
    Worker,
}

impl Role {
    fn slower(self) -> u32 {
        match self {
            Self::Api => 1,
            Self::Worker => 2,
        }
    }
}

/// Wakes the promoters of this process.
#[derive(Debug, Clone)]
pub struct UpkeepHandle {
    due: Arc<BTreeMap<Shard, Notify>>,
}

impl UpkeepHandle {
    /// Says that this process scheduled something in a shard: it may be due before its promoter looks next.
    pub fn nudge(&self, shard: &Shard) {
        if let Some(due) = self.due.get(shard) {
            due.notify_one();
        }
    }
}

/// The services of one process over some shards, each on its own: one whose node is away holds up no other.
#[derive(Debug)]
pub struct Upkeep {
    queue: Queue,
    shards: Vec<(Shard, ReclaimPolicy, Affinity)>,
    handle: UpkeepHandle,
    role: Role,
    /// The largest result that stands in its job.
    inline_max: u64,
}

impl Upkeep {
    /// Services over all shards of the configured pools.
    pub fn new(queue: Queue, config: &Config, pools: &[PoolName], role: Role) -> (Self, UpkeepHandle) {
        let shards = pools.iter().filter_map(|name| Some((name, config.pools.get(name)?)));
        let shards = shards.flat_map(|(name, pool)| {
            let policy = reclaim_policy(config, pool);
            name.shards(pool.shards).map(move |shard| (shard, policy, pool.affinity))
        });
        let shards: Vec<_> = shards.collect();
        let due = shards.iter().map(|(shard, ..)| (shard.clone(), Notify::new())).collect();
        let handle = UpkeepHandle { due: Arc::new(due) };
        let inline_max = config.max_inline_result;
        (Self { queue, shards, handle: handle.clone(), role, inline_max }, handle)
    }

    /// Runs until `shutdown`. An error of Redis is noted and the move tried again at its next time.
    pub async fn run(self, shutdown: CancellationToken) {
        let services = self.shards.iter().map(async |(shard, policy, affinity)| {
            tokio::join!(self.promote(shard), self.reap(shard, policy), self.tidy(shard, policy.lease, *affinity));
        });
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = join_all(services) => {}
        }
    }

    /// Queues what is due, at the time at which it is due.
    async fn promote(&self, shard: &Shard) {
        let due = &self.handle.due[shard];
        loop {
            let mut wait = jittered(PROMOTE_EVERY * self.role.slower());
            match self.queue.promote(shard).await {
                Ok(promoted) => {
                    metrics::promoted(&shard.pool, promoted.count as u64);
                    wait = if promoted.more() { Duration::ZERO } else { wait.min(until(promoted.next_due)) };
                }
                Err(error) => tracing::debug!(%error, %shard, "promote failed"),
            }
            // Woken or not, it looks.
            let _ = tokio::time::timeout(wait, due.notified()).await;
        }
    }

    /// Takes jobs from workers that died or fell silent.
    async fn reap(&self, shard: &Shard, policy: &ReclaimPolicy) {
        let every = reap_interval(policy.liveness) * self.role.slower();
        loop {
            let begun = Instant::now();
            match self.queue.reclaim(shard, policy).await {
                Ok(reclaimed) if !reclaimed.jobs.is_empty() => self.tell_reclaimed(shard, &reclaimed).await,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, %shard, "reclaim failed"),
            }
            tokio::time::sleep_until(begun + jittered(every)).await;
        }
    }

    /// Sees to what a reaper's run changed.
    async fn tell_reclaimed(&self, shard: &Shard, reclaimed: &Reclaimed) {
        let failed = reclaimed.jobs.iter().filter(|(_, status)| *status == Status::Failed).count();
        tracing::warn!(%shard, jobs = reclaimed.jobs.len(), failed, "jobs reclaimed from silent workers");
        metrics::reclaimed(&shard.pool, reclaimed.jobs.len() as u64);
        for (id, status) in &reclaimed.jobs {
            if status.is_terminal()
                && let Err(error) = Box::pin(self.tell_ended(id)).await
            {
                tracing::debug!(%error, job.id = %id, "partial output not kept");
            }
        }
        if reclaimed.jobs.iter().any(|(_, status)| *status == Status::Retrying) {
            self.handle.nudge(shard);
        }
    }

    /// Counts a job that the reaper ended, and keeps what it had put out.
    async fn tell_ended(&self, id: &JobId) -> Result<(), queue::Error> {
        let Some(job) = self.queue.get(id, false).await? else { return Ok(()) };
        let code = job.error.as_ref().map(|error| error.code);
        let lived = job.completed_at.unwrap_or(job.created_at).duration_since(job.created_at);
        metrics::job_finished(&id.shard.pool, &job.task, job.status, code, lived.unsigned_abs());
        if job.result.is_none() { self.keep_partial(&job).await } else { Ok(()) }
    }

    /// Makes what a job had put out its result, where its holder is gone and cannot.
    async fn keep_partial(&self, job: &Job) -> Result<(), queue::Error> {
        let id = &job.id;
        let (mut texts, mut after) = (Vec::new(), None);
        loop {
            let page = self.queue.chunks(id, after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for chunk in page {
                if chunk.starts_attempt {
                    texts.clear();
                } else {
                    texts.push(chunk.data);
                }
            }
        }
        if let Some(result) = chat::partial_result(&texts, job) {
            self.queue.keep(id, &result, self.inline_max).await?;
        }
        Ok(())
    }

    /// Ends what waited too long, forgets what was kept long enough, mends what no move can have left behind.
    async fn tidy(&self, shard: &Shard, lease: Duration, affinity: Affinity) {
        let mut folded: Option<Instant> = None;
        loop {
            tokio::time::sleep(jittered(TIDY_EVERY * self.role.slower() * self.role.slower())).await;
            if let Err(error) = self.tidy_once(shard, lease, affinity).await {
                tracing::debug!(%error, %shard, "tidying failed");
            }
            if folded.is_none_or(|folded| folded.elapsed() >= FOLD_EVERY) {
                match self.queue.fold(shard).await {
                    Ok(left) => folded = Some(Instant::now()).filter(|_| left == 0),
                    Err(error) => tracing::debug!(%error, %shard, "folding failed"),
                }
            }
        }
    }

    async fn tidy_once(&self, shard: &Shard, lease: Duration, affinity: Affinity) -> Result<(), queue::Error> {
        let pool = &shard.pool;
        metrics::expired(pool, self.queue.expire(shard).await? as u64);
        metrics::pruned(pool, self.queue.prune(shard).await? as u64);
        let mended = self.queue.audit(shard, lease, affinity == Affinity::Model).await?;
        if !mended.is_empty() {
            let what = mended[..mended.len().min(MENDED_SHOWN)].join(", ");
            tracing::warn!(%shard, mended = mended.len(), what, "audit mended records or entries");
        }
        Ok(())
    }
}

/// Time until a due time by Redis' clock. Ours may differ: the next look then tells the rest.
fn until(due: Option<u64>) -> Duration {
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    due.map_or(Duration::MAX, |due| Duration::from_millis(due.saturating_sub(now).max(1)))
}

/// How the reaper judges a pool's jobs.
fn reclaim_policy(config: &Config, pool: &crate::config::PoolConfig) -> ReclaimPolicy {
    let liveness = config.worker.liveness;
    ReclaimPolicy {
        lease: pool.lease,
        liveness,
        gap: liveness / 2,
        delay: pool.retry.delay(crate::code::ErrorCode::StaleWorker),
    }
}

/// Often enough that a death is seen within a tenth of `liveness`, and no oftener than that needs.
fn reap_interval(liveness: Duration) -> Duration {
    (liveness / 10).clamp(Duration::from_millis(100), Duration::from_secs(1))
}

/// Spreads the processes' timers, so that they do not all ask at once.
fn jittered(every: Duration) -> Duration {
    every.mul_f64(rand::rng().random_range(0.8..1.0))
}
