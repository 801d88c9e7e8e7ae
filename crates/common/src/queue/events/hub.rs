//! The pub/sub connections of a process, and who is told of what they bring. There is one; with a cluster one per shard
//! that somebody follows, on the node that has it: its scripts ask there whether anybody listens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::link::Link;
use super::super::{Queue, keys};
use super::{PLAIN, SHARDED, Verbs};
use crate::ids::{JobId, Shard, WorkerId};

mod line;

/// Messages that one subscriber may be behind before it has to read again.
const BACKLOG: usize = 128;

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
    verbs: &'static Verbs,
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

    /// Follows what callers want of a worker: the ids of jobs to cancel, as `cancel <job id>`, or that it [drain](super::super::DRAIN).
    pub async fn wishes_for(&self, worker: &WorkerId) -> Subscription {
        // No job's: whichever node it is published on passes it on to all.
        self.subscribe(None, keys::worker_channel(worker)).await
    }

    /// Follows which providers change: their names.
    pub async fn provider_news(&self) -> Subscription {
        self.subscribe(None, keys::PROVIDERS_CHANNEL.to_owned()).await
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
        let (home, verbs) = match shard {
            Some(shard) => (keys::base(shard), &SHARDED),
            None => (keys::POOLS.to_owned(), &PLAIN),
        };
        let lane = Arc::new(Lane { home, verbs, channels: Mutex::default(), wishes });
        tokio::spawn(line::serve(self.link.clone(), Arc::downgrade(&lane), inbox));
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
