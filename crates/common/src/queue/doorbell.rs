//! Waiting for work without asking all the time.
//!
//! A blocking XREADGROUP whose reader gave up swallows a job; a doorbell carries none, so that a lost ring costs only
//! the time until the next look.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use super::error::Error;
use super::{Queue, keys, link};
use crate::ids::Shard;

/// One waiter per process, on a connection of its own that nothing else waits behind.
#[derive(Debug)]
pub struct Doorbell {
    client: redis::Client,
    connection: Option<MultiplexedConnection>,
}

impl Doorbell {
    /// A doorbell of the queue's Redis. Connects at the first wait.
    pub fn new(queue: &Queue) -> Self {
        Self { client: queue.inner.client.clone(), connection: None }
    }

    /// Waits until a job is queued in one of the shards, at most `timeout`; `None`: nobody rang.
    ///
    /// Cancel safety: a dropped wait drops the connection, so that the server does not ring for nobody.
    pub async fn wait(&mut self, shards: &[Shard], timeout: Duration) -> Result<Option<Shard>, Error> {
        let unavailable = |error: &dyn std::fmt::Display| Error::Unavailable(error.to_string());
        // Taken, and put back only after an answer: a connection with a wait under way is never used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => link::connect(&self.client, None).await.map_err(|error| unavailable(&error))?,
        };
        let mut command = redis::cmd("BLPOP");
        let bells: Vec<String> = shards.iter().map(|shard| keys::part(shard, "bell")).collect();
        command.arg(&bells).arg(timeout.as_secs_f64());
        // The server's answer is due at the timeout; a connection that stays silent after it is dead.
        let answer = tokio::time::timeout(timeout + Duration::from_secs(2), command.query_async(&mut connection));
        let rung: Option<(String, String)> = match answer.await {
            Ok(answer) => answer.map_err(|error| unavailable(&error))?,
            Err(_) => return Err(Error::Unavailable("no answer on the doorbell's connection".into())),
        };
        self.connection = Some(connection);
        Ok(rung.and_then(|(bell, _)| bells.iter().position(|name| *name == bell)).map(|place| shards[place].clone()))
    }
}
