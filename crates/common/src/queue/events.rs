//! Following a job: what it put out, and what becomes of it.
//!
//! Pub/sub only wakes: it loses whatever comes while nobody listens. The chunk stream and the record are the truth, so
//! that a reader subscribes, replays, then follows, and reads again after every gap.

use std::fmt;
use std::str::FromStr;

use redis::FromRedisValue as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::Error;
use super::{Queue, keys};
use crate::ids::{InvalidId, JobId};
use crate::job::Job;

mod hub;

pub use hub::{Events, Subscription};

/// The commands of pub/sub.
#[derive(Debug)]
pub(super) struct Verbs {
    subscribe: &'static str,
    unsubscribe: &'static str,
    pub(super) publish: &'static str,
    pub(super) numsub: &'static str,
}

/// Where there is one server, or a message is for whoever listens anywhere.
pub(super) static PLAIN: Verbs =
    Verbs { subscribe: "SUBSCRIBE", unsubscribe: "UNSUBSCRIBE", publish: "PUBLISH", numsub: "NUMSUB" };
/// In a cluster: a message goes only to the nodes of its channel's slot, not to all.
pub(super) static SHARDED: Verbs =
    Verbs { subscribe: "SSUBSCRIBE", unsubscribe: "SUNSUBSCRIBE", publish: "SPUBLISH", numsub: "SHARDNUMSUB" };

/// The place of a chunk among all of its job: grant number and number within the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkId {
    /// Grows with every attempt.
    pub grant: u64,
    /// Grows within an attempt, from 1; 0 is the mark of a new attempt.
    pub seq: u64,
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.grant, self.seq)
    }
}

impl FromStr for ChunkId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let (grant, seq) = text.split_once('-')?;
            Some(Self { grant: grant.parse().ok()?, seq: seq.parse().ok()? })
        };
        parse().ok_or(InvalidId("an event id is <number>-<number>"))
    }
}

/// A kept piece of output.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Its place.
    pub id: ChunkId,
    /// Whether it is the mark of a new attempt.
    pub starts_attempt: bool,
    /// A JSON object: `{"seq","attempt","text","delta"}`, or `{"attempt"}` for the mark.
    pub data: String,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The job changed.
    Status,
    /// A piece of output.
    Chunk,
    /// Output starts anew.
    Attempt,
    /// Early chunks are gone.
    Truncated,
    /// The job ended.
    Done,
}

/// An event of a job, as it goes over pub/sub: `{"id","event","data"}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Its place; empty for events that have none.
    pub id: String,
    /// What it is about.
    pub event: EventKind,
    /// A JSON object.
    pub data: Box<RawValue>,
}

impl Event {
    /// The event that tells what a job is now: `done` with all of it, or `status` without its result.
    pub fn of_job(job: &Job) -> Self {
        let done = job.status.is_terminal();
        let data = if done {
            serde_json::value::to_raw_value(job)
        } else {
            serde_json::value::to_raw_value(&Job {
                result: None,
                result_url: None,
                usage: None,
                input: None,
                ..job.clone()
            })
        };
        Self {
            id: String::new(),
            event: if done { EventKind::Done } else { EventKind::Status },
            data: data.expect("a job always serializes"),
        }
    }

    /// The event as pub/sub carries it.
    pub fn payload(&self) -> String {
        serde_json::to_string(self).expect("an event always serializes")
    }
}

impl Queue {
    /// Chunks that one reading brings at most.
    pub const CHUNK_PAGE: usize = 128;

    /// Reads a job's kept chunks after a place, oldest first, at most [`Self::CHUNK_PAGE`]; fewer are all there were.
    pub async fn chunks(&self, id: &JobId, after: Option<ChunkId>) -> Result<Vec<Chunk>, Error> {
        let mut pipe = redis::pipe();
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        pipe.cmd("XRANGE").arg(keys::chunks(id)).arg(from).arg("+").arg("COUNT").arg(Self::CHUNK_PAGE);
        let reply = self.inner.link.bulk(&id.shard, &pipe).await?.pop().unwrap_or(redis::Value::Nil);
        let entries = Vec::<(String, Vec<(String, String)>)>::from_redis_value(reply)?;
        entries
            .into_iter()
            .map(|(place, fields)| {
                let (kind, data) = fields.into_iter().next().ok_or_else(|| Error::corrupt("a chunk without data"))?;
                Ok(Chunk { id: place.parse().map_err(Error::corrupt)?, starts_attempt: kind == "a", data })
            })
            .collect()
    }
}
