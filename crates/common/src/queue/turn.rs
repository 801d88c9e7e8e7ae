//! Models that take turns: what waits for which, and which of them a provider runs that has room for one at a time.

use std::time::Duration;

use redis::{FromRedisValue as _, Value};

use super::error::Error;
use super::{Queue, ms, parts};
use crate::config::TURN_LABEL_OTHER;
use crate::ids::{Shard, WorkerId};

/// How many of the jobs whose models share a label are looked at; as many as a claim looks at.
const LOOKED_AT: usize = 64;

/// Jobs that wait for their model's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The label.
    pub label: String,
    /// Their model; several models may share a label.
    pub model: String,
    /// How long the one that waits longest has been due.
    pub waited: Duration,
}

/// A worker's word on a provider's turn.
#[derive(Debug)]
pub struct TurnCall<'a> {
    /// Who speaks.
    pub worker: &'a WorkerId,
    /// The model of its jobs in flight.
    pub in_flight: Option<&'a str>,
    /// How long a right lasts without another word.
    pub lasts: Duration,
    /// What it wants.
    pub wish: Wish<'a>,
}

/// What a worker wants of a provider's turn.
#[derive(Debug)]
pub enum Wish<'a> {
    /// To begin jobs of one of these models.
    Begin {
        /// The models of jobs that wait, and how long they have.
        waiting: &'a [(&'a str, Duration)],
        /// What the provider has loaded, as far as is known, by the names that `waiting` has.
        loaded: &'a [&'a str],
        /// After so long without its turn a model gets it as soon as the jobs in flight are over.
        max_wait: Duration,
        /// So long after its last job a model keeps its turn for another one.
        linger: Duration,
    },
    /// To go on with its jobs in flight.
    Keep,
    /// Nothing: none is in flight.
    Leave,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Jobs of that model may run.
    Granted(String),
    /// Not now; to be asked again after that time, or when there is news of the provider.
    Refused(Option<Duration>),
}

impl Queue {
    /// For whose turn jobs of a shard wait, in a pool that drains by model.
    pub async fn turns(&self, shard: &Shard) -> Result<Vec<Waiting>, Error> {
        let reply = self.run(&self.inner.scripts.turns, shard, |command| {
            command.arg(TURN_LABEL_OTHER).arg(LOOKED_AT);
        });
        let waiting = Vec::<Value>::from_redis_value(reply.await?)?.into_iter().map(|turn| {
            let (label, model, waited) = <(String, String, u64)>::from_redis_value(turn)?;
            Ok(Waiting { label, model, waited: Duration::from_millis(waited) })
        });
        waiting.collect()
    }

    /// Speaks for a worker about the turn of a provider that runs one model at a time.
    pub async fn take_turn(&self, provider: &str, call: &TurnCall<'_>) -> Result<Turn, Error> {
        let reply = self.run_at(&self.inner.scripts.provider_turn, provider, |command| {
            let what = match call.wish {
                Wish::Begin { .. } => "begin",
                Wish::Keep => "keep",
                Wish::Leave => "leave",
            };
            command.arg(call.worker.as_str()).arg(what).arg(call.in_flight.unwrap_or_default()).arg(ms(call.lasts));
            if let Wish::Begin { waiting, loaded, max_wait, linger } = call.wish {
                command.arg(ms(max_wait)).arg(ms(linger)).arg(loaded.join("\n"));
                for (model, waited) in waiting {
                    command.arg(model).arg(ms(*waited));
                }
            }
        });
        let [granted, model, wait] = parts(reply.await?)?;
        let wait = u64::from_redis_value(wait)?;
        match bool::from_redis_value(granted)? {
            true => Ok(Turn::Granted(String::from_redis_value(model)?)),
            false => Ok(Turn::Refused((wait > 0).then(|| Duration::from_millis(wait)))),
        }
    }
}
