//! Accepting jobs: idempotency keys, and the enqueue.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use redis::{Cmd, FromRedisValue as _, Value};
use serde_json::value::RawValue;

use super::error::Error;
use super::record::{Facts, INLINE, State, Stored};
use super::scripts::Script;
use super::tallies::Labels;
use super::{Queue, audio, keys, ms, parts};
use crate::config::Durability;
use crate::ids::{JobId, Shard};
use crate::job::{Job, JobSpec, Metadata, OnConflict, Priority};

/// Most jobs that one enqueue script takes: a longer one would stall the server for others.
const JOBS_PER_CALL: usize = 100;
/// Most bytes of input that one enqueue script takes, unless a single job is larger.
const BYTES_PER_CALL: usize = 1 << 20;

/// A job to be accepted. Durations are whole milliseconds.
#[derive(Clone)]
pub struct NewJob {
    /// Made by the caller, so that a submit may be sent again.
    pub id: JobId,
    /// What is fixed at submit.
    pub spec: JobSpec,
    /// The task's own object.
    pub input: Box<RawValue>,
    /// The caller's pairs.
    pub metadata: Metadata,
    /// Its priority.
    pub priority: Priority,
    /// How many failures end it.
    pub max_attempts: u32,
    /// More workers lost under it than this end it.
    pub max_crashes: u32,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// Not before this long after it is accepted.
    pub delay: Duration,
    /// Wall-clock limit of one attempt.
    pub timeout: Duration,
    /// How long it may wait.
    pub queue_timeout: Duration,
    /// Whether `queue_timeout` is the job's own, not its pool's.
    pub own_deadline: bool,
    /// How long the ended job is kept.
    pub result_ttl: Duration,
    /// At most one active job per key.
    pub concurrency_key: Option<String>,
    /// What to do when the key is held.
    pub on_conflict: OnConflict,
    /// Refuse it when no live worker serves the shard.
    pub fail_fast: bool,
    /// How long its idempotency key is kept, if it has one: so long the id is not accepted a second time.
    pub idempotent_for: Duration,
    /// Bytes of its audio, stored before under its id (see [`Queue::store_audio`]); 0: none.
    pub audio_bytes: u64,
}

/// Without the input: what a caller wrote belongs into no log line.
impl fmt::Debug for NewJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewJob").field("id", &self.id).field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// What a shard may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most jobs that wait.
    pub max_queued: u64,
    /// Most bytes of input that wait.
    pub max_queued_bytes: u64,
    /// A worker silent for longer is not live.
    pub liveness: Duration,
    /// What to wait for before a job counts as accepted.
    pub durability: Durability,
}

/// What became of a submit.
#[derive(Debug)]
pub enum Submitted {
    /// Accepted: from now on it is not lost.
    Accepted(Box<Job>),
    /// Accepted now, or (`None`) by an earlier send, but not confirmed to be as durable as asked: unknown, send it again.
    Unconfirmed(Option<Box<Job>>),
    /// A job with this id is there already, by an earlier send of the same submit.
    Exists,
    /// The shard holds as much as it may.
    QueueFull,
    /// Another job holds the concurrency key.
    KeyHeld(JobId),
    /// No live worker serves the shard.
    NoLiveWorker,
    /// The job with this id ended and its retention is over.
    Gone,
    /// Its audio is not there, or not whole: upload it again.
    AudioLost,
}

/// Tells bodies apart.
pub type BodyHash = [u8; 16];

/// What an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The job that the key belongs to.
    pub id: JobId,
    /// The hash of the body that it was first sent with.
    pub body_hash: BodyHash,
}

