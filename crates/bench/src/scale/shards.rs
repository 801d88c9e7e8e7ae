//! The CPU of all servers per job, enqueued by the library and drained through the whole worker, by how many primaries
//! and shards a pool is spread over.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use overshot_common::ids::{JobId, PoolName, Shard};
use overshot_common::job::Status;
use overshot_common::queue::{NewJob, Queue};

use super::cluster::Cluster;
use crate::backlog::put;
use crate::engine::{LIVENESS, job};
use crate::programs::Program;
use crate::report::{Aim, Curve, Row, median};
use crate::size::Size;

/// What all layouts are held against: primaries and shards.
const ONE: Layout = (1, 1);
/// The layout with an aim.
const AIMED: Layout = (3, 3);
/// Jobs that are submitted together, of all shards: each shard gets its part in a call of its own.
const BATCH: usize = 100;
/// Submits under way at the same time.
const LANES: usize = 8;
const PATIENCE: Duration = Duration::from_secs(120);

type Layout = (usize, u16);

pub(super) async fn run(append_only: bool, size: &Size) -> anyhow::Result<(Vec<Row>, Curve)> {
    let mut clusters = BTreeMap::new();
    for (primaries, _) in std::iter::once(&ONE).chain(size.layouts) {
        if !clusters.contains_key(primaries) {
            clusters.insert(*primaries, Cluster::start(*primaries, append_only).await?);
        }
    }
    // Each beside one primary with one shard, taken just before: the machine's speed changes.
    let mut pairs: BTreeMap<Layout, Vec<(f64, f64)>> = BTreeMap::new();
    for number in 1..=size.shard_rounds {
        for layout @ (primaries, shards) in size.layouts {
            let one = measure(&clusters[&ONE.0], ONE.1, size.shard_jobs).await?;
            let cost = measure(&clusters[primaries], *shards, size.shard_jobs).await?;
            println!("  round {number}, primaries {primaries}, shards {shards}: {cost}; of one: {one}");
            pairs.entry(*layout).or_default().push((cost.cpu_us(), one.cpu_us()));
        }
    }
    let rows = size.layouts.iter().map(|layout @ (primaries, shards)| {
        let figure =
            format!("CPU of Redis per job, enqueued and drained: cluster primaries {primaries}, shards {shards}");
        let row = Row::paired(figure, "µs/job", "1 primary, 1 shard", &pairs[layout]);
        if *layout == AIMED { row.aim(Aim::AtMost(1.15)) } else { row }
    });
    let rows = rows.collect();
    let ones: Vec<(f64, f64)> = pairs.values().flatten().map(|(_, one)| (*one, *one)).collect();
    pairs.insert(ONE, ones);
    let line = |wanted: usize| {
        let of_line = pairs.iter().filter(|((primaries, _), _)| *primaries == wanted);
        let points =
            of_line.map(|((_, shards), pairs)| (f64::from(*shards), median(pairs.iter().map(|(cpu, _)| *cpu))));
        (format!("primaries: {wanted}"), points.collect())
    };
    let curve = Curve {
        name: "shards",
        title: "CPU of all Redis primaries per job, by the shards of its pool",
        x: "shards",
        y: "µs per job",
        lines: clusters.keys().map(|primaries| line(*primaries)).collect(),
    };
    Ok((rows, curve))
}

/// What jobs cost all nodes of a cluster together.
struct Cost {
    /// CPU, in µs per job.
    enqueue_us: f64,
    drain_us: f64,
    /// Commands that clients sent during the drain, per job.
    drain_calls: f64,
}

impl Cost {
    fn cpu_us(&self) -> f64 {
        self.enqueue_us + self.drain_us
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { enqueue_us, drain_us, drain_calls } = self;
        write!(f, "enqueue {enqueue_us:.1} µs, drain {drain_us:.1} µs with {drain_calls:.3} calls a job")
    }
}

/// Enqueues jobs and drains them, on a cluster emptied before.
async fn measure(cluster: &Cluster, count: u16, jobs: usize) -> anyhow::Result<Cost> {
    cluster.empty().await?;
    let queue = Queue::open(&cluster.url(), Duration::from_secs(10))?;
    let pool: PoolName = "chat".parse()?;
    let shards: Vec<Shard> = pool.shards(count).collect();
    for shard in &shards {
        queue.pause(shard, true).await?;
    }
    let before = cluster.cpu_s().await?;
    enqueue(&queue, &pool, count, jobs).await?;
    let enqueued = cluster.cpu_s().await?;
    let worker = Program::start_sharded("overshot-worker", &cluster.url(), count).await?;
    for shard in &shards {
        while queue.numbers(shard, LIVENESS).await?.live_workers == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let (ready, calls) = (cluster.cpu_s().await?, cluster.calls().await?);
    for shard in &shards {
        queue.pause(shard, false).await?;
    }
    drained(&queue, &shards, jobs).await?;
    let (done, calls) = (cluster.cpu_s().await?, cluster.calls().await? - calls);
    worker.kill().await?;
    let of_job = |seconds: f64| seconds * 1e6 / jobs as f64;
    let (enqueue_us, drain_us) = (of_job(enqueued - before), of_job(done - ready));
    Ok(Cost { enqueue_us, drain_us, drain_calls: calls as f64 / jobs as f64 })
}

async fn enqueue(queue: &Queue, pool: &PoolName, count: u16, jobs: usize) -> anyhow::Result<()> {
    let lanes = (0..LANES).map(async |lane| {
        for first in (lane * BATCH..jobs).step_by(LANES * BATCH) {
            let mut parts: BTreeMap<Shard, Vec<NewJob>> = BTreeMap::new();
            for _ in first..jobs.min(first + BATCH) {
                let id = JobId::in_pool(pool, count, None);
                let shard = id.shard.clone();
                parts.entry(shard.clone()).or_default().push(NewJob { id, ..job(&shard) });
            }
            try_join_all(parts.iter().map(|(shard, jobs)| put(queue, shard, jobs))).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(lanes).await?;
    Ok(())
}

/// Waits until so many jobs of all shards together are completed. Looks seldom: its looks are in the figure.
async fn drained(queue: &Queue, shards: &[Shard], jobs: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let numbers = try_join_all(shards.iter().map(|shard| queue.numbers(shard, LIVENESS))).await?;
        let ended: u64 = numbers.iter().map(|numbers| numbers.by_status[Status::Completed as usize]).sum();
        if ended == jobs as u64 {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "only {ended} jobs ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
