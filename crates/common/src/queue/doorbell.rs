//! Waiting for work without asking all the time.
//!
//! A blocking XREADGROUP whose reader gave up swallows a job; a doorbell carries none, so that a lost ring costs only
//! the time until the next look.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use super::error::Error;
use super::link::{Link, Node};
use super::{Queue, keys};
use crate::ids::Shard;

/// A waiter, on a connection of its own that nothing else waits behind: one per process, in a cluster one per shard.
#[derive(Debug)]
pub struct Doorbell {
    link: Link,
    connection: Option<(Arc<Node>, MultiplexedConnection)>,
}

impl Doorbell {
    /// A doorbell of the queue's Redis. Connects at the first wait.
    pub fn new(queue: &Queue) -> Self {
        Self { link: queue.inner.link.clone(), connection: None }
    }

    /// Whether each shard needs a doorbell of its own: no command may wait for keys of several slots.
    pub fn is_of_one_shard(queue: &Queue) -> bool {
        queue.inner.link.is_cluster()
    }

    /// Waits until a job is queued in one of the shards, at most `timeout`; `None`: nobody rang. The shards are the same
    /// at each wait where a doorbell is of one shard.
    ///
    /// Cancel safety: a dropped wait drops the connection, so that the server does not ring for nobody.
    pub async fn wait(&mut self, shards: &[Shard], timeout: Duration) -> Result<Option<Shard>, Error> {
        let bells: Vec<String> = shards.iter().map(|shard| keys::part(shard, "bell")).collect();
        let Some(home) = bells.first() else { return Ok(None) };
        // Taken, and put back only after an answer: a connection with a wait under way is never used again.
        let (node, mut connection) = match self.connection.take() {
            Some((node, connection)) if !self.link.has_left(home, &node) => (node, connection),
            _ => self.link.dedicated(home, None).await?,
        };
        let mut command = redis::cmd("BLPOP");
        command.arg(&bells).arg(timeout.as_secs_f64());
        // The server's answer is due at the timeout; a connection that stays silent after it is dead.
        let answer = tokio::time::timeout(timeout + Duration::from_secs(2), command.query_async(&mut connection));
        let answer = answer.await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        let rung: Option<(String, String)> = match answer {
            Ok(rung) => rung,
            Err(error) => {
                self.link.doubt(&node, &error).await;
                return Err(Error::Unavailable(error.to_string()));
            }
        };
        self.connection = Some((node, connection));
        Ok(rung.and_then(|(bell, _)| bells.iter().position(|name| *name == bell)).map(|place| shards[place].clone()))
    }
}
