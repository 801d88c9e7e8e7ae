//! The primary that Sentinels name: asked for anew whenever the last one failed, and left as soon as they tell of another.

use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::{Client, ConnectionInfo, FromRedisValue as _, RedisError};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::error::Error;
use super::address::{at, place};
use super::node::Node;

/// How long one Sentinel, or the primary that it names, may take to answer.
const PATIENCE: Duration = Duration::from_millis(700);
/// Pause before the next Sentinel is listened to.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the one that is listened to is asked for a sign of life.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// What they publish when another server has become the primary: `<name> <old host> <old port> <new host> <new port>`.
const SWITCHED: &str = "+switch-master";

#[derive(Debug)]
pub(super) struct Sentinel {
    office: Arc<Office>,
    /// Held by the one caller that asks; whether somebody listens already.
    asking: Mutex<bool>,
}

/// Who is the primary.
#[derive(Debug)]
struct Office {
    sentinels: Vec<ConnectionInfo>,
    /// How to connect to the primary, but for its place.
    like: ConnectionInfo,
    name: String,
    current: RwLock<Option<Arc<Node>>>,
}

impl Sentinel {
    pub(super) fn new(sentinels: Vec<ConnectionInfo>, like: ConnectionInfo, name: String) -> Self {
        let office = Arc::new(Office { sentinels, like, name, current: RwLock::default() });
        Self { office, asking: Mutex::new(false) }
    }

    /// The primary: the known one until it failed, else whom the first Sentinel to answer names, if it agrees.
    pub(super) async fn node(&self) -> Result<Arc<Node>, RedisError> {
        if let Some(node) = self.known() {
            return Ok(node);
        }
        let mut listened_to = self.asking.lock().await;
        if let Some(node) = self.known() {
            return Ok(node);
        }
        if !std::mem::replace(&mut *listened_to, true) {
            tokio::spawn(listen(Arc::downgrade(&self.office)));
        }
        let mut last = None;
        for sentinel in &self.office.sentinels {
            match timeout(PATIENCE, Box::pin(self.office.ask(sentinel))).await {
                Ok(Ok(node)) => {
                    *self.office.current.write().expect("no holder of this lock can panic") = Some(node.clone());
                    return Ok(node);
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("no sentinel answers").into()))
    }

    /// Forgets a primary that failed.
    pub(super) fn doubt(&self, node: &Arc<Node>) {
        self.office.forget(|known| Arc::ptr_eq(known, node));
    }

    pub(super) fn known(&self) -> Option<Arc<Node>> {
        self.office.current.read().expect("no holder of this lock can panic").clone()
    }
}

impl Office {
    fn forget(&self, which: impl Fn(&Arc<Node>) -> bool) {
        let mut current = self.current.write().expect("no holder of this lock can panic");
        if current.as_ref().is_some_and(which) {
            *current = None;
            crate::metrics::redis_reconnect();
        }
    }

    async fn ask(&self, sentinel: &ConnectionInfo) -> Result<Arc<Node>, RedisError> {
        let (host, port) = self.named_by(sentinel).await?;
        let node = Node::new(at(&self.like, &host, port)).map_err(|error: Error| other(&error.to_string()))?;
        // In the middle of a failover a Sentinel may still name the old one, or one that does not know of its office yet.
        let role = Vec::<redis::Value>::from_redis_value(node.send(&redis::cmd("ROLE")).await?)?;
        match role.into_iter().next().map(String::from_redis_value).transpose()?.as_deref() {
            Some("master") => Ok(node),
            _ => Err(other("the server that the sentinels name is no primary")),
        }
    }

    async fn named_by(&self, sentinel: &ConnectionInfo) -> Result<(String, u16), RedisError> {
        let mut connection = Client::open(sentinel.clone())?.get_multiplexed_async_connection().await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.name);
        let place: Option<(String, u16)> = question.query_async(&mut connection).await?;
        place.ok_or_else(|| other("the sentinels watch no primary of that name"))
    }

    /// Leaves a primary that is no longer the one: it may live on, take writes and lose them all when it is told.
    fn leave_for(&self, named: &(String, u16)) {
        self.forget(|known| place(known.info()).as_ref() != Some(named));
    }
}

/// Listens to one Sentinel after the other, as long as the link lives.
async fn listen(office: Weak<Office>) {
    for turn in 0_usize.. {
        let Some(sentinel) = office.upgrade().map(|office| office.sentinels[turn % office.sentinels.len()].clone())
        else {
            return;
        };
        if let Err(error) = listen_to(&sentinel, &office).await {
            tracing::debug!(%error, "a sentinel is not listened to");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lasts until the connection is lost or the link is gone.
async fn listen_to(sentinel: &ConnectionInfo, office: &Weak<Office>) -> Result<(), RedisError> {
    let silent = |_| other("a sentinel is silent");
    let connected = timeout(PATIENCE, Client::open(sentinel.clone())?.get_async_pubsub()).await;
    let (mut sink, mut news) = connected.map_err(silent)??.split();
    sink.subscribe(SWITCHED).await?;
    // What was published before.
    if let Some(office) = office.upgrade() {
        let named = timeout(PATIENCE, office.named_by(sentinel)).await.map_err(silent)??;
        office.leave_for(&named);
    }
    loop {
        let message = match timeout(CHECK_EVERY, news.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(_) => {
                timeout(PATIENCE, sink.ping::<redis::Value>()).await.map_err(silent)??;
                if office.strong_count() == 0 {
                    return Ok(());
                }
                continue;
            }
        };
        let Some(office) = office.upgrade() else { return Ok(()) };
        let text = String::from_utf8_lossy(message.get_payload_bytes());
        if let [name, _, _, host, port] = text.split(' ').collect::<Vec<_>>()[..]
            && name == office.name
            && let Ok(port) = port.parse()
        {
            tracing::info!(host, port, "the sentinels name another primary");
            office.leave_for(&(host.to_owned(), port));
        }
    }
}

fn other(what: &str) -> RedisError {
    std::io::Error::other(what.to_owned()).into()
}
