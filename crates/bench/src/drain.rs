//! The engine through the whole worker: enqueue in bulk by the library, then drain with a no-op task.

use std::time::{Duration, Instant};

use overshot_common::ids::{JobId, PoolName, Shard};
use overshot_common::job::{JobSpec, Metadata, OnConflict, Priority, Status};
use overshot_common::queue::{Limits, NewJob, Queue, Submitted};
use serde_json::value::RawValue;

use crate::bare::{Rates, input};
use crate::programs::Program;
use crate::server::Server;

const LIVENESS: Duration = Duration::from_secs(10);
const LANES: usize = 8;

pub(crate) async fn run(server: &Server, jobs: usize) -> anyhow::Result<Rates> {
    let queue = Queue::open(&server.url(), Duration::from_secs(10))?;
    let shard = "chat".parse::<PoolName>()?.place();
    queue.pause(&shard, true).await?;
    let began = Instant::now();
    enqueue(&queue, &shard, jobs).await?;
    let enqueued_per_s = jobs as f64 / began.elapsed().as_secs_f64();
    let _worker = Program::start("overshot-worker", server).await?;
    while queue.numbers(&shard, LIVENESS).await?.live_workers == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    queue.pause(&shard, false).await?;
    loop {
        let ended = queue.numbers(&shard, LIVENESS).await?.by_status[Status::Completed as usize];
        if ended == jobs as u64 {
            break;
        }
        anyhow::ensure!(began.elapsed() < Duration::from_secs(120), "only {ended} jobs ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Rates { enqueued_per_s, drained_per_s: jobs as f64 / began.elapsed().as_secs_f64() })
}

async fn enqueue(queue: &Queue, shard: &Shard, jobs: usize) -> anyhow::Result<()> {
    let tasks: Vec<_> = (0..LANES)
        .map(|_| {
            let (queue, shard) = (queue.clone(), shard.clone());
            tokio::spawn(async move {
                for _ in 0..jobs / LANES / 100 {
                    let batch: Vec<NewJob> = (0..100).map(|_| job(&shard)).collect();
                    let limits =
                        Limits { max_queued: u64::MAX >> 12, max_queued_bytes: u64::MAX >> 12, liveness: LIVENESS };
                    let answers = queue.enqueue(&shard, limits, &batch).await?;
                    anyhow::ensure!(answers.iter().all(|answer| matches!(answer, Submitted::Accepted(_))), "refused");
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let rest = jobs - jobs / LANES / 100 * LANES * 100;
    let batch: Vec<NewJob> = (0..rest).map(|_| job(shard)).collect();
    let limits = Limits { max_queued: u64::MAX >> 12, max_queued_bytes: u64::MAX >> 12, liveness: LIVENESS };
    queue.enqueue(shard, limits, &batch).await?;
    Ok(())
}

fn job(shard: &Shard) -> NewJob {
    NewJob {
        id: JobId::new(shard.clone()),
        spec: JobSpec { task: "chat".into(), model: None, provider: None, owner: None, stream: true },
        input: RawValue::from_string(input()).expect("the input is JSON"),
        metadata: Metadata::new(),
        priority: Priority::Normal,
        max_attempts: 5,
        max_crashes: 3,
        run_at: None,
        delay: Duration::ZERO,
        timeout: Duration::from_secs(3600),
        queue_timeout: Duration::from_secs(3600),
        own_deadline: false,
        result_ttl: Duration::from_secs(86_400),
        concurrency_key: None,
        on_conflict: OnConflict::Reject,
        fail_fast: false,
        idempotent_for: Duration::ZERO,
    }
}
