//! The moves of a worker: claim, renew, publish, settle, hand back, snooze, leave.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue as _, Value};
use serde_json::value::RawValue;

use super::error::Error;
use super::record::{Facts, State, input};
use super::stash::StoredResult;
use super::{Queue, ms, parse_id, parts};
use crate::code::ErrorCode;
use crate::ids::{Grant, JobId, LocalId, Shard, WorkerId};
use crate::job::{JobError, JobSpec, Phase, Progress, Status};

/// What a claim brought.
#[derive(Debug)]
pub struct Claim {
    /// The jobs that this worker now holds.
    pub jobs: Vec<ClaimedJob>,
    /// Whether more may be waiting.
    pub more: bool,
    /// Whether the pool is paused.
    pub paused: bool,
}

/// Values that a claim returns for each job.
const VALUES_PER_JOB: usize = 4;
/// Added to the number of the last chunk in a reply of settle.
const LAST_CHUNK: i64 = 1000;

/// What a claim brought, its jobs not read yet.
#[derive(Debug)]
pub struct Taken {
    shard: Shard,
    values: Vec<Value>,
    /// Whether more may be waiting.
    pub more: bool,
    /// Whether the pool is paused.
    pub paused: bool,
}

impl Taken {
    /// How many jobs it brought.
    pub fn count(&self) -> usize {
        self.values.len() / VALUES_PER_JOB
    }

    /// The jobs that the worker now holds.
    pub fn read(self) -> Result<Vec<ClaimedJob>, Error> {
        let count = self.count();
        let mut values = self.values.into_iter();
        (0..count).map(|_| claimed(&self.shard, &mut values)).collect()
    }
}

/// A job that a worker holds.
pub struct ClaimedJob {
    /// Names the job.
    pub id: JobId,
    /// The right to run this attempt.
    pub grant: Grant,
    /// What was fixed at submit.
    pub spec: JobSpec,
    /// The task's own object; `None` when it is large: see [`Queue::input`].
    pub input: Option<Box<RawValue>>,
    /// Which run this is, from 1.
    pub attempt: u32,
    /// How many failures end the job.
    pub max_attempts: u32,
    /// Wall-clock limit of this attempt.
    pub timeout: Duration,
    /// How long ago the job was accepted.
    pub age: Duration,
    /// How long the job waited since it was due.
    pub waited: Duration,
}

/// Without the input: what a caller wrote belongs into no log line.
impl fmt::Debug for ClaimedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimedJob").field("id", &self.id).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// A job that a worker holds, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Names the job.
    pub id: JobId,
    /// The right to run it.
    pub grant: Grant,
}

/// What a renewal says of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease runs anew.
    Renewed,
    /// The lease runs anew, but a caller wants the job cancelled.
    CancelRequested,
    /// The grant does not hold any more: stop, and settle nothing.
    Lost,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// With a result.
    Completed(Box<RawValue>),
    /// For good.
    Failed(JobError),
    /// To be tried again after a while, if attempts are left.
    Retry(JobError, Duration),
    /// Because a caller asked for it.
    Cancelled(JobError),
}

/// What an attempt came to.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which attempt.
    pub held: Held,
    /// How it ended.
    pub verdict: Verdict,
    /// The provider that ran it, where one was chosen.
    pub provider: Option<Arc<str>>,
    /// What it had put out, where it did not complete: a result with `partial: true`.
    pub partial: Option<Box<RawValue>>,
    /// The number of the last chunk that was acknowledged, 0 none. A job that completes has it in its log, or does not complete.
    pub chunks: u64,
}

impl Settlement {
    /// Of an attempt without a provider, chunks or a partial result.
    pub fn new(held: Held, verdict: Verdict) -> Self {
        Self { held, verdict, provider: None, partial: None, chunks: 0 }
    }
}

