//! What a job costs on the client's side of the queue, in allocations: counts, which no noise can change.
//!
//! A program of its own, because its allocator counts. One thread does all, the connection's part included.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use overshot_common::config::Durability;
use overshot_common::ids::{JobId, PoolName, Shard, WorkerId};
use overshot_common::job::JobSpec;
use overshot_common::queue::{Held, Limits, NewJob, Queue, Settled, Settlement, Submitted, Verdict};
use serde_json::value::RawValue;
use support::RedisServer;

/// Allocations per job, and their bytes, that each move may make: what it made when the line was written, with the question for
/// readers that follows it, and a tenth.
///
/// Lower a line whenever the code allows it; raise one only for a reason that the commit tells.
const ALLOWED: [(&str, Allowed); 3] = [
    ("enqueue", Allowed { count: 5.4, bytes: 4050.0 }),
    ("claim", Allowed { count: 15.5, bytes: 2700.0 }),
    ("settle", Allowed { count: 5.2, bytes: 1900.0 }),
];
/// Jobs of one call.
const BATCH: usize = 100;
/// Rounds, of which the cheapest counts: a growing buffer is no job's.
const ROUNDS: usize = 5;
const LEASE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Allowed {
    count: f64,
    bytes: f64,
}

#[test]
fn a_job_allocates_no_more_on_the_clients_side_than_it_did() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = runtime.block_on(RedisServer::options().standalone().without_persistence().start());
    let queue = Queue::open(&redis.url(), Duration::from_secs(10)).unwrap();
    let shard = "chat".parse::<PoolName>().unwrap().place();
    let mut least = [AllocationInfo { count_total: u64::MAX, bytes_total: u64::MAX, ..AllocationInfo::default() }; 3];
    for round in 0..ROUNDS {
        for (least, now) in least.iter_mut().zip(lifecycle(&runtime, &queue, &shard, round)) {
            least.count_total = least.count_total.min(now.count_total);
            least.bytes_total = least.bytes_total.min(now.bytes_total);
        }
    }
    let per_job = |total: u64| total as f64 / BATCH as f64;
    let now = least.map(|info| Allowed { count: per_job(info.count_total), bytes: per_job(info.bytes_total) });
    let above = ALLOWED.iter().zip(now).filter(|((_, most), now)| now.count > most.count || now.bytes > most.bytes);
    let above: Vec<_> = above.map(|((name, most), now)| format!("{name}: {now:?}, allowed are {most:?}")).collect();
    assert!(above.is_empty(), "{}", above.join("\n"));
}

/// Enqueues, claims and settles a batch of jobs; tells what each of the three allocated.
fn lifecycle(
    runtime: &tokio::runtime::Runtime,
    queue: &Queue,
    shard: &Shard,
    round: usize,
) -> [AllocationInfo; ALLOWED.len()] {
    let limits =
        Limits { max_queued: 1 << 40, max_queued_bytes: 1 << 40, liveness: LEASE, durability: Durability::Memory };
    let (worker, nonce): (WorkerId, _) = ("w".parse().unwrap(), format!("n{round}"));
    let jobs: Vec<NewJob> = (0..BATCH).map(|_| job(shard)).collect();
    let (mut accepted, mut claim, mut settled) = (Vec::new(), None, Vec::new());

    let enqueue = measure(|| accepted = runtime.block_on(queue.enqueue(shard, limits, &jobs)).unwrap());
    assert!(accepted.iter().all(|answer| matches!(answer, Submitted::Accepted(_))), "{accepted:?}");

    let claiming =
        measure(|| claim = Some(runtime.block_on(queue.claim(shard, &worker, &nonce, BATCH, LEASE)).unwrap()));
    let claimed = claim.unwrap().jobs;
    assert_eq!(claimed.len(), BATCH);

    let result = RawValue::from_string(r#"{"content":"hi","usage":{"total_tokens":3}}"#.to_owned()).unwrap();
    let settlements = claimed.iter().map(|job| Settlement {
        held: Held { id: job.id.clone(), grant: job.grant.clone() },
        verdict: Verdict::Completed(result.clone()),
        provider: Some("p".into()),
        partial: None,
        chunks: 0,
    });
    let settlements: Vec<_> = settlements.collect();
    let settling = measure(|| settled = runtime.block_on(queue.settle(shard, &settlements)).unwrap().0);
    assert!(settled.iter().all(|answer| matches!(answer, Settled::Now(_))), "{settled:?}");
    [enqueue, claiming, settling]
}

/// A job that asks for nothing, with an input of 240 bytes.
fn job(shard: &Shard) -> NewJob {
    let frame = r#"{"user":""}"#;
    let input = format!(r#"{{"user":"{}"}}"#, "x".repeat(240 - frame.len()));
    let spec = JobSpec::new("chat");
    NewJob::new(JobId::new(shard.clone()), spec, RawValue::from_string(input).unwrap())
}
