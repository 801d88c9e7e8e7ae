//! The queue: every move of a job, and the only code that speaks Redis.
//!
//! A stream entry is a ticket, the record is the truth: see `docs/ARCHITECTURE.md`. Every move is one Lua script in
//! `scripts/`, idempotent by id, so that a caller who lost the reply may send it again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::{Cmd, FromRedisValue as _, Value};

use crate::config::Config;
use crate::ids::{JobId, LocalId, Shard, WorkerId};

mod audio;
mod collections;
mod control;
mod doorbell;
mod durable;
mod error;
mod events;
mod fitness;
pub mod keys;
mod link;
mod list;
mod place;
mod providers;
mod read;
mod record;
mod scripts;
mod server;
mod stash;
mod submit;
mod tallies;
mod turn;
mod upkeep;
mod work;

pub use audio::AUDIO_PIECE;
pub use collections::{Collection, CollectionPage, Completed, Pass, Put, Shelved};
pub use control::{Annotated, Cancelled, DRAIN, Retried};
pub use doorbell::Doorbell;
pub use error::Error;
pub use events::{Chunk, ChunkId, Event, EventKind, Events, Subscription};
pub use fitness::Unfit;
pub use list::{Cursor, Filter, Page};
pub use place::Place;
pub use providers::{
    CallReport, Circuit, Draw, Drawn, ITSELF, MayTry, ProviderReport, ProviderStatus, Refund, Standing, Trial,
    TurnStatus,
};
pub use read::{KeyView, PoolNumbers, WorkerInfo};
pub use scripts::Clock;
pub(crate) use scripts::NAMES as SCRIPTS;
#[cfg(feature = "sabotage")]
pub use scripts::Sabotage;
pub use server::{ServerLoad, ServerLook};
pub use stash::{Form, StoredResult};
pub use submit::{BodyHash, Limits, NewJob, Reservation, Submitted};
pub use tallies::{OTHER, Outcomes, Stage, Tallies};
pub use turn::{Turn, TurnCall, Waiting, Wish};
pub use upkeep::{Promoted, ReclaimPolicy, Reclaimed};
pub use work::{Claim, ClaimedJob, Held, Output, Published, Renewal, Settled, Settlement, Taken, Verdict};

/// How many changes of jobs are announced at the same time.
const ANNOUNCED_AT_ONCE: usize = 64;

/// A handle on the queue; cheap to clone. All methods are cancel safe in this sense: dropping one may leave its move
/// done or not done, never half done.
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: link::Address,
    link: link::Link,
    scripts: Arc<scripts::Scripts>,
}

impl Queue {
    /// A queue on the Redis at `url`; connects at the first call.
    ///
    /// `patience` bounds every call, tries and reconnects included.
    pub fn open(url: &str, patience: Duration) -> Result<Self, Error> {
        Self::with_clock(url, patience, Clock::of_program())
    }

    /// As [`Queue::open`], on the Redis of a configuration, with its certificates.
    pub fn of(config: &Config, patience: Duration) -> Result<Self, Error> {
        let address = link::Address::parse(config.redis_url.expose())?.with(&config.redis_tls)?;
        Self::at(address, patience, Clock::of_program())
    }

    /// A queue whose scripts read the given clock.
    pub fn with_clock(url: &str, patience: Duration, clock: Clock) -> Result<Self, Error> {
        Self::at(link::Address::parse(url)?, patience, clock)
    }

    fn at(address: link::Address, patience: Duration, clock: Clock) -> Result<Self, Error> {
        let link = link::Link::new(&address, patience)?;
        let scripts = Arc::new(scripts::Scripts::new(clock, link.is_cluster()));
        Ok(Self { inner: Arc::new(Inner { address, link, scripts }) })
    }

