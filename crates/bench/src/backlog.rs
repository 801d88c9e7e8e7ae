//! A queue with something in it: put in by the library, as quickly as it goes.

use std::time::{Duration, SystemTime};

use overshot_common::ids::Shard;
use overshot_common::queue::{NewJob, Queue, Submitted};

use crate::engine::LIMITS;
use crate::server::Server;

/// Jobs of one call.
const BATCH: usize = 100;
/// Callers that put jobs in at the same time.
const LANES: usize = 4;

/// Puts jobs in with one call, or a few where they are many; all must be accepted.
pub(crate) async fn put(queue: &Queue, shard: &Shard, jobs: &[NewJob]) -> anyhow::Result<()> {
    let answers = queue.enqueue(shard, LIMITS, jobs).await?;
    anyhow::ensure!(answers.iter().all(|answer| matches!(answer, Submitted::Accepted(_))), "a job was refused");
    Ok(())
}

/// Puts so many jobs in, each as `make` makes it from its number, on several lanes.
pub(crate) async fn fill(
    queue: &Queue,
    shard: &Shard,
    jobs: usize,
    make: impl Fn(usize) -> NewJob + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let tasks: Vec<_> = (0..LANES)
        .map(|lane| {
            let (queue, shard, make) = (queue.clone(), shard.clone(), make.clone());
            tokio::spawn(async move {
                for first in (lane * BATCH..jobs).step_by(LANES * BATCH) {
                    let batch: Vec<NewJob> = (first..jobs.min(first + BATCH)).map(&make).collect();
                    put(&queue, &shard, &batch).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// The time by Redis' clock, which decides when a job is due and tells when it began.
pub(crate) async fn redis_now(server: &Server) -> anyhow::Result<SystemTime> {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut server.connect().await?).await?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros))
}