impl Queue {
    /// Books an idempotency key for a job, or tells for which job it was booked before.
    pub async fn reserve(&self, key: &str, wanted: &Reservation, kept: Duration) -> Result<Reservation, Error> {
        let script = &self.inner.scripts.reserve;
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.sha).arg(1).arg(keys::idempotency(key));
        command.arg(wanted.id.to_string()).arg(&wanted.body_hash[..]).arg(ms(kept));
        let [id, body_hash] = parts(self.inner.link.eval(script, &command).await?)?;
        let id = String::from_redis_value(id)?.parse().map_err(Error::corrupt)?;
        let body_hash = Vec::from_redis_value(body_hash)?;
        let body_hash = body_hash.try_into().map_err(|_| Error::corrupt("a reservation without a body's hash"))?;
        Ok(Reservation { id, body_hash })
    }

    /// Frees an idempotency key whose submit was refused, if it is still this job's.
    pub async fn unreserve(&self, key: &str, id: &JobId) -> Result<(), Error> {
        let script = &self.inner.scripts.unreserve;
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.sha).arg(1).arg(keys::idempotency(key)).arg(id.to_string());
        self.inner.link.eval(script, &command).await.map(drop)
    }

    /// Accepts jobs of one shard, each judged alone; the answers stand in the order of the jobs.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] and [`Error::Unavailable`]: some of the jobs may have been accepted; send them again.
    pub async fn enqueue(&self, shard: &Shard, limits: Limits, jobs: &[NewJob]) -> Result<Vec<Submitted>, Error> {
        if limits.durability != Durability::Memory {
            return Box::pin(self.enqueue_durably(shard, limits, jobs)).await;
        }
        let mut answers = Vec::with_capacity(jobs.len());
        for batch in batches(jobs) {
            answers.extend(self.enqueue_batch(shard, limits, batch).await?);
        }
        Ok(answers)
    }

    async fn enqueue_durably(&self, shard: &Shard, limits: Limits, jobs: &[NewJob]) -> Result<Vec<Submitted>, Error> {
        let facts: Vec<Vec<Facts>> = batches(jobs).map(|jobs| jobs.iter().map(NewJob::facts).collect()).collect();
        // The same for all of them: a script that is not there is loaded once.
        let form = Form::of(jobs);
        let script = self.script(form);
        let commands = batches(jobs).zip(&facts).map(|(jobs, facts)| {
            let mut command = script.command(shard);
            form.arguments(&mut command, limits, jobs, facts);
            command
        });
        let commands: Vec<_> = commands.collect();
        let (replies, confirmed) = self.call_durably(shard, Some(script), &commands, limits.durability).await?;
        let mut answers = Vec::with_capacity(jobs.len());
        for ((reply, jobs), facts) in replies.into_iter().zip(batches(jobs)).zip(facts) {
            answers.extend(self.answers(reply, shard, jobs, facts)?);
        }
        if !confirmed {
            answers.iter_mut().for_each(|answer| {
                *answer = match std::mem::replace(answer, Submitted::Unconfirmed(None)) {
                    Submitted::Accepted(job) => Submitted::Unconfirmed(Some(job)),
                    Submitted::Exists => Submitted::Unconfirmed(None),
                    other => other,
                };
            });
        }
        Ok(answers)
    }

    async fn enqueue_batch(&self, shard: &Shard, limits: Limits, jobs: &[NewJob]) -> Result<Vec<Submitted>, Error> {
        let facts: Vec<Facts> = jobs.iter().map(NewJob::facts).collect();
        let form = Form::of(jobs);
        let send = self.run(self.script(form), shard, |command| form.arguments(command, limits, jobs, &facts));
        self.answers(send.await?, shard, jobs, facts)
    }

    fn script(&self, form: Form) -> &Script {
        match form {
            Form::Plain => &self.inner.scripts.enqueue_plain,
            Form::Any => &self.inner.scripts.enqueue,
        }
    }

    /// Reads the reply of `enqueue`.
    fn answers(
        &self,
        reply: Value,
        shard: &Shard,
        jobs: &[NewJob],
        facts: Vec<Facts>,
    ) -> Result<Vec<Submitted>, Error> {
        let mut reply = Vec::<Value>::from_redis_value(reply)?.into_iter();
        let mut next = || reply.next().ok_or_else(|| Error::corrupt("a short reply of enqueue"));
        let (now, replies) = (next()?, next()?);
        // Plain jobs touch no others.
        if let Ok(watched) = next() {
            self.announce(shard, watched)?;
        }
        let (now, replies) = (u64::from_redis_value(now)?, Vec::<Value>::from_redis_value(replies)?);
        let jobs = jobs.iter().zip(facts);
        replies.into_iter().zip(jobs).map(|(reply, (job, facts))| answer(reply, now, shard, job, facts)).collect()
    }
}

