//! The job: its parts as users see them, and its state machine.
//!
//! Pure: no I/O, no clock. [`state`] is the table of moves; `queue/scripts/*.lua` enforces the same table.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::code::ErrorCode;
use crate::ids::{JobId, PoolName, WorkerId};
use crate::trace::TraceContext;

pub mod state;

/// Makes an enum of named values whose number in Redis is its place, from 1.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        // The document's generator does not see a name that comes out of this macro; a test holds it against the API.
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(rename_all = "lowercase"))]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Its number in a record, from 1: the place in [`Self::ALL`].
            pub fn number(self) -> u8 {
                self as u8 + 1
            }

            /// The value of that number.
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or(UnknownName)
            }
        }
    };
}

/// The text is none of the names allowed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown name")]
pub struct UnknownName;

named! {
    /// Where a job stands. See the diagram in `docs/ARCHITECTURE.md`.
    Status {
        /// In a stream, waiting for its first claim. Nobody has to live for it to stay there.
        Queued = "queued",
        /// Not due yet; the promoter of any process moves it.
        Scheduled = "scheduled",
        /// Waits for its concurrency key; the end of the holder moves it.
        Blocked = "blocked",
        /// A worker holds the lease. If that worker dies, the job stays here until the reaper revokes the grant.
        Running = "running",
        /// An attempt failed or its worker died; due at `run_at`, and so named until its next claim.
        Retrying = "retrying",
        /// The end: a result is there.
        Completed = "completed",
        /// The end: no attempt is left, or the error is final.
        Failed = "failed",
        /// The end: a caller asked for it.
        Cancelled = "cancelled",
        /// The end: it waited longer than its queue deadline.
        Expired = "expired",
    }
}

impl Status {
    /// Whether the job is over. A terminal status changes only by an explicit retry.
    pub fn is_terminal(self) -> bool {
        self >= Self::Completed
    }
}

named! {
    /// What a running job is at.
    Phase {
        /// Taken, not yet begun.
        Claimed = "claimed",
        /// The provider loads the model or wakes.
        Loading = "loading",
        /// The provider is at it.
        Working = "working",
        /// Output is coming.
        Streaming = "streaming",
    }
}

named! {
    /// Which jobs of a pool go first. Strict, with a share for the lower ones.
    Priority {
        /// Before all others.
        High = "high",
        /// The default.
        Normal = "normal",
        /// When nothing else waits, and in its share.
        Low = "low",
    }
}

named! {
    /// What a submit does when its concurrency key is held.
    OnConflict {
        /// Refuses the new job.
        Reject = "reject",
        /// Lets the new job wait.
        Queue = "queue",
        /// Cancels the holder and all that wait, then runs the new job.
        Replace = "replace",
    }
}

/// Why a job failed, or why its last attempt did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobError {
    /// The stable code.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub code: ErrorCode,
    /// For people. Never holds prompts, completions or keys.
    pub message: String,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, where known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total: Option<u64>,
    /// What is counted: `chunks`, `batches`, `segments`.
    pub unit: String,
}

/// On whose behalf a job runs; for filters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The service that submitted the job.
    pub service: String,
    /// What the job belongs to there.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Which agent of the service, if it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// What a caller fixed at submit and no move changes; stored once, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The task's name as submitted, aliases resolved.
    #[serde(rename = "t")]
    pub task: String,
    /// The model asked for, resolved at submit; empty when the provider names none.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider that the caller pinned.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// On whose behalf. Stands beside the JSON, since listings are named by it.
    #[serde(skip)]
    pub owner: Option<Owner>,
    /// Whether chunks are kept and published.
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// In a pool that drains by model: the label of the model whose turn it waits for. See [`crate::queue::Queue::claim_of`].
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// Where the job's trace goes on, for one that was submitted with a trace.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Box<TraceContext>>,
}

impl JobSpec {
    /// A streamed job of that task, of which nothing else is said.
    pub fn new(task: &str) -> Self {
        Self { task: task.to_owned(), model: None, provider: None, owner: None, stream: true, turn: None, trace: None }
    }
}

/// Up to 16 string pairs of the caller's, echoed.
pub type Metadata = BTreeMap<String, String>;

