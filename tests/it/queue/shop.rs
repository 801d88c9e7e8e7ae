//! A queue on a private redis-server whose clock the test owns.

use std::time::Duration;

use overshot_common::config::Durability;
use overshot_common::ids::{JobId, PoolName, Shard, WorkerId};
use overshot_common::job::{Job, JobSpec, OnConflict, Status};
use overshot_common::queue::{
    Claim, ClaimedJob, Clock, Held, Limits, NewJob, PoolNumbers, Queue, ReclaimPolicy, Settled, Settlement, Submitted,
    Verdict,
};
use overshot_common::{code::ErrorCode, job::JobError};
use redis::AsyncCommands as _;
use serde_json::value::RawValue;
use support::RedisServer;

/// When every test begins, Unix time in ms.
pub(crate) const START: u64 = 1_800_000_000_000;
/// The lease of every claim here.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// A worker silent for longer is dead.
pub(crate) const LIVENESS: Duration = Duration::from_secs(10);

pub(crate) struct Shop {
    pub(crate) queue: Queue,
    pub(crate) shard: Shard,
    pub(crate) redis: redis::aio::MultiplexedConnection,
    _server: RedisServer,
    now: u64,
    nonce: u32,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let server = RedisServer::start().await;
        let queue = Queue::with_clock(&server.url(), Duration::from_secs(5), Clock::Test).unwrap();
        let redis = server.connection().await;
        let shard = "chat".parse::<PoolName>().unwrap().place();
        let mut shop = Self { queue, shard, redis, _server: server, now: START, nonce: 0 };
        shop.pass(Duration::ZERO).await;
        shop
    }

    /// Moves the clock on.
    pub(crate) async fn pass(&mut self, time: Duration) {
        self.now += u64::try_from(time.as_millis()).unwrap();
        let key = self.key("test-clock");
        let (): () = self.redis.set(key, self.now).await.unwrap();
    }

    /// Steps the clock back.
    pub(crate) async fn step_back(&mut self, time: Duration) {
        self.now -= u64::try_from(time.as_millis()).unwrap();
        self.pass(Duration::ZERO).await;
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn key(&self, part: &str) -> String {
        format!("overshot:{{chat.0}}:{part}")
    }

    /// A plain job with a model.
    pub(crate) fn job(&self) -> NewJob {
        let job = plain(&self.shard);
        NewJob { spec: JobSpec { model: Some("m".into()), ..job.spec.clone() }, ..job }
    }

    /// A job that waits for its model's turn.
    pub(crate) fn job_of(&self, model: &str) -> NewJob {
        let job = plain(&self.shard);
        NewJob { spec: JobSpec { model: Some(model.into()), turn: Some(model.into()), ..job.spec.clone() }, ..job }
    }

    pub(crate) fn keyed(&self, key: &str, on_conflict: OnConflict) -> NewJob {
        NewJob { concurrency_key: Some(key.into()), on_conflict, ..self.job() }
    }

    pub(crate) fn limits() -> Limits {
        Limits { max_queued: 100_000, max_queued_bytes: 1 << 30, liveness: LIVENESS, durability: Durability::Memory }
    }

    pub(crate) async fn submit(&self, job: &NewJob) -> Submitted {
        let mut answers = self.queue.enqueue(&self.shard, Self::limits(), std::slice::from_ref(job)).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers.pop().unwrap()
    }

    /// Submits a job that must be accepted.
    pub(crate) async fn add(&self, job: NewJob) -> JobId {
        match self.submit(&job).await {
            Submitted::Accepted(accepted) => {
                assert_eq!(accepted.id, job.id);
                job.id
            }
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub(crate) async fn claim_as(&mut self, worker: &str, most: usize) -> Claim {
        self.claim_of(worker, most, &[]).await
    }

    /// Claims jobs of these models, and those that wait for none.
    pub(crate) async fn claim_of(&mut self, worker: &str, most: usize, models: &[&str]) -> Claim {
        self.nonce += 1;
        let nonce = format!("n{}", self.nonce);
        let turns: Vec<_> = models.iter().map(|model| ((*model).to_owned(), (*model).to_owned())).collect();
        self.queue.claim_of(&self.shard, &worker_id(worker), &nonce, most, LEASE, &turns).await.unwrap()
    }

    /// Claims the one job that waits.
    pub(crate) async fn claim_one(&mut self, worker: &str) -> ClaimedJob {
        let mut claim = self.claim_as(worker, 1).await;
        assert_eq!(claim.jobs.len(), 1, "one job should wait");
        claim.jobs.pop().unwrap()
    }

    pub(crate) async fn settle(&self, job: &ClaimedJob, verdict: Verdict) -> Settled {
        self.settle_held(held(job), verdict).await
    }

    pub(crate) async fn settle_held(&self, held: Held, verdict: Verdict) -> Settled {
        let settlement = Settlement::new(held, verdict);
        let (answers, _) = self.queue.settle(&self.shard, &[settlement]).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers[0]
    }

    /// Completes many at once.
    pub(crate) async fn complete(&self, jobs: impl IntoIterator<Item = &ClaimedJob>) -> Vec<Settled> {
        let jobs = jobs.into_iter();
        let settlements = jobs.map(|job| Settlement::new(held(job), done()));
        self.queue.settle(&self.shard, &settlements.collect::<Vec<_>>()).await.unwrap().0
    }

    /// A worker's beat that lists the given jobs.
    pub(crate) async fn renew(&self, worker: &str, jobs: &[Held]) -> Vec<overshot_common::queue::Renewal> {
        self.queue.renew(&self.shard, &worker_id(worker), LEASE, "{}", jobs, false).await.unwrap().0
    }

    pub(crate) fn policy() -> ReclaimPolicy {
        ReclaimPolicy {
            lease: LEASE,
            liveness: LIVENESS,
            gap: Duration::from_secs(5),
            delay: Some(Duration::from_secs(30)),
        }
    }

    /// Lets the time pass with the reaper running every second; tells what it took.
    pub(crate) async fn reap_for(&mut self, time: Duration) -> Vec<(JobId, Status)> {
        let mut taken = Vec::new();
        for _ in 0..time.as_secs() {
            self.pass(Duration::from_secs(1)).await;
            taken.extend(self.queue.reclaim(&self.shard, &Self::policy()).await.unwrap().jobs);
        }
        taken
    }

    /// Runs the reaper until it judges: after its first run it waits one lease.
    pub(crate) async fn warm_reaper(&mut self) {
        assert_eq!(self.reap_for(Duration::from_secs(31)).await, []);
    }

    pub(crate) async fn promote(&self) {
        self.queue.promote(&self.shard).await.unwrap();
    }

    pub(crate) async fn get(&self, id: &JobId) -> Job {
        self.queue.get(id, false).await.unwrap().expect("the job should be there")
    }

    pub(crate) async fn status(&self, id: &JobId) -> Status {
        self.get(id).await.status
    }

    pub(crate) async fn numbers(&self) -> PoolNumbers {
        self.queue.numbers(&self.shard, LIVENESS).await.unwrap()
    }

    pub(crate) async fn count(&self, status: Status) -> u64 {
        self.numbers().await.by_status[status as usize]
    }
}

pub(crate) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.into()).unwrap()
}

pub(crate) fn worker_id(name: &str) -> WorkerId {
    name.parse().unwrap()
}

pub(crate) fn held(job: &ClaimedJob) -> Held {
    Held { id: job.id.clone(), grant: job.grant.clone() }
}

pub(crate) fn done() -> Verdict {
    Verdict::Completed(raw(r#"{"content":"hi","usage":{"total_tokens":3}}"#))
}

pub(crate) fn error(code: ErrorCode) -> JobError {
    JobError { code, message: "made by the test".into() }
}

pub(crate) fn retry_after(delay: Duration) -> Verdict {
    Verdict::Retry(error(ErrorCode::ProviderError), delay)
}

/// A job that asks for nothing.
pub(crate) fn plain(shard: &Shard) -> NewJob {
    let spec = JobSpec::new("chat");
    NewJob::new(JobId::new(shard.clone()), spec, raw(r#"{"user":"hello"}"#))
}