    /// A handle with connections of its own, for work that must not wait behind others' replies.
    pub fn separate(&self, patience: Duration) -> Result<Self, Error> {
        let Inner { address, scripts, .. } = &*self.inner;
        let link = link::Link::new(address, patience)?;
        Ok(Self { inner: Arc::new(Inner { address: address.clone(), link, scripts: scripts.clone() }) })
    }

    /// A handle over the same connections for calls of another patience.
    #[must_use]
    pub fn within(&self, patience: Duration) -> Self {
        let Inner { address, link, scripts } = &*self.inner;
        let (address, link, scripts) = (address.clone(), link.within(patience), scripts.clone());
        Self { inner: Arc::new(Inner { address, link, scripts }) }
    }

    /// A fingerprint of the scripts: two processes with the same one make the same moves.
    pub fn scripts_fingerprint(&self) -> String {
        scripts::fingerprint(&self.inner.scripts)
    }

    /// Asks Redis for a sign of life; of a cluster, any node.
    pub async fn ping(&self) -> Result<(), Error> {
        self.inner.link.call(&redis::cmd("PING")).await.map(drop)
    }

    /// Asks for a sign of life where a shard lives.
    pub async fn ping_shard(&self, shard: &Shard) -> Result<(), Error> {
        self.inner.link.call_at(shard, &redis::cmd("PING")).await.map(drop)
    }

    /// Notes that a pool exists with this many shards. The number is fixed at first start: an id tells its shard.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the pool was first started with another number.
    pub async fn register_pool(&self, pool: &crate::ids::PoolName, shards: u16) -> Result<(), Error> {
        let mut set = redis::cmd("HSETNX");
        set.arg(keys::POOLS).arg(pool.as_str()).arg(shards);
        self.inner.link.call(&set).await?;
        let mut get = redis::cmd("HGET");
        get.arg(keys::POOLS).arg(pool.as_str());
        let stored = u16::from_redis_value(self.inner.link.call(&get).await?)?;
        if stored == shards {
            Ok(())
        } else {
            Err(Error::Mismatch(format!(
                "pools.{pool}.shards is {shards}, but the pool was first started with {stored}"
            )))
        }
    }

    /// Every pool that was ever registered, with its number of shards.
    pub async fn registered_pools(&self) -> Result<Vec<(crate::ids::PoolName, u16)>, Error> {
        let mut get = redis::cmd("HGETALL");
        get.arg(keys::POOLS);
        let pools = Vec::<(String, u16)>::from_redis_value(self.inner.link.call(&get).await?)?;
        pools.into_iter().map(|(name, shards)| Ok((name.parse().map_err(Error::corrupt)?, shards))).collect()
    }

    /// Runs a move on a shard and returns its reply.
    async fn run(&self, script: &scripts::Script, shard: &Shard, args: impl FnOnce(&mut Cmd)) -> Result<Value, Error> {
        self.run_on(script, &keys::base(shard), args).await
    }

    /// Runs a script on a provider.
    async fn run_at(
        &self,
        script: &scripts::Script,
        provider: &str,
        args: impl FnOnce(&mut Cmd),
    ) -> Result<Value, Error> {
        self.run_on(script, &keys::provider(provider), args).await
    }

    async fn run_on(&self, script: &scripts::Script, base: &str, args: impl FnOnce(&mut Cmd)) -> Result<Value, Error> {
        let mut command = script.command_at(base);
        args(&mut command);
        tracing::trace!(script = script.name, base, "run");
        let begun = tokio::time::Instant::now();
        let answer = self.inner.link.eval(script, &command).await;
        crate::metrics::redis_call(script.name, begun.elapsed());
        answer
    }

    /// Publishes what became of jobs that somebody watches, as `watched` of the scripts names them. Best effort: readers
    /// re-read the record every 2 s.
    fn announce(&self, shard: &Shard, watched: Value) -> Result<(), Error> {
        self.announce_with(shard, watched, Vec::new)
    }

