//! Typed readers over one section of the file, which note a mistake and go on with the default.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use toml::{Table, Value};

use super::mistakes::Mistakes;

/// The longest duration that any key takes.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Redis counts milliseconds: the shortest duration that is not zero.
pub(super) const DURATION_MIN: Duration = Duration::from_millis(1);
/// What a key takes that sets no limits of its own.
pub(super) const POSITIVE: RangeInclusive<Duration> = DURATION_MIN..=DURATION_MAX;

/// One table of the file; each reader takes its key out, so that what is left is unknown.
#[derive(Debug)]
pub(super) struct Section {
    path: String,
    table: Table,
}

impl Section {
    /// The whole file.
    pub(super) fn root(table: Table) -> Self {
        Self { path: String::new(), table }
    }

    /// The full key of `name` in this section.
    pub(super) fn key(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// A duration such as `30s`, within `limits`.
    pub(super) fn duration(
        &mut self,
        mistakes: &mut Mistakes,
        name: &str,
        limits: &RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let Some(value) = self.table.remove(name) else { return default };
        let read = match &value {
            Value::String(text) => duration(text, limits),
            _ => Err("must be a duration in quotes, such as \"30s\"".to_owned()),
        };
        self.settle(mistakes, name, read, default)
    }

    /// A size such as `32MiB`, or a number of bytes, within `limits`.
    pub(super) fn bytes(&mut self, mistakes: &mut Mistakes, name: &str, limits: &RangeInclusive<u64>) -> Option<u64> {
        let shown = |bytes: &u64| ByteSize::b(*bytes).to_string();
        let size = match self.table.remove(name)? {
            Value::String(text) => text
                .parse::<ByteSize>()
                .map(|size| size.as_u64())
                .map_err(|_| format!("`{text}` is not a size such as \"32MiB\"")),
            Value::Integer(bytes) => {
                u64::try_from(bytes).map_err(|_| format!("`{bytes}` is not a size such as \"32MiB\""))
            }
            _ => Err("must be a size such as \"32MiB\"".to_owned()),
        };
        let read = size.and_then(|size| {
            let (low, high) = (shown(limits.start()), shown(limits.end()));
            within(size, limits, || format!("`{}` is not between {low} and {high}", shown(&size)))
        });
        self.settle(mistakes, name, read.map(Some), None)
    }

    /// A whole number within `limits`.
    pub(super) fn integer<T>(
        &mut self,
        mistakes: &mut Mistakes,
        name: &str,
        limits: &RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let Some(value) = self.table.remove(name) else { return default };
        let number = match &value {
            Value::Integer(number) => Some(*number),
            Value::String(text) if mistakes.is_override(&self.key(name)) => text.parse().ok(),
            _ => None,
        };
        let (low, high) = (limits.start(), limits.end());
        let read = match number {
            None => Err(format!("must be a whole number from {low} to {high}")),
            Some(number) => T::try_from(number)
                .ok()
                .filter(|number| limits.contains(number))
                .ok_or_else(|| format!("`{number}` is not between {low} and {high}")),
        };
        self.settle(mistakes, name, read, default)
    }

    /// A share from 0 to 1.
    pub(super) fn share(&mut self, mistakes: &mut Mistakes, name: &str, default: f64) -> f64 {
        let Some(value) = self.table.remove(name) else { return default };
        let number = match &value {
            Value::Float(number) => Some(*number),
            Value::Integer(0) => Some(0.0),
            Value::Integer(1) => Some(1.0),
            Value::String(text) if mistakes.is_override(&self.key(name)) => text.parse().ok(),
            _ => None,
        };
        let read = number
            .filter(|number| (0.0..=1.0).contains(number))
            .ok_or_else(|| "must be a number from 0 to 1".to_owned());
        self.settle(mistakes, name, read, default)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, mistakes: &mut Mistakes, name: &str) -> Option<String> {
        let read = match self.table.remove(name)? {
            Value::String(text) if text.trim().is_empty() => Err("is empty".to_owned()),
            Value::String(text) => Ok(Some(text)),
            _ => Err("must be a text in quotes".to_owned()),
        };
        self.settle(mistakes, name, read, None)
    }

    /// A text that is not empty, or a whole number as the text that it would be.
    pub(super) fn number_or_text(&mut self, mistakes: &mut Mistakes, name: &str) -> Option<String> {
        if let Some(Value::Integer(number)) = self.table.get(name) {
            let text = number.to_string();
            self.table.remove(name);
            return Some(text);
        }
        self.text(mistakes, name)
    }

    /// Any value as JSON: a text that is JSON itself, or what the file's own form holds, whose order of members is lost.
    pub(super) fn json(&mut self, mistakes: &mut Mistakes, name: &str) -> Option<String> {
        let read = match self.table.remove(name)? {
            Value::String(text) => Ok(text),
            value => json_of(&value),
        };
        self.settle(mistakes, name, read.map(Some), None)
    }

    /// The members of a table inside this one, each as JSON; an absent one is empty. From a variable, a number is a number.
    pub(super) fn members(&mut self, mistakes: &mut Mistakes, name: &str) -> BTreeMap<String, String> {
        let mut inner = self.section(mistakes, name);
        let mut members = BTreeMap::new();
        for (name, value) in std::mem::take(&mut inner.table) {
            let set = mistakes.is_override(&inner.key(&name));
            let read = match &value {
                Value::String(text) if set && (text.parse::<f64>().is_ok() || text.parse::<bool>().is_ok()) => {
                    Ok(text.clone())
                }
                value => json_of(value),
            };
            match read {
                Ok(json) => drop(members.insert(name, json)),
                Err(problem) => mistakes.add(&inner.key(&name), problem),
            }
        }
        members
    }

    /// A list of texts, none empty; from a variable, separated by commas.
    pub(super) fn texts(&mut self, mistakes: &mut Mistakes, name: &str) -> Option<Vec<String>> {
        let list = match self.table.remove(name)? {
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Some(text),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>(),
            Value::String(text) if mistakes.is_override(&self.key(name)) => {
                let items = text.split(',').map(|item| item.trim().to_owned());
                Some(if text.trim().is_empty() { Vec::new() } else { items.collect() })
            }
            _ => None,
        };
        let read = match list {
            None => Err("must be a list of texts".to_owned()),
            Some(items) if items.iter().any(|item| item.trim().is_empty()) => Err("holds an empty text".to_owned()),
            Some(items) => Ok(Some(items)),
        };
        self.settle(mistakes, name, read, None)
    }

    /// One of the named values.
    pub(super) fn choice<T: Copy>(&mut self, mistakes: &mut Mistakes, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(mistakes, name)?;
        let found = choices.iter().find(|(choice, _)| *choice == text);
        if found.is_none() {
            let known: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            let problem = format!("`{}` is not one of {}", text.escape_debug(), known.join(", "));
            mistakes.add(&self.key(name), problem);
        }
        found.map(|(_, value)| *value)
    }

    /// A table inside this one; an absent one is empty.
    pub(super) fn section(&mut self, mistakes: &mut Mistakes, name: &str) -> Self {
        let path = self.key(name);
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                mistakes.add(&path, "must be a section");
                Table::new()
            }
        };
        Self { path, table }
    }

    /// A table inside this one, or the one text that stands for none.
    pub(super) fn section_or(&mut self, mistakes: &mut Mistakes, name: &str, none: &str) -> Option<Self> {
        match self.table.get(name) {
            Some(Value::String(text)) if text == none => {
                self.ignore(name);
                None
            }
            Some(Value::String(_)) => {
                mistakes.add(&self.key(name), format!("must be \"{none}\" or a table"));
                self.ignore(name);
                None
            }
            _ => Some(self.section(mistakes, name)),
        }
    }

    /// The tables inside a table, by name.
    pub(super) fn sections(&mut self, mistakes: &mut Mistakes, name: &str) -> Vec<(String, Self)> {
        let mut parent = self.section(mistakes, name);
        let names: Vec<_> = parent.table.keys().cloned().collect();
        names
            .into_iter()
            .map(|name| {
                let section = parent.section(mistakes, &name);
                (name, section)
            })
            .collect()
    }

    /// Takes every key that is left, with its name.
    pub(super) fn names(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// Drops a key that another mistake already covers.
    pub(super) fn ignore(&mut self, name: &str) {
        self.table.remove(name);
    }

    /// Notes each key that no reader took.
    pub(super) fn finish(self, mistakes: &mut Mistakes) {
        for name in self.table.keys() {
            let problem = match self.path.as_str() {
                "" => "no such key".to_owned(),
                path => format!("no such key in [{path}]"),
            };
            mistakes.add(&join(&self.path, name), problem);
        }
    }

    fn settle<T>(&self, mistakes: &mut Mistakes, name: &str, read: Result<T, String>, default: T) -> T {
        read.unwrap_or_else(|problem| {
            mistakes.add(&self.key(name), problem);
            default
        })
    }
}

