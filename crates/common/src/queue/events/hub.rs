//! The one pub/sub connection of a process, and who is told of what it brings.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use redis::RedisError;
use redis::aio::PubSubSink;
use tokio::sync::{mpsc, oneshot};

use super::super::{Queue, keys};
use crate::ids::{JobId, WorkerId};

/// Messages that one subscriber may be behind before it has to read again.
const BACKLOG: usize = 128;
/// Pause before a lost pub/sub connection is made anew.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// Channels of one command.
const BATCH: usize = 500;

/// The process' one pub/sub connection, shared by all who follow something. Dropped with its last handle.
#[derive(Debug, Clone)]
pub struct Events {
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    channels: Mutex<Channels>,
    wishes: mpsc::UnboundedSender<Wish>,
    /// Numbers the subscribers.
    last: AtomicU64,
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
    hub: Weak<Hub>,
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
        let Some(hub) = self.hub.upgrade() else { return };
        let mut channels = hub.lock();
        let Some(subscribers) = channels.get_mut(&self.channel) else { return };
        subscribers.retain(|subscriber| subscriber.number != self.number);
        if subscribers.is_empty() {
            channels.remove(&self.channel);
            let _ = hub.wishes.send(Wish::Unsubscribe(self.channel.clone()));
        }
    }
}

impl Events {
    /// Starts the connection's task on the current runtime.
    pub fn start(queue: &Queue) -> Self {
        let (wishes, inbox) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub { channels: Mutex::default(), wishes, last: AtomicU64::new(0) });
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
        let channel = Arc::<str>::from(channel);
        let number = self.hub.last.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(BACKLOG);
        let missed = Arc::<AtomicBool>::default();
        let (done, standing) = oneshot::channel();
        {
            let subscriber = Subscriber { number, messages: sender, missed: missed.clone() };
            let mut channels = self.hub.lock();
            channels.entry(channel.clone()).or_default().push(subscriber);
            let _ = self.hub.wishes.send(Wish::Subscribe(channel.clone(), done));
        }
        let subscription = Subscription { channel, number, hub: Arc::downgrade(&self.hub), messages, missed };
        let _ = tokio::time::timeout(Duration::from_secs(1), standing).await;
        subscription
    }
}

impl Hub {
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
    let (mut sink, messages) = pubsub.split();
    let channels: Vec<Arc<str>> = hub.upgrade()?.lock().keys().cloned().collect();
    for batch in channels.chunks(BATCH) {
        if sink.subscribe(batch.iter().map(|channel| &**channel).collect::<Vec<_>>()).await.is_err() {
            return Some(());
        }
    }
    hub.upgrade()?.tell_gap();
    // Beside each other: who waits for a new subscription to stand must not hold up the messages of the others.
    tokio::select! {
        ended = hand_out(messages, hub) => ended,
        ended = keep(sink, hub, inbox) => ended,
    }
}

/// Gives each message to those who follow its channel.
async fn hand_out(mut messages: impl Stream<Item = redis::Msg> + Unpin, hub: &Weak<Hub>) -> Option<()> {
    while let Some(message) = messages.next().await {
        let hub = hub.upgrade()?;
        let channels = hub.lock();
        if let Some(subscribers) = channels.get(message.get_channel_name()) {
            let text = Arc::<str>::from(String::from_utf8_lossy(message.get_payload_bytes()));
            subscribers.iter().for_each(|subscriber| subscriber.tell(Some(text.clone())));
        }
    }
    Some(())
}

/// Subscribes and unsubscribes as it is asked to, and sees to it that the connection is alive.
async fn keep(mut sink: PubSubSink, hub: &Weak<Hub>, inbox: &mut mpsc::UnboundedReceiver<Wish>) -> Option<()> {
    // A connection that is silent for long may be dead; asking keeps it honest.
    let mut check = tokio::time::interval(Duration::from_secs(5));
    let mut wishes = Vec::new();
    loop {
        tokio::select! {
            count = inbox.recv_many(&mut wishes, BATCH) => {
                if count == 0 {
                    return None;
                }
                if grant(&mut wishes, &mut sink, hub).await.is_err() {
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

/// Grants wishes of many at once.
async fn grant(wishes: &mut Vec<Wish>, sink: &mut PubSubSink, hub: &Weak<Hub>) -> Result<(), RedisError> {
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
    if let Some(hub) = hub.upgrade() {
        let channels = hub.lock();
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
        (subscriber, Subscription { channel: "c".into(), number: 0, hub: Weak::new(), messages, missed })
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
