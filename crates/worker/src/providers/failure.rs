//! What went wrong in a provider call, and what the job should do about it.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::JobError;

use crate::outcome::Outcome;

/// A provider call that did not end in an answer.
///
/// Its message never holds what the provider wrote beyond short identifiers: an error body may quote the prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", error.code, error.message)]
pub struct ProviderFailure {
    /// Why.
    pub error: JobError,
    /// What the job should do.
    pub then: Then,
}

/// What a job should do after a failed provider call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another attempt may do better; no sooner than this, if the provider said so.
    Retry(Option<Duration>),
    /// No attempt can do better.
    Fail,
    /// Come again after this; the attempt does not count.
    Snooze(Duration),
}

impl ProviderFailure {
    pub(super) fn new(code: ErrorCode, then: Then, message: impl Into<String>) -> Self {
        Self { error: JobError { code, message: message.into() }, then }
    }

    pub(super) fn retry(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, Then::Retry(None), message)
    }

    /// There is no room within the provider's limits before that time is over.
    pub(crate) fn at_its_limit(wait: Duration) -> Self {
        Self::new(ErrorCode::ProviderUnavailable, Then::Snooze(wait), "the provider is at its limit")
    }

    pub(super) fn bad_response(message: &str) -> Self {
        Self::retry(ErrorCode::BadResponse, format!("the provider's answer cannot be used: {message}"))
    }

    pub(super) fn timeout(limit: Duration) -> Self {
        Self::retry(ErrorCode::Timeout, format!("no complete answer within the request_timeout of {limit:?}"))
    }
}

impl From<ProviderFailure> for Outcome {
    fn from(failure: ProviderFailure) -> Self {
        let error = failure.error;
        match failure.then {
            Then::Retry(after) => Self::Retry { after, error },
            Then::Fail => Self::Fail { error },
            Then::Snooze(after) => Self::Snooze { after, error },
        }
    }
}
