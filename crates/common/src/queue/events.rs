//! Following a job: what it put out, and what becomes of it.
//!
//! Pub/sub only wakes: it loses whatever comes while nobody listens. The chunk stream and the record are the truth, so
//! that a reader subscribes, replays, then follows, and reads again after every gap.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::FromRedisValue as _;
use redis::aio::PubSubSink;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc};

use super::error::Error;
use super::{Queue, keys};
use crate::ids::{InvalidId, JobId, WorkerId};
use crate::job::Job;

/// Messages that one subscriber may be behind before it has to read again.
const BACKLOG: usize = 128;
/// Pause before a lost pub/sub connection is made anew.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// Chunks that one look brings.
const PAGE: usize = 128;

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
            serde_json::value::to_raw_value(&Job { result: None, input: None, ..job.clone() })
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
    /// Reads a job's kept chunks after a place, oldest first, at most a page; full pages may be followed by more.
    pub async fn chunks(&self, id: &JobId, after: Option<ChunkId>) -> Result<Vec<Chunk>, Error> {
        let mut command = redis::cmd("XRANGE");
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        command.arg(keys::chunks(id)).arg(from).arg("+").arg("COUNT").arg(PAGE);
        let entries = Vec::<(String, Vec<(String, String)>)>::from_redis_value(self.bulk_one(command).await?)?;
        entries
            .into_iter()
            .map(|(place, fields)| {
                let (kind, data) = fields.into_iter().next().ok_or_else(|| Error::corrupt("a chunk without data"))?;
                Ok(Chunk { id: place.parse().map_err(Error::corrupt)?, starts_attempt: kind == "a", data })
            })
            .collect()
    }
}

/// The process' one pub/sub connection, shared by all who follow something. Dropped with its last handle.
#[derive(Debug, Clone)]
pub struct Events {
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    channels: Mutex<HashMap<String, broadcast::Sender<Option<Arc<str>>>>>,
    wishes: mpsc::UnboundedSender<Wish>,
}

enum Wish {
    Subscribe(String, tokio::sync::oneshot::Sender<()>),
    Unsubscribe(String),
}

/// What comes over one channel from the moment on at which the subscription was made.
#[derive(Debug)]
pub struct Subscription {
    channel: String,
    hub: Weak<Hub>,
    receiver: broadcast::Receiver<Option<Arc<str>>>,
}

impl Subscription {
    /// The next message, or `None` for a gap: something may have been missed, read again.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        match self.receiver.recv().await {
            Ok(message) => message,
            Err(broadcast::error::RecvError::Lagged(_)) => None,
            // The hub is gone with its process; nothing will come, and who polls goes on polling.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else { return };
        let mut channels = hub.channels.lock().expect("no holder of this lock can panic");
        // This receiver still counts.
        if channels.get(&self.channel).is_some_and(|sender| sender.receiver_count() <= 1) {
            channels.remove(&self.channel);
            let _ = hub.wishes.send(Wish::Unsubscribe(self.channel.clone()));
        }
    }
}

impl Events {
    /// Starts the connection's task on the current runtime.
    pub fn start(queue: &Queue) -> Self {
        let (wishes, inbox) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub { channels: Mutex::default(), wishes });
        tokio::spawn(serve(queue.inner.client.clone(), Arc::downgrade(&hub), inbox));
        Self { hub }
    }

    /// Follows a job's events. On return the subscription stands, unless Redis is away: then a gap tells when it does.
    pub async fn follow(&self, id: &JobId) -> Subscription {
        self.subscribe(keys::events_channel(id)).await
    }

    /// Follows what callers want of a worker: the ids of jobs to cancel, as `cancel <job id>`.
    pub async fn wishes_for(&self, worker: &WorkerId) -> Subscription {
        self.subscribe(keys::worker_channel(worker)).await
    }

    async fn subscribe(&self, channel: String) -> Subscription {
        let (done, standing) = tokio::sync::oneshot::channel();
        let receiver = {
            let mut channels = self.hub.channels.lock().expect("no holder of this lock can panic");
            let sender = channels.entry(channel.clone()).or_insert_with(|| broadcast::Sender::new(BACKLOG));
            let _ = self.hub.wishes.send(Wish::Subscribe(channel.clone(), done));
            sender.subscribe()
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), standing).await;
        Subscription { channel, hub: Arc::downgrade(&self.hub), receiver }
    }
}

/// Keeps a connection as long as somebody holds the hub.
async fn serve(client: redis::Client, hub: Weak<Hub>, mut inbox: mpsc::UnboundedReceiver<Wish>) {
    while hub.strong_count() > 0 {
        let connected = tokio::time::timeout(Duration::from_secs(2), client.get_async_pubsub()).await;
        if let Ok(Ok(pubsub)) = connected {
            if session(pubsub, &hub, &mut inbox).await.is_none() {
                return;
            }
            tracing::warn!("pub/sub connection lost");
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// One connection's life; `None` when the hub is gone.
async fn session(pubsub: redis::aio::PubSub, hub: &Weak<Hub>, inbox: &mut mpsc::UnboundedReceiver<Wish>) -> Option<()> {
    let (mut sink, mut messages) = pubsub.split();
    let channels: Vec<String> = {
        let hub = hub.upgrade()?;
        let channels = hub.channels.lock().expect("no holder of this lock can panic");
        channels.keys().cloned().collect()
    };
    for batch in channels.chunks(500) {
        if sink.subscribe(batch).await.is_err() {
            return Some(());
        }
    }
    tell_gap(hub)?;
    // A connection that is silent for long may be dead; asking keeps it honest.
    let mut check = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return Some(()) };
                let hub = hub.upgrade()?;
                let channels = hub.channels.lock().expect("no holder of this lock can panic");
                if let Some(sender) = channels.get(message.get_channel_name()) {
                    let text = String::from_utf8_lossy(message.get_payload_bytes());
                    let _ = sender.send(Some(Arc::from(text.as_ref())));
                }
            }
            wish = inbox.recv() => {
                if grant(wish?, &mut sink, hub).await.is_err() {
                    return Some(());
                }
            }
            _ = check.tick() => {
                let alive = tokio::time::timeout(Duration::from_secs(2), sink.ping::<redis::Value>()).await;
                if !matches!(alive, Ok(Ok(_))) {
                    return Some(());
                }
            }
        }
    }
}

async fn grant(wish: Wish, sink: &mut PubSubSink, hub: &Weak<Hub>) -> Result<(), redis::RedisError> {
    match wish {
        Wish::Subscribe(channel, done) => {
            sink.subscribe(&channel).await?;
            let _ = done.send(());
        }
        Wish::Unsubscribe(channel) => {
            // Somebody may have come meanwhile.
            let wanted = hub.upgrade().is_some_and(|hub| {
                hub.channels.lock().expect("no holder of this lock can panic").contains_key(&channel)
            });
            if !wanted {
                sink.unsubscribe(&channel).await?;
            }
        }
    }
    Ok(())
}

/// Tells all followers that something may have been missed.
fn tell_gap(hub: &Weak<Hub>) -> Option<()> {
    let hub = hub.upgrade()?;
    for sender in hub.channels.lock().expect("no holder of this lock can panic").values() {
        let _ = sender.send(None);
    }
    Some(())
}