/// Reads a duration such as `500ms`, `30s`, `10m` or `7d`, within `limits`.
pub(super) fn duration(text: &str, limits: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let shown = |time: &Duration| humantime::format_duration(*time).to_string();
    let text = text.trim();
    let time = humantime::parse_duration(text)
        .map_err(|_| format!("`{}` is not a duration such as \"30s\"", text.escape_debug()))?;
    let (low, high) = (shown(limits.start()), shown(limits.end()));
    within(time, limits, || format!("`{}` is not between {low} and {high}", text.escape_debug()))
}

fn json_of(value: &Value) -> Result<String, String> {
    fn has_no_form(value: &Value) -> bool {
        match value {
            Value::Datetime(_) => true,
            Value::Float(number) => !number.is_finite(),
            Value::Array(items) => items.iter().any(has_no_form),
            Value::Table(table) => table.values().any(has_no_form),
            Value::String(_) | Value::Integer(_) | Value::Boolean(_) => false,
        }
    }
    if has_no_form(value) {
        return Err("holds a date or a number that JSON has no form for".to_owned());
    }
    serde_json::to_string(value).map_err(|_| "has no form in JSON".to_owned())
}

/// Joins the keys of a path, in quotes where TOML wants them.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn within<T: PartialOrd>(value: T, limits: &RangeInclusive<T>, problem: impl FnOnce() -> String) -> Result<T, String> {
    if limits.contains(&value) { Ok(value) } else { Err(problem()) }
}
