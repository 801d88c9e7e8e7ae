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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(updated_at: &str, status: &str) -> Option<StatusKey> {
        let message = format!(
            r#"{{"id":"","event":"status","data":{{"status":"{status}","phase":null,"attempts":1,"updated_at":"{updated_at}"}}}}"#
        );
        serde_json::from_str::<Heard<'_>>(&message).unwrap().status()
    }

    #[test]
    fn only_a_later_change_is_newer_and_one_of_the_same_millisecond_is_in_doubt() {
        let first = told("2026-01-01T00:00:00.100Z", "running").unwrap();
        let later = told("2026-01-01T00:00:00.101Z", "retrying").unwrap();
        assert!(first.is_newer_than(None));
        assert!(later.is_newer_than(Some(&first)));
        assert!(!first.is_newer_than(Some(&later)));
        assert!(!first.is_newer_than(Some(&first)));
    }

    #[test]
    fn the_time_of_a_change_alone_is_no_news() {
        let first = told("2026-01-01T00:00:00.100Z", "running").unwrap();
        let renewed = told("2026-01-01T00:00:01.000Z", "running").unwrap();
        let ended = told("2026-01-01T00:00:01.000Z", "completed").unwrap();
        assert!(!first.differs_from(&renewed));
        assert!(first.differs_from(&ended));
    }

    #[test]
    fn data_that_is_no_job_is_left_to_the_record() {
        assert!(told("never", "running").is_none());
        assert!(told("2026-01-01T00:00:00Z", "flying").is_none());
    }
}