impl NewJob {
    /// A job of which nothing is said but this, due at once, in a pool of which nothing is said either: an hour to wait, an
    /// hour to run, kept for a day, five attempts, three crashes.
    pub fn new(id: JobId, spec: JobSpec, input: Box<RawValue>) -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            id,
            spec,
            input,
            metadata: Metadata::new(),
            priority: Priority::Normal,
            max_attempts: 5,
            max_crashes: 3,
            run_at: None,
            delay: Duration::ZERO,
            timeout: HOUR,
            queue_timeout: HOUR,
            own_deadline: false,
            result_ttl: 24 * HOUR,
            concurrency_key: None,
            on_conflict: OnConflict::Reject,
            fail_fast: false,
            idempotent_for: Duration::ZERO,
            audio_bytes: 0,
        }
    }

    /// What the record keeps unchanged.
    fn facts(&self) -> Facts {
        let owner = self.spec.owner.as_ref();
        Facts {
            conflict: self.concurrency_key.as_ref().map_or(0, |_| self.on_conflict.number()),
            // Waiting for a turn it stands in no order of common deadlines, so that this says both: `AWAITS_TURN` of
            // `scripts/lib/enter.lua`.
            own_deadline: if self.spec.turn.is_some() { 2 } else { u8::from(self.own_deadline) },
            max_attempts: self.max_attempts,
            max_crashes: self.max_crashes,
            timeout: ms(self.timeout),
            queue_timeout: ms(self.queue_timeout),
            idempotent_for: ms(self.idempotent_for),
            key: self.concurrency_key.clone().unwrap_or_default(),
            service: owner.map(|owner| owner.service.clone()).unwrap_or_default(),
            reference: owner.map(|owner| owner.reference.clone()).unwrap_or_default(),
            agent: owner.and_then(|owner| owner.agent.clone()).unwrap_or_default(),
            spec: serde_json::to_string(&self.spec).expect("texts always serialize"),
        }
    }

    /// Whether it is due now and has nothing of its own: see `scripts/enqueue_plain.lua`.
    fn is_plain(&self) -> bool {
        let Self { run_at, delay, own_deadline, concurrency_key, fail_fast, audio_bytes, .. } = self;
        let due = run_at.is_none() && delay.is_zero();
        due && self.spec.turn.is_none()
            && concurrency_key.is_none()
            && !(*own_deadline || *fail_fast)
            && *audio_bytes == 0
    }

    /// What the script for plain jobs needs to make the state: `PLAN` of `scripts/enqueue_plain.lua`.
    fn plain_plan(&self, stage: u8, service: u8) -> [u8; 17] {
        let mut plan = [0; 17];
        plan[0] = self.priority.number();
        plan[1..6].copy_from_slice(&ms(self.result_ttl).to_be_bytes()[3..]);
        plan[6..10].copy_from_slice(&self.bytes().to_be_bytes()[4..]);
        plan[10..15].copy_from_slice(&ms(self.queue_timeout).to_be_bytes()[3..]);
        plan[15..].copy_from_slice(&[stage, service]);
        plan
    }

    /// What the script needs to make the state: `PLAN` of `scripts/enqueue.lua`.
    fn plan(&self, stage: u8, service: u8) -> [u8; 29] {
        let mut plan = [0; 29];
        plan[..3].copy_from_slice(&[
            self.priority.number(),
            u8::from(self.concurrency_key.is_some()),
            u8::from(self.fail_fast),
        ]);
        plan[3..9].copy_from_slice(&self.not_before().to_be_bytes()[2..]);
        plan[9..14].copy_from_slice(&ms(self.delay).to_be_bytes()[3..]);
        plan[14..19].copy_from_slice(&ms(self.result_ttl).to_be_bytes()[3..]);
        plan[19..23].copy_from_slice(&self.bytes().to_be_bytes()[4..]);
        plan[23..25].copy_from_slice(&[stage, service]);
        plan[25..].copy_from_slice(&audio::pieces(self.audio_bytes).to_be_bytes());
        plan
    }

    /// What counts against the pool's `max_queued_bytes`.
    fn bytes(&self) -> u64 {
        self.input.get().len() as u64 + self.audio_bytes
    }

    /// `run_at` as Unix time in ms; 0: at once.
    fn not_before(&self) -> u64 {
        self.run_at.map_or(0, |time| u64::try_from(time.as_millisecond()).unwrap_or(0))
    }

    /// The record's state, as the script made it when it accepted the job at `now`.
    fn accepted(&self, now: u64, status: u8) -> State {
        let run_at = self.not_before().max(now + ms(self.delay));
        State {
            status,
            priority: self.priority.number(),
            run_at,
            expires: run_at + ms(self.queue_timeout),
            result_ttl: ms(self.result_ttl),
            created: now,
            updated: now,
            ..State::default()
        }
    }
}