/// Whether a settle, hand-back or snooze took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Now.
    Now(Status),
    /// By an earlier send of the same call.
    Before(Status),
    /// Not at all: the grant does not hold any more.
    Lost,
    /// Not at all: a failover forgot chunks that were acknowledged, and the log ends with this one. Settles again once the others
    /// are there.
    Behind(u64),
}

/// What became of an attempt's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is kept and announced.
    Kept,
    /// A failover forgot chunks that were acknowledged, and the log ends with this one: nothing was added to it.
    Behind(u64),
    /// The grant does not hold any more.
    Lost,
}

/// What an attempt puts out: chunks, or a note of how far it is.
#[derive(Debug, Clone)]
pub struct Output {
    /// Which attempt.
    pub held: Held,
    /// The phase it is in now, where that changed.
    pub phase: Option<Phase>,
    /// The provider that runs it now, where that changed.
    pub provider: Option<Arc<str>>,
    /// How far it is, where that changed.
    pub progress: Option<Progress>,
    /// The number of the last chunk that was acknowledged, 0 none.
    pub acknowledged: u64,
    /// The number of the first chunk, from 1 in each attempt.
    pub first: u64,
    /// The chunks' data: JSON objects `{"seq","attempt","text","delta"}`.
    pub chunks: Vec<String>,
}

impl Queue {
    /// Takes up to `most` waiting jobs of a shard for `worker`. Sent again with the same `nonce`, it brings the same jobs.
    ///
    /// One call at a time per worker and shard: only the last claim can be repeated.
    pub async fn claim(
        &self,
        shard: &Shard,
        worker: &WorkerId,
        nonce: &str,
        most: usize,
        lease: Duration,
    ) -> Result<Claim, Error> {
        self.claim_of(shard, worker, nonce, most, lease, &[]).await
    }

    /// As [`Queue::claim`], of a pool that drains by model: beside the jobs that wait for no model's turn those of `turns`: of a
    /// label under which they wait, and a model.
    pub async fn claim_of(
        &self,
        shard: &Shard,
        worker: &WorkerId,
        nonce: &str,
        most: usize,
        lease: Duration,
        turns: &[(String, String)],
    ) -> Result<Claim, Error> {
        let taken = self.take(shard, worker, nonce, most, lease, turns).await?;
        let (more, paused) = (taken.more, taken.paused);
        Ok(Claim { jobs: taken.read()?, more, paused })
    }

    /// As [`Queue::claim_of`], for a caller that reads the jobs while its next claim is under way.
    pub async fn take(
        &self,
        shard: &Shard,
        worker: &WorkerId,
        nonce: &str,
        most: usize,
        lease: Duration,
        turns: &[(String, String)],
    ) -> Result<Taken, Error> {
        let reply = self.run(&self.inner.scripts.claim, shard, |command| {
            command.arg(worker.as_str()).arg(nonce).arg(most).arg(ms(lease));
            for (label, model) in turns {
                command.arg(label).arg(model);
            }
        });
        let [state, values, watched] = parts(reply.await?)?;
        let state = u8::from_redis_value(state)?;
        let values = Vec::<Value>::from_redis_value(values)?;
        self.announce_with(shard, watched, || {
            values.iter().step_by(VALUES_PER_JOB).filter_map(|id| parse_id(id).ok()).collect()
        })?;
        Ok(Taken { shard: shard.clone(), values, more: state == 1, paused: state == 2 })
    }

    /// Beats for `worker`, renews the leases of the jobs it lists, and names, where `audit` is set, those that it holds
    /// and did not list. The renewals stand in the order of `jobs`.
    pub async fn renew(
        &self,
        shard: &Shard,
        worker: &WorkerId,
        lease: Duration,
        info: &str,
        jobs: &[Held],
        audit: bool,
    ) -> Result<(Vec<Renewal>, Vec<Held>), Error> {
        let reply = self.run(&self.inner.scripts.renew, shard, |command| {
            command.arg(worker.as_str()).arg(ms(lease)).arg(info).arg(u8::from(audit));
            for held in jobs {
                command.arg(held.id.local.as_str()).arg(held.grant.as_str());
            }
        });
        let [renewals, unlisted] = parts(reply.await?)?;
        let renewals = self::renewals(renewals)?;
        let unlisted = Vec::<(String, String)>::from_redis_value(unlisted)?;
        let unlisted = unlisted.into_iter().map(|(id, grant)| held(shard, &id, &grant)).collect::<Result<_, _>>()?;
        Ok((renewals, unlisted))
    }

