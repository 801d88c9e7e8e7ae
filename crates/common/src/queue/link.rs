//! The way to Redis: which server to ask, and what to do when it fails.
//!
//! One server, a cluster and what Sentinels watch over differ only in who serves a slot now, which [`Servers`] tells. A call
//! that fails doubts its server, looks again, and is sent again until its patience is over.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::time::Instant;

use super::error::Error;
use super::scripts::Script;
use crate::ids::Shard;

mod address;
mod cluster;
mod node;
mod sentinel;
mod slot;

pub(crate) use address::Address;
use cluster::Cluster;
pub(crate) use node::Node;
use sentinel::Sentinel;
use slot::{slot, slot_of};

/// First and longest pause between two tries.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// Redirections that are followed at once; a cluster that sends us in a circle is given time.
const REDIRECTIONS: u32 = 3;

/// The connections of a process, shared by all callers; cheap to clone and to call concurrently.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    servers: Arc<Servers>,
    /// How long a call may take in all, tries included.
    deadline: Duration,
}

/// Who serves a slot now.
#[derive(Debug)]
enum Servers {
    One(Arc<Node>),
    Sentinel(Sentinel),
    Cluster(Cluster),
}

impl Servers {
    async fn node(&self, slot: Option<u16>) -> Result<Arc<Node>, RedisError> {
        match self {
            Self::One(node) => Ok(node.clone()),
            Self::Sentinel(sentinel) => sentinel.node().await,
            Self::Cluster(cluster) => cluster.node(slot).await,
        }
    }

    /// Learns from a failure of a node.
    async fn doubt(&self, node: &Arc<Node>, error: &RedisError) {
        match self {
            Self::One(_) => {}
            Self::Sentinel(sentinel) => sentinel.doubt(node),
            Self::Cluster(cluster) => cluster.doubt(node, error).await,
        }
    }
}

