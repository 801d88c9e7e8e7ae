//! The request that submits a job, and the parts that other requests share with it.

use std::time::Duration;

use jiff::Timestamp;
use overshot_common::job::{Metadata, OnConflict, Owner, Priority};
use serde_json::value::RawValue;

use super::{Fields, LONGEST, SHORTEST};
use crate::access::Caller;
use crate::error::ApiError;

/// Longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 256;
/// Longest field of an owner, in bytes.
const OWNER_BYTES_MAX: usize = 64;
/// Longest name of a task, a pool, a provider or a model, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most pairs of metadata.
pub(crate) const METADATA_PAIRS_MAX: usize = 16;
/// Longest name and value of such a pair, in characters.
const METADATA_NAME_CHARS_MAX: usize = 64;
const METADATA_VALUE_CHARS_MAX: usize = 512;

/// A submit, each field well-formed; whether they fit the configuration is yet to be seen.
#[derive(Debug)]
pub(crate) struct SubmitRequest<'a> {
    pub(crate) task: String,
    pub(crate) pool: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) input: &'a RawValue,
    pub(crate) priority: Priority,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) delay: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) expires_in: Option<Duration>,
    pub(crate) result_ttl: Option<Duration>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) concurrency_key: Option<String>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) fail_fast: bool,
    pub(crate) owner: Option<Owner>,
    pub(crate) metadata: Metadata,
    pub(crate) stream: Option<bool>,
}

impl<'a> SubmitRequest<'a> {
    /// Reads a submit of `caller`'s.
    pub(crate) fn read(json: &'a str, caller: &Caller) -> Result<Self, ApiError> {
        let mut from = Fields::of("", json)?;
        let positive = SHORTEST..=LONGEST;
        let task = from.text("task", NAME_BYTES_MAX)?.ok_or_else(|| missing("task"))?;
        let input = from.raw("input").ok_or_else(|| missing("input"))?;
        let run_at = from.raw("run_at").map(time).transpose()?;
        let delay = from.duration("delay", &(Duration::ZERO..=LONGEST))?;
        if run_at.is_some() && delay.is_some() {
            return Err(ApiError::invalid("delay", "cannot stand beside `run_at`"));
        }
        let request = Self {
            task,
            input,
            run_at,
            delay: delay.unwrap_or_default(),
            pool: from.text("pool", NAME_BYTES_MAX)?,
            model: from.text("model", NAME_BYTES_MAX)?,
            provider: from.text("provider", NAME_BYTES_MAX)?,
            priority: from.choice("priority", Priority::ALL)?.unwrap_or(Priority::Normal),
            max_attempts: from.integer("max_attempts", &(1..=100))?,
            timeout: from.duration("timeout", &positive)?,
            expires_in: from.duration("expires_in", &positive)?,
            result_ttl: from.duration("result_ttl", &positive)?,
            idempotency_key: from.text("idempotency_key", KEY_BYTES_MAX)?,
            concurrency_key: from.text("concurrency_key", KEY_BYTES_MAX)?,
            on_conflict: from.choice("on_conflict", OnConflict::ALL)?.unwrap_or(OnConflict::Reject),
            fail_fast: from.boolean("fail_fast")?.unwrap_or(false),
            owner: owner(from.raw("owner"), caller)?,
            metadata: from.raw("metadata").map(metadata).transpose()?.unwrap_or_default(),
            stream: from.boolean("stream")?,
        };
        from.finish()?;
        Ok(request)
    }
}

pub(crate) fn missing(param: &'static str) -> ApiError {
    ApiError::unprocessable("missing_field", param, "is required")
}

fn time(value: &RawValue) -> Result<Timestamp, ApiError> {
    let text = serde_json::from_str::<String>(value.get()).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| ApiError::invalid("run_at", "must be an RFC 3339 time such as \"2030-01-31T12:00:00Z\""))
}

/// Reads the owner. A caller that is bound to a service submits under that one, whatever it says.
fn owner(value: Option<&RawValue>, caller: &Caller) -> Result<Option<Owner>, ApiError> {
    let bound = caller.service().map(str::to_owned);
    let Some(value) = value else {
        let reference = || caller.name().to_owned();
        return Ok(bound.map(|service| Owner { service, reference: reference(), agent: None }));
    };
    let mut from = Fields::of("owner", value.get())?;
    let given = from.text("service", OWNER_BYTES_MAX)?;
    let owner = Owner {
        service: bound.or(given).ok_or_else(|| missing("owner.service"))?,
        reference: from.text("ref", OWNER_BYTES_MAX)?.ok_or_else(|| missing("owner.ref"))?,
        agent: from.text("agent", OWNER_BYTES_MAX)?,
    };
    from.finish()?;
    Ok(Some(owner))
}

fn metadata(value: &RawValue) -> Result<Metadata, ApiError> {
    let changes = changes(value)?;
    let pairs: Metadata = changes.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    if pairs.len() > METADATA_PAIRS_MAX {
        return Err(too_many_pairs());
    }
    Ok(pairs)
}

pub(crate) fn too_many_pairs() -> ApiError {
    ApiError::invalid("metadata", format!("must be at most {METADATA_PAIRS_MAX} pairs"))
}

/// Reads pairs of metadata; a value of `null` stands for none.
pub(crate) fn changes(value: &RawValue) -> Result<Vec<(String, Option<String>)>, ApiError> {
    let from = Fields::of("metadata", value.get())?;
    let mut changes = Vec::new();
    for (name, value) in from.rest() {
        let place = || format!("metadata.{}", super::shown(&name));
        if !(1..=METADATA_NAME_CHARS_MAX).contains(&name.chars().count()) {
            let problem = format!("must have a name of 1 to {METADATA_NAME_CHARS_MAX} characters");
            return Err(ApiError::invalid(place(), problem));
        }
        let text: Option<String> =
            serde_json::from_str(value.get()).map_err(|_| ApiError::invalid(place(), "must be a string"))?;
        if text.as_ref().is_some_and(|text| text.chars().count() > METADATA_VALUE_CHARS_MAX) {
            let problem = format!("must be at most {METADATA_VALUE_CHARS_MAX} characters long");
            return Err(ApiError::invalid(place(), problem));
        }
        changes.push((name.into_owned(), text));
    }
    Ok(changes)
}
