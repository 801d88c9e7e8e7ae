//! Where a waiting job stands, and for how long the oldest of those that run has run. Nothing here changes anything.

use std::time::Duration;

use redis::FromRedisValue as _;

use super::error::Error;
use super::{Queue, keys, parts};
use crate::ids::{JobId, Shard};

/// Most entries that are counted before a job.
const COUNTED: u64 = 1000;
/// Most running jobs that are looked at for the oldest.
const LOOKED_AT: usize = 100;

/// Where a waiting job stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Whether it is in a stream, so that a worker may claim it.
    pub in_stream: bool,
    /// Whether it waits for its model's turn instead, where a worker may claim it that has it.
    pub awaits_turn: bool,
    /// Jobs before it in its stream, or that wait for that turn before it, at most 1000.
    pub before: u64,
    /// Whether there are more than those.
    pub more: bool,
    /// Who holds the concurrency key that it waits for.
    pub key_holder: Option<JobId>,
    /// Jobs that get that key before it.
    pub key_waiters_before: u64,
}

impl Queue {
    /// Looks where a job stands; of one that runs, has ended or is unknown, nothing.
    pub async fn place(&self, id: &JobId) -> Result<Place, Error> {
        let reply = self.run(&self.inner.scripts.place, &id.shard, |command| {
            command.arg(id.local.as_str()).arg(COUNTED);
        });
        let [place, before, more, holder, waiters] = parts(reply.await?)?;
        let place = u8::from_redis_value(place)?;
        let holder = Some(String::from_redis_value(holder)?).filter(|holder| !holder.is_empty());
        let holder = holder.map(|local| local.parse().map_err(Error::corrupt)).transpose()?;
        Ok(Place {
            in_stream: place == 1,
            awaits_turn: place == 2,
            before: u64::from_redis_value(before)?,
            more: bool::from_redis_value(more)?,
            key_holder: holder.map(|local| JobId { shard: id.shard.clone(), local }),
            key_waiters_before: u64::from_redis_value(waiters)?,
        })
    }

    /// For how long the job has run that runs longest, of the hundred whose leases end first; `None`: none runs.
    pub async fn oldest_running(&self, shard: &Shard) -> Result<Option<Duration>, Error> {
        let mut leases = redis::cmd("ZRANGE");
        leases.arg(keys::part(shard, "leases")).arg(0).arg(LOOKED_AT - 1);
        let ids = super::parse_ids(self.inner.link.call(&leases).await?)?;
        if ids.is_empty() {
            return Ok(None);
        }
        let [seconds, micros] = parts(self.inner.link.call_at(shard, &redis::cmd("TIME")).await?)?;
        let now = u64::from_redis_value(seconds)? * 1000 + u64::from_redis_value(micros)? / 1000;
        let jobs = self.get_many(shard, &ids).await?;
        let begun = jobs.iter().filter_map(|job| u64::try_from(job.started_at?.as_millisecond()).ok()).min();
        Ok(begun.map(|begun| Duration::from_millis(now.saturating_sub(begun))))
    }
}
