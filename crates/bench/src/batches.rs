//! The client's side of the queue and nothing else, for a count of its instructions: see `scripts/instructions`.

use std::time::Duration;

use overshot_common::ids::WorkerId;
use overshot_common::queue::{Held, NewJob, Settlement, Verdict};
use serde_json::value::RawValue;

use crate::backlog::put;
use crate::engine::{job, open, shard};
use crate::server::Server;

/// Jobs of one call.
const BATCH: usize = 100;
const LEASE: Duration = Duration::from_secs(30);

/// Enqueues, claims and settles so many batches of jobs on this thread alone: one that steals work adds to the count.
pub(crate) fn run(batches: usize) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(all(batches))
}

async fn all(batches: usize) -> anyhow::Result<()> {
    let server = Server::start(false).await?;
    let (queue, shard, worker) = (open(&server)?, shard()?, "bench".parse::<WorkerId>()?);
    let result = RawValue::from_string(r#"{"content":""}"#.to_owned())?;
    for _ in 0..batches {
        let jobs: Vec<NewJob> = (0..BATCH).map(|_| job(&shard)).collect();
        put(&queue, &shard, &jobs).await?;
    }
    if std::env::var("ONLY").as_deref() == Ok("put") {
        return Ok(());
    }
    let mut before = Vec::new();
    for batch in 0..=batches {
        // The next claim is made before the last one's jobs are settled, as in a worker.
        let claimed = queue.claim(&shard, &worker, &batch.to_string(), BATCH, LEASE).await?.jobs;
        anyhow::ensure!(claimed.len() == BATCH || batch == batches, "a claim brought {} jobs", claimed.len());
        if std::env::var("ONLY").as_deref() == Ok("claim") {
            continue;
        }
        let settlements = claimed.into_iter().map(|job| Settlement {
            held: Held { id: job.id, grant: job.grant },
            verdict: Verdict::Completed(result.clone()),
            provider: None,
            partial: None,
        });
        let held = std::mem::replace(&mut before, settlements.collect());
        queue.settle(&shard, &held).await?;
    }
    Ok(())
}
