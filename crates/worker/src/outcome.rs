//! What one attempt came to. The executor settles by it and asks nothing else.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::JobError;
use serde_json::value::RawValue;

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
