//! What one attempt came to. The executor settles by it and asks nothing else.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::JobError;
use serde::Serialize;
use serde_json::value::RawValue;

/// One provider's turn within an attempt, as a result's `attempts` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Try {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The model that it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Why it did not answer; none: it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// How long it took.
    pub duration_ms: u64,
}

/// What one attempt came to.
#[derive(Debug)]
pub enum Outcome {
    /// The result: an object with its `schema_version`.
    Done(Box<RawValue>),
    /// The attempt failed, another may do better.
    Retry {
        /// How long the provider asked to be left alone; the `[retry]` table decides where it did not.
        after: Option<Duration>,
        /// Why.
        error: JobError,
    },
    /// No attempt can do better.
    Fail {
        /// Why.
        error: JobError,
    },
    /// The provider has no room now. The attempt does not count.
    Snooze {
        /// When to come again.
        after: Duration,
        /// Why.
        error: JobError,
    },
}

impl Outcome {
    /// Whether it is the provider's own failure.
    pub fn is_the_providers_fault(&self) -> bool {
        use ErrorCode::{ModelUnavailable, ProviderAuth, ProviderError, ProviderUnavailable, Timeout};
        let faults = [ModelUnavailable, ProviderAuth, ProviderError, ProviderUnavailable, Timeout];
        self.error().is_some_and(|error| faults.contains(&error.code))
    }

    /// Whether another provider may still answer: after the first one's failure, or what its model made up.
    pub fn is_for_the_next_provider(&self) -> bool {
        let made_up = [ErrorCode::TranscriptHallucination, ErrorCode::TranscriptIncomplete];
        self.is_the_providers_fault() || self.error().is_some_and(|error| made_up.contains(&error.code))
    }

    /// Of what two providers came to, what leaves the job the most hope: to come again without a loss, then to come
    /// again; the later one where they are equal.
    #[must_use]
    pub fn or_better(self, later: Self) -> Self {
        match (self, later) {
            (Self::Snooze { after, error }, Self::Snooze { after: other, .. }) => {
                Self::Snooze { after: after.min(other), error }
            }
            (Self::Snooze { after, error }, Self::Retry { .. } | Self::Fail { .. }) => Self::Snooze { after, error },
            (Self::Retry { after, error }, Self::Fail { .. }) => Self::Retry { after, error },
            (_, later) => later,
        }
    }

    /// The error, unless the attempt is done.
    pub fn error(&self) -> Option<&JobError> {
        match self {
            Self::Done(_) => None,
            Self::Retry { error, .. } | Self::Fail { error } | Self::Snooze { error, .. } => Some(error),
        }
    }

    /// The attempt failed with that code; another may do better.
    pub fn retry(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Retry { after: None, error: JobError { code, message: message.into() } }
    }

    /// The attempt failed with that code, and so would every other.
    pub fn fail(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Fail { error: JobError { code, message: message.into() } }
    }
}

/// A result with the list of all turns in it, as `attempts`.
pub(crate) fn with_attempts(result: &RawValue, tries: &[Try]) -> Box<RawValue> {
    let list = serde_json::to_string(tries).expect("texts and numbers always serialize");
    let head = result.get().trim_end().strip_suffix('}').expect("a result is an object");
    let whole = format!("{head},\"attempts\":{list}}}");
    RawValue::from_string(whole).expect("an object with one more member is an object")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snooze(seconds: u64) -> Outcome {
        let error = JobError { code: ErrorCode::ProviderUnavailable, message: String::new() };
        Outcome::Snooze { after: Duration::from_secs(seconds), error }
    }

    #[test]
    fn of_several_failures_the_one_that_costs_the_job_least_counts() {
        let (retry, fail) = (Outcome::retry(ErrorCode::ProviderError, ""), Outcome::fail(ErrorCode::ProviderAuth, ""));
        assert!(matches!(fail.or_better(retry), Outcome::Retry { .. }));
        let (retry, fail) = (Outcome::retry(ErrorCode::ProviderError, ""), Outcome::fail(ErrorCode::ProviderAuth, ""));
        assert!(matches!(retry.or_better(fail).or_better(snooze(9)), Outcome::Snooze { .. }));
        let sooner = snooze(9).or_better(snooze(3)).or_better(snooze(5));
        assert!(matches!(sooner, Outcome::Snooze { after, .. } if after == Duration::from_secs(3)));
    }

    #[test]
    fn the_turns_stand_in_the_result() {
        let turn = Try { provider: "a".into(), model: None, error: None, duration_ms: 3 };
        let result = RawValue::from_string(r#"{"content":"hi"}"#.into()).unwrap();
        let whole = with_attempts(&result, &[turn]);
        assert_eq!(whole.get(), r#"{"content":"hi","attempts":[{"provider":"a","duration_ms":3}]}"#);
    }
}
