//! Filters of jobs: from a query, and from the body of a bulk call.

use std::fmt;

use overshot_common::job::Status;
use overshot_common::queue::{Cursor, Filter};

use super::{Fields, sized};
use crate::access::Caller;
use crate::error::ApiError;
use crate::params::Pairs;

/// Longest value of a filter, in bytes.
const VALUE_BYTES_MAX: usize = 256;
const LIMIT_MAX: usize = 200;
const LIMIT: usize = 50;

/// Which jobs, in which pool.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) pool: Option<String>,
    pub(crate) filter: Filter,
}

/// A listing that a caller asked for.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) wanted: Wanted,
    pub(crate) limit: usize,
    pub(crate) after: Option<Cursor>,
}

impl Wanted {
    /// Where the filter of that name is kept.
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "pool" => &mut self.pool,
            "task" => &mut self.filter.task,
            "model" => &mut self.filter.model,
            "owner_service" => &mut self.filter.owner_service,
            "owner_ref" => &mut self.filter.owner_ref,
            "owner_agent" => &mut self.filter.owner_agent,
            "concurrency_key" => &mut self.filter.concurrency_key,
            _ => return None,
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let Some(slot) = self.slot(name) else {
            let shown: String = name.chars().take(100).collect();
            return Err(ApiError::unprocessable("unknown_parameter", shown, "is no known filter"));
        };
        sized(value, VALUE_BYTES_MAX).map_err(|problem| ApiError::invalid(name, problem))?;
        if slot.is_some() {
            return Err(ApiError::invalid(name, "is given more than once"));
        }
        // Jobs are kept under the task's own name.
        let value = if name == "task" && value == "llm_chat" { "chat" } else { value };
        *slot = Some(value.to_owned());
        Ok(())
    }

    fn add_statuses(&mut self, text: &str) -> Result<(), ApiError> {
        for name in text.split(',') {
            let status = name.trim().parse::<Status>().map_err(|_| bad_status())?;
            self.filter.statuses.push(status);
        }
        Ok(())
    }

    /// Narrows it to what the caller may know of; `false`: nothing is left.
    pub(crate) fn narrow(&mut self, caller: &Caller) -> bool {
        let Some(service) = caller.service() else { return true };
        let wanted = self.filter.owner_service.get_or_insert_with(|| service.to_owned());
        wanted == service
    }

    /// Reads the body of a bulk call: at least one filter.
    pub(crate) fn read(body: &str) -> Result<Self, ApiError> {
        let mut from = Fields::of("", body)?;
        let mut wanted = Self::default();
        let status = from.raw("status");
        match status.map(|value| serde_json::from_str::<OneOrMany>(value.get())).transpose() {
            Ok(None) => {}
            Ok(Some(OneOrMany::One(text))) => wanted.add_statuses(&text)?,
            Ok(Some(OneOrMany::Many(texts))) if !texts.is_empty() => {
                texts.iter().try_for_each(|text| wanted.add_statuses(text))?;
            }
            Ok(Some(OneOrMany::Many(_))) | Err(_) => return Err(bad_status()),
        }
        let mut any = status.is_some();
        for (name, value) in from.rest() {
            if value.get() == "null" {
                continue;
            }
            if wanted.slot(&name).is_none() {
                wanted.set(&name, "")?;
            }
            let text: String =
                serde_json::from_str(value.get()).map_err(|_| ApiError::invalid(&*name, "must be a string"))?;
            wanted.set(&name, &text)?;
            any = true;
        }
        if any { Ok(wanted) } else { Err(ApiError::invalid("", "the body must hold at least one filter")) }
    }
}

/// As a line of the log tells it.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<_> = self.filter.statuses.iter().map(|status| status.as_str()).collect();
        write!(f, "status={}", statuses.join(","))?;
        let filter = &self.filter;
        let fields = [
            ("pool", &self.pool),
            ("task", &filter.task),
            ("model", &filter.model),
            ("owner_service", &filter.owner_service),
            ("owner_ref", &filter.owner_ref),
            ("owner_agent", &filter.owner_agent),
            ("concurrency_key", &filter.concurrency_key),
        ];
        let mut given = fields.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        given.try_for_each(|(name, value)| write!(f, " {name}={value:?}"))
    }
}

impl Listing {
    pub(crate) fn read(query: &Pairs) -> Result<Self, ApiError> {
        let mut wanted = Wanted::default();
        for (name, value) in &query.0 {
            match name.as_str() {
                "status" => wanted.add_statuses(value)?,
                "limit" | "after" => {}
                name => wanted.set(name, value)?,
            }
        }
        let limit =
            match query.one("limit")? {
                None => LIMIT,
                Some(text) => text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
                    ApiError::invalid("limit", format!("must be a whole number from 1 to {LIMIT_MAX}"))
                })?,
            };
        let after = query.one("after")?.map(str::parse).transpose();
        let after = after.map_err(|_| ApiError::invalid("after", "must be the `next` of a listing, or a job id"))?;
        Ok(Self { wanted, limit, after })
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn bad_status() -> ApiError {
    let known: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
    ApiError::invalid("status", format!("must be one or more of {}", known.join(", ")))
}
