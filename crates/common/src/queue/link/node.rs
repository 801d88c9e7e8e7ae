//! One Redis server: a multiplexed connection that is replaced when it fails or falls silent, and some for large replies.
//!
//! The client's own manager never replaces a connection that only times out (a black-holed one), so that the watchdog
//! is ours: a call that gets no answer in time drops the connection for everybody, and the next call makes a new one.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use deadpool_redis::PoolError;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, ProtocolVersion, PushInfo, RedisError, Value,
};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::super::durable;
use super::super::error::Error;

/// How long one answer may take before the connection is taken for dead.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer that its caller did not wait for makes the connection suspect after this long.
const SUSPICIOUS_SILENCE: Duration = Duration::from_millis(500);
/// Connections for large replies.
const BULK_CONNECTIONS: usize = 4;
/// How long a large reply, or a free connection for it, may take.
pub(super) const BULK_TIMEOUT: Duration = Duration::from_secs(5);

/// A server, and the connections to it; cheap to call concurrently. Connects at the first call.
#[derive(Debug)]
pub(crate) struct Node {
    client: Client,
    /// The connection now in use, and how many there were before it.
    current: RwLock<(u64, Option<MultiplexedConnection>)>,
    /// Held by the one caller that reconnects.
    reconnecting: Mutex<()>,
    /// For replies that may be large, so that they delay nobody else's.
    bulk: deadpool_redis::Pool,
    /// For submits that wait until Redis has made them durable.
    durable: deadpool_redis::Pool,
}

impl Node {
    pub(super) fn new(info: ConnectionInfo) -> Result<Arc<Self>, Error> {
        let refused = |error: &dyn std::fmt::Display| Error::Refused(error.to_string());
        let bulk = bulk_pool(&info).map_err(|error| refused(&error))?;
        let durable = durable::pool(&info).map_err(|error| refused(&*error))?;
        let client = Client::open(info).map_err(|error| refused(&error))?;
        Ok(Arc::new(Self { client, current: RwLock::new((0, None)), reconnecting: Mutex::new(()), bulk, durable }))
    }

    /// The connections over which waits for durability go.
    pub(crate) fn durable(&self) -> &deadpool_redis::Pool {
        &self.durable
    }

    /// How to connect to it.
    pub(super) fn info(&self) -> &ConnectionInfo {
        self.client.get_connection_info()
    }

    /// Sends a command once. A connection that failed is not used again.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let (generation, mut connection) = self.connection().await?;
        let mut watch = Watch { node: self, generation, since: Instant::now() };
        let answer = command.query_async(&mut connection).await;
        watch.generation = 0;
        if answer.as_ref().is_err_and(ends_connection) {
            self.discard(generation);
        }
        answer
    }

    /// Sends commands once, over a connection of the bulk pool.
    pub(super) async fn send_bulk(&self, pipe: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let mut connection = Box::pin(self.bulk.get()).await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => std::io::Error::new(std::io::ErrorKind::TimedOut, other.to_string()).into(),
        })?;
        pipe.query_async(&mut connection).await
    }

    /// Opens a connection of the caller's own. `response_timeout` is `None` for one that blocks.
    pub(crate) async fn connect(
        &self,
        response_timeout: Option<Duration>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(response_timeout)
            .set_pipeline_buffer_size(1024);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Opens a connection for pub/sub, and what brings its messages: RESP3, the only protocol in which the client knows
    /// sharded pub/sub.
    pub(crate) async fn pubsub(&self) -> Result<(MultiplexedConnection, UnboundedReceiver<PushInfo>), RedisError> {
        let (sender, news) = unbounded_channel();
        let settings = self.info().redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(self.info().clone().set_redis_settings(settings))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_push_sender(sender);
        Ok((client.get_multiplexed_async_connection_with_config(&config).await?, news))
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let Some(found) = self.get() {
            return Ok(found);
        }
        let _only_one = self.reconnecting.lock().await;
        if let Some(found) = self.get() {
            return Ok(found);
        }
        let connection = Box::pin(self.connect(Some(RESPONSE_TIMEOUT))).await?;
        let mut current = self.current.write().expect("no holder of this lock can panic");
        *current = (current.0 + 1, Some(connection.clone()));
        if current.0 > 1 {
            crate::metrics::redis_reconnect();
        }
        Ok((current.0, connection))
    }

    fn get(&self) -> Option<(u64, MultiplexedConnection)> {
        let current = self.current.read().expect("no holder of this lock can panic");
        current.1.clone().map(|connection| (current.0, connection))
    }

    /// Drops a failed connection, unless another caller did.
    fn discard(&self, generation: u64) {
        let mut current = self.current.write().expect("no holder of this lock can panic");
        if current.0 == generation {
            current.1 = None;
        }
    }
}

/// Notices a caller that gave up on an answer: what it waited on for long may be dead, and nobody else would tell.
struct Watch<'a> {
    node: &'a Node,
    /// The connection waited on; 0 once the answer is there.
    generation: u64,
    since: Instant,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.generation > 0 && self.since.elapsed() >= SUSPICIOUS_SILENCE {
            self.node.discard(self.generation);
        }
    }
}

/// Whether the connection itself failed.
pub(super) fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// Whether the next call should go over a new connection: this one failed, or leads to a server that is not, or not
/// yet, the one to write to.
fn ends_connection(error: &RedisError) -> bool {
    is_broken(error)
        || matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN" | "UNBLOCKED" | "BUSY" | "NOREPLICAS"))
}

fn bulk_pool(info: &ConnectionInfo) -> Result<deadpool_redis::Pool, Box<dyn std::error::Error>> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(BULK_TIMEOUT));
    let manager = deadpool_redis::Manager::new_with_config(info.clone(), config)?;
    let pool = deadpool_redis::Pool::builder(manager)
        .max_size(BULK_CONNECTIONS)
        .wait_timeout(Some(BULK_TIMEOUT))
        .create_timeout(Some(BULK_TIMEOUT))
        .recycle_timeout(Some(BULK_TIMEOUT))
        .runtime(deadpool_redis::Runtime::Tokio1)
        .build()?;
    Ok(pool)
}
