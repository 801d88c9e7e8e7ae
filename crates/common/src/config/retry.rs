//! `[retry]` and `[pools.NAME.retry]`: how long a job waits after each kind of failure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::mistakes::Mistakes;
use super::reader::{self, DURATION_MAX, Section};
use crate::code::ErrorCode;

/// The delay per error code. A code that it does not name keeps [`ErrorCode::default_retry_delay`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    changed: BTreeMap<ErrorCode, Option<Duration>>,
}

impl RetryPolicy {
    /// How long a job waits after a failure with `code` before it runs again; zero: at once;
    /// `None`: it does not run again.
    pub fn delay(&self, code: ErrorCode) -> Option<Duration> {
        self.changed.get(&code).copied().unwrap_or_else(|| code.default_retry_delay())
    }

    /// The same policy with one delay set.
    #[must_use]
    pub fn with(mut self, code: ErrorCode, delay: Option<Duration>) -> Self {
        self.changed.insert(code, delay);
        self
    }

    /// Reads a section over `base`.
    pub(super) fn read(mut section: Section, mistakes: &mut Mistakes, base: &Self) -> Self {
        let mut policy = base.clone();
        for name in section.names() {
            let key = section.key(&name);
            let Ok(code) = name.parse::<ErrorCode>() else { continue };
            let Some(text) = section.text(mistakes, &name) else { continue };
            match delay(code, &text) {
                Ok(delay) => policy = policy.with(code, delay),
                Err(problem) => mistakes.add(&key, problem),
            }
        }
        section.finish(mistakes);
        policy
    }
}

fn delay(code: ErrorCode, text: &str) -> Result<Option<Duration>, String> {
    if text == "never" {
        return Ok(None);
    }
    if matches!(code, ErrorCode::Cancelled | ErrorCode::QueueTimeout) {
        return Err("can only be \"never\": the job is over".to_owned());
    }
    let limits = Duration::ZERO..=DURATION_MAX;
    reader::duration(text, &limits).map(Some).map_err(|problem| format!("{problem} and not \"never\""))
}
