//! Whether Redis is there and may be trusted: asked at the start until it is, then again and again.

use std::convert::Infallible;
use std::time::Duration;

use overshot_common::config::Durability;
use overshot_common::ids::PoolName;
use overshot_common::queue::{self, Queue};
use overshot_common::upkeep::Upkeep;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::RunError;

/// Pause between two tries to reach Redis at the start.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries between two log lines about its absence.
const TRIES_PER_LINE: u32 = 20;
/// How often a Redis that was found fit is asked again: a failover may bring another.
const RECHECK: Duration = Duration::from_secs(10);

/// What is known of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedisState {
    /// It was not reached yet, or not found fit.
    Starting,
    /// It was found fit, and the pools are registered.
    Fit,
    /// It was fit once and is no longer.
    Unfit,
}

/// The service that keeps [`RedisState`] and runs the upkeep once Redis is fit.
#[derive(Debug)]
pub(crate) struct RedisWatch {
    pub(crate) queue: Queue,
    pub(crate) pools: Vec<(PoolName, u16, Durability)>,
    pub(crate) allow_unsafe: bool,
    pub(crate) told: watch::Sender<RedisState>,
    pub(crate) upkeep: Upkeep,
    pub(crate) stopping: CancellationToken,
}

impl RedisWatch {
    /// Returns only with the reason why this process must end.
    pub(crate) async fn run(self) -> RunError {
        if let Err(error) = prepare(&self.queue, &self.pools, self.allow_unsafe).await {
            return error;
        }
        self.told.send_replace(RedisState::Fit);
        tracing::info!(pools = self.pools.len(), "redis is ready");
        let upkeep = self.upkeep.run(self.stopping);
        let (_, never) = tokio::join!(upkeep, recheck(&self.queue, &self.pools, self.allow_unsafe, &self.told));
        match never {}
    }
}

async fn prepare(queue: &Queue, pools: &[(PoolName, u16, Durability)], allow_unsafe: bool) -> Result<(), RunError> {
    let mut tries = 0;
    loop {
        match examine_and_register(queue, pools, allow_unsafe).await {
            Err(RunError::Queue(error)) if waits(&error) => {
                if tries % TRIES_PER_LINE == 0 {
                    tracing::warn!(%error, "redis is not ready, trying again");
                }
            }
            other => return other,
        }
        tries += 1;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Whether the trouble may pass without anybody changing our configuration.
fn waits(error: &queue::Error) -> bool {
    !matches!(error, queue::Error::Mismatch(_))
}

async fn examine_and_register(
    queue: &Queue,
    pools: &[(PoolName, u16, Durability)],
    allow_unsafe: bool,
) -> Result<(), RunError> {
    let reasons = examine(queue, true).await?;
    if !reasons.is_empty() {
        if !allow_unsafe {
            return Err(RunError::Unfit(reasons));
        }
        reasons.iter().for_each(|reason| tracing::warn!(%reason, "redis is unsafe, as allowed"));
    }
    let contradictions = contradictions(queue, pools, true).await?;
    if !contradictions.is_empty() {
        return Err(queue::Error::Mismatch(contradictions.join("; ")).into());
    }
    Ok(register(queue, pools).await?)
}

async fn register(queue: &Queue, pools: &[(PoolName, u16, Durability)]) -> Result<(), queue::Error> {
    for (pool, shards, _) in pools {
        queue.register_pool(pool, *shards).await?;
    }
    Ok(())
}

/// The reasons not to trust Redis; lesser ones are only logged.
async fn examine(queue: &Queue, log: bool) -> Result<Vec<String>, queue::Error> {
    let (fatal, lesser): (Vec<_>, Vec<_>) = queue.fitness().await?.into_iter().partition(|unfit| unfit.fatal);
    if log {
        lesser.iter().for_each(|unfit| tracing::warn!(reason = %unfit.reason, "redis could be safer"));
    }
    Ok(fatal.into_iter().map(|unfit| unfit.reason).collect())
}

/// What our configuration asks for and this Redis cannot give; lesser troubles are only logged.
async fn contradictions(
    queue: &Queue,
    pools: &[(PoolName, u16, Durability)],
    log: bool,
) -> Result<Vec<String>, queue::Error> {
    let mut reasons = Vec::new();
    for (pool, _, durability) in pools.iter().filter(|(_, _, durability)| *durability != Durability::Memory) {
        match queue.fitness_for(pool, *durability).await? {
            Some(unfit) if unfit.fatal => reasons.push(unfit.reason),
            Some(unfit) if log => tracing::warn!(reason = %unfit.reason, "redis could be safer"),
            Some(_) | None => {}
        }
    }
    Ok(reasons)
}

async fn recheck(
    queue: &Queue,
    pools: &[(PoolName, u16, Durability)],
    allow_unsafe: bool,
    told: &watch::Sender<RedisState>,
) -> Infallible {
    loop {
        tokio::time::sleep(RECHECK).await;
        let Ok(mut reasons) = examine(queue, false).await else { continue };
        let Ok(contradictions) = contradictions(queue, pools, false).await else { continue };
        if allow_unsafe {
            reasons.clear();
        }
        reasons.extend(contradictions);
        let state = if reasons.is_empty() { RedisState::Fit } else { RedisState::Unfit };
        // A Redis that came back empty does not know the pools.
        if let Err(error) = register(queue, pools).await {
            tracing::warn!(%error, "pools not registered again");
        }
        if told.send_replace(state) != state {
            match state {
                RedisState::Fit => tracing::info!("redis is fit again"),
                RedisState::Starting | RedisState::Unfit => {
                    tracing::error!(reasons = reasons.join("; "), "redis is no longer fit");
                }
            }
        }
    }
}