    /// As [`Queue::announce`], of a script that does not send back the ids which its caller knows (`watched_beside`).
    fn announce_with(&self, shard: &Shard, watched: Value, known: impl FnOnce() -> Vec<LocalId>) -> Result<(), Error> {
        let names = Vec::<Value>::from_redis_value(watched)?;
        if names.is_empty() {
            return Ok(());
        }
        let unsure = matches!(&names[0], Value::BulkString(mark) if mark == b"?");
        let mut ids = if unsure { known() } else { Vec::new() };
        ids.extend(names.iter().skip(usize::from(unsure)).filter_map(|id| parse_id(id).ok()));
        ids.sort_unstable();
        ids.dedup();
        let (queue, shard) = (self.clone(), shard.clone());
        tokio::spawn(async move {
            let watched = if unsure { queue.watched(&shard, ids).await } else { Ok(ids) };
            // At the same time: calls that are under way together share their way to Redis and back.
            let announce = async |local| {
                if let Err(error) = queue.announce_one(&JobId { shard: shard.clone(), local }).await {
                    tracing::debug!(%error, "event not announced");
                }
            };
            let watched = futures_util::stream::iter(watched.unwrap_or_default());
            watched.for_each_concurrent(ANNOUNCED_AT_ONCE, announce).await;
        });
        Ok(())
    }

    /// Those of the ids whose channel has a subscriber.
    async fn watched(&self, shard: &Shard, ids: Vec<LocalId>) -> Result<Vec<LocalId>, Error> {
        let mut count = redis::cmd("PUBSUB");
        count.arg(self.verbs().numsub);
        for local in &ids {
            count.arg(keys::events_channel(&JobId { shard: shard.clone(), local: *local }));
        }
        let counts = Vec::<(Value, u64)>::from_redis_value(self.inner.link.call(&count).await?)?;
        Ok(ids.into_iter().zip(counts).filter(|(_, (_, readers))| *readers > 0).map(|(id, _)| id).collect())
    }

    /// The commands that announce events: those that the scripts use.
    fn verbs(&self) -> &'static events::Verbs {
        if self.inner.link.is_cluster() { &events::SHARDED } else { &events::PLAIN }
    }

    async fn announce_one(&self, id: &JobId) -> Result<(), Error> {
        let Some(job) = self.get(id, false).await? else { return Ok(()) };
        let event = Event::of_job(&job);
        let mut publish = redis::cmd(self.verbs().publish);
        publish.arg(keys::events_channel(id)).arg(event.payload());
        self.inner.link.call(&publish).await.map(drop)
    }
}

/// Reads a list of ids that a script returned.
fn parse_ids(value: Value) -> Result<Vec<LocalId>, Error> {
    Vec::<Value>::from_redis_value(value)?.iter().map(parse_id).collect()
}

fn parse_id(value: &Value) -> Result<LocalId, Error> {
    let Value::BulkString(text) = value else { return Err(Error::corrupt("an id that is no text")) };
    str::from_utf8(text).map_err(Error::corrupt)?.parse().map_err(Error::corrupt)
}

/// Reads a script's reply of exactly `N` parts.
fn parts<const N: usize>(value: Value) -> Result<[Value; N], Error> {
    let list = Vec::<Value>::from_redis_value(value)?;
    list.try_into().map_err(|list: Vec<Value>| Error::corrupt(format!("a reply of {} parts, not {N}", list.len())))
}

/// A number of milliseconds, as the scripts take it.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The consumer name under which entries are parked that nobody holds.
fn parking() -> WorkerId {
    "reaper".parse().expect("a plain word is a worker id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_takes_little_room_in_its_callers_future() {
        let queue = Queue::open("redis://127.0.0.1:1", Duration::ZERO).unwrap();
        // What is needed once per connection is on the heap: every request and attempt holds such a future, and moves it.
        assert!(size_of_val(&queue.ping()) < 1024, "{} bytes", size_of_val(&queue.ping()));
    }
}
