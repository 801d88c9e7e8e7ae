//! Looking at jobs, keys, pools and workers. Nothing here changes anything.

use std::time::Duration;

use redis::{FromRedisValue as _, Value};
use serde_json::value::RawValue;

use super::error::Error;
use super::keys::Named;
use super::record::{FIELDS, Facts, Stored, input, json};
use super::{Queue, keys, ms, parts};
use crate::ids::{JobId, LocalId, PoolName, Shard, WorkerId};
use crate::job::{Job, Status};

/// Numbers of one shard; they add up over a pool's shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolNumbers {
    /// Whether claims are stopped.
    pub paused: bool,
    /// Workers that beat lately.
    pub live_workers: u64,
    /// Jobs per status, in the order of [`Status::ALL`].
    pub by_status: [u64; 9],
    /// Jobs in a stream per priority, high first.
    pub by_priority: [u64; 3],
    /// Bytes of input that wait.
    pub queued_bytes: u64,
    /// Jobs that are due but not yet in a stream.
    pub due: u64,
    /// Running jobs whose lease is over.
    pub stale_running: u64,
    /// How long the oldest job in a stream has been due.
    pub oldest_queued: Duration,
}

impl PoolNumbers {
    /// The number to scale on: queued, due and running jobs; a paused pool counts only its running ones.
    pub fn demand(&self) -> u64 {
        let running = self.by_status[Status::Running as usize];
        if self.paused { running } else { running + self.ready() }
    }

    /// Jobs that could be claimed, now or in a moment.
    pub fn ready(&self) -> u64 {
        self.due + self.by_priority.iter().sum::<u64>()
    }

    /// Adds another shard of the same pool.
    pub fn add(&mut self, other: &Self) {
        self.paused |= other.paused;
        self.live_workers = self.live_workers.max(other.live_workers);
        for (sum, more) in self.by_status.iter_mut().zip(other.by_status) {
            *sum += more;
        }
        for (sum, more) in self.by_priority.iter_mut().zip(other.by_priority) {
            *sum += more;
        }
        self.queued_bytes += other.queued_bytes;
        self.due += other.due;
        self.stale_running += other.stale_running;
        self.oldest_queued = self.oldest_queued.max(other.oldest_queued);
    }
}

/// Who holds a concurrency key, and who waits for it.
#[derive(Debug, Clone)]
pub struct KeyView {
    /// The holder.
    pub active: Option<Job>,
    /// Those that wait, next first; at most 100.
    pub waiting: Vec<Job>,
    /// The newest job that was ever submitted with the key and is still kept.
    pub latest: Option<Job>,
}

/// A worker as it described itself at its last beat.
#[derive(Debug, Clone)]
pub struct WorkerInfo {
    /// Its name.
    pub id: WorkerId,
    /// The pool in which it beat.
    pub pool: PoolName,
    /// Its last beat, Unix time in ms.
    pub last_beat: u64,
    /// What it says of itself: a JSON object.
    pub info: Box<RawValue>,
}

impl Queue {
    /// Reads one job; `None` when there is none, or its retention is over.
    pub async fn get(&self, id: &JobId, with_input: bool) -> Result<Option<Job>, Error> {
        let mut command = redis::cmd("HMGET");
        command.arg(keys::record(&id.shard, &id.local)).arg(&FIELDS[..]);
        if with_input {
            command.arg(&["i", "I"]);
        }
        let stored = Stored::parse(self.inner.link.call(&command).await?, with_input)?;
        stored.map(|stored| stored.into_job(&id.shard, id.local)).transpose()
    }

