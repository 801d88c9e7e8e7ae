//! The engine as the library offers it: jobs with nothing but an input, enqueued in bulk and one at a time.

use std::time::Duration;

use overshot_common::config::Durability;
use overshot_common::ids::{JobId, PoolName, Shard};
use overshot_common::job::JobSpec;
use overshot_common::queue::{Limits, NewJob, Queue, Submitted};
use serde_json::value::RawValue;

use crate::bare::input;
use crate::lanes::{Calls, rate};
use crate::server::Server;

/// After how long a silent worker counts as dead: the default.
pub(crate) const LIVENESS: Duration = Duration::from_secs(10);
/// Limits that nothing here reaches.
pub(crate) const LIMITS: Limits = Limits {
    max_queued: u64::MAX >> 12,
    max_queued_bytes: u64::MAX >> 12,
    liveness: LIVENESS,
    durability: Durability::Memory,
};

/// Opens the queue of a server.
pub(crate) fn open(server: &Server) -> anyhow::Result<Queue> {
    Ok(Queue::open(&server.url(), Duration::from_secs(10))?)
}

/// The shard that all measurements use.
pub(crate) fn shard() -> anyhow::Result<Shard> {
    Ok("chat".parse::<PoolName>()?.place())
}

/// Enqueues jobs, `batch` a call on `lanes` lanes; tells how many a second.
pub(crate) async fn enqueue(queue: &Queue, jobs: usize, batch: usize, lanes: usize) -> anyhow::Result<f64> {
    let shard = shard()?;
    let calls = rate(jobs / batch, lanes, |_, calls: Calls| {
        let (queue, shard) = (queue.clone(), shard.clone());
        async move {
            while calls.take().is_some() {
                let jobs: Vec<NewJob> = (0..batch).map(|_| job(&shard)).collect();
                let answers = queue.enqueue(&shard, LIMITS, &jobs).await?;
                anyhow::ensure!(answers.iter().all(|answer| matches!(answer, Submitted::Accepted(_))), "refused");
            }
            Ok(())
        }
    });
    Ok(calls.await? * batch as f64)
}

/// A job with the defaults of a pool.
pub(crate) fn job(shard: &Shard) -> NewJob {
    let spec = JobSpec::new("chat");
    NewJob::new(JobId::new(shard.clone()), spec, RawValue::from_string(input()).expect("the input is JSON"))
}
