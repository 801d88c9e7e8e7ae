//! A queue whose clock the drill owns, workers that do as they are told, and the log of it all.

use std::collections::BTreeMap;
use std::time::Duration;

use chaos::checker::{Allowance, Verdict, check};
use chaos::log::{Answer, Fault, History, Item, Name, Op, Outcome, Plan, RunEnd, What};
use chaos::workload::view;
use overshot_common::config::Durability;
use overshot_common::ids::{JobId, PoolName, Shard, WorkerId};
use overshot_common::job::{JobSpec, Status};
use overshot_common::queue::{
    Clock, Held, Limits, NewJob, Output, Queue, ReclaimPolicy, Renewal, Settled, Settlement, Submitted, Verdict as End,
};
use redis::AsyncCommands as _;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::RedisServer;

/// When the drill begins, Unix time in ms.
const START: u64 = 1_800_000_000_000;
const LEASE: Duration = Duration::from_secs(30);
const LIVENESS: Duration = Duration::from_secs(10);
/// Jobs that a played worker takes at once.
const SLOTS: usize = 10;

struct Running {
    job: Name,
    held: Held,
    worker: WorkerId,
    attempt: u32,
}

pub(crate) struct Stage {
    queue: Queue,
    shard: Shard,
    redis: redis::aio::MultiplexedConnection,
    _server: RedisServer,
    history: History,
    /// Ms since the start, as the log has it; it never steps.
    at: u64,
    /// Redis' clock.
    clock: u64,
    numbers: u64,
    jobs: BTreeMap<JobId, Name>,
    runs: BTreeMap<u64, Running>,
}

impl Stage {
    pub(crate) async fn open(clock: Clock) -> Self {
        let server = RedisServer::start().await;
        let queue = Queue::with_clock(&server.url(), Duration::from_secs(5), clock).unwrap();
        let redis = server.connection().await;
        let shard = "chat".parse::<PoolName>().unwrap().shards(1).next().unwrap();
        let mut stage = Self {
            queue,
            shard,
            redis,
            _server: server,
            history: History::default(),
            at: 0,
            clock: START,
            numbers: 0,
            jobs: BTreeMap::new(),
            runs: BTreeMap::new(),
        };
        stage.set_clock().await;
        // After its first run the reaper waits one lease.
        stage.pass(LEASE + Duration::from_secs(1), &[]).await;
        stage
    }

    async fn set_clock(&mut self) {
        let (): () = self.redis.set("overshot:{chat.0}:test-clock", self.clock).await.unwrap();
    }