    /// Reads jobs of one shard, in order, leaving out those that are gone.
    pub async fn get_many(&self, shard: &Shard, ids: &[LocalId]) -> Result<Vec<Job>, Error> {
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.cmd("HMGET").arg(keys::record(shard, id)).arg(&FIELDS[..]);
        }
        let replies = if ids.is_empty() { Vec::new() } else { self.inner.link.bulk(shard, &pipe).await? };
        let jobs = ids
            .iter()
            .zip(replies)
            .map(|(id, reply)| Stored::parse(reply, false)?.map(|stored| stored.into_job(shard, *id)).transpose());
        jobs.filter_map(Result::transpose).collect()
    }

    /// Reads a job's input.
    pub async fn input(&self, id: &JobId) -> Result<Option<Box<RawValue>>, Error> {
        let mut pipe = redis::pipe();
        pipe.cmd("HMGET").arg(keys::record(&id.shard, &id.local)).arg(&["f", "i", "I"]);
        let [facts, medium, large] = parts(self.inner.link.bulk(&id.shard, &pipe).await?.pop().unwrap_or(Value::Nil))?;
        let bytes = Option::<Vec<u8>>::from_redis_value;
        let Some(facts) = bytes(facts)? else { return Ok(None) };
        input(Facts::<&str>::decode(&facts)?.1, [bytes(medium)?, bytes(large)?])
    }

    /// Reads who holds and who awaits a concurrency key in one shard.
    pub async fn key(&self, shard: &Shard, key: &str) -> Result<KeyView, Error> {
        let mut get = redis::cmd("GET");
        get.arg(keys::part(shard, &format!("k:{key}")));
        let mut waiters = redis::cmd("ZRANGE");
        waiters.arg(keys::part(shard, &format!("kw:{key}"))).arg(0).arg(99);
        let listing = keys::part(shard, &keys::listing(Named::ConcurrencyKey, key));
        let mut newest = redis::cmd("ZREVRANGE");
        newest.arg(listing).arg(0).arg(0);
        let active = Option::<String>::from_redis_value(self.inner.link.call(&get).await?)?;
        let active: Vec<LocalId> = active.iter().filter_map(|id| id.parse().ok()).collect();
        let waiting = super::parse_ids(self.inner.link.call(&waiters).await?)?;
        let latest = super::parse_ids(self.inner.link.call(&newest).await?)?;
        let active = self.get_many(shard, &active).await?.pop();
        Ok(KeyView {
            active: active.filter(|job| !job.status.is_terminal()),
            waiting: self.get_many(shard, &waiting).await?,
            latest: self.get_many(shard, &latest).await?.pop(),
        })
    }

    /// Reads the numbers of a shard. O(1) in the number of jobs.
    pub async fn numbers(&self, shard: &Shard, liveness: Duration) -> Result<PoolNumbers, Error> {
        let reply = self.run(&self.inner.scripts.stats, shard, |command| {
            command.arg(ms(liveness));
        });
        let [paused, live, running, _not_due, due, counters, completed, failed, cancelled, expired, oldest, stale] =
            parts(reply.await?)?;
        let counters = Vec::<Option<i64>>::from_redis_value(counters)?;
        let counters = counters.into_iter().map(|count| count.unwrap_or(0).max(0).unsigned_abs()).collect::<Vec<_>>();
        let counters = <[u64; 8]>::try_from(counters).map_err(|_| Error::corrupt("a short list of counters"))?;
        let [high, normal, low, scheduled, blocked, retrying, retries, queued_bytes] = counters;
        let number = u64::from_redis_value;
        let by_priority = [high, normal, low];
        let in_streams: u64 = by_priority.iter().sum();
        Ok(PoolNumbers {
            paused: bool::from_redis_value(paused)?,
            live_workers: number(live)?,
            by_status: [
                in_streams.saturating_sub(retries),
                scheduled,
                blocked,
                number(running)?,
                retrying,
                number(completed)?,
                number(failed)?,
                number(cancelled)?,
                number(expired)?,
            ],
            by_priority,
            queued_bytes,
            due: number(due)?,
            stale_running: number(stale)?,
            oldest_queued: Duration::from_millis(number(oldest)?),
        })
    }

    /// Lists the workers that beat in a shard within `liveness`.
    pub async fn workers(&self, shard: &Shard, liveness: Duration) -> Result<Vec<WorkerInfo>, Error> {
        let [seconds, micros] = parts(self.inner.link.call_at(shard, &redis::cmd("TIME")).await?)?;
        let now = u64::from_redis_value(seconds)? * 1000 + u64::from_redis_value(micros)? / 1000;
        let mut beats = redis::cmd("ZRANGE");
        beats.arg(keys::part(shard, "workers")).arg(now.saturating_sub(ms(liveness))).arg("+inf");
        beats.arg("BYSCORE").arg("WITHSCORES");
        let beats = Vec::<(String, u64)>::from_redis_value(self.inner.link.call(&beats).await?)?;
        if beats.is_empty() {
            return Ok(Vec::new());
        }
        let mut infos = redis::cmd("HMGET");
        infos.arg(keys::part(shard, "info")).arg(beats.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>());
        let infos = Vec::<Option<Vec<u8>>>::from_redis_value(self.inner.link.call(&infos).await?)?;
        let pool = &shard.pool;
        beats
            .into_iter()
            .zip(infos)
            .filter_map(|((id, last_beat), info)| Some((id, last_beat, info?)))
            .map(|(id, last_beat, info)| {
                let id = id.parse().map_err(Error::corrupt)?;
                Ok(WorkerInfo { id, pool: pool.clone(), last_beat, info: json(&info)? })
            })
            .collect()
    }
}