    /// Keeps and announces what attempts of one shard put out. At most `max_chunks` are kept per job.
    pub async fn publish(&self, shard: &Shard, max_chunks: u64, outputs: &[Output]) -> Result<Vec<Published>, Error> {
        let reply = self.run(&self.inner.scripts.publish, shard, |command| {
            command.arg(max_chunks);
            for output in outputs {
                command.arg(output.held.id.local.as_str()).arg(output.held.grant.as_str());
                command.arg(output.phase.map_or(0, Phase::number)).arg(output.provider.as_deref().unwrap_or_default());
                match &output.progress {
                    Some(progress) => command.arg(to_json(progress)),
                    None => command.arg(""),
                };
                command.arg(output.acknowledged).arg(output.first).arg(output.chunks.len()).arg(&output.chunks);
            }
        });
        let [replies, watched] = parts(reply.await?)?;
        self.announce(shard, watched)?;
        Ok(Vec::<i64>::from_redis_value(replies)?.into_iter().map(published).collect())
    }

    /// Writes what attempts of one shard came to, each judged alone. Also tells when the next retry is due, Unix time in ms.
    pub async fn settle(
        &self,
        shard: &Shard,
        settlements: &[Settlement],
    ) -> Result<(Vec<Settled>, Option<u64>), Error> {
        let reply = self.run(&self.inner.scripts.settle, shard, |command| {
            let mut how = String::with_capacity(64);
            for Settlement { held, verdict, provider, partial, chunks } in settlements {
                let kept = partial.as_deref().map_or("", RawValue::get);
                let (outcome, delay, values, error, result) = match verdict {
                    Verdict::Completed(result) => {
                        let values = StoredResult::values_beside(result);
                        (1, 0, values, if values > 0 { to_json(&gone()) } else { String::new() }, result.get())
                    }
                    Verdict::Failed(error) => (2, 0, 0, to_json(error), kept),
                    Verdict::Retry(error, delay) => (3, ms(*delay), 0, to_json(error), kept),
                    Verdict::Cancelled(error) => (4, 0, 0, to_json(error), kept),
                };
                how.clear();
                let provider = provider.as_deref().unwrap_or_default();
                write!(how, "{outcome} {delay} {chunks} {values} {provider}").expect("a String takes all");
                command.arg(held.id.local.as_str()).arg(held.grant.as_str());
                command.arg(&how).arg(error).arg(result);
            }
        });
        let [replies, watched, next_due] = parts(reply.await?)?;
        self.announce_with(shard, watched, || settlements.iter().map(|settlement| settlement.held.id.local).collect())?;
        Ok((settled(replies)?, Some(u64::from_redis_value(next_due)?).filter(|due| *due > 0)))
    }

    /// Returns running jobs of one shard to the head of the queue, their attempt not counted.
    pub async fn hand_back(&self, shard: &Shard, jobs: &[Held]) -> Result<Vec<Settled>, Error> {
        let reply = self.run(&self.inner.scripts.hand_back, shard, |command| {
            for held in jobs {
                command.arg(held.id.local.as_str()).arg(held.grant.as_str());
            }
        });
        let [replies, watched] = parts(reply.await?)?;
        self.announce(shard, watched)?;
        settled(replies)
    }

