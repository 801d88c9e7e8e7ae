//! The calls that a real API and a real worker send for a job: what scripts call within does not count.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use overshot_common::ids::PoolName;
use overshot_common::job::Status;
use overshot_common::queue::{Output, Queue};
use support::{Fleet, FleetOptions, PATIENCE, RedisServer};

use super::commands::{Counted, put};
use super::table;
use crate::queue::shop::{held, plain};
use crate::settings::{chat, simulated};

/// What clients send beside scripts, for jobs.
const OTHERS: [&str; 5] = ["BLPOP", "HMGET", "HGET", "PUBLISH", "XRANGE"];

/// Calls by script or command.
type Calls = BTreeMap<&'static str, u64>;
/// Names by SHA.
type Scripts = BTreeMap<String, &'static str>;

/// What every client sends, in order.
struct Watch(Pin<Box<dyn Stream<Item = String> + Send>>);

/// One call of a client.
#[derive(Debug)]
struct Call {
    /// Redis' time, in seconds.
    at: f64,
    /// The command in capitals, and after it for a script its SHA.
    name: String,
}

impl Watch {
    async fn start(redis: &RedisServer) -> Self {
        let client = redis::Client::open(redis.url()).unwrap();
        Self(Box::pin(client.get_async_monitor().await.unwrap().into_on_message()))
    }

    async fn next(&mut self) -> Call {
        loop {
            // `<time> [<database> <address, or lua>] "<command>" "<argument>" …`
            let line = self.0.next().await.expect("the server runs");
            let (source, command) = line.split_once("] \"").expect("a line of MONITOR");
            if source.ends_with(" lua") {
                continue;
            }
            let at = source.split(' ').next().unwrap().parse().unwrap();
            let mut words = command.split('"');
            let mut name = words.next().unwrap().to_ascii_uppercase();
            if name == "EVALSHA" {
                name = words.nth(1).unwrap().to_owned();
            }
            return Call { at, name };
        }
    }
}

/// The names of the scripts that make up a job's life, by SHA. All others are timers' and the test's own.
async fn scripts() -> Scripts {
    let mut counted = Counted::start().await;
    let mut watch = Watch::start(&counted.redis).await;
    let mut names = Scripts::new();
    counted.put(&counted.jobs(1)).await;
    names.insert(watch.next().await.name, "enqueue");
    let jobs = counted.claim(1).await;
    names.insert(watch.next().await.name, "claim");
    let output = Output {
        held: held(&jobs[0]),
        phase: None,
        provider: None,
        progress: None,
        acknowledged: 0,
        first: 1,
        chunks: vec![r#"{"seq":1}"#.to_owned()],
    };
    counted.queue.publish(&counted.shard, 10, &[output]).await.unwrap();
    // Not loaded before: an EVALSHA that fails, then an EVAL.
    names.insert(watch.next().await.name, "publish");
    watch.next().await;
    counted.complete(&jobs).await;
    names.insert(watch.next().await.name, "settle");
    assert_eq!(names.len(), 4, "{names:?}");
    names
}

/// One worker, and room for many jobs that cost it nothing.
async fn no_op_fleet() -> Fleet {
    let config = simulated("", "tokens = 0").replace("concurrency = 4", "concurrency = 1000");
    FleetOptions::new(config).redis(RedisServer::options().standalone()).start().await
}

/// How often an idle worker looks without a ring, at most: a claim and a new wait each time.
fn safety_calls(seconds: f64) -> f64 {
    2.0 * (seconds / 1.5 + 1.0)
}

/// Reads on until a settle after which all is settled. Tells the calls for jobs, and how many seconds they took.
async fn until_settled(watch: &mut Watch, scripts: &Scripts, mut settled: impl AsyncFnMut() -> bool) -> (Calls, f64) {
    let (mut calls, mut began) = (Calls::new(), None);
    loop {
        let call = watch.next().await;
        let began = *began.get_or_insert(call.at);
        let name = scripts.get(&call.name).copied();
        if let Some(name) = name.or(OTHERS.iter().find(|other| **other == call.name).copied()) {
            *calls.entry(name).or_default() += 1;
        }
        if name == Some("settle") && settled().await {
            return (calls, call.at - began);
        }
    }
}

#[tokio::test]
async fn a_lone_job_costs_the_fleet_no_more_calls_than_it_did() {
    const JOBS: usize = 20;
    let (scripts, fleet) = (scripts().await, no_op_fleet().await);
    // The first one loads the scripts.
    let first = fleet.client.submit(&chat("first")).await;
    fleet.client.wait_status(&first, "completed").await;
    let mut watch = Watch::start(&fleet.redis).await;
    let (mut calls, mut seconds) = (Calls::new(), 0.0);
    for _ in 0..JOBS {
        fleet.client.submit(&chat("alone")).await;
        let (of_job, took) = until_settled(&mut watch, &scripts, async || true).await;
        of_job.into_iter().for_each(|(name, count)| *calls.entry(name).or_default() += count);
        seconds += took;
    }
    let (sum, jobs) = (calls.values().sum::<u64>() as f64, JOBS as f64);
    let allowed = table::CALLS_OF_A_LONE_JOB * jobs + safety_calls(seconds);
    assert!(calls["settle"] == JOBS as u64 && sum <= allowed, "{calls:?} for {JOBS} jobs in {seconds} s");
}

#[tokio::test]
async fn under_load_a_worker_sends_no_more_calls_per_job_than_it_did() {
    const JOBS: usize = 2_000;
    let (scripts, fleet) = (scripts().await, no_op_fleet().await);
    let queue = Queue::open(&fleet.redis.url(), PATIENCE).unwrap();
    let shard = "chat".parse::<PoolName>().unwrap().place();
    queue.pause(&shard, true).await.unwrap();
    for _ in 0..JOBS / 100 {
        put(&queue, &shard, &(0..100).map(|_| plain(&shard)).collect::<Vec<_>>()).await;
    }
    let mut watch = Watch::start(&fleet.redis).await;
    queue.pause(&shard, false).await.unwrap();
    let ended = async || {
        let numbers = queue.numbers(&shard, PATIENCE).await.unwrap();
        numbers.by_status[Status::Completed as usize] == JOBS as u64
    };
    let (calls, seconds) = until_settled(&mut watch, &scripts, ended).await;
    let allowed = table::WORKER_CALLS_PER_JOB_UNDER_LOAD * JOBS as f64;
    assert!(calls.values().sum::<u64>() as f64 <= allowed, "{calls:?} for {JOBS} jobs in {seconds} s");
}
