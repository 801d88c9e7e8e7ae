//! A cluster of a test's own: redis-servers on free ports, joined by hand.

use redis::{FromRedisValue, Value};

use crate::redis_options::RedisOptions;
use crate::redis_server::RedisServer;
use crate::{PATIENCE, assert_eventually};

/// Slots of every cluster.
const SLOTS: usize = 16_384;

/// Primaries, each with an equal range of the slots, and behind them their replicas in the same order.
#[derive(Debug)]
pub struct RedisCluster {
    /// The primaries as they were at the start, then the replicas.
    pub nodes: Vec<RedisServer>,
    primaries: usize,
}

impl RedisCluster {
    /// Starts one and waits until every node finds it whole.
    pub async fn start(primaries: usize, with_replicas: bool) -> Self {
        Self::start_with(primaries, with_replicas, |options| options).await
    }

    /// As [`RedisCluster::start`], of nodes with more options.
    pub async fn start_with(
        primaries: usize,
        with_replicas: bool,
        more: impl Fn(RedisOptions) -> RedisOptions,
    ) -> Self {
        let count = if with_replicas { 2 * primaries } else { primaries };
        let starts = (0..count).map(|_| more(options()).start());
        let nodes: Vec<RedisServer> = futures_util::future::join_all(starts).await;
        let cluster = Self { nodes, primaries };
        cluster.join().await;
        if with_replicas {
            for place in 0..primaries {
                let id = cluster.id(place).await;
                cluster.nodes[primaries + place].cli(&["CLUSTER", "REPLICATE", &id]).await;
            }
            for replica in &cluster.nodes[primaries..] {
                assert_eventually!(replica.is_synced().await, PATIENCE);
            }
        }
        cluster
    }

    async fn join(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]).await;
            if place < self.primaries {
                let first = place * SLOTS / self.primaries;
                let last = (place + 1) * SLOTS / self.primaries - 1;
                node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            }
        }
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port().to_string(), text(node.cli(&["CONFIG", "GET", "cluster-port"]).await));
            self.nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus[1]]).await;
        }
        for node in &self.nodes {
            assert_eventually!(
                {
                    let state = text(node.cli(&["CLUSTER", "INFO"]).await).concat();
                    state.contains("cluster_state:ok")
                        && state.contains(&format!("cluster_known_nodes:{}\r", self.nodes.len()))
                },
                PATIENCE
            );
        }
    }

    /// Where clients find it: any node tells of all.
    pub fn url(&self) -> String {
        let places: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let tls = if self.nodes[0].url().starts_with("rediss") { "s" } else { "" };
        format!("redis{tls}+cluster://{}", places.join(","))
    }

    /// The node that serves a key at the start, by its place.
    pub async fn primary_of(&self, key: &str) -> usize {
        self.slot(key).await * self.primaries / SLOTS
    }

    /// The slot of a key.
    pub async fn slot(&self, key: &str) -> usize {
        usize::from_redis_value(self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).await).expect("a number")
    }

    /// How many keys a node holds in a slot.
    pub async fn keys_in_slot(&self, place: usize, slot: usize) -> usize {
        let count = self.nodes[place].cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await;
        usize::from_redis_value(count).expect("a number")
    }

    /// Moves a slot with its keys from one primary to another, few keys at a time, as redis-cli does.
    pub async fn move_slot(&self, slot: usize, from: usize, to: usize) {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (source_id, target_id) = (self.id(from).await, self.id(to).await);
        let slot = slot.to_string();
        target.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
        source.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        let port = target.port().to_string();
        loop {
            let keys = text(source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await);
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            source.cli(&migrate).await;
        }
        for node in [target, source] {
            node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
        }
    }

    async fn id(&self, place: usize) -> String {
        text(self.nodes[place].cli(&["CLUSTER", "MYID"]).await).concat()
    }
}

fn options() -> RedisOptions {
    let options = RedisServer::options().node().setting("cluster-node-timeout", "1500");
    options.setting("cluster-config-file", "nodes.conf")
}

/// The texts of a reply, one or many.
fn text(value: Value) -> Vec<String> {
    match value {
        Value::Array(_) => Vec::from_redis_value(value).expect("texts"),
        one => vec![String::from_redis_value(one).expect("a text")],
    }
}
