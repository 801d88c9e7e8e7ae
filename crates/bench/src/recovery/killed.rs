//! SIGKILL of a worker to its jobs running again, at the defaults.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use overshot_common::ids::{LocalId, Shard};
use overshot_common::job::{Job, Status};
use overshot_common::queue::{NewJob, Queue};

use crate::backlog::{fill, put, redis_now};
use crate::engine::{job, open, shard};
use crate::programs::Program;
use crate::report::{Aim, Row};
use crate::server::Server;

/// The longer queue.
pub(super) const BACKLOG: usize = 100_000;

/// The victims' jobs do not end by themselves.
const ENDLESS: &str = r#"
[pools.chat]
providers = ["sim"]

[providers.sim]
kind = "simulated"
tokens = 1
pace = "1h"
"#;
/// The others' take a tenth of a second, so that the backlog outlasts the measurement.
const SHORT: &str = r#"
[pools.chat]
providers = ["sim"]

[providers.sim]
kind = "simulated"
tokens = 5
pace = "20ms"
"#;
/// What a worker holds at the defaults.
const IN_FLIGHT: usize = 8;
/// Between two kills: no divisor of the beats' and the reaper's times, so that they meet each of their phases.
const BETWEEN: Duration = Duration::from_millis(1_130);
const PATIENCE: Duration = Duration::from_secs(180);

/// Kills so many workers, one after the other, of which each holds its fill of jobs.
pub(super) async fn run(append_only: bool, kills: usize, backlog: usize) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(append_only).await?;
    let (queue, shard) = (open(&server)?, shard()?);
    let _api = Program::start("overshot-api", &server).await?;
    let mut victims = Vec::new();
    for _ in 0..kills {
        victims.push(busy_worker(&server, &queue, &shard).await?);
    }
    let _rescuers = [
        Program::start_with("overshot-worker", &server, SHORT).await?,
        Program::start_with("overshot-worker", &server, SHORT).await?,
    ];
    let of = shard.clone();
    fill(&queue, &shard, backlog, move |_| job(&of)).await?;

    let mut killed = Vec::new();
    for (worker, ids) in victims {
        let at = redis_now(&server).await?;
        worker.kill().await?;
        killed.push((at, ids));
        tokio::time::sleep(BETWEEN).await;
    }
    let mut times = Histogram::<u64>::new(3)?;
    for (at, ids) in killed {
        for job in tokio::time::timeout(PATIENCE, running_again(&queue, &shard, &ids)).await?? {
            let started = SystemTime::from(job.started_at.context("a job ran without a start")?);
            times.record(u64::try_from(started.duration_since(at)?.as_millis())?)?;
        }
    }
    let waiting = queue.numbers(&shard, PATIENCE).await?.by_status[Status::Queued as usize];
    anyhow::ensure!(backlog == 0 || waiting > 0, "the backlog was too short");
    let seconds = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1000.0;
    let figure =
        |quantile| format!("SIGKILL of a worker to its {IN_FLIGHT} jobs running again, {backlog} queued, {quantile}");
    Ok(vec![
        Row::new(figure("p50"), "s", seconds(0.5)),
        Row::new(figure("p99"), "s", seconds(0.99)).aim(Aim::AtMost(12.0)),
    ])
}

/// A worker that holds as many jobs as it takes, and which those are.
async fn busy_worker(server: &Server, queue: &Queue, shard: &Shard) -> anyhow::Result<(Program, Vec<LocalId>)> {
    let worker = Program::start_with("overshot-worker", server, ENDLESS).await?;
    let jobs: Vec<NewJob> = (0..IN_FLIGHT).map(|_| job(shard)).collect();
    let ids: Vec<LocalId> = jobs.iter().map(|job| job.id.local).collect();
    put(queue, shard, &jobs).await?;
    tokio::time::timeout(PATIENCE, reached(queue, shard, &ids, |job| job.status == Status::Running)).await??;
    Ok((worker, ids))
}

/// The jobs once all of them have begun their second attempt.
async fn running_again(queue: &Queue, shard: &Shard, ids: &[LocalId]) -> anyhow::Result<Vec<Job>> {
    reached(queue, shard, ids, |job| job.attempts >= 2).await
}

async fn reached(
    queue: &Queue,
    shard: &Shard,
    ids: &[LocalId],
    there: impl Fn(&Job) -> bool,
) -> anyhow::Result<Vec<Job>> {
    loop {
        let jobs = queue.get_many(shard, ids).await?;
        if jobs.iter().all(&there) {
            return Ok(jobs);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