/// Which script takes the jobs of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `enqueue_plain`.
    Plain,
    /// `enqueue`.
    Any,
}

impl Form {
    fn of(jobs: &[NewJob]) -> Self {
        let mut ids: Vec<_> = jobs.iter().map(|job| job.id.local).collect();
        ids.sort_unstable();
        let twice = ids.windows(2).any(|pair| pair[0] == pair[1]);
        if !twice && jobs.iter().all(NewJob::is_plain) { Self::Plain } else { Self::Any }
    }

    /// Adds what the script takes.
    fn arguments(self, command: &mut Cmd, limits: Limits, jobs: &[NewJob], facts: &[Facts]) {
        let (stages, services) = (Labels::stages(jobs), Labels::services(jobs));
        command.arg(limits.max_queued).arg(limits.max_queued_bytes);
        if self == Self::Any {
            command.arg(ms(limits.liveness));
        }
        command.arg(&stages.lines).arg(&services.lines);
        for (place, (job, facts)) in jobs.iter().zip(facts).enumerate() {
            let input = job.input.get();
            let (inline, larger) = if input.len() > INLINE { ("", input) } else { (input, "") };
            command.arg(job.id.local.as_str());
            let (stage, service) = (stages.numbers[place], services.numbers[place]);
            match self {
                Self::Plain => command.arg(&job.plain_plan(stage, service)[..]),
                Self::Any => command.arg(&job.plan(stage, service)[..]),
            };
            command.arg(facts.encode(inline)).arg(larger);
            if job.metadata.is_empty() {
                command.arg("");
            } else {
                command.arg(serde_json::to_string(&job.metadata).expect("texts always serialize"));
            }
        }
    }
}

/// Cuts jobs into calls that stall the server only briefly.
fn batches(jobs: &[NewJob]) -> impl Iterator<Item = &[NewJob]> {
    let mut rest = jobs;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(JOBS_PER_CALL).take_while(|job| {
            bytes += job.input.get().len();
            bytes <= BYTES_PER_CALL
        });
        let (batch, others) = rest.split_at_checked(fits.count().max(1))?;
        rest = others;
        Some(batch)
    })
}

fn answer(reply: Value, now: u64, shard: &Shard, job: &NewJob, facts: Facts) -> Result<Submitted, Error> {
    if let Value::Int(status) = reply {
        let state = job.accepted(now, u8::try_from(status).map_err(Error::corrupt)?);
        let stored = Stored::accepted(state, facts, job.spec.clone(), job.metadata.clone());
        return Ok(Submitted::Accepted(Box::new(stored.into_job(shard, job.id.local)?)));
    }
    let mut reply = Vec::<Value>::from_redis_value(reply)?.into_iter();
    let mut next = || reply.next().ok_or_else(|| Error::corrupt("a short reply of enqueue"));
    Ok(match u64::from_redis_value(next()?)? {
        2 => Submitted::Exists,
        3 => Submitted::QueueFull,
        4 => {
            let local = String::from_redis_value(next()?)?.parse().map_err(Error::corrupt)?;
            Submitted::KeyHeld(JobId { shard: shard.clone(), local })
        }
        5 => Submitted::NoLiveWorker,
        6 => Submitted::Gone,
        7 => Submitted::AudioLost,
        other => return Err(Error::corrupt(format!("enqueue answered {other}"))),
    })
}
