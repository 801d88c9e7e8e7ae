//! The primary that Sentinels name, asked for anew whenever the last one failed.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use redis::{Client, ConnectionInfo, FromRedisValue as _, RedisError};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::error::Error;
use super::address::at;
use super::node::Node;

/// How long one Sentinel, or the primary that it names, may take to answer.
const PATIENCE: Duration = Duration::from_millis(700);

#[derive(Debug)]
pub(super) struct Sentinel {
    sentinels: Vec<ConnectionInfo>,
    /// How to connect to the primary, but for its place.
    like: ConnectionInfo,
    name: String,
    current: RwLock<Option<Arc<Node>>>,
    /// Held by the one caller that asks.
    asking: Mutex<()>,
}

impl Sentinel {
    pub(super) fn new(sentinels: Vec<ConnectionInfo>, like: ConnectionInfo, name: String) -> Self {
        Self { sentinels, like, name, current: RwLock::default(), asking: Mutex::new(()) }
    }

    /// The primary: the known one until it failed, else whom the first Sentinel to answer names, if it agrees.
    pub(super) async fn node(&self) -> Result<Arc<Node>, RedisError> {
        if let Some(node) = self.known() {
            return Ok(node);
        }
        let _only_one = self.asking.lock().await;
        if let Some(node) = self.known() {
            return Ok(node);
        }
        let mut last = None;
        for sentinel in &self.sentinels {
            match timeout(PATIENCE, self.ask(sentinel)).await {
                Ok(Ok(node)) => {
                    *self.current.write().expect("no holder of this lock can panic") = Some(node.clone());
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
        let mut current = self.current.write().expect("no holder of this lock can panic");
        if current.as_ref().is_some_and(|known| Arc::ptr_eq(known, node)) {
            *current = None;
            crate::metrics::redis_reconnect();
        }
    }

    pub(super) fn known(&self) -> Option<Arc<Node>> {
        self.current.read().expect("no holder of this lock can panic").clone()
    }

    async fn ask(&self, sentinel: &ConnectionInfo) -> Result<Arc<Node>, RedisError> {
        let mut connection = Client::open(sentinel.clone())?.get_multiplexed_async_connection().await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.name);
        let place: Option<(String, u16)> = question.query_async(&mut connection).await?;
        let other = |what: &str| RedisError::from(std::io::Error::other(what.to_owned()));
        let (host, port) = place.ok_or_else(|| other("the sentinels watch no primary of that name"))?;
        let refused = |error: Error| other(&error.to_string());
        let node = Node::new(at(&self.like, &host, port)).map_err(refused)?;
        // In the middle of a failover a Sentinel may still name the old one, or one that does not know of its office yet.
        let role = Vec::<redis::Value>::from_redis_value(node.send(&redis::cmd("ROLE")).await?)?;
        match role.into_iter().next().map(String::from_redis_value).transpose()?.as_deref() {
            Some("master") => Ok(node),
            _ => Err(other("the server that the sentinels name is no primary")),
        }
    }
}
