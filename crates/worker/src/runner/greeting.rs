//! The first words with Redis: is it there, may it be trusted with jobs, does it know the pools as we do.

use std::time::Duration;

use overshot_common::config::Config;
use overshot_common::queue::{Error, Queue};

/// How often an absent Redis is tried.
const EVERY: Duration = Duration::from_millis(500);
/// How long one try may take: who starts a worker without a Redis is told soon.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waits for Redis, then judges it and notes the served pools. Cancel safe.
///
/// # Errors
/// A Redis that may lose jobs, unless that is allowed; a pool that was started with other shards.
pub(super) async fn greet(queue: &Queue, config: &Config) -> anyhow::Result<()> {
    let queue = &queue.separate(PATIENCE)?;
    let unfit = patiently(config, || queue.fitness()).await?;
    let mut reasons = Vec::new();
    for unfit in unfit {
        if unfit.fatal && !config.allow_unsafe_redis {
            reasons.push(unfit.reason);
        } else {
            tracing::warn!(reason = unfit.reason, "redis is not fully fit");
        }
    }
    if !reasons.is_empty() {
        let reasons = reasons.join("; ");
        anyhow::bail!("redis is unfit (OVERSHOT_ALLOW_UNSAFE_REDIS=1 takes it nevertheless): {reasons}");
    }
    let served = config.served_pools();
    for (pool, shards) in config.shards().filter(|(pool, _)| served.contains(pool)) {
        patiently(config, || queue.register_pool(pool, shards)).await?;
    }
    Ok(())
}

/// Calls until Redis answers; tells once that it does not.
async fn patiently<T, F>(config: &Config, call: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut told = false;
    loop {
        match call().await {
            Err(error) if error.is_transient() => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, redis = %config.redis_url, "waiting for redis");
                }
                tokio::time::sleep(EVERY).await;
            }
            other => return other,
        }
    }
}