    /// Puts a running job off without counting the attempt. Also tells when it is due, Unix time in ms.
    pub async fn snooze(
        &self,
        held: &Held,
        delay: Duration,
        why: Option<&JobError>,
    ) -> Result<(Settled, Option<u64>), Error> {
        let shard = &held.id.shard;
        let reply = self.run(&self.inner.scripts.snooze, shard, |command| {
            command.arg(held.id.local.as_str()).arg(held.grant.as_str()).arg(ms(delay));
            command.arg(why.map(to_json).unwrap_or_default());
        });
        let [replies, watched, next_due] = parts(reply.await?)?;
        self.announce(shard, watched)?;
        let answer = settled(replies)?.pop().ok_or_else(|| Error::corrupt("an empty reply of snooze"))?;
        Ok((answer, Some(u64::from_redis_value(next_due)?).filter(|due| *due > 0)))
    }

    /// Takes a worker that stops in good order off the lists; `false` when it still holds jobs.
    pub async fn leave(&self, shard: &Shard, worker: &WorkerId) -> Result<bool, Error> {
        let reply = self.run(&self.inner.scripts.leave, shard, |command| {
            command.arg(worker.as_str());
        });
        Ok(bool::from_redis_value(reply.await?)?)
    }
}

fn claimed(shard: &Shard, values: &mut impl Iterator<Item = Value>) -> Result<ClaimedJob, Error> {
    let mut next = || values.next().ok_or_else(|| Error::corrupt("a short reply of claim"));
    let (id, state, facts) = (next()?, Vec::<u8>::from_redis_value(next()?)?, Vec::<u8>::from_redis_value(next()?)?);
    let medium = Option::<Vec<u8>>::from_redis_value(next()?)?;
    let (state, _) = State::<&str>::decode(&state)?;
    let (facts, inline) = Facts::<&str>::decode(&facts)?;
    let local: LocalId = String::from_redis_value(id)?.parse().map_err(Error::corrupt)?;
    Ok(ClaimedJob {
        id: JobId { shard: shard.clone(), local },
        grant: state.grant()?,
        spec: facts.spec()?,
        input: input(inline, [medium, None])?,
        attempt: state.attempts,
        max_attempts: facts.max_attempts,
        timeout: Duration::from_millis(facts.timeout),
        age: Duration::from_millis(state.started.saturating_sub(state.created)),
        waited: Duration::from_millis(state.started.saturating_sub(state.run_at)),
    })
}

fn held(shard: &Shard, id: &str, grant: &str) -> Result<Held, Error> {
    let local = id.parse().map_err(Error::corrupt)?;
    Ok(Held { id: JobId { shard: shard.clone(), local }, grant: grant.parse().map_err(Error::corrupt)? })
}

fn renewals(value: Value) -> Result<Vec<Renewal>, Error> {
    let replies = Vec::<i64>::from_redis_value(value)?;
    replies
        .into_iter()
        .map(|reply| match reply {
            1 => Ok(Renewal::Renewed),
            2 => Ok(Renewal::CancelRequested),
            3 => Ok(Renewal::Lost),
            other => Err(Error::corrupt(format!("renew answered {other}"))),
        })
        .collect()
}

/// Of a job whose result is not beside it any more when it is to complete.
fn gone() -> JobError {
    JobError { code: ErrorCode::StorageError, message: "what its result is made of is gone".to_owned() }
}

fn published(reply: i64) -> Published {
    match reply {
        1 => Published::Kept,
        ..=0 => Published::Behind(reply.unsigned_abs()),
        _ => Published::Lost,
    }
}

fn settled(value: Value) -> Result<Vec<Settled>, Error> {
    let status = |number: i64| {
        let number = u8::try_from(number).ok();
        number.and_then(Status::from_number).ok_or_else(|| Error::corrupt("a reply without a known status"))
    };
    let replies = Vec::<i64>::from_redis_value(value)?;
    replies
        .into_iter()
        .map(|reply| match reply {
            0 => Ok(Settled::Lost),
            LAST_CHUNK.. => Ok(Settled::Behind((reply - LAST_CHUNK).unsigned_abs())),
            1.. => status(reply).map(Settled::Now),
            _ => status(reply + 100).map(Settled::Before),
        })
        .collect()
}

pub(super) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers always serialize")
}
