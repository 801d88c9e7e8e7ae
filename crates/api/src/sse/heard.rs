//! What a reader hears over pub/sub, read as far as relaying it needs.

use std::borrow::Cow;

use jiff::Timestamp;
use overshot_common::job::{Job, Phase, Status};
use overshot_common::queue::EventKind;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// An event whose data goes on as it came.
#[derive(Debug, Deserialize)]
pub(super) struct Heard<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    pub(super) event: EventKind,
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

impl Heard<'_> {
    /// What a job is now; `None` where the data is no job.
    pub(super) fn status(&self) -> Option<StatusKey> {
        #[derive(Deserialize)]
        struct Told {
            status: Status,
            phase: Option<Phase>,
            attempts: u32,
            cancel_requested_at: Option<IgnoredAny>,
            updated_at: Timestamp,
        }
        let told: Told = serde_json::from_str(self.data.get()).ok()?;
        Some(StatusKey {
            status: told.status,
            phase: told.phase,
            attempts: told.attempts,
            cancelling: told.cancel_requested_at.is_some(),
            updated_at: told.updated_at,
        })
    }
}

/// What makes a change of status worth an event.
#[derive(Debug, Clone)]
pub(super) struct StatusKey {
    status: Status,
    pub(super) phase: Option<Phase>,
    attempts: u32,
    cancelling: bool,
    updated_at: Timestamp,
}

impl StatusKey {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            status: job.status,
            phase: job.phase,
            attempts: job.attempts,
            cancelling: job.cancel_requested_at.is_some(),
            updated_at: job.updated_at,
        }
    }

    /// Whether a reader has to be told.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        let of = |key: &Self| (key.status, key.phase, key.attempts, key.cancelling);
        of(self) != of(other)
    }

    /// Whether it says more than what a reader was told last. Of two changes in the same millisecond nobody knows.
    pub(super) fn is_newer_than(&self, told: Option<&Self>) -> bool {
        told.is_none_or(|told| self.updated_at > told.updated_at)
    }
}