    fn log(&mut self, what: What) {
        // No two events at the same time: each step takes a while.
        self.at += 1;
        self.history.push(self.at, what);
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Time in which everybody works: upkeep every second, and the workers of these runs renew them.
    pub(crate) async fn pass(&mut self, time: Duration, renewed: &[u64]) {
        for _ in 0..time.as_secs() {
            self.clock += 1000;
            self.at += 1000;
            self.set_clock().await;
            for run in renewed {
                if let Some(running) = self.runs.get(run) {
                    let worker = running.worker.to_string();
                    self.renew(&worker, &[*run]).await;
                }
            }
            self.upkeep().await;
        }
    }

    /// Redis' clock jumps, and nobody did anything in the meantime.
    pub(crate) async fn jump(&mut self, seconds: i64) {
        self.clock = self.clock.saturating_add_signed(seconds * 1000);
        self.at += 1000;
        self.set_clock().await;
    }

    pub(crate) async fn upkeep(&mut self) {
        let policy =
            ReclaimPolicy { lease: LEASE, liveness: LIVENESS, gap: LIVENESS / 2, delay: Some(Duration::from_secs(1)) };
        self.queue.promote(&self.shard).await.unwrap();
        self.queue.reclaim(&self.shard, &policy).await.unwrap();
        self.queue.expire(&self.shard).await.unwrap();
        let mended = self.queue.audit(&self.shard, LEASE, true).await.unwrap();
        if !mended.is_empty() {
            self.log(What::Mended { count: mended.len() as u64, what: mended.join(", ") });
        }
    }

    pub(crate) fn begin(&mut self, kind: Fault) -> u64 {
        let fault = self.number();
        self.log(What::FaultBegan { fault, kind, target: String::new() });
        fault
    }

    pub(crate) fn end(&mut self, fault: u64) {
        self.log(What::FaultEnded { fault });
    }

    pub(crate) async fn submit(&mut self, name: &str, delay: Duration) {
        let (call, job, id) = (self.number(), Name::from(name), JobId::new(self.shard.clone()));
        let plan = Plan { kind: "drill", delay: u64::try_from(delay.as_millis()).unwrap(), ..Plan::default() };
        self.log(What::Planned { job: job.clone(), plan });
        self.log(What::Invoked { call, job: job.clone(), op: Op::Submit });
        let limits =
            Limits { max_queued: 1000, max_queued_bytes: 1 << 30, liveness: LIVENESS, durability: Durability::Memory };
        let answers = self.queue.enqueue(&self.shard, limits, &[new_job(id.clone(), delay)]).await.unwrap();
        assert!(matches!(answers[..], [Submitted::Accepted(_)]), "{name} is not accepted");
        self.log(What::Returned { call, outcome: Outcome::Ok(id.to_string()) });
        self.jobs.insert(id, job);
    }

    /// The worker beats and takes what waits; its runs begin.
    pub(crate) async fn claim(&mut self, worker: &str) -> Vec<u64> {
        self.renew(worker, &[]).await;
        let (nonce, worker) = (format!("n{}", self.number()), worker.parse::<WorkerId>().unwrap());
        let claim = self.queue.claim(&self.shard, &worker, &nonce, SLOTS, LEASE).await.unwrap();
        let mut runs = Vec::new();
        for claimed in claim.jobs {
            let (run, job) = (self.number(), self.jobs[&claimed.id].clone());
            let held = Held { id: claimed.id, grant: claimed.grant };
            self.log(What::RunBegan { run, job: job.clone() });
            self.runs.insert(run, Running { job, held, worker: worker.clone(), attempt: claimed.attempt });
            runs.push(run);
        }
        runs
    }

    /// A beat that lists these runs, and what the queue says of each.
    pub(crate) async fn renew(&mut self, worker: &str, runs: &[u64]) {
        let worker = worker.parse().unwrap();
        let held: Vec<Held> = runs.iter().map(|run| self.runs[run].held.clone()).collect();
        let answer = self.queue.renew(&self.shard, &worker, LEASE, "{}", &held, false).await;
        for (run, renewal) in runs.iter().zip(answer.unwrap().0) {
            self.log(What::Renewed { run: *run, kept: renewal != Renewal::Lost });
        }
    }

    pub(crate) async fn publish(&mut self, run: u64, seq: u64) {
        let running = &self.runs[&run];
        let text = text(&running.job, run, seq);
        let chunk = json!({ "seq": seq, "attempt": running.attempt, "text": text, "delta": {} }).to_string();
        let output = Output {
            held: running.held.clone(),
            phase: None,
            provider: None,
            progress: None,
            acknowledged: seq - 1,
            first: seq,
            chunks: vec![chunk],
        };
        self.queue.publish(&self.shard, 1000, &[output]).await.unwrap();
    }

    /// The run ends with its own answer; a client then sees the job.
    pub(crate) async fn settle(&mut self, run: u64) {
        self.log(What::RunEnded { run, how: RunEnd::Answered });
        let running = &self.runs[&run];
        let (job, held) = (running.job.clone(), running.held.clone());
        let content: String = (1..=2).map(|seq| text(&job, run, seq)).collect();
        let result = RawValue::from_string(json!({ "content": content }).to_string()).unwrap();
        let settlement = Settlement::new(held.clone(), End::Completed(result));
        let (answers, _) = self.queue.settle(&self.shard, &[settlement]).await.unwrap();
        let answer = match answers[0] {
            Settled::Now(status) | Settled::Before(status) if status.is_terminal() => Some(Answer::Accepted),
            Settled::Lost => Some(Answer::Fenced),
            Settled::Now(_) | Settled::Before(_) | Settled::Behind(_) => None,
        };
        if let Some(answer) = answer {
            self.log(What::Settled { run, answer });
        }
        let record = self.record(&held.id).await;
        if view(&record).is_terminal() {
            self.log(What::Seen { job, id: held.id.to_string(), view: view(&record) });
        }
    }

    async fn record(&self, id: &JobId) -> Value {
        let job = self.queue.get(id, false).await.unwrap();
        serde_json::to_value(job.expect("no job is forgotten")).unwrap()
    }

    /// A reader that comes late reads all that is kept.
    pub(crate) async fn read(&mut self, name: &str) {
        let (id, job) = self.jobs.iter().find(|(_, job)| &***job == name).unwrap();
        let (id, job, reader) = (id.clone(), job.clone(), self.number());
        for chunk in self.queue.chunks(&id, None).await.unwrap() {
            let data: Value = serde_json::from_str(&chunk.data).unwrap();
            let number = |name: &str| data[name].as_u64().unwrap_or_default();
            let item = if chunk.starts_attempt {
                Item::Attempt(number("attempt"))
            } else {
                let text = data["text"].as_str().unwrap().to_owned();
                Item::Chunk { attempt: number("attempt"), seq: number("seq"), text }
            };
            self.log(What::Read { reader, job: job.clone(), item });
        }
        let status = view(&self.record(&id).await).status;
        self.log(What::Read { reader, job, item: Item::Done(status) });
    }

    /// All keys, as a replica has them.
    pub(crate) async fn dump(&mut self) -> Vec<(String, Vec<u8>)> {
        let keys: Vec<String> = self.redis.keys("*").await.unwrap();
        let mut dump = Vec::new();
        for key in keys {
            let value = redis::cmd("DUMP").arg(&key).query_async(&mut self.redis).await.unwrap();
            dump.push((key, value));
        }
        dump
    }

    /// That replica is the primary now.
    pub(crate) async fn restore(&mut self, dump: &[(String, Vec<u8>)]) {
        redis::cmd("FLUSHALL").query_async::<()>(&mut self.redis).await.unwrap();
        for (key, value) in dump {
            redis::cmd("RESTORE").arg(key).arg(0).arg(value).query_async::<()>(&mut self.redis).await.unwrap();
        }
        self.set_clock().await;
    }

    /// What the checker says of it all, after everything has had its time.
    pub(crate) async fn verdict(mut self) -> Verdict {
        for (id, job) in self.jobs.clone() {
            let view = view(&self.record(&id).await);
            self.log(What::Final { job, id: id.to_string(), view });
        }
        let numbers = self.queue.numbers(&self.shard, LIVENESS).await.unwrap();
        for status in Status::ALL.iter().filter(|status| !status.is_terminal()) {
            let count = numbers.by_status[*status as usize];
            if count > 0 {
                self.log(What::Leftover { what: status.as_str().to_owned(), count });
            }
        }
        check(&self.history, Allowance { grace: 20_000, slack: 0 })
    }
}

/// What a run says; it tells whose it is.
fn text(job: &str, run: u64, seq: u64) -> String {
    if seq == 1 { format!("{job} run{run} ") } else { format!("w{seq} ") }
}

fn new_job(id: JobId, delay: Duration) -> NewJob {
    let spec = JobSpec { model: Some("m".into()), ..JobSpec::new("chat") };
    let input = RawValue::from_string(r#"{"user":"hello"}"#.into()).unwrap();
    // No step of the clock ends it.
    let long = Duration::from_secs(36_000);
    NewJob { delay, timeout: long, queue_timeout: long, ..NewJob::new(id, spec, input) }
}
