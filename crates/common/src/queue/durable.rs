//! Waiting until what was accepted would survive its Redis.
//!
//! The wait goes over the very connection that wrote: Redis counts what each connection has written, and on another one,
//! or after a failover, it would confirm what it never saw. A wait blocks its connection, hence a pool of them.

use std::time::Duration;

use deadpool_redis::PoolError;
use redis::{Cmd, FromRedisValue as _, RedisResult, Value};
use tokio::time::Instant;

use super::error::Error;
use super::link::{BACKOFF, Failure, Node, sort};
use super::scripts::Script;
use super::{Queue, keys, ms};
use crate::config::Durability;
use crate::ids::{JobId, Shard};

/// Most waits under way at the same time.
const CONNECTIONS: usize = 32;
/// How long a wait may take: two of the seconds in which `everysec` syncs.
const WAIT: Duration = Duration::from_secs(2);
/// How long Redis may take for everything else.
const MARGIN: Duration = Duration::from_secs(2);

/// The connections of one node for it.
pub(super) fn pool(info: &redis::ConnectionInfo) -> Result<deadpool_redis::Pool, Box<dyn std::error::Error>> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(WAIT + MARGIN));
    let manager = deadpool_redis::Manager::new_with_config(info.clone(), config)?;
    let pool = deadpool_redis::Pool::builder(manager)
        .max_size(CONNECTIONS)
        .wait_timeout(Some(WAIT + MARGIN))
        .create_timeout(Some(MARGIN))
        .recycle_timeout(Some(WAIT))
        .runtime(deadpool_redis::Runtime::Tokio1)
        .build()?;
    Ok(pool)
}

impl Queue {
    /// Waits until a job that was accepted before is as durable as asked; `false`: not confirmed in time, or the job is
    /// not there.
    pub async fn confirm(&self, id: &JobId, durability: Durability) -> Result<bool, Error> {
        if durability == Durability::Memory {
            return Ok(true);
        }
        let mut exists = redis::cmd("EXISTS");
        exists.arg(keys::record(&id.shard, &id.local));
        let (replies, confirmed) = self.call_durably(&id.shard, None, &[exists], durability).await?;
        Ok(confirmed && replies.into_iter().all(|found| found == Value::Int(1)))
    }

    /// Sends commands of one shard, which must be idempotent, and waits until what they wrote is as durable as asked.
    pub(super) async fn call_durably(
        &self,
        shard: &Shard,
        script: Option<&Script>,
        commands: &[Cmd],
        durability: Durability,
    ) -> Result<(Vec<Value>, bool), Error> {
        let end = Instant::now() + self.inner.link.deadline();
        let (mut pause, mut load) = (BACKOFF.0, None);
        loop {
            let node = self.inner.link.home(&keys::base(shard)).await?;
            let error = match try_durably(&node, shard, load, commands, durability).await {
                Ok(answer) => return Ok(answer),
                // The next try brings the script along; in between it could be flushed again.
                Err(Failure::Final(Error::Refused(message))) if message.starts_with("NOSCRIPT") && script.is_some() => {
                    load = script;
                    message
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error)) => {
                    // One stale connection seldom comes alone.
                    node.durable().retain(|_, _| false);
                    self.inner.link.doubt(&node, &error).await;
                    crate::metrics::redis_error();
                    error.to_string()
                }
            };
            if Instant::now() + pause >= end {
                return Err(Error::Unavailable(error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }
}

async fn try_durably(
    node: &Node,
    shard: &Shard,
    load: Option<&Script>,
    commands: &[Cmd],
    durability: Durability,
) -> Result<(Vec<Value>, bool), Failure> {
    let mut connection = Box::pin(node.durable().get()).await.map_err(|error| match error {
        PoolError::Backend(error) => sort(error),
        other => Failure::Final(Error::Unavailable(other.to_string())),
    })?;
    let mut pipe = redis::pipe();
    if let Some(script) = load {
        pipe.cmd("SCRIPT").arg("LOAD").arg(&script.source).ignore();
    }
    commands.iter().for_each(|command| {
        pipe.add_command(command.clone());
    });
    // Where the job was there before, the commands wrote nothing, and there would be nothing to wait for.
    pipe.cmd("HSET").arg(keys::part(shard, "ctl")).arg("confirmed").arg(1);
    match durability {
        Durability::Memory => {}
        Durability::Replica => drop(pipe.cmd("WAIT").arg(1).arg(ms(WAIT))),
        Durability::Disk => {
            pipe.cmd("CONFIG").arg(&["GET", "appendonly", "appendfsync"]);
            pipe.cmd("WAITAOF").arg(&[1, 0]).arg(ms(WAIT));
        }
    }
    pipe.ignore_errors();
    let answer = pipe.query_async::<Vec<RedisResult<Value>>>(&mut connection).await;
    let mut answers = answer.map_err(|error| {
        // Never to be used again: an answer may still come.
        drop(deadpool_redis::Connection::take(connection));
        sort(error)
    })?;
    let said = answers.split_off(commands.len());
    let answers = answers.into_iter().collect::<RedisResult<Vec<Value>>>().map_err(sort)?;
    Ok((answers, confirmed(durability, said)))
}

/// Reads what Redis said to the mark and the waits.
fn confirmed(durability: Durability, said: Vec<RedisResult<Value>>) -> bool {
    let mut said = said.into_iter();
    let marked = said.next().is_some_and(|mark| mark.is_ok());
    let mut next = || said.next()?.ok();
    marked
        && match durability {
            Durability::Memory => true,
            Durability::Replica => next().is_some_and(|replicas| matches!(replicas, Value::Int(1..))),
            // With `always` nothing is answered before it is on the disk, and servers without WAITAOF are as good.
            Durability::Disk => {
                let config = next().and_then(|config| Vec::<String>::from_redis_value(config).ok());
                let waited = next().and_then(|waited| <(i64, i64)>::from_redis_value(waited).ok());
                config.is_some_and(|pairs| syncs_always(&pairs)) || waited.is_some_and(|(local, _)| local > 0)
            }
        }
}

/// Whether nothing is answered before it is on the disk, by an answer of `CONFIG GET`.
pub(super) fn syncs_always(pairs: &[String]) -> bool {
    let is = |name: &str, value: &str| pairs.chunks_exact(2).any(|pair| pair[0] == name && pair[1] == value);
    is("appendonly", "yes") && is("appendfsync", "always")
}
