//! What a running job leaves beside its record: for its later attempts, and as a result too large for the record.
//!
//! Written under the grant, one name at a time; read by whoever runs the job next, or serves its result.

use redis::{FromRedisValue as _, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::Error;
use super::record::json;
use super::work::{Held, to_json};
use super::{Queue, keys, parts};
use crate::ids::JobId;
use crate::job::Progress;

/// Bytes of one call: a longer script would stall the server for others.
const BYTES_PER_CALL: usize = 1 << 20;
/// The longest part of a result that is kept as text.
const PART_BYTES: usize = 512 << 10;
/// The name beside the values under which their last writer's grant stands: no value of a job's.
const BY: &[u8] = b"by";
/// How a record's result begins that stands elsewhere. No task's result does: they begin with their `schema_version`.
const MARK: &str = "{\"stored\":";

/// What a record holds in the place of a result that is too large for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredResult {
    stored: Form,
    /// How many values stand beside the record for it, at least.
    #[serde(default)]
    values: usize,
    /// The result's own member, for the job.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    usage: Option<Box<RawValue>>,
    /// The providers' turns, where there were several and the result itself does not tell of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempts: Option<Box<RawValue>>,
}

/// In which form a large result stands beside its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// As the JSON text itself, in so many parts: see [`StoredResult::part`].
    Json(usize),
    /// As vectors and what is written around them: see [`crate::task::embedding::Manifest`].
    Vectors,
}

impl StoredResult {
    /// A result that stands in that form, in at least so many values; `usage` is the result's own member.
    pub fn new(stored: Form, values: usize, usage: Option<Box<RawValue>>) -> Self {
        Self { stored, values, usage, attempts: None }
    }

    /// What stands for a result that is kept as text, and its parts under their names.
    pub fn of_json(result: &RawValue) -> (Self, Vec<(String, &[u8])>) {
        #[derive(Deserialize)]
        struct Counted {
            usage: Option<Box<RawValue>>,
        }
        let counted = serde_json::from_str::<Counted>(result.get()).ok();
        let parts = std::iter::zip(0.., result.get().as_bytes().chunks(PART_BYTES));
        let parts: Vec<_> = parts.map(|(number, part)| (Self::part(number), part)).collect();
        (Self::new(Form::Json(parts.len()), parts.len(), counted.and_then(|counted| counted.usage)), parts)
    }

    /// Where the result itself stands.
    pub fn form(&self) -> Form {
        self.stored
    }

    /// Whether a record's result is one that stands elsewhere.
    pub(super) fn is(result: &RawValue) -> bool {
        result.get().starts_with(MARK)
    }

    /// How many values must stand beside a record for this result of it, at least: 0 for one that stands in the record itself.
    pub(super) fn values_beside(result: &RawValue) -> usize {
        let stored = Self::is(result).then(|| serde_json::from_str::<Self>(result.get()).ok());
        stored.flatten().map_or(0, |stored| stored.values)
    }

    /// The name under which a part of [`Form::Json`] is kept.
    pub fn part(number: usize) -> String {
        format!("part{number}")
    }
}

impl Queue {
    /// Keeps values under their names beside a running job's record, and notes how far it is; `false`: the grant does not
    /// hold. An empty value drops what stands under its name. Of values that take several calls, an error may leave some.
    pub async fn stash(
        &self,
        held: &Held,
        progress: Option<&Progress>,
        values: &[(&[u8], &[u8])],
    ) -> Result<bool, Error> {
        let mut rest = values;
        loop {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|(name, value)| {
                bytes += name.len() + value.len();
                bytes <= BYTES_PER_CALL
            });
            let (now, later) = rest.split_at(fits.count().max(1).min(rest.len()));
            rest = later;
            let reply = self.run(&self.inner.scripts.stash, &held.id.shard, |command| {
                command.arg(held.id.local.as_str()).arg(held.grant.as_str());
                command.arg(progress.filter(|_| rest.is_empty()).map(to_json).unwrap_or_default());
                for (name, value) in now {
                    command.arg(name).arg(value);
                }
            });
            let [kept, watched] = parts(reply.await?)?;
            self.announce(&held.id.shard, watched)?;
            let kept = u8::from_redis_value(kept)? == 1;
            if !kept || rest.is_empty() {
                return Ok(kept);
            }
        }
    }

    /// The names of everything that a job left beside its record.
    pub async fn stashed_names(&self, id: &JobId) -> Result<Vec<Vec<u8>>, Error> {
        let mut pipe = redis::pipe();
        pipe.cmd("HKEYS").arg(keys::stash(id));
        let reply = self.inner.link.bulk(&id.shard, &pipe).await?.pop().unwrap_or(Value::Nil);
        let mut names = Vec::<Vec<u8>>::from_redis_value(reply)?;
        names.retain(|name| name != BY);
        Ok(names)
    }

    /// What a job left under these names, in their order.
    pub async fn stashed(&self, id: &JobId, names: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        pipe.cmd("HMGET").arg(keys::stash(id)).arg(names);
        let reply = self.inner.link.bulk(&id.shard, &pipe).await?.pop().unwrap_or(Value::Nil);
        Ok(Vec::from_redis_value(reply)?)
    }

    /// Where a job's result stands if it is not in its record.
    pub async fn stored_result(&self, id: &JobId) -> Result<Option<StoredResult>, Error> {
        let mut get = redis::cmd("HGET");
        get.arg(keys::record(&id.shard, &id.local)).arg("r");
        let result = Option::<Vec<u8>>::from_redis_value(self.inner.link.call(&get).await?)?;
        result.filter(|result| result.starts_with(MARK.as_bytes())).map(|result| json(&result)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_elsewhere_is_known_by_its_first_bytes() {
        let usage = Some(RawValue::from_string("{\"total_tokens\":3}".to_owned()).unwrap());
        for form in [Form::Json(2), Form::Vectors] {
            let written = serde_json::value::to_raw_value(&StoredResult::new(form, 3, usage.clone())).unwrap();
            assert!(StoredResult::is(&written), "{written}");
            assert_eq!(StoredResult::values_beside(&written), 3);
            assert_eq!(serde_json::from_str::<StoredResult>(written.get()).unwrap().form(), form);
        }
        let result = RawValue::from_string("{\"schema_version\":\"ai.chat_result.v1\"}".to_owned()).unwrap();
        assert!(!StoredResult::is(&result));
        assert_eq!(StoredResult::values_beside(&result), 0);
    }
}
