//! The life of a pub/sub connection: made anew as long as somebody holds its lane.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc;

use super::super::Verbs;
use super::{Lane, Wish};
use crate::queue::link::{Link, Node};

/// Pause before a lost connection is made anew.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// Channels of one round trip.
const BATCH: usize = 500;
/// How often the server is asked for a sign of life: a connection that is silent for long may be dead.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Keeps a connection as long as somebody holds the lane.
pub(super) async fn serve(link: Link, lane: Weak<Lane>, mut inbox: mpsc::UnboundedReceiver<Wish>) {
    while let Some((home, verbs)) = lane.upgrade().map(|lane| (lane.home.clone(), lane.verbs)) {
        if let Ok(node) = link.home(&home).await {
            match node.pubsub().await {
                Ok((connection, news)) => {
                    let leaving = AtomicI64::new(0);
                    let line = Line { link: &link, home: &home, node: &node, lane: &lane, verbs, leaving };
                    match line.session(connection, news, &mut inbox).await {
                        Ended::Forgotten => return,
                        Ended::Lost(error) => {
                            if let Some(error) = error {
                                link.doubt(&node, &error).await;
                            }
                            tracing::warn!("pub/sub connection lost");
                        }
                    }
                }
                Err(error) => link.doubt(&node, &error).await,
            }
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Why a session is over.
enum Ended {
    /// Nobody holds the lane any more.
    Forgotten,
    /// The connection failed, or its node has the channels no longer.
    Lost(Option<RedisError>),
}

struct Line<'a> {
    link: &'a Link,
    home: &'a str,
    node: &'a Arc<Node>,
    lane: &'a Weak<Lane>,
    verbs: &'static Verbs,
    /// How many channels we left whose confirmation is to come: one without it is the server's own, for the slot moved away.
    leaving: AtomicI64,
}

impl Line<'_> {
    async fn session(
        &self,
        mut connection: MultiplexedConnection,
        news: mpsc::UnboundedReceiver<PushInfo>,
        inbox: &mut mpsc::UnboundedReceiver<Wish>,
    ) -> Ended {
        let Some(lane) = self.lane.upgrade() else { return Ended::Forgotten };
        let channels: Vec<Arc<str>> = lane.lock().keys().cloned().collect();
        drop(lane);
        // Beside each other: who waits for a new subscription to stand must not hold up the messages of the others.
        let ask = async {
            for batch in channels.chunks(BATCH) {
                if let Err(error) = each(&mut connection, self.verbs.subscribe, batch).await {
                    return Ended::Lost(Some(error));
                }
            }
            match self.lane.upgrade() {
                Some(lane) => lane.tell_gap(),
                None => return Ended::Forgotten,
            }
            self.keep(connection, inbox).await
        };
        tokio::select! {
            ended = self.hand_out(news) => ended,
            ended = ask => ended,
        }
    }

    /// Gives each message to those who follow its channel.
    async fn hand_out(&self, mut news: mpsc::UnboundedReceiver<PushInfo>) -> Ended {
        while let Some(PushInfo { kind, data }) = news.recv().await {
            match (kind, data.as_slice()) {
                (PushKind::Message | PushKind::SMessage, [channel, message]) => {
                    let (Some(channel), Some(message)) = (text(channel), text(message)) else { continue };
                    let Some(lane) = self.lane.upgrade() else { return Ended::Forgotten };
                    let channels = lane.lock();
                    if let Some(subscribers) = channels.get(&*channel) {
                        let message = Arc::<str>::from(message);
                        subscribers.iter().for_each(|subscriber| subscriber.tell(Some(message.clone())));
                    }
                }
                (PushKind::SUnsubscribe, _) if self.leaving.fetch_sub(1, Ordering::Relaxed) <= 0 => break,
                (PushKind::Disconnection, _) => break,
                _ => {}
            }
        }
        Ended::Lost(None)
    }

    /// Subscribes and unsubscribes as it is asked to, and sees to it that the connection is alive and at the right node.
    async fn keep(&self, mut connection: MultiplexedConnection, inbox: &mut mpsc::UnboundedReceiver<Wish>) -> Ended {
        let mut check = tokio::time::interval(CHECK_EVERY);
        let mut wishes = Vec::new();
        loop {
            let done = tokio::select! {
                count = inbox.recv_many(&mut wishes, BATCH) => {
                    if count == 0 {
                        return Ended::Forgotten;
                    }
                    self.grant(&mut wishes, &mut connection).await
                }
                _ = check.tick() => redis::cmd("PING").exec_async(&mut connection).await,
            };
            // A subscription is of use only where the scripts look for it.
            if done.is_err() || self.link.has_left(self.home, self.node) {
                return Ended::Lost(done.err());
            }
        }
    }

    /// Grants wishes of many at once.
    async fn grant(&self, wishes: &mut Vec<Wish>, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
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
        if let Some(lane) = self.lane.upgrade() {
            let channels = lane.lock();
            unwanted.retain(|channel| !channels.contains_key(channel));
        }
        each(connection, self.verbs.subscribe, &wanted).await?;
        for done in standing {
            let _ = done.send(());
        }
        self.leaving.fetch_add(i64::try_from(unwanted.len()).unwrap_or(i64::MAX), Ordering::Relaxed);
        each(connection, self.verbs.unsubscribe, &unwanted).await
    }
}

/// The same command for each channel, in one round trip: each is answered by one confirmation.
async fn each(connection: &mut MultiplexedConnection, verb: &str, channels: &[Arc<str>]) -> Result<(), RedisError> {
    if channels.is_empty() {
        return Ok(());
    }
    let mut pipe = redis::pipe();
    for channel in channels {
        pipe.cmd(verb).arg(&**channel).ignore();
    }
    pipe.exec_async(connection).await
}

fn text(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes)),
        _ => None,
    }
}
