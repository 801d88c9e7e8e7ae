//! The moves that no caller asks for: promote, reclaim, expire, prune, audit. They run in every process, without a leader.

use std::time::Duration;

use redis::{FromRedisValue as _, Value};
use serde_json::value::RawValue;

use super::error::Error;
use super::stash::StoredResult;
use super::work::to_json;
use super::{Queue, ms, parking, parts};
use crate::ids::{JobId, Shard};
use crate::job::Status;

/// Most jobs per call: a longer script would stall the server for others.
const JOBS_PER_CALL: usize = 100;

/// What a promotion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// How many due jobs were looked at; as many as a call may: there may be more.
    pub count: usize,
    /// When the next one is due, Unix time in ms.
    pub next_due: Option<u64>,
}

impl Promoted {
    /// Whether more may be due already.
    pub fn more(&self) -> bool {
        self.count >= JOBS_PER_CALL
    }
}

/// How a shard's reaper judges.
#[derive(Debug, Clone, Copy)]
pub struct ReclaimPolicy {
    /// The pool's lease.
    pub lease: Duration,
    /// A worker silent for longer is dead.
    pub liveness: Duration,
    /// A longer pause between two runs of the reaper means an outage: then nothing is judged for one lease.
    pub gap: Duration,
    /// Delay of the retry from the second crash on; `None`: no retry.
    pub delay: Option<Duration>,
}

/// What a reaper's run came to.
#[derive(Debug, Clone, Default)]
pub struct Reclaimed {
    /// The jobs whose grants were revoked, and what they are now.
    pub jobs: Vec<(JobId, Status)>,
    /// Workers found dead.
    pub dead_workers: usize,
    /// Whether nothing was judged, after an outage or a step of the clock.
    pub held: bool,
}

impl Queue {
    /// Queues what is due.
    pub async fn promote(&self, shard: &Shard) -> Result<Promoted, Error> {
        let reply = self.run(&self.inner.scripts.promote, shard, |command| {
            command.arg(JOBS_PER_CALL);
        });
        let [count, next_due, watched] = parts(reply.await?)?;
        self.announce(shard, watched)?;
        let next_due = Some(u64::from_redis_value(next_due)?).filter(|due| *due > 0);
        Ok(Promoted { count: usize::from_redis_value(count)?, next_due })
    }

    /// Revokes the grants of workers that died or fell silent, and of those that ignored a cancel. Never executes
    /// what it reclaims.
    pub async fn reclaim(&self, shard: &Shard, policy: &ReclaimPolicy) -> Result<Reclaimed, Error> {
        let reply = self.run(&self.inner.scripts.reclaim, shard, |command| {
            command.arg(JOBS_PER_CALL).arg(ms(policy.lease)).arg(ms(policy.liveness)).arg(ms(policy.gap));
            match policy.delay {
                Some(delay) => command.arg(ms(delay)),
                None => command.arg(-1),
            };
        });
        let [jobs, watched, dead_workers, held] = parts(reply.await?)?;
        self.announce(shard, watched)?;
        let jobs = Vec::<(String, u8)>::from_redis_value(pairs(jobs)?)?;
        let jobs = jobs.into_iter().map(|(id, status)| {
            let local = id.parse().map_err(Error::corrupt)?;
            let status = Status::from_number(status).ok_or_else(|| Error::corrupt("reclaim without a known status"))?;
            Ok((JobId { shard: shard.clone(), local }, status))
        });
        Ok(Reclaimed {
            jobs: jobs.collect::<Result<_, Error>>()?,
            dead_workers: usize::from_redis_value(dead_workers)?,
            held: bool::from_redis_value(held)?,
        })
    }

    /// Ends waiting jobs whose queue deadline has passed; tells how many.
    pub async fn expire(&self, shard: &Shard) -> Result<usize, Error> {
        let reply = self.run(&self.inner.scripts.expire, shard, |command| {
            command.arg(JOBS_PER_CALL);
        });
        let [count, watched] = parts(reply.await?)?;
        self.announce(shard, watched)?;
        Ok(usize::from_redis_value(count)?)
    }

    /// Forgets ended jobs at the end of their retention; tells how many.
    pub async fn prune(&self, shard: &Shard) -> Result<usize, Error> {
        let reply = self.run(&self.inner.scripts.prune, shard, |command| {
            command.arg(JOBS_PER_CALL);
        });
        Ok(usize::from_redis_value(reply.await?)?)
    }

    /// Gives an ended job a result that its holder could not settle any more; `false` when it has one, or needs none. One of
    /// more than `inline_max` bytes is put beside the record, part by part.
    pub async fn keep(&self, id: &JobId, result: &RawValue, inline_max: u64) -> Result<bool, Error> {
        if result.get().len() as u64 <= inline_max {
            return self.keep_some(id, result.get(), None).await;
        }
        let (stored, parts) = StoredResult::of_json(result);
        for (name, part) in &parts {
            if !self.keep_some(id, "", Some((name, part))).await? {
                return Ok(false);
            }
        }
        self.keep_some(id, &to_json(&stored), None).await
    }

    async fn keep_some(&self, id: &JobId, result: &str, part: Option<(&String, &&[u8])>) -> Result<bool, Error> {
        let reply = self.run(&self.inner.scripts.keep, &id.shard, |command| {
            command.arg(id.local.as_str()).arg(result);
            if let Some((name, value)) = part {
                command.arg(name).arg(*value);
            }
        });
        Ok(bool::from_redis_value(reply.await?)?)
    }

    /// Looks for what the moves cannot have left behind, a page a call, and mends it; tells what, each
    /// as its kind and the job's id.
    ///
    /// In a pool that does not drain by model, jobs that were accepted while it did get an entry as any other.
    pub async fn audit(&self, shard: &Shard, lease: Duration, by_model: bool) -> Result<Vec<String>, Error> {
        let reply = self.run(&self.inner.scripts.audit, shard, |command| {
            command.arg(JOBS_PER_CALL).arg(ms(lease)).arg(parking().as_str()).arg(u8::from(by_model));
        });
        Ok(Vec::from_redis_value(reply.await?)?)
    }
}

/// Flattens a list of pairs, as the client's conversions want them.
fn pairs(value: Value) -> Result<Value, Error> {
    let list = Vec::<Value>::from_redis_value(value)?;
    let mut flat = Vec::with_capacity(2 * list.len());
    for pair in list {
        let [first, second] = parts(pair)?;
        flat.extend([first, second]);
    }
    Ok(Value::Array(flat))
}
