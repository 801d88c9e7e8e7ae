//! The pub/sub connections of a process, and who is told of what they bring. There is one; with a cluster one per shard
//! that somebody follows, on the node that has it: its scripts ask there whether anybody listens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use redis::RedisError;
use redis::aio::PubSubSink;
use tokio::sync::{mpsc, oneshot};

use super::super::link::{Link, Node};
use super::super::{Queue, keys};
use crate::ids::{JobId, Shard, WorkerId};

/// Messages that one subscriber may be behind before it has to read again.
const BACKLOG: usize = 128;
/// Pause before a lost pub/sub connection is made anew.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// Channels of one command.
const BATCH: usize = 500;

/// The process' pub/sub connections, shared by all who follow something. Dropped with its last handle.
#[derive(Debug, Clone)]
pub struct Events {
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    link: Link,
    lanes: Mutex<HashMap<Option<Shard>, Arc<Lane>>>,
    /// Numbers the subscribers.
    last: AtomicU64,
}

/// One connection and what is followed over it.
#[derive(Debug)]
struct Lane {
    /// A key of the node to connect to.
    home: String,
    channels: Mutex<Channels>,
    wishes: mpsc::UnboundedSender<Wish>,
}

type Channels = HashMap<Arc<str>, Vec<Subscriber>>;

#[derive(Debug)]
struct Subscriber {
    number: u64,
    messages: mpsc::Sender<Option<Arc<str>>>,
    missed: Arc<AtomicBool>,
}

enum Wish {
    Subscribe(Arc<str>, oneshot::Sender<()>),
    Unsubscribe(Arc<str>),
}

/// What comes over one channel from the moment on at which the subscription was made.
#[derive(Debug)]
pub struct Subscription {
    channel: Arc<str>,
    number: u64,
    lane: Weak<Lane>,
    messages: mpsc::Receiver<Option<Arc<str>>>,
    /// Whether a message found no place among those that wait.
    missed: Arc<AtomicBool>,
}

impl Subscription {
    /// The next message, or `None` for a gap: something may have been missed, read again.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        if self.missed.swap(false, Ordering::AcqRel) {
            // What waits is older than what was missed, and is read again with it.
            while self.messages.try_recv().is_ok() {}
            return None;
        }
        match self.messages.recv().await {
            Some(message) => message,
            // The hub is gone with its process; nothing will come, and who polls goes on polling.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(lane) = self.lane.upgrade() else { return };
        let mut channels = lane.lock();
        let Some(subscribers) = channels.get_mut(&self.channel) else { return };
        subscribers.retain(|subscriber| subscriber.number != self.number);
        if subscribers.is_empty() {
            channels.remove(&self.channel);
            let _ = lane.wishes.send(Wish::Unsubscribe(self.channel.clone()));
        }
    }
}

impl Events {
    /// Prepares to follow; each connection has its task on the runtime of who first follows something over it.
    pub fn new(queue: &Queue) -> Self {
        let link = queue.inner.link.clone();
        Self { hub: Arc::new(Hub { link, lanes: Mutex::default(), last: AtomicU64::new(0) }) }
    }

    /// Follows a job's events. On return the subscription stands, unless Redis is away: then a gap tells when it does.
    pub async fn follow(&self, id: &JobId) -> Subscription {
        let shard = if self.hub.link.is_cluster() { Some(&id.shard) } else { None };
        self.subscribe(shard, keys::events_channel(id)).await
    }

    /// Follows what callers want of a worker: the ids of jobs to cancel, as `cancel <job id>`.
    pub async fn wishes_for(&self, worker: &WorkerId) -> Subscription {
        // No job's: whichever node it is published on passes it on to all.
        self.subscribe(None, keys::worker_channel(worker)).await
    }

