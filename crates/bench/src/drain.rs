//! Enqueue by the library and drain through the whole worker with a no-op task, each beside the bare client.
//!
//! Each side has a server of its own, one after the other: neither inherits the other's memory.

use std::time::{Duration, Instant};

use overshot_common::job::Status;
use overshot_common::queue::Queue;

use crate::bare::{self, BATCH, LANES, SINGLE_LANES};
use crate::programs::Program;
use crate::report::{Aim, Mode, Row, median};
use crate::server::Server;
use crate::size::Size;
use crate::{calls, engine};

const PATIENCE: Duration = Duration::from_secs(120);
const BARE: &str = "bare client";

/// What one side of a pair brought.
#[derive(Debug)]
struct Side {
    bulk_per_s: f64,
    singles_per_s: f64,
    drained_per_s: f64,
    /// Redis' CPU, in µs per job.
    single_cpu_us: f64,
    bulk_cpu_us: f64,
    drain_cpu_us: f64,
    /// Commands sent by clients during the drain, per job.
    drain_calls: f64,
}

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    let mut pairs = Vec::new();
    for number in 1..=size.pairs {
        let theirs = measure_bare(mode, size).await?;
        let ours = measure_ours(mode, size).await?;
        println!(
            "  pair {number}: drained/s {:.0} of {:.0}, enqueued/s {:.0} of {:.0}, one at a time {:.0} of {:.0}",
            ours.drained_per_s,
            theirs.drained_per_s,
            ours.bulk_per_s,
            theirs.bulk_per_s,
            ours.singles_per_s,
            theirs.singles_per_s
        );
        pairs.push((ours, theirs));
    }
    let paired = |figure, unit, of: fn(&Side) -> f64| {
        let pairs: Vec<_> = pairs.iter().map(|(ours, theirs)| (of(ours), of(theirs))).collect();
        Row::paired(figure, unit, BARE, &pairs)
    };
    let worker_calls = median(pairs.iter().map(|(ours, _)| ours.drain_calls));
    Ok(vec![
        paired("drain through the whole worker", "jobs/s", |side| side.drained_per_s).aim(Aim::AtLeast(0.6)),
        paired("enqueue by the library in bulk", "jobs/s", |side| side.bulk_per_s).aim(Aim::AtLeast(0.35)),
        paired("enqueue by the library one at a time", "jobs/s", |side| side.singles_per_s),
        paired("CPU of Redis per single enqueue", "µs/job", |side| side.single_cpu_us),
        paired("CPU of Redis per bulk enqueue", "µs/job", |side| side.bulk_cpu_us),
        paired("CPU of Redis per drained job", "µs/job", |side| side.drain_cpu_us),
        Row::new("calls of the worker under load", "calls/job", worker_calls).aim(Aim::AtMost(0.1)),
    ])
}

async fn measure_bare(mode: Mode, size: &Size) -> anyhow::Result<Side> {
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let began = server.cpu_s().await?;
    let singles_per_s = bare::enqueue(&server, size.singles, 1, SINGLE_LANES).await?;
    let single_cpu_us = (server.cpu_s().await? - began) * 1e6 / size.singles as f64;
    drop(server);
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let began = server.cpu_s().await?;
    let bulk_per_s = bare::enqueue(&server, size.jobs, BATCH, LANES).await?;
    let (enqueued, calls) = (server.cpu_s().await?, calls::so_far(&server).await?);
    let drained_per_s = bare::drain(&server, size.jobs).await?;
    let jobs = size.jobs as f64;
    Ok(Side {
        bulk_per_s,
        singles_per_s,
        drained_per_s,
        single_cpu_us,
        bulk_cpu_us: (enqueued - began) * 1e6 / jobs,
        drain_cpu_us: (server.cpu_s().await? - enqueued) * 1e6 / jobs,
        drain_calls: (calls::so_far(&server).await? - calls) as f64 / jobs,
    })
}

async fn measure_ours(mode: Mode, size: &Size) -> anyhow::Result<Side> {
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let queue = engine::open(&server)?;
    let began = server.cpu_s().await?;
    let singles_per_s = engine::enqueue(&queue, size.singles, 1, SINGLE_LANES).await?;
    let single_cpu_us = (server.cpu_s().await? - began) * 1e6 / size.singles as f64;
    drop((queue, server));
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let (queue, shard) = (engine::open(&server)?, engine::shard()?);
    queue.pause(&shard, true).await?;
    let began = server.cpu_s().await?;
    let bulk_per_s = engine::enqueue(&queue, size.jobs, BATCH, LANES).await?;
    let enqueued = server.cpu_s().await?;
    let _worker = Program::start("overshot-worker", &server).await?;
    while queue.numbers(&shard, engine::LIVENESS).await?.live_workers == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (idle, calls) = (server.cpu_s().await?, calls::so_far(&server).await?);
    let began_draining = Instant::now();
    queue.pause(&shard, false).await?;
    let looks = drained(&queue, size.jobs).await?;
    let drained_per_s = size.jobs as f64 / began_draining.elapsed().as_secs_f64();
    let jobs = size.jobs as f64;
    // The pause lifted and the looks are this program's own calls, not the worker's.
    let calls = calls::so_far(&server).await? - calls - 1 - looks;
    Ok(Side {
        bulk_per_s,
        singles_per_s,
        drained_per_s,
        single_cpu_us,
        bulk_cpu_us: (enqueued - began) * 1e6 / jobs,
        drain_cpu_us: (server.cpu_s().await? - idle) * 1e6 / jobs,
        drain_calls: calls as f64 / jobs,
    })
}

/// Waits until that many jobs are completed; tells how often it looked.
pub(crate) async fn drained(queue: &Queue, jobs: usize) -> anyhow::Result<u64> {
    let (shard, began) = (engine::shard()?, Instant::now());
    for looks in 1.. {
        let ended = queue.numbers(&shard, engine::LIVENESS).await?.by_status[Status::Completed as usize];
        if ended == jobs as u64 {
            return Ok(looks);
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "only {ended} jobs ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    unreachable!("there is no last look")
}
