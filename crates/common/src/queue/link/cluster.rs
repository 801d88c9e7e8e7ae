//! The nodes of a cluster and the slots that each serves, learnt from any of them and from redirections.
//!
//! A slot on the move (ASK) is waited for, never followed to its new node: our scripts touch keys that they cannot declare,
//! and of a half-moved slot each node has a part. The key that they do declare never exists, so that the old node refuses
//! them as soon as the move begins.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use redis::{ConnectionInfo, FromRedisValue as _, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::super::error::Error;
use super::address::{at, place};
use super::node::Node;

/// How long a node may take to tell the slots.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a process asks at most, however many of its calls fail.
const ASK_EVERY: Duration = Duration::from_millis(100);

type Place = (String, u16);

#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    map: RwLock<Map>,
    /// Held by the one caller that asks for the slots; when that was.
    asking: Mutex<Option<Instant>>,
}

/// Who serves what, as far as we know.
#[derive(Debug, Default)]
struct Map {
    /// First and last slot, in order.
    ranges: Vec<(u16, u16, Arc<Node>)>,
    /// What redirections told since.
    moved: HashMap<u16, Arc<Node>>,
    nodes: HashMap<Place, Arc<Node>>,
}

impl Map {
    fn find(&self, slot: u16) -> Option<&Arc<Node>> {
        self.moved.get(&slot).or_else(|| {
            let next = self.ranges.partition_point(|(first, ..)| *first <= slot);
            let (_, last, node) = self.ranges.get(next.checked_sub(1)?)?;
            (slot <= *last).then_some(node)
        })
    }
}

impl Cluster {
    pub(super) fn new(seeds: Vec<ConnectionInfo>) -> Self {
        Self { seeds, map: RwLock::default(), asking: Mutex::new(None) }
    }

    /// The primary of a slot, or of any.
    pub(super) async fn node(&self, slot: Option<u16>) -> Result<Arc<Node>, RedisError> {
        if let Some(node) = self.known(slot) {
            return Ok(node);
        }
        let mut only_one = self.asking.lock().await;
        if let Some(node) = self.known(slot) {
            return Ok(node);
        }
        *only_one = Some(Instant::now());
        Box::pin(self.ask(None)).await?;
        self.known(slot).ok_or_else(|| std::io::Error::other("no node of the cluster serves the slot").into())
    }

    /// The primary of a slot as far as is known.
    pub(super) fn known(&self, slot: Option<u16>) -> Option<Arc<Node>> {
        let map = self.map.read().expect("no holder of this lock can panic");
        match slot {
            Some(slot) => map.find(slot).cloned(),
            None => map.ranges.choose(&mut rand::rng()).map(|(_, _, node)| node.clone()),
        }
    }

    /// Every primary.
    pub(super) async fn nodes(&self) -> Result<Vec<Arc<Node>>, RedisError> {
        self.node(None).await?;
        Ok(self.map.read().expect("no holder of this lock can panic").nodes.values().cloned().collect())
    }

    /// Learns from a failure: where a slot went, or that the nodes may have other parts now. Whoever asks already asks for all.
    pub(super) async fn doubt(&self, node: &Arc<Node>, error: &RedisError) {
        let told = if error.code() == Some("MOVED") { self.moved(node, error) } else { None };
        if error.code() == Some("ASK") || error.code() == Some("TRYAGAIN") {
            return;
        }
        let Ok(mut only_one) = self.asking.try_lock() else { return };
        if only_one.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return;
        }
        *only_one = Some(Instant::now());
        if let Err(error) = Box::pin(self.ask(told)).await {
            tracing::debug!(%error, "no node of the cluster tells the slots");
        }
    }

    /// Notes a redirection; gives the node that it names.
    fn moved(&self, from: &Arc<Node>, error: &RedisError) -> Option<Arc<Node>> {
        let (address, slot) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let asked = place(from.info())?.0;
        let host = if host.is_empty() { &asked } else { host };
        let mut map = self.map.write().expect("no holder of this lock can panic");
        let node = self.intern(&mut map.nodes, (host.to_owned(), port.parse().ok()?)).ok()?;
        map.moved.insert(slot, node.clone());
        Some(node)
    }

    /// Asks for the slots: first the node named, then those known, then the seeds, until one answers.
    async fn ask(&self, first: Option<Arc<Node>>) -> Result<(), RedisError> {
        let mut known: Vec<Arc<Node>> = {
            let map = self.map.read().expect("no holder of this lock can panic");
            map.nodes.values().cloned().collect()
        };
        // One that is behind the others would tell the same again.
        known.shuffle(&mut rand::rng());
        let seeds = self.seeds.iter().filter_map(|seed| Node::new(seed.clone()).ok());
        let mut last = None;
        for node in first.into_iter().chain(known).chain(seeds) {
            match timeout(PATIENCE, node.send(redis::cmd("CLUSTER").arg("SLOTS"))).await {
                Ok(Ok(reply)) => return self.learn(&node, reply),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("no node of the cluster answers").into()))
    }

    fn learn(&self, asked: &Arc<Node>, reply: Value) -> Result<(), RedisError> {
        let asked = place(asked.info()).map(|(host, _)| host).unwrap_or_default();
        let mut map = self.map.write().expect("no holder of this lock can panic");
        let mut nodes = std::mem::take(&mut map.nodes);
        let mut ranges = Vec::new();
        for range in Vec::<Vec<Value>>::from_redis_value(reply)? {
            let mut parts = range.into_iter();
            let (Some(first), Some(last), Some(primary)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let mut primary = Vec::<Value>::from_redis_value(primary)?.into_iter();
            let host =
                primary.next().map(Option::<String>::from_redis_value).transpose()?.flatten().unwrap_or_default();
            let Some(port) = primary.next().map(u16::from_redis_value).transpose()? else { continue };
            // A node that does not know its own place says nothing of it; `?` is one that nobody knows.
            let host = match host.as_str() {
                "?" => continue,
                "" => asked.clone(),
                _ => host,
            };
            let Ok(node) = self.intern(&mut nodes, (host, port)) else { continue };
            ranges.push((u16::from_redis_value(first)?, u16::from_redis_value(last)?, node));
        }
        ranges.sort_unstable_by_key(|(first, ..)| *first);
        nodes.retain(|_, node| ranges.iter().any(|(_, _, serving)| Arc::ptr_eq(serving, node)));
        *map = Map { ranges, moved: HashMap::new(), nodes };
        Ok(())
    }

    /// The node at a place: the one already known, with its connections, or a new one.
    fn intern(&self, nodes: &mut HashMap<Place, Arc<Node>>, place: Place) -> Result<Arc<Node>, Error> {
        if let Some(node) = nodes.get(&place) {
            return Ok(node.clone());
        }
        let node = Node::new(at(&self.seeds[0], &place.0, place.1))?;
        nodes.insert(place, node.clone());
        Ok(node)
    }
}