    async fn subscribe(&self, shard: Option<&Shard>, channel: String) -> Subscription {
        let lane = self.hub.lane(shard);
        let channel = Arc::<str>::from(channel);
        let number = self.hub.last.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(BACKLOG);
        let missed = Arc::<AtomicBool>::default();
        let (done, standing) = oneshot::channel();
        {
            let subscriber = Subscriber { number, messages: sender, missed: missed.clone() };
            let mut channels = lane.lock();
            channels.entry(channel.clone()).or_default().push(subscriber);
            let _ = lane.wishes.send(Wish::Subscribe(channel.clone(), done));
        }
        let subscription = Subscription { channel, number, lane: Arc::downgrade(&lane), messages, missed };
        let _ = tokio::time::timeout(Duration::from_secs(1), standing).await;
        subscription
    }
}

impl Hub {
    /// The connection for a shard's channels, or for all.
    fn lane(&self, shard: Option<&Shard>) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().expect("no holder of this lock can panic");
        if let Some(lane) = lanes.get(&shard.cloned()) {
            return lane.clone();
        }
        let (wishes, inbox) = mpsc::unbounded_channel();
        let home = shard.map_or_else(|| keys::POOLS.to_owned(), keys::base);
        let lane = Arc::new(Lane { home, channels: Mutex::default(), wishes });
        tokio::spawn(serve(self.link.clone(), Arc::downgrade(&lane), inbox));
        lanes.insert(shard.cloned(), lane.clone());
        lane
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().expect("no holder of this lock can panic")
    }

    /// Tells all followers that something may have been missed.
    fn tell_gap(&self) {
        self.lock().values().flatten().for_each(|subscriber| subscriber.tell(None));
    }
}

impl Subscriber {
    fn tell(&self, message: Option<Arc<str>>) {
        if self.messages.try_send(message).is_err() {
            self.missed.store(true, Ordering::Release);
        }
    }
}

