//! A job's record as Redis keeps it, and the job that users see.
//!
//! [`State`] is the packed struct of `scripts/lib/record.lua`.

use std::sync::Arc;

use redis::{FromRedisValue as _, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::Error;
use crate::ids::{Grant, JobId, LocalId, Shard};
use crate::job::{Job, JobSpec, OnConflict, Phase, Priority, Status, times};

/// Makes the struct, its writer and its reader from one list: name, type, and how many bytes a number takes.
macro_rules! packed {
    ($(#[$doc:meta])* $name:ident { $($number:ident: $kind:ty = $bytes:literal,)* } { $($text:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct $name {
            $(pub(crate) $number: $kind,)*
            $(pub(crate) $text: String,)*
        }

        impl $name {
            /// Writes what the scripts read.
            pub(crate) fn encode(&self) -> Vec<u8> {
                let mut out = Vec::with_capacity(192);
                $(out.extend_from_slice(&u64::from(self.$number).to_be_bytes()[8 - $bytes..]);)*
                $(
                    out.extend_from_slice(self.$text.as_bytes());
                    out.push(0);
                )*
                out
            }

            /// Reads what the scripts wrote.
            pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, Error> {
                Ok(Self {
                    $($number: number(&mut bytes, $bytes)?.try_into().map_err(Error::corrupt)?,)*
                    $($text: text(&mut bytes)?,)*
                })
            }
        }
    };
}

packed! {
    /// The changing part of a record: the struct of `scripts/lib/record.lua`, same fields, same order, same widths.
    ///
    /// Times are Unix time in ms, durations ms; 0 and the empty text mean "none". Texts hold no NUL.
    State {
        status: u8 = 1,
        lane: u8 = 1,
        priority: u8 = 1,
        phase: u8 = 1,
        conflict: u8 = 1,
        own_deadline: u8 = 1,
        in_exp: u8 = 1,
        front: u8 = 1,
        chunked: u8 = 1,
        attempts: u32 = 4,
        failures: u32 = 2,
        crashes: u32 = 2,
        max_attempts: u32 = 2,
        max_crashes: u32 = 2,
        created: u64 = 6,
        updated: u64 = 6,
        run_at: u64 = 6,
        started: u64 = 6,
        renewed: u64 = 6,
        first_chunk: u64 = 6,
        cancel_at: u64 = 6,
        completed: u64 = 6,
        expires: u64 = 6,
        result_expires: u64 = 6,
        idempotent_until: u64 = 6,
        timeout: u64 = 6,
        queue_timeout: u64 = 6,
        result_ttl: u64 = 6,
        bytes: u64 = 4,
    } {
        ticket,
        grant,
        worker,
        key,
        tags,
    }
}

/// Takes a big-endian number off the front.
fn number(bytes: &mut &[u8], width: usize) -> Result<u64, Error> {
    let (head, rest) = bytes.split_at_checked(width).ok_or_else(|| Error::corrupt("a record's state is cut short"))?;
    *bytes = rest;
    Ok(head.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Takes a text up to its NUL off the front.
fn text(bytes: &mut &[u8]) -> Result<String, Error> {
    let end =
        bytes.iter().position(|byte| *byte == 0).ok_or_else(|| Error::corrupt("a record's state is cut short"))?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(Error::corrupt)?.to_owned();
    *bytes = &bytes[end + 1..];
    Ok(text)
}

impl State {
    /// Where the job stands.
    pub(crate) fn status(&self) -> Result<Status, Error> {
        Status::from_number(self.status).ok_or_else(|| Error::corrupt("a record has no known status"))
    }

    /// The grant now or last in force.
    pub(crate) fn grant(&self) -> Result<Grant, Error> {
        self.grant.parse().map_err(Error::corrupt)
    }

    /// What a submit does on a held key, as the record numbers it; 0 without a key.
    pub(crate) fn conflict_number(on_conflict: OnConflict, key: Option<&str>) -> u8 {
        key.map_or(0, |_| on_conflict.number())
    }
}

/// The fields of a record that make a [`Job`], in the order in which they are asked for.
pub(crate) const FIELDS: [&str; 7] = ["s", "m", "r", "e", "d", "p", "v"];

/// What a record's fields say.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) state: State,
    pub(crate) spec: JobSpec,
    result: Option<Box<RawValue>>,
    error: Option<crate::job::JobError>,
    metadata: crate::job::Metadata,
    progress: Option<crate::job::Progress>,
    provider: Option<String>,
    input: Option<Arc<RawValue>>,
}

impl Stored {
    /// A job as it was just accepted.
    pub(crate) fn accepted(state: State, spec: JobSpec, metadata: crate::job::Metadata) -> Self {
        Self { state, spec, result: None, error: None, metadata, progress: None, provider: None, input: None }
    }

    /// Reads the reply of `HMGET` over [`FIELDS`] and, where asked for, the input. `None`: there is no such job.
    pub(crate) fn parse(reply: Value) -> Result<Option<Self>, Error> {
        let mut fields = Vec::<Option<Vec<u8>>>::from_redis_value(reply)?.into_iter();
        let mut next = || fields.next().flatten();
        let (Some(state), Some(spec)) = (next(), next()) else { return Ok(None) };
        Ok(Some(Self {
            state: State::decode(&state)?,
            spec: json(&spec)?,
            result: next().map(|bytes| json(&bytes)).transpose()?,
            error: next().map(|bytes| json(&bytes)).transpose()?,
            metadata: next().map(|bytes| json(&bytes)).transpose()?.unwrap_or_default(),
            progress: next().map(|bytes| json(&bytes)).transpose()?,
            provider: next().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            // Of the two fields that may hold it, one does.
            input: next().or_else(&mut next).map(|bytes| json::<Box<RawValue>>(&bytes)).transpose()?.map(Arc::from),
        }))
    }

    /// The job that users see.
    pub(crate) fn into_job(self, shard: &Shard, local: LocalId) -> Result<Job, Error> {
        let state = self.state;
        let status = state.status()?;
        let time = times::from_ms;
        let required = |ms| time(ms).ok_or_else(|| Error::corrupt("a record has no time of creation"));
        let running = status == Status::Running;
        Ok(Job {
            id: JobId { shard: shard.clone(), local },
            object: "job",
            task: self.spec.task,
            pool: shard.pool.clone(),
            model: self.spec.model,
            provider: self.spec.provider.or(self.provider).filter(|name| !name.is_empty()),
            status,
            phase: Phase::from_number(state.phase).filter(|_| running),
            priority: Priority::from_number(state.priority).unwrap_or(Priority::Normal),
            attempts: state.attempts,
            max_attempts: state.max_attempts,
            crashes: state.crashes,
            progress: self.progress,
            error: self.error.filter(|_| status != Status::Completed),
            usage: self.result.as_deref().and_then(usage_of),
            result: self.result,
            owner: self.spec.owner,
            concurrency_key: Some(state.key).filter(|key| !key.is_empty()),
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
            result_expires_at: time(state.result_expires),
            input: self.input,
        })
    }
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
