//! Mistakes in the configuration, collected so that all are told at once.
//!
//! Never holds a value that may be a secret: only keys, and values of durations, sizes, numbers and names.

use std::collections::BTreeMap;
use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The full key in the file (`pools.chat.lease`) or the variable (`OVERSHOT_API_TOKEN`).
    pub key: String,
    /// What is wrong, in one line.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Every mistake of a configuration, at least one; prints one line each, `key: what is wrong`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The mistakes, in the order of reading.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, mistake) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The list while it grows, and which keys a variable has set.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    list: Vec<ConfigError>,
    overrides: BTreeMap<String, String>,
}

impl Mistakes {
    /// Notes a mistake; a key that a variable has set is told by the variable's name.
    pub(super) fn add(&mut self, key: &str, problem: impl Into<String>) {
        let key = self.overrides.get(key).map_or(key, String::as_str).to_owned();
        self.list.push(ConfigError { key, problem: problem.into() });
    }

    /// Remembers that `variable` sets `key`; gives the variable that has set it before.
    pub(super) fn overridden(&mut self, key: String, variable: String) -> Option<String> {
        self.overrides.insert(key, variable)
    }

    /// Whether the value of `key` comes from a variable, where every scalar is text.
    pub(super) fn is_override(&self, key: &str) -> bool {
        self.overrides.contains_key(key)
    }

    /// Everything noted, where that is something.
    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors(self.list)
    }

    /// Everything noted, or nothing.
    pub(super) fn into_result(self) -> Result<(), ConfigErrors> {
        if self.list.is_empty() { Ok(()) } else { Err(ConfigErrors(self.list)) }
    }
}
