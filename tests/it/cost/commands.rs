//! Redis' commands per job in each move of the queue, those inside the scripts included.

use std::collections::BTreeMap;
use std::time::Duration;

use overshot_common::config::Durability;
use overshot_common::ids::{PoolName, Shard};
use overshot_common::queue::{ClaimedJob, Limits, NewJob, Queue, Settled, Settlement, Submitted, Verdict};
use support::RedisServer;

use super::table::{self, Table};
use crate::queue::shop::{held, plain, raw, worker_id};

const LEASE: Duration = Duration::from_secs(30);

/// How often each command was called.
pub(super) type Counts = BTreeMap<String, u64>;

/// A queue on a server where nobody else calls.
pub(super) struct Counted {
    pub(super) queue: Queue,
    pub(super) shard: Shard,
    pub(super) redis: RedisServer,
    claims: u32,
}

impl Counted {
    /// Scripts are loaded, streams and groups made, the doorbell full: what comes then is the same for every job.
    pub(super) async fn start() -> Self {
        let redis = RedisServer::options().standalone().without_persistence().start().await;
        let queue = Queue::open(&redis.url(), Duration::from_secs(10)).unwrap();
        let shard = "chat".parse::<PoolName>().unwrap().place();
        let mut counted = Self { queue, shard, redis, claims: 0 };
        counted.put(&counted.jobs(100)).await;
        // One stays, so that no later claim finds less than it asks for and empties the doorbell.
        let jobs = counted.claim(99).await;
        counted.complete(&jobs).await;
        counted
    }

    pub(super) fn jobs(&self, count: usize) -> Vec<NewJob> {
        (0..count).map(|_| plain(&self.shard)).collect()
    }

    pub(super) async fn put(&self, jobs: &[NewJob]) {
        put(&self.queue, &self.shard, jobs).await;
    }

    pub(super) async fn claim(&mut self, count: usize) -> Vec<ClaimedJob> {
        self.claims += 1;
        let nonce = format!("n{}", self.claims);
        let claim = self.queue.claim(&self.shard, &worker_id("w"), &nonce, count, LEASE).await.unwrap();
        assert_eq!(claim.jobs.len(), count);
        claim.jobs
    }

    /// Enqueues, claims and settles the jobs, each with one call; tells the commands of the three.
    pub(super) async fn lifecycle(&mut self, jobs: Vec<NewJob>) -> [Counts; 3] {
        self.commands().await;
        self.put(&jobs).await;
        let enqueue = self.commands().await;
        let claimed = self.claim(jobs.len()).await;
        let claim = self.commands().await;
        self.complete(&claimed).await;
        [enqueue, claim, self.commands().await]
    }

    pub(super) async fn complete(&self, jobs: &[ClaimedJob]) {
        let verdict = Verdict::Completed(raw(r#"{"content":"hi"}"#));
        let settlements = jobs.iter().map(|job| Settlement {
            held: held(job),
            verdict: verdict.clone(),
            provider: Some("p".into()),
            partial: None,
            chunks: 0,
        });
        let (answers, _) = self.queue.settle(&self.shard, &settlements.collect::<Vec<_>>()).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Settled::Now(_))), "{answers:?}");
    }

    /// The commands since the last call of this, each with its number of calls.
    pub(super) async fn commands(&self) -> Counts {
        let mut connection = self.redis.connection().await;
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
        let (): () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut connection).await.unwrap();
        let calls = info.lines().filter_map(|line| {
            let (command, fields) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((command.to_owned(), fields.split(',').next()?.parse().ok()?))
        });
        // What the counting itself calls.
        calls.filter(|(command, _)| !OURS.iter().any(|ours| command.starts_with(ours))).collect()
    }
}

const OURS: [&str; 5] = ["info", "config", "ping", "client", "hello"];

/// Enqueues jobs with one call; all must be accepted.
pub(super) async fn put(queue: &Queue, shard: &Shard, jobs: &[NewJob]) {
    let limits =
        Limits { max_queued: 1 << 40, max_queued_bytes: 1 << 40, liveness: LEASE, durability: Durability::Memory };
    let answers = queue.enqueue(shard, limits, jobs).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Submitted::Accepted(_))), "{answers:?}");
}

/// What was called more often than the table allows, with the line as it would be now.
pub(super) fn above(what: &str, found: &Counts, allowed: Table) -> Option<String> {
    let most = |command: &str| allowed.iter().find(|(name, _)| *name == command).map_or(0, |(_, most)| *most);
    let above: Vec<_> = found.iter().filter(|(command, calls)| **calls > most(command)).collect();
    let now: Vec<_> = found.iter().map(|(command, calls)| (command.as_str(), *calls)).collect();
    (!above.is_empty()).then(|| format!("{what}: {above:?} is more than cost/table.rs allows; now it is\n    &{now:?}"))
}

/// Fails with all of the findings at once.
#[track_caller]
pub(super) fn none(above: impl IntoIterator<Item = Option<String>>) {
    let above: Vec<String> = above.into_iter().flatten().collect();
    assert!(above.is_empty(), "{}", above.join("\n"));
}

#[tokio::test]
async fn a_hundred_jobs_call_no_more_commands_than_they_did() {
    let mut counted = Counted::start().await;
    let [enqueue, claim, settle] = counted.lifecycle(counted.jobs(100)).await;
    none([
        above("enqueue of 100", &enqueue, table::ENQUEUE_100),
        above("claim of 100", &claim, table::CLAIM_100),
        above("settle of 100", &settle, table::SETTLE_100),
    ]);
}

#[tokio::test]
async fn a_lone_job_calls_no_more_commands_than_it_did() {
    let mut counted = Counted::start().await;
    let last = counted.claim(1).await;
    counted.complete(&last).await;
    let dry = counted.queue.claim(&counted.shard, &worker_id("w"), "dry", 1, LEASE).await.unwrap();
    assert_eq!(dry.jobs.len(), 0, "nothing waits, so that the doorbell is empty");
    let [enqueue, claim, settle] = counted.lifecycle(counted.jobs(1)).await;
    none([
        above("enqueue of one", &enqueue, table::ENQUEUE_1),
        above("claim of one", &claim, table::CLAIM_1),
        above("settle of one", &settle, table::SETTLE_1),
    ]);
}
