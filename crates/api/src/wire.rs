//! The JSON that callers send: read field by field, so that each mistake names its place.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ApiError;

pub(crate) mod filter;
pub(crate) mod job;
#[cfg(test)]
mod tests;

/// Redis counts milliseconds.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);
/// The longest duration that any field takes.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The members of an object that no reader took yet; `null` is as good as absent.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    path: &'static str,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// The members of the object at `path`; the empty path is the body.
    pub(crate) fn of(path: &'static str, json: &'a str) -> Result<Self, ApiError> {
        let Members(members) = serde_json::from_str(json).map_err(|_| not_an_object(path))?;
        let this = Self { path, members };
        for (place, (name, _)) in this.members.iter().enumerate() {
            if this.members[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::invalid(this.place(name), "is given twice"));
            }
        }
        Ok(this)
    }

    /// The full path of a member.
    pub(crate) fn place(&self, name: &str) -> String {
        if self.path.is_empty() { shown(name) } else { format!("{}.{}", self.path, shown(name)) }
    }

    /// Takes a member as it came.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.swap_remove(place).1).filter(|value| value.get() != "null")
    }

    /// Takes a text of 1 to `longest` bytes.
    pub(crate) fn text(&mut self, name: &str, longest: usize) -> Result<Option<String>, ApiError> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        text(value, longest).map(Some).map_err(|problem| ApiError::invalid(self.place(name), problem))
    }

    /// Takes `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.raw(name).map(RawValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ApiError::invalid(self.place(name), "must be true or false")),
        }
    }

    /// Takes a whole number within `limits`.
    pub(crate) fn integer(&mut self, name: &str, limits: &RangeInclusive<u32>) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let number = serde_json::from_str::<u32>(value.get()).ok().filter(|number| limits.contains(number));
        let (low, high) = (limits.start(), limits.end());
        let problem = || ApiError::invalid(self.place(name), format!("must be a whole number from {low} to {high}"));
        number.map(Some).ok_or_else(problem)
    }

    /// Takes a duration such as `30s`, within `limits`.
    pub(crate) fn duration(
        &mut self,
        name: &str,
        limits: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, ApiError> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let place = self.place(name);
        let text: String = serde_json::from_str(value.get())
            .map_err(|_| ApiError::invalid(&*place, "must be a duration in quotes, such as \"30s\""))?;
        duration(&place, &text, limits).map(Some)
    }

    /// Takes one of the names of `T`.
    pub(crate) fn choice<T: FromStr + Display>(&mut self, name: &str, all: &[T]) -> Result<Option<T>, ApiError> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let found = serde_json::from_str::<String>(value.get()).ok().and_then(|text| text.parse().ok());
        let known = || all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| ApiError::invalid(self.place(name), format!("must be one of {}", known())))
    }

    /// Takes everything that is left.
    pub(crate) fn rest(self) -> Vec<(Cow<'a, str>, &'a RawValue)> {
        self.members
    }

    /// Refuses what no reader took.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.members.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::unprocessable("unknown_field", self.place(name), "is no known field")),
        }
    }
}

fn not_an_object(path: &str) -> ApiError {
    ApiError::invalid(path, if path.is_empty() { "the body must be a JSON object" } else { "must be an object" })
}

/// A member's name as part of a path: short, whatever the caller made of it.
fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

/// Reads a text of 1 to `longest` bytes.
pub(crate) fn text(value: &RawValue, longest: usize) -> Result<String, String> {
    let text: String = serde_json::from_str(value.get()).map_err(|_| "must be a string".to_owned())?;
    sized(&text, longest)?;
    Ok(text)
}

/// Judges a text to be 1 to `longest` bytes long, none of them NUL: a record's texts end with one.
pub(crate) fn sized(text: &str, longest: usize) -> Result<(), String> {
    if text.contains('\0') {
        return Err("must not hold a NUL character".to_owned());
    }
    if (1..=longest).contains(&text.len()) { Ok(()) } else { Err(format!("must be 1 to {longest} bytes long")) }
}

/// Reads a duration such as `500ms`, `30s`, `10m` or `7d`, within `limits`.
pub(crate) fn duration(param: &str, text: &str, limits: &RangeInclusive<Duration>) -> Result<Duration, ApiError> {
    let time = humantime::parse_duration(text.trim())
        .map_err(|_| ApiError::invalid(param, "must be a duration such as \"30s\""))?;
    if limits.contains(&time) {
        return Ok(time);
    }
    let [low, high] = [limits.start(), limits.end()].map(|limit| humantime::format_duration(*limit));
    Err(ApiError::invalid(param, format!("must be from {low} to {high}")))
}

/// Members of a JSON object in their order, each in the text that it came in.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        #[derive(serde::Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}