impl Link {
    /// A link whose calls end within `deadline`. Connects at the first call.
    pub(crate) fn new(address: &Address, deadline: Duration) -> Result<Self, Error> {
        // Chosen here: which libraries a program is built with must not decide whether it can speak TLS. An error says that
        // it was chosen before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let servers = match address.clone() {
            Address::One(info) => Servers::One(Node::new(info)?),
            Address::Cluster(seeds) => Servers::Cluster(Cluster::new(seeds)),
            Address::Sentinel { sentinels, primary, name } => {
                Servers::Sentinel(Sentinel::new(sentinels, primary, name))
            }
        };
        Ok(Self { servers: Arc::new(servers), deadline })
    }

    /// The same connections for calls of another patience.
    pub(crate) fn within(&self, deadline: Duration) -> Self {
        Self { servers: self.servers.clone(), deadline }
    }

    /// Whether keys of different shards may be on different nodes, and are never in one command.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(*self.servers, Servers::Cluster(_))
    }

    /// How long a call may take in all.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Sends a command to the node of its key, again when that fails. The command must be idempotent.
    ///
    /// Cancel safety: a dropped future may leave the command sent.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, Error> {
        let slot = if self.is_cluster() { slot_of(command) } else { None };
        self.insist(slot, self.deadline, Request::One(command)).await
    }

    /// As [`Link::call`], for a command without a key that asks the node of a shard.
    pub(crate) async fn call_at(&self, shard: &Shard, command: &Cmd) -> Result<Value, Error> {
        self.insist(self.slot(&super::keys::base(shard)), self.deadline, Request::One(command)).await
    }

    /// Runs a script, loading it where the server does not have it.
    pub(crate) async fn eval(&self, script: &Script, command: &Cmd) -> Result<Value, Error> {
        match self.call(command).await {
            Err(Error::Refused(message)) if message.starts_with("NOSCRIPT") => {
                // In one command: between a load and a run the scripts could be flushed again.
                let mut whole = redis::cmd("EVAL");
                whole.arg(&script.source);
                for arg in command.args_iter().skip(2) {
                    if let redis::Arg::Simple(arg) = arg {
                        whole.arg(arg);
                    }
                }
                self.call(&whole).await
            }
            other => other,
        }
    }

    /// Sends readings of one shard over a connection of its own, so that a large reply delays nobody else's.
    pub(crate) async fn bulk(&self, shard: &Shard, pipe: &Pipeline) -> Result<Vec<Value>, Error> {
        let slot = self.slot(&super::keys::base(shard));
        match self.insist(slot, node::BULK_TIMEOUT, Request::Bulk(pipe)).await? {
            Value::Array(values) => Ok(values),
            _ => Err(Error::corrupt("a pipeline without a list of answers")),
        }
    }

    /// Sends a command to every server that may hold jobs.
    pub(crate) async fn call_all(&self, command: &Cmd) -> Result<Vec<Value>, Error> {
        let nodes = match &*self.servers {
            Servers::Cluster(cluster) => cluster.nodes().await.map_err(|error| unavailable(&error))?,
            _ => return Ok(vec![self.call(command).await?]),
        };
        let mut values = Vec::new();
        for node in nodes {
            values.push(node.send(command).await.map_err(|error| match sort(error) {
                Failure::Final(error) => error,
                Failure::Again(error) => unavailable(&error),
            })?);
        }
        Ok(values)
    }

    /// The node of a key, for a connection of the caller's own: see [`Node::connect`]. When that fails: [`Link::doubt`].
    pub(crate) async fn home(&self, key: &str) -> Result<Arc<Node>, Error> {
        self.servers.node(self.slot(key)).await.map_err(|error| unavailable(&error))
    }

    /// Opens a connection of the caller's own to the node of a key. `response_timeout` is `None` for one that blocks.
    pub(crate) async fn dedicated(
        &self,
        key: &str,
        response_timeout: Option<Duration>,
    ) -> Result<(Arc<Node>, MultiplexedConnection), Error> {
        let node = self.home(key).await?;
        match node.connect(response_timeout).await {
            Ok(connection) => Ok((node, connection)),
            Err(error) => {
                self.doubt(&node, &error).await;
                Err(unavailable(&error))
            }
        }
    }

    /// Says that a node failed on a connection of the caller's own.
    pub(crate) async fn doubt(&self, node: &Arc<Node>, error: &RedisError) {
        self.servers.doubt(node, error).await;
    }

    /// Whether a key is served by another node than this one, as far as is known.
    pub(crate) fn has_left(&self, key: &str, node: &Arc<Node>) -> bool {
        let known = match &*self.servers {
            Servers::One(_) => return false,
            Servers::Sentinel(sentinel) => sentinel.known(),
            Servers::Cluster(cluster) => cluster.known(self.slot(key)),
        };
        known.is_some_and(|known| !Arc::ptr_eq(&known, node))
    }

    fn slot(&self, key: &str) -> Option<u16> {
        self.is_cluster().then(|| slot(key.as_bytes()))
    }

    /// Sends until there is an answer, or the time is over.
    async fn insist(&self, slot: Option<u16>, deadline: Duration, request: Request<'_>) -> Result<Value, Error> {
        let end = Instant::now() + deadline;
        let (mut pause, mut redirections) = (BACKOFF.0, 0);
        loop {
            let error = match self.servers.node(slot).await {
                Ok(node) => match request.send(&node).await.map_err(sort) {
                    Ok(value) => return Ok(value),
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Again(error)) => {
                        self.servers.doubt(&node, &error).await;
                        error
                    }
                },
                Err(error) => error,
            };
            if error.code() == Some("MOVED") && redirections < REDIRECTIONS {
                redirections += 1;
                continue;
            }
            crate::metrics::redis_error();
            if Instant::now() + pause >= end {
                return Err(unavailable(&error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }
}

/// What is sent to one node.
#[derive(Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Bulk(&'a Pipeline),
}

impl Request<'_> {
    async fn send(self, node: &Node) -> Result<Value, RedisError> {
        match self {
            Self::One(command) => node.send(command).await,
            Self::Bulk(pipe) => node.send_bulk(pipe).await.map(Value::Array),
        }
    }
}

/// What a failed try means.
pub(super) enum Failure {
    Again(RedisError),
    /// Every try would fail so.
    Final(Error),
}

pub(super) fn sort(error: RedisError) -> Failure {
    let code = error.code().unwrap_or_default();
    // The server is there but is not, or not yet, or no longer, the one to ask.
    let elsewhere = matches!(
        code,
        "READONLY"
            | "LOADING"
            | "MASTERDOWN"
            | "UNBLOCKED"
            | "CLUSTERDOWN"
            | "TRYAGAIN"
            | "BUSY"
            | "NOREPLICAS"
            | "MOVED"
            | "ASK"
    );
    if elsewhere || node::is_broken(&error) {
        Failure::Again(error)
    } else if code == "OOM" || error.to_string().contains("OOM command not allowed") {
        Failure::Final(Error::OutOfMemory)
    } else {
        let detail = error.detail().unwrap_or_default();
        Failure::Final(Error::Refused(format!("{code} {detail}")))
    }
}

fn unavailable(error: &RedisError) -> Error {
    Error::Unavailable(error.to_string())
}
