//! A job's record as Redis keeps it, and the job that users see.
//!
//! [`State`] and [`Facts`] are the packed structs of `scripts/lib/record.lua`.

use std::sync::Arc;

use redis::{FromRedisValue as _, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::Error;
use super::stash::StoredResult;
use crate::ids::{Grant, JobId, LocalId, Shard};
use crate::job::{Job, JobSpec, Owner, Phase, Priority, Status, times};

/// Makes the struct and its reader from one list: name, type, and how many bytes a number takes.
macro_rules! packed {
    ($(#[$doc:meta])* $name:ident { $($number:ident: $kind:ty = $bytes:literal,)* } { $($text:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct $name<T = String> {
            $(pub(crate) $number: $kind,)*
            $(pub(crate) $text: T,)*
        }

        impl<'a, T: From<&'a str>> $name<T> {
            /// Reads what is stored, and returns it with what stands behind it.
            pub(crate) fn decode(mut bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
                let read = Self {
                    $($number: number(&mut bytes, $bytes)?.try_into().map_err(Error::corrupt)?,)*
                    $($text: text(&mut bytes)?,)*
                };
                Ok((read, bytes))
            }
        }
    };
}

packed! {
    /// The changing part of a record: `STATE` of `scripts/lib/record.lua`, same fields, same order, same widths.
    ///
    /// Times are Unix time in ms, durations ms; 0 and the empty text mean "none". Texts hold no NUL.
    State {
        status: u8 = 1,
        lane: u8 = 1,
        priority: u8 = 1,
        phase: u8 = 1,
        in_exp: u8 = 1,
        front: u8 = 1,
        chunked: u8 = 1,
        keyed: u8 = 1,
        attempts: u32 = 4,
        failures: u32 = 2,
        crashes: u32 = 2,
        run_at: u64 = 6,
        expires: u64 = 6,
        result_ttl: u64 = 5,
        bytes: u64 = 4,
        created: u64 = 6,
        updated: u64 = 6,
        started: u64 = 6,
        renewed: u64 = 6,
        first_chunk: u64 = 6,
        cancel_at: u64 = 6,
        completed: u64 = 6,
        stage: u8 = 1,
    } {
        ticket,
        grant,
        worker,
        provider,
    }
}

packed! {
    /// What the submit fixed: `FACTS` of `scripts/lib/record.lua`. Behind it stands the input, where that is small.
    Facts {
        conflict: u8 = 1,
        own_deadline: u8 = 1,
        max_attempts: u32 = 2,
        max_crashes: u32 = 2,
        timeout: u64 = 5,
        queue_timeout: u64 = 5,
        idempotent_for: u64 = 5,
    } {
        key,
        service,
        reference,
        agent,
        spec,
    }
}

impl Facts {
    /// Writes what [`Facts::decode`] and the scripts read, and `input` behind it.
    pub(crate) fn encode(&self, input: &str) -> Vec<u8> {
        let texts = [&self.key, &self.service, &self.reference, &self.agent, &self.spec];
        let mut out = Vec::with_capacity(32 + texts.iter().map(|text| text.len()).sum::<usize>() + input.len());
        out.extend_from_slice(&[self.conflict, self.own_deadline]);
        for count in [self.max_attempts, self.max_crashes] {
            out.extend_from_slice(&count.to_be_bytes()[2..]);
        }
        for duration in [self.timeout, self.queue_timeout, self.idempotent_for] {
            out.extend_from_slice(&duration.to_be_bytes()[3..]);
        }
        for text in texts {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        out.extend_from_slice(input.as_bytes());
        out
    }
}

impl<T: AsRef<str>> Facts<T> {
    /// What [`JobSpec`] tells, of which the owner's texts stand by themselves: they name its listings, too.
    pub(crate) fn spec(&self) -> Result<JobSpec, Error> {
        let owned = |text: &T| text.as_ref().to_owned();
        let owner = (!self.service.as_ref().is_empty()).then(|| Owner {
            service: owned(&self.service),
            reference: owned(&self.reference),
            agent: Some(owned(&self.agent)).filter(|agent| !agent.is_empty()),
        });
        Ok(JobSpec { owner, ..json(self.spec.as_ref().as_bytes())? })
    }
}

/// Inputs up to this many bytes stand behind the facts: `INLINE` of `scripts/lib/record.lua`.
pub(crate) const INLINE: usize = 1024;

/// Takes a big-endian number off the front.
fn number(bytes: &mut &[u8], width: usize) -> Result<u64, Error> {
    let (head, rest) = bytes.split_at_checked(width).ok_or_else(|| Error::corrupt("a record's state is cut short"))?;
    *bytes = rest;
    Ok(head.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Takes a text up to its NUL off the front.
fn text<'a, T: From<&'a str>>(bytes: &mut &'a [u8]) -> Result<T, Error> {
    let end =
        bytes.iter().position(|byte| *byte == 0).ok_or_else(|| Error::corrupt("a record's state is cut short"))?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(Error::corrupt)?;
    *bytes = &bytes[end + 1..];
    Ok(text.into())
}

impl<T: AsRef<str>> State<T> {
    /// Where the job stands.
    pub(crate) fn status(&self) -> Result<Status, Error> {
        Status::from_number(self.status).ok_or_else(|| Error::corrupt("a record has no known status"))
    }

    /// The grant now or last in force.
    pub(crate) fn grant(&self) -> Result<Grant, Error> {
        self.grant.as_ref().parse().map_err(Error::corrupt)
    }
}

/// The fields of a record that make a [`Job`], in the order in which they are asked for.
pub(crate) const FIELDS: [&str; 6] = ["s", "f", "r", "e", "d", "p"];

/// What a record's fields say.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) spec: JobSpec,
    result: Option<Box<RawValue>>,
    error: Option<crate::job::JobError>,
    metadata: crate::job::Metadata,
    progress: Option<crate::job::Progress>,
    input: Option<Arc<RawValue>>,
}

impl Stored {
    /// A job as it was just accepted.
    pub(crate) fn accepted(state: State, facts: Facts, spec: JobSpec, metadata: crate::job::Metadata) -> Self {
        Self { state, facts, spec, result: None, error: None, metadata, progress: None, input: None }
    }

    /// Reads the reply of `HMGET` over [`FIELDS`]; `None`: there is no such job. With `with_input`, two more fields were
    /// asked for, of which one may hold an input that is not small.
    pub(crate) fn parse(reply: Value, with_input: bool) -> Result<Option<Self>, Error> {
        let mut fields = Vec::<Option<Vec<u8>>>::from_redis_value(reply)?.into_iter();
        let mut next = || fields.next().flatten();
        let (Some(state), Some(facts)) = (next(), next()) else { return Ok(None) };
        let (state, _) = State::decode(&state)?;
        let (facts, inline) = Facts::<String>::decode(&facts)?;
        Ok(Some(Self {
            spec: facts.spec()?,
            result: next().map(|bytes| json(&bytes)).transpose()?,
            error: next().map(|bytes| json(&bytes)).transpose()?,
            metadata: next().map(|bytes| json(&bytes)).transpose()?.unwrap_or_default(),
            progress: next().map(|bytes| json(&bytes)).transpose()?,
            input: if with_input { input(inline, [next(), next()])?.map(Arc::from) } else { None },
            state,
            facts,
        }))
    }

    /// The job that users see.
    pub(crate) fn into_job(self, shard: &Shard, local: LocalId) -> Result<Job, Error> {
        let state = self.state;
        let status = state.status()?;
        let time = times::from_ms;
        let required = |ms| time(ms).ok_or_else(|| Error::corrupt("a record has no time of creation"));
        let running = status == Status::Running;
        let id = JobId { shard: shard.clone(), local };
        let stored = self.result.as_deref().is_some_and(StoredResult::is);
        Ok(Job {
            result_url: stored.then(|| format!("/api/v1/jobs/{id}/result")),
            id,
            object: "job",
            task: self.spec.task,
            pool: shard.pool.clone(),
            model: self.spec.model,
            provider: self.spec.provider.or(Some(state.provider)).filter(|name| !name.is_empty()),
            status,
            phase: Phase::from_number(state.phase).filter(|_| running),
            priority: Priority::from_number(state.priority).unwrap_or(Priority::Normal),
            attempts: state.attempts,
            max_attempts: self.facts.max_attempts,
            crashes: state.crashes,
            progress: self.progress,
            error: self.error.filter(|_| status != Status::Completed),
            usage: self.result.as_deref().and_then(usage_of),
            result: self.result.filter(|_| !stored),
            owner: self.spec.owner,
            concurrency_key: Some(self.facts.key).filter(|key| !key.is_empty()),
            metadata: self.metadata,
            stream: self.spec.stream,
            worker_id: state.worker.parse().ok(),
            created_at: required(state.created)?,
            updated_at: required(state.updated)?,
            run_at: time(state.run_at),
            started_at: time(state.started),
            heartbeat_at: time(state.renewed),
            first_chunk_at: time(state.first_chunk),
            cancel_requested_at: time(state.cancel_at),
            completed_at: time(state.completed),
            expires_at: time(state.expires),
            result_expires_at: time(state.completed).and_then(|_| time(state.completed + state.result_ttl)),
            input: self.input,
        })
    }
}

/// The input: behind the facts, or in one of the fields for larger ones.
pub(crate) fn input(inline: &[u8], larger: [Option<Vec<u8>>; 2]) -> Result<Option<Box<RawValue>>, Error> {
    let larger = larger.into_iter().flatten().next();
    let bytes = if inline.is_empty() { larger.as_deref() } else { Some(inline) };
    bytes.map(json).transpose()
}

/// The `usage` member of a result.
fn usage_of(result: &RawValue) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Result {
        usage: Option<Box<RawValue>>,
    }
    serde_json::from_str::<Result>(result.get()).ok()?.usage
}

/// Reads JSON that the scripts or we wrote.
pub(crate) fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(Error::corrupt)
}
