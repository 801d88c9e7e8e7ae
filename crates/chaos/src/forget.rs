//! After the retention of all jobs: Redis holds what it held before the first one.

use std::time::Duration;

use redis::FromRedisValue as _;
use tokio::time::{Instant, sleep};

use crate::fleet::{Fleet, POOL};
use crate::log::{Log, What};

/// What the keys that last may take, for the whole run: workers that are gone, empty streams, counters.
const SLACK_BYTES: u64 = 64 << 10;
/// How long the pruner may take over the last job.
const PATIENCE: Duration = Duration::from_secs(90);
/// What a shard keeps without any job, as far as it ever had one.
const LASTING: &[&str] = &["workers", "info", "claims", "suspects", "ctl", "n", "bell", "q:", "h:", "total"];

/// What Redis holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Keys, those of a shard that last left out.
    pub keys: u64,
    /// Bytes that all keys take, as `MEMORY USAGE` has them.
    pub bytes: u64,
}

impl Holding {
    /// Looks.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn look(fleet: &Fleet) -> anyhow::Result<Self> {
        let keys = Vec::<String>::from_redis_value(fleet.redis.command(&["KEYS", "overshot:*"]).await?)?;
        let shard = format!("overshot:{{{POOL}.0}}:");
        let lasts = |key: &String| {
            key == "overshot:pools"
                || key.strip_prefix(&shard).is_some_and(|rest| LASTING.iter().any(|lasting| rest.starts_with(lasting)))
        };
        let mut bytes = 0;
        for key in &keys {
            let usage = fleet.redis.command(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).await?;
            // None: gone meanwhile.
            bytes += Option::<u64>::from_redis_value(usage)?.unwrap_or_default();
        }
        let keys = keys.iter().filter(|key| !lasts(key)).count() as u64;
        Ok(Self { keys, bytes })
    }
}

/// Waits until the retention of all jobs is over and compares what is left with what was there at the start.
///
/// # Errors
/// When Redis does not answer.
pub async fn wait_and_compare(
    fleet: &Fleet,
    log: &Log,
    before: Holding,
    retention_ends: Instant,
) -> anyhow::Result<()> {
    let mut after = Holding::look(fleet).await?;
    while after.keys > before.keys && Instant::now() < retention_ends + PATIENCE {
        sleep(Duration::from_secs(1)).await;
        after = Holding::look(fleet).await?;
    }
    log.record(What::Forgotten { before, after });
    for (what, more) in [
        ("keys of jobs whose retention is over", after.keys.saturating_sub(before.keys)),
        ("bytes of jobs whose retention is over", after.bytes.saturating_sub(before.bytes + SLACK_BYTES)),
    ] {
        if more > 0 {
            log.record(What::Leftover { what: what.to_owned(), count: more });
        }
    }
    Ok(())
}
