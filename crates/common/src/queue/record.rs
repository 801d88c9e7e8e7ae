//! A job's record as Redis keeps it, and the job that users see.
//!
//! [`State`] is the `MessagePack` array of `scripts/lib/record.lua`: same fields, same order.

use std::sync::Arc;

use redis::{FromRedisValue as _, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::Error;
use crate::ids::{Grant, JobId, LocalId, Shard};
use crate::job::{Job, JobSpec, OnConflict, Phase, Priority, Status, times};

/// The changing part of a record. Times are Unix time in ms, durations ms; 0 and the empty text mean "none".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) status: u8,
    pub(crate) ticket: String,
    pub(crate) lane: u8,
    pub(crate) priority: u8,
    pub(crate) grant: String,
    pub(crate) worker: String,
    pub(crate) attempts: u32,
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    pub(crate) max_attempts: u32,
    pub(crate) max_crashes: u32,
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) run_at: u64,
    pub(crate) started: u64,
    pub(crate) renewed: u64,
    pub(crate) first_chunk: u64,
    pub(crate) cancel_at: u64,
    pub(crate) completed: u64,
    pub(crate) expires: u64,
    pub(crate) result_expires: u64,
    pub(crate) timeout: u64,
    pub(crate) queue_timeout: u64,
    pub(crate) result_ttl: u64,
    pub(crate) phase: u8,
    pub(crate) bytes: u64,
    pub(crate) own_deadline: u8,
    pub(crate) in_exp: u8,
    pub(crate) front: u8,
    pub(crate) chunked: u8,
    pub(crate) key: String,
    pub(crate) conflict: u8,
    pub(crate) tags: String,
    pub(crate) idempotent_until: u64,
}

impl State {
    /// Reads the array that the scripts wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        rmp_serde::from_slice(bytes).map_err(Error::corrupt)
    }

    /// Writes the array that the scripts read.
    pub(crate) fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).expect("integers and texts always encode")
    }

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
            input: next().map(|bytes| json::<Box<RawValue>>(&bytes)).transpose()?.map(Arc::from),
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