/// A job as users see it: the object of the public contract.
///
/// Times are RFC 3339 in UTC with milliseconds, `null` where not yet.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Job {
    /// Names the job.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub id: JobId,
    /// Always `job`.
    pub object: &'static str,
    /// The task's name.
    pub task: String,
    /// The pool it runs in.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub pool: PoolName,
    /// The model asked for.
    pub model: Option<String>,
    /// The provider that the caller pinned; else the one that runs it, once the attempt has told something of itself (output,
    /// progress, or that it takes its time), or that ran the last attempt.
    pub provider: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// What a running job is at.
    pub phase: Option<Phase>,
    /// Its priority.
    pub priority: Priority,
    /// Runs begun, those whose worker died included; hand-back and snooze take theirs back.
    pub attempts: u32,
    /// How many failures end it.
    pub max_attempts: u32,
    /// Workers lost under it.
    pub crashes: u32,
    /// How far the attempt is.
    pub progress: Option<Progress>,
    /// The last error.
    pub error: Option<JobError>,
    /// The result, once there is one, unless it is large.
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub result: Option<Box<RawValue>>,
    /// Where a result stands that is larger than `max_inline_result`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
    /// The provider's token counts, from the result.
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub usage: Option<Box<RawValue>>,
    /// On whose behalf.
    pub owner: Option<Owner>,
    /// At most one active job per key and pool.
    pub concurrency_key: Option<String>,
    /// The caller's pairs.
    pub metadata: Metadata,
    /// Whether chunks are kept and published.
    pub stream: bool,
    /// Who holds it, or held it last.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub worker_id: Option<WorkerId>,
    /// When it was accepted.
    #[serde(serialize_with = "times::required")]
    pub created_at: Timestamp,
    /// When its record last changed.
    #[serde(serialize_with = "times::required")]
    pub updated_at: Timestamp,
    /// When its next attempt is or was due.
    #[serde(serialize_with = "times::optional")]
    pub run_at: Option<Timestamp>,
    /// When its last attempt began.
    #[serde(serialize_with = "times::optional")]
    pub started_at: Option<Timestamp>,
    /// When its worker last renewed the lease.
    #[serde(serialize_with = "times::optional")]
    pub heartbeat_at: Option<Timestamp>,
    /// When the first chunk of the last attempt came.
    #[serde(serialize_with = "times::optional")]
    pub first_chunk_at: Option<Timestamp>,
    /// When a caller asked to cancel it while it ran.
    #[serde(serialize_with = "times::optional")]
    pub cancel_requested_at: Option<Timestamp>,
    /// When it ended.
    #[serde(serialize_with = "times::optional")]
    pub completed_at: Option<Timestamp>,
    /// When its waiting ends as expired.
    #[serde(serialize_with = "times::optional")]
    pub expires_at: Option<Timestamp>,
    /// When the ended job is forgotten.
    #[serde(serialize_with = "times::optional")]
    pub result_expires_at: Option<Timestamp>,
    /// The input, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub input: Option<Arc<RawValue>>,
}

/// Times as the public contract writes them.
pub mod times {
    use std::cell::RefCell;

    use jiff::Timestamp;
    use jiff::fmt::temporal::DateTimePrinter;
    use serde::Serializer;

    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

    /// RFC 3339, UTC, exactly three digits of milliseconds.
    pub fn text(time: Timestamp) -> String {
        PRINTER.timestamp_to_string(&time)
    }

    thread_local! {
        /// The last time that was written: a new job has three that are the same.
        static LAST: RefCell<(Timestamp, String)> = const { RefCell::new((Timestamp::MIN, String::new())) };
    }

    /// Serializes a time that is always there.
    pub fn required<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        LAST.with_borrow_mut(|(last, written)| {
            if last != time {
                (*last, *written) = (*time, text(*time));
            }
            // In one piece: JSON looks through each piece that is written for what has to be escaped.
            serializer.serialize_str(written)
        })
    }

    /// Serializes a time or `null`.
    pub fn optional<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => required(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// The time of a number of milliseconds since 1970; 0 is "not yet".
    pub fn from_ms(ms: u64) -> Option<Timestamp> {
        let ms = i64::try_from(ms).ok().filter(|ms| *ms > 0)?;
        Timestamp::from_millisecond(ms).ok()
    }
}
