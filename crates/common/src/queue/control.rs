//! The moves of a caller on jobs and pools: cancel, retry by hand, annotate, pause.

use redis::{FromRedisValue as _, Value};
use serde_json::value::RawValue;

use super::error::Error;
use super::{Limits, Queue, events, keys, parts};
use crate::ids::{JobId, LocalId, Shard, WorkerId};
use crate::job::Status;

/// Most jobs per call of a bulk move.
const JOBS_PER_CALL: usize = 100;
/// The wish that a worker drain, beside `cancel <job id>` of the scripts.
pub const DRAIN: &str = "drain";

/// What a cancel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// There is no such job.
    Unknown,
    /// It waited, and is cancelled.
    Now,
    /// It runs; its holder is asked to stop.
    Requested,
    /// It was cancelled before.
    Before,
    /// It ended otherwise.
    Ended,
}

/// What a retry by hand came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// There is no such job.
    Unknown,
    /// It runs again.
    Now(Status),
    /// It has not ended.
    NotEnded,
    /// The shard holds as much as it may.
    QueueFull,
    /// Another job holds its concurrency key.
    KeyHeld(JobId),
}

/// What a change of metadata came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Annotated {
    /// There is no such job.
    Unknown,
    /// Merged.
    Now,
    /// There would be too many pairs.
    TooMany,
}

impl Queue {
    /// Cancels jobs of one shard: waiting ones at once, running ones by asking their holders.
    pub async fn cancel(&self, shard: &Shard, jobs: &[LocalId]) -> Result<Vec<Cancelled>, Error> {
        let mut answers = Vec::with_capacity(jobs.len());
        for batch in jobs.chunks(JOBS_PER_CALL) {
            let reply = self.run(&self.inner.scripts.cancel, shard, |command| {
                for id in batch {
                    command.arg(id.as_str());
                }
            });
            let [replies, watched] = parts(reply.await?)?;
            self.announce(shard, watched)?;
            for reply in Vec::<i64>::from_redis_value(replies)? {
                answers.push(match reply {
                    0 => Cancelled::Unknown,
                    1 => Cancelled::Now,
                    2 => Cancelled::Requested,
                    3 => Cancelled::Before,
                    4 => Cancelled::Ended,
                    other => return Err(Error::corrupt(format!("cancel answered {other}"))),
                });
            }
        }
        Ok(answers)
    }

    /// Runs ended jobs of one shard again, with a new budget; `input` replaces theirs.
    ///
    /// A lost reply does not make it two: each call has a nonce, by which the job knows a call that was sent again.
    pub async fn retry(
        &self,
        shard: &Shard,
        limits: Limits,
        input: Option<&RawValue>,
        jobs: &[LocalId],
    ) -> Result<Vec<Retried>, Error> {
        let mut answers = Vec::with_capacity(jobs.len());
        let nonce = ulid::Ulid::new().to_string();
        for batch in jobs.chunks(JOBS_PER_CALL) {
            let reply = self.run(&self.inner.scripts.retry, shard, |command| {
                command.arg(limits.max_queued).arg(input.map_or("", RawValue::get)).arg(u8::from(input.is_some()));
                command.arg(limits.max_queued_bytes).arg(&nonce);
                for id in batch {
                    command.arg(id.as_str());
                }
            });
            let [replies, watched] = parts(reply.await?)?;
            self.announce(shard, watched)?;
            for reply in Vec::<Vec<Value>>::from_redis_value(replies)? {
                answers.push(retried(shard, &reply)?);
            }
        }
        Ok(answers)
    }

    /// Merges pairs into a job's metadata, in any status; `None` removes one. At most `most` may result.
    pub async fn annotate(
        &self,
        id: &JobId,
        changes: &[(String, Option<String>)],
        most: usize,
    ) -> Result<Annotated, Error> {
        let reply = self.run(&self.inner.scripts.annotate, &id.shard, |command| {
            command.arg(id.local.as_str()).arg(most);
            for (name, value) in changes {
                command.arg(name).arg(value.as_deref().unwrap_or_default()).arg(u8::from(value.is_none()));
            }
        });
        let mut reply = Vec::<Value>::from_redis_value(reply.await?)?.into_iter();
        let code = reply.next().map(i64::from_redis_value).transpose()?;
        match code {
            Some(0) => Ok(Annotated::Unknown),
            Some(1) => {
                reply.next().map(|watched| self.announce(&id.shard, watched)).transpose()?;
                Ok(Annotated::Now)
            }
            Some(2) => Ok(Annotated::TooMany),
            _ => Err(Error::corrupt("annotate without a known answer")),
        }
    }

    /// Asks a worker that beats in `shard` to drain. Nobody may hear it: ask again until its beat says that it does.
    pub async fn ask_to_drain(&self, shard: &Shard, worker: &WorkerId) -> Result<(), Error> {
        let mut publish = redis::cmd(events::PLAIN.publish);
        publish.arg(keys::worker_channel(worker)).arg(DRAIN);
        self.inner.link.call_at(shard, &publish).await.map(drop)
    }

    /// Stops the claims of a shard, or lets them go on.
    pub async fn pause(&self, shard: &Shard, paused: bool) -> Result<(), Error> {
        let reply = self.run(&self.inner.scripts.pause, shard, |command| {
            command.arg(u8::from(paused));
        });
        reply.await.map(drop)
    }
}

fn retried(shard: &Shard, reply: &[Value]) -> Result<Retried, Error> {
    let code: Option<i64> = reply.first().map(redis::from_redis_value_ref).transpose()?;
    let second = || reply.get(1).ok_or_else(|| Error::corrupt("a short reply of retry"));
    Ok(match code {
        Some(0) => Retried::Unknown,
        Some(1) => {
            let number: u8 = redis::from_redis_value_ref(second()?)?;
            Retried::Now(Status::from_number(number).ok_or_else(|| Error::corrupt("retry without a known status"))?)
        }
        Some(2) => Retried::NotEnded,
        Some(3) => Retried::QueueFull,
        Some(4) => {
            let holder: String = redis::from_redis_value_ref(second()?)?;
            Retried::KeyHeld(JobId { shard: shard.clone(), local: holder.parse().map_err(Error::corrupt)? })
        }
        _ => return Err(Error::corrupt("retry without a known answer")),
    })
}
