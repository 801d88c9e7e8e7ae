//! Jobs of several leases' length: they run once.

use std::time::Duration;

use overshot_common::ids::{LocalId, Shard};
use overshot_common::job::{Job, Status};
use overshot_common::queue::{NewJob, Queue};

use crate::backlog::put;
use crate::engine::{job, open, shard};
use crate::programs::Program;
use crate::report::{Aim, Row};
use crate::server::Server;

/// Five seconds of work under a lease of one.
const CONFIG: &str = r#"
[pools.chat]
providers = ["sim"]
lease = "1s"

[providers.sim]
kind = "simulated"
tokens = 50
pace = "100ms"
jitter = 0.0
"#;
/// As many as one worker takes at the defaults.
const JOBS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(append_only: bool) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(append_only).await?;
    let (queue, shard) = (open(&server)?, shard()?);
    // The second worker would take what the first one lost.
    let _first = Program::start_with("overshot-worker", &server, CONFIG).await?;
    let _second = Program::start_with("overshot-worker", &server, CONFIG).await?;
    let jobs: Vec<NewJob> = (0..JOBS).map(|_| job(&shard)).collect();
    let ids: Vec<LocalId> = jobs.iter().map(|job| job.id.local).collect();
    put(&queue, &shard, &jobs).await?;
    let jobs = tokio::time::timeout(PATIENCE, ended(&queue, &shard, &ids)).await??;
    let once = |job: &&Job| job.status == Status::Completed && job.attempts == 1 && job.crashes == 0;
    let more = JOBS - jobs.iter().filter(once).count();
    let figure = format!("of {JOBS} jobs of five leases' length, those that did not run exactly once");
    Ok(vec![Row::new(figure, "jobs", more as f64).aim(Aim::AtMost(0.0))])
}

async fn ended(queue: &Queue, shard: &Shard, ids: &[LocalId]) -> anyhow::Result<Vec<Job>> {
    loop {
        let jobs = queue.get_many(shard, ids).await?;
        if jobs.iter().all(|job| job.status.is_terminal()) {
            return Ok(jobs);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