/// Keeps a connection as long as somebody holds the lane.
async fn serve(link: Link, lane: Weak<Lane>, mut inbox: mpsc::UnboundedReceiver<Wish>) {
    while let Some(home) = lane.upgrade().map(|lane| lane.home.clone()) {
        if let Ok(node) = link.home(&home).await {
            match node.pubsub().await {
                Ok(pubsub) => {
                    let line = Line { link: &link, home: &home, node: &node, lane: &lane };
                    if line.session(pubsub, &mut inbox).await.is_none() {
                        return;
                    }
                    tracing::warn!("pub/sub connection lost");
                }
                Err(error) => link.doubt(&node, &error).await,
            }
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// One connection's life.
struct Line<'a> {
    link: &'a Link,
    home: &'a str,
    node: &'a Arc<Node>,
    lane: &'a Weak<Lane>,
}

impl Line<'_> {
    /// Lasts until the connection is lost; `None` when the lane is gone.
    async fn session(&self, pubsub: redis::aio::PubSub, inbox: &mut mpsc::UnboundedReceiver<Wish>) -> Option<()> {
        let (mut sink, messages) = pubsub.split();
        let channels: Vec<Arc<str>> = self.lane.upgrade()?.lock().keys().cloned().collect();
        for batch in channels.chunks(BATCH) {
            if sink.subscribe(batch.iter().map(|channel| &**channel).collect::<Vec<_>>()).await.is_err() {
                return Some(());
            }
        }
        self.lane.upgrade()?.tell_gap();
        // Beside each other: who waits for a new subscription to stand must not hold up the messages of the others.
        tokio::select! {
            ended = hand_out(messages, self.lane) => ended,
            ended = self.keep(sink, inbox) => ended,
        }
    }

    /// Subscribes and unsubscribes as it is asked to, and sees to it that the connection is alive and at the right node.
    async fn keep(&self, mut sink: PubSubSink, inbox: &mut mpsc::UnboundedReceiver<Wish>) -> Option<()> {
        // A connection that is silent for long may be dead; asking keeps it honest.
        let mut check = tokio::time::interval(Duration::from_secs(5));
        let mut wishes = Vec::new();
        loop {
            tokio::select! {
                count = inbox.recv_many(&mut wishes, BATCH) => {
                    if count == 0 {
                        return None;
                    }
                    // A subscription is of use only where the scripts look for it.
                    if self.link.has_left(self.home, self.node) || grant(&mut wishes, &mut sink, self.lane).await.is_err() {
                        return Some(());
                    }
                }
                _ = check.tick() => {
                    let alive = tokio::time::timeout(Duration::from_secs(2), sink.ping::<redis::Value>()).await;
                    if !matches!(alive, Ok(Ok(_))) || self.link.has_left(self.home, self.node) {
                        return Some(());
                    }
                }
            }
        }
    }
}

/// Gives each message to those who follow its channel.
async fn hand_out(mut messages: impl Stream<Item = redis::Msg> + Unpin, lane: &Weak<Lane>) -> Option<()> {
    while let Some(message) = messages.next().await {
        let lane = lane.upgrade()?;
        let channels = lane.lock();
        if let Some(subscribers) = channels.get(message.get_channel_name()) {
            let text = Arc::<str>::from(String::from_utf8_lossy(message.get_payload_bytes()));
            subscribers.iter().for_each(|subscriber| subscriber.tell(Some(text.clone())));
        }
    }
    Some(())
}

/// Grants wishes of many at once.
async fn grant(wishes: &mut Vec<Wish>, sink: &mut PubSubSink, lane: &Weak<Lane>) -> Result<(), RedisError> {
    let (mut wanted, mut unwanted, mut standing) = (Vec::new(), Vec::new(), Vec::new());
    for wish in wishes.drain(..) {
        match wish {
            Wish::Subscribe(channel, done) => {
                wanted.push(channel);
                standing.push(done);
            }
            Wish::Unsubscribe(channel) => unwanted.push(channel),
        }
    }
    // Somebody may have come, or come back, meanwhile.
    if let Some(lane) = lane.upgrade() {
        let channels = lane.lock();
        unwanted.retain(|channel| !channels.contains_key(channel));
    }
    let names = |channels: &[Arc<str>]| channels.iter().map(|channel| channel.to_string()).collect::<Vec<_>>();
    if !wanted.is_empty() {
        sink.subscribe(names(&wanted)).await?;
        for done in standing {
            let _ = done.send(());
        }
    }
    if !unwanted.is_empty() {
        sink.unsubscribe(names(&unwanted)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Subscriber, Subscription) {
        let (sender, messages) = mpsc::channel(BACKLOG);
        let missed = Arc::<AtomicBool>::default();
        let subscriber = Subscriber { number: 0, messages: sender, missed: missed.clone() };
        (subscriber, Subscription { channel: "c".into(), number: 0, lane: Weak::new(), messages, missed })
    }

    async fn next(subscription: &mut Subscription) -> Option<String> {
        subscription.next().await.map(|message| message.to_string())
    }

    #[tokio::test]
    async fn a_subscriber_that_keeps_up_gets_every_message_in_order() {
        let (subscriber, mut subscription) = pair();
        (0..BACKLOG).for_each(|number| subscriber.tell(Some(number.to_string().into())));
        for number in 0..BACKLOG {
            assert_eq!(next(&mut subscription).await, Some(number.to_string()));
        }
    }

    #[tokio::test]
    async fn a_subscriber_too_far_behind_is_told_of_a_gap_and_then_only_of_what_is_newer() {
        let (subscriber, mut subscription) = pair();
        (0..=BACKLOG).for_each(|number| subscriber.tell(Some(number.to_string().into())));
        assert_eq!(next(&mut subscription).await, None);
        subscriber.tell(Some("newer".into()));
        assert_eq!(next(&mut subscription).await, Some("newer".to_owned()));
    }

    #[tokio::test]
    async fn a_lost_connection_is_a_gap() {
        let (subscriber, mut subscription) = pair();
        subscriber.tell(None);
        assert_eq!(next(&mut subscription).await, None);
    }
}
