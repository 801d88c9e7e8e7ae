//! Many jobs that are due in the same second, and what another client notices of it.

use std::time::{Duration, Instant};

use overshot_common::ids::Shard;
use overshot_common::job::Status;
use overshot_common::queue::{NewJob, Queue};
use redis::aio::MultiplexedConnection;

use crate::backlog::{fill, redis_now};
use crate::engine::{LIVENESS, job, open, shard};
use crate::programs::Program;
use crate::report::Row;
use crate::server::Server;

const JOBS: usize = 10_000;
/// Long enough to put them all in before.
const AHEAD: Duration = Duration::from_secs(2);
/// The whole must be over by then.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(append_only: bool) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(append_only).await?;
    let (queue, shard) = (open(&server)?, shard()?);
    let _api = Program::start("overshot-api", &server).await?;
    let _worker = Program::start("overshot-worker", &server).await?;
    let due = redis_now(&server).await? + AHEAD;
    let of = shard.clone();
    fill(&queue, &shard, JOBS, move |_| NewJob { run_at: due.try_into().ok(), ..job(&of) }).await?;
    let ahead = due.duration_since(redis_now(&server).await?).unwrap_or_default();
    anyhow::ensure!(ahead > Duration::from_millis(100), "putting {JOBS} jobs in took too long");
    tokio::time::sleep(ahead).await;

    let mut stall = Duration::ZERO;
    let (queued, completed) = tokio::select! {
        times = drained(&queue, &shard) => times?,
        failed = watch(server.connect().await?, &mut stall) => return Err(failed.into()),
    };
    let figure = |what: &str, time: Duration| {
        Row::new(format!("{JOBS} jobs due in the same second: {what}"), "ms", time.as_secs_f64() * 1000.0)
    };
    Ok(vec![
        figure("until all are queued", queued),
        figure("until all are completed", completed),
        figure("longest stall of another client", stall),
    ])
}

/// How long it takes until all jobs have left the due set, and until all have ended.
async fn drained(queue: &Queue, shard: &Shard) -> anyhow::Result<(Duration, Duration)> {
    let began = Instant::now();
    let mut queued = None;
    loop {
        let numbers = queue.numbers(shard, LIVENESS).await?;
        if numbers.by_status[Status::Scheduled as usize] == 0 && numbers.due == 0 {
            queued.get_or_insert(began.elapsed());
        }
        if numbers.by_status[Status::Completed as usize] == JOBS as u64 {
            let completed = began.elapsed();
            return Ok((queued.unwrap_or(completed), completed));
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "not all jobs ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends one PING after the other, and notes the longest time until an answer. Ends only with an error.
async fn watch(mut connection: MultiplexedConnection, longest: &mut Duration) -> redis::RedisError {
    loop {
        let sent = Instant::now();
        let answer: redis::RedisResult<()> = redis::cmd("PING").query_async(&mut connection).await;
        *longest = sent.elapsed().max(*longest);
        match answer {
            Ok(()) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => return error,
        }
    }
}
