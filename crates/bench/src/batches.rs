//! The client's side of the queue and nothing else, for a count of its instructions: see `scripts/instructions`.

use std::time::Duration;

use overshot_common::ids::WorkerId;
use overshot_common::queue::{Held, NewJob, Settlement, Verdict};
use serde_json::value::RawValue;

use crate::backlog::put;
use crate::engine::{job, open, shard};
use crate::server::Server;

const LEASE: Duration = Duration::from_secs(30);

/// A move of every job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub(crate) enum Move {
    Enqueue,
    Claim,
    #[default]
    Settle,
}

/// Enqueues, claims and settles so many batches of jobs on this thread alone: one that steals work adds to the count.
pub(crate) fn run(batches: usize, size: usize, until: Move) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(all(batches, size, until))
}

async fn all(batches: usize, size: usize, until: Move) -> anyhow::Result<()> {
    let server = Server::start(false).await?;
    let (queue, shard, worker) = (open(&server)?, shard()?, "bench".parse::<WorkerId>()?);
    let result = RawValue::from_string(r#"{"content":""}"#.to_owned())?;
    for _ in 0..batches {
        let jobs: Vec<NewJob> = (0..size).map(|_| job(&shard)).collect();
        put(&queue, &shard, &jobs).await?;
    }
    if until < Move::Claim {
        return Ok(());
    }
    let mut running = Vec::new();
    for batch in 0..=batches {
        // The next claim is made before the last one's jobs are settled, as in a worker.
        let claimed = queue.claim(&shard, &worker, &batch.to_string(), size, LEASE).await?.jobs;
        anyhow::ensure!(claimed.len() == size || batch == batches, "a claim brought {} jobs", claimed.len());
        let settlements = claimed
            .into_iter()
            .map(|job| Settlement::new(Held { id: job.id, grant: job.grant }, Verdict::Completed(result.clone())));
        let ended = std::mem::replace(&mut running, settlements.collect());
        if until == Move::Settle && !ended.is_empty() {
            queue.settle(&shard, &ended).await?;
        }
    }
    Ok(())
}
