//! One multiplexed connection to Redis that is replaced when it fails or falls silent.
//!
//! The client's own manager never replaces a connection that only times out (a black-holed one), so that the watchdog
//! is ours: a call that gets no answer in time drops the connection for everybody, and the next call makes a new one.

use std::sync::RwLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2};
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo as _, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::Error;
use super::scripts::Script;

/// How long one answer may take before the connection is taken for dead.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer that its caller did not wait for makes the connection suspect after this long.
const SUSPICIOUS_SILENCE: Duration = Duration::from_millis(500);
/// First and longest pause between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Opens the client for a Redis URL: `redis://`, `rediss://` or `unix://`.
pub(crate) fn open(url: &str) -> Result<Client, Error> {
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3));
    let tcp =
        TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(Duration::from_secs(5));
    let info = url.into_connection_info().map_err(|error| Error::Refused(error.to_string()))?;
    Client::open(info.set_tcp_settings(tcp)).map_err(|error| Error::Refused(error.to_string()))
}

/// A connection shared by all callers; cheap to call concurrently.
#[derive(Debug)]
pub(crate) struct Link {
    client: Client,
    /// The connection now in use, and how many there were before it.
    current: RwLock<(u64, Option<MultiplexedConnection>)>,
    /// Held by the one caller that reconnects.
    reconnecting: Mutex<()>,
    /// How long a call may take in all, tries included.
    deadline: Duration,
}

impl Link {
    /// A link whose calls end within `deadline`. Connects at the first call.
    pub(crate) fn new(client: Client, deadline: Duration) -> Self {
        Self { client, current: RwLock::new((0, None)), reconnecting: Mutex::new(()), deadline }
    }

    /// Sends a command, again on a new connection when the old one fails. The command must be idempotent.
    ///
    /// Cancel safety: a dropped future may leave the command sent.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, Error> {
        let end = Instant::now() + self.deadline;
        let mut pause = BACKOFF.0;
        loop {
            let error = match self.attempt(command).await {
                Ok(value) => return Ok(value),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error)) => error,
            };
            crate::metrics::redis_error();
            if Instant::now() + pause >= end {
                return Err(Error::Unavailable(error.to_string()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
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

    async fn attempt(&self, command: &Cmd) -> Result<Value, Attempt> {
        let (generation, mut connection) = self.connection().await.map_err(Attempt::Again)?;
        let mut watch = Watch { link: self, generation, since: Instant::now() };
        let answer = command.query_async(&mut connection).await;
        watch.generation = 0;
        let error = match answer {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let code = error.code().unwrap_or_default();
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
        {
            self.discard(generation);
            Err(Attempt::Again(error))
        } else if matches!(
            code,
            "READONLY" | "LOADING" | "MASTERDOWN" | "UNBLOCKED" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY"
        ) {
            // The server is there but is not, or not yet, the one to write to.
            self.discard(generation);
            Err(Attempt::Again(error))
        } else if code == "OOM" || error.to_string().contains("OOM command not allowed") {
            Err(Attempt::Final(Error::OutOfMemory))
        } else {
            let detail = error.detail().unwrap_or_default();
            Err(Attempt::Final(Error::Refused(format!("{code} {detail}"))))
        }
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let Some(found) = self.get() {
            return Ok(found);
        }
        let _only_one = self.reconnecting.lock().await;
        if let Some(found) = self.get() {
            return Ok(found);
        }
        let connection = connect(&self.client, Some(RESPONSE_TIMEOUT)).await?;
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
    link: &'a Link,
    /// The connection waited on; 0 once the answer is there.
    generation: u64,
    since: Instant,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.generation > 0 && self.since.elapsed() >= SUSPICIOUS_SILENCE {
            self.link.discard(self.generation);
        }
    }
}

enum Attempt {
    Again(RedisError),
    Final(Error),
}

/// Opens a connection of the caller's own. `response_timeout` is `None` for one that blocks.
pub(crate) async fn connect(
    client: &Client,
    response_timeout: Option<Duration>,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(response_timeout)
        .set_pipeline_buffer_size(1024);
    client.get_multiplexed_async_connection_with_config(&config).await
}
