//! Error codes: why a job's attempt or a job failed. Stable names that users' dashboards and retries rely on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Makes the enum, its names and the list of all, so that none can be forgotten.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $delay:expr;)*) => {
        /// Why an attempt or a job failed. `docs/ERRORS.md` tells what to do about each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How long a job waits after this failure before it runs again, unless `[retry]` says otherwise;
            /// `None`: it does not run again.
            pub fn default_retry_delay(self) -> Option<Duration> {
                match self { $(Self::$variant => $delay,)* }
            }
        }
    };
}

const SOON: Option<Duration> = Some(Duration::from_secs(30));
const LATER: Option<Duration> = Some(Duration::from_secs(120));
const NEVER: Option<Duration> = None;

error_codes! {
    /// The provider could not be reached: refused, reset before the first byte, unknown host.
    ProviderUnavailable = "provider_unavailable", SOON;
    /// The provider is there but cannot serve the model now.
    ModelUnavailable = "model_unavailable", SOON;
    /// The provider answered with an error of its own (5xx), or broke off in the middle.
    ProviderError = "provider_error", SOON;
    /// Something else that the attempt needs failed (a URL to fetch, a sidecar).
    DependencyError = "dependency_error", SOON;
    /// No progress for `stall_timeout`, over `job_timeout`, or a call over `request_timeout`.
    Timeout = "timeout", SOON;
    /// A checkpoint or a result could not be written.
    StorageError = "storage_error", SOON;
    /// The worker died or fell silent while it held the job.
    StaleWorker = "stale_worker", SOON;
    /// The provider's answer is not of the promised form.
    BadResponse = "bad_response", LATER;
    /// The transcript holds what nobody said.
    TranscriptHallucination = "transcript_hallucination", LATER;
    /// The transcript is far too short for the speech.
    TranscriptIncomplete = "transcript_incomplete", LATER;
    /// A defect of Overshot.
    InternalError = "internal_error", LATER;
    /// None of the others, or one that only a newer version knows.
    Unknown = "unknown", LATER;
    /// The provider refuses the input (4xx).
    BadInput = "bad_input", NEVER;
    /// The audio cannot be decoded.
    BadAudio = "bad_audio", NEVER;
    /// The prompt does not fit the model.
    ContextLength = "context_length", NEVER;
    /// No live worker knows the task.
    UnsupportedTask = "unsupported_task", NEVER;
    /// The provider refuses the credentials (401, 403).
    ProviderAuth = "provider_auth", NEVER;
    /// Cancelled by a caller.
    Cancelled = "cancelled", NEVER;
    /// Waited longer than its queue deadline.
    QueueTimeout = "queue_timeout", NEVER;
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A code that a newer version wrote is [`ErrorCode::Unknown`]: in a rolling deploy a job must stay readable.
impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(name.parse().unwrap_or(Self::Unknown))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no error code is named `{0}`")]
pub struct UnknownCode(String);

impl FromStr for ErrorCode {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or_else(|| UnknownCode(text.to_owned()))
    }
}
