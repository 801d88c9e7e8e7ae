//! What all workers agree on about a provider, with a clock that the test owns.

use std::time::Duration;

use overshot_common::config::{BreakerConfig, LimitsConfig};
use overshot_common::ids::WorkerId;
use overshot_common::queue::{
    CallReport, Circuit, Clock, Draw, Drawn, ITSELF, MayTry, ProviderReport, Queue, Refund, Standing, Trial, Turn,
    TurnCall, Wish,
};
use redis::AsyncCommands as _;
use support::RedisServer;

use super::shop::{START, worker_id};

mod breaker;
mod limits;
mod turns;

/// A provider in a Redis of its own.
pub(super) struct Provider {
    pub(super) queue: Queue,
    pub(super) redis: redis::aio::MultiplexedConnection,
    _server: RedisServer,
    pub(super) now: u64,
    number: u64,
}

impl Provider {
    pub(super) async fn open() -> Self {
        let server = RedisServer::options().without_persistence().start().await;
        let queue = Queue::with_clock(&server.url(), Duration::from_secs(5), Clock::Test).unwrap();
        let redis = server.connection().await;
        let mut provider = Self { queue, redis, _server: server, now: START, number: 0 };
        provider.pass(0).await;
        provider
    }

    /// Moves the clock on by so many ms.
    pub(super) async fn pass(&mut self, ms: u64) {
        self.now += ms;
        let (): () = self.redis.set("overshot:{provider:p}:test-clock", self.now).await.unwrap();
    }

    pub(super) async fn report(&mut self, breaker: Option<BreakerConfig>, calls: &[CallReport]) -> Standing {
        self.number += 1;
        self.report_as(self.number, breaker, calls).await
    }

    async fn report_as(&mut self, number: u64, breaker: Option<BreakerConfig>, calls: &[CallReport]) -> Standing {
        let worker = worker_id("w");
        let report =
            ProviderReport { worker: &worker, number, breaker, spread: 0.0, latency: None, loaded: None, calls };
        self.queue.report_provider("p", &report).await.unwrap()
    }

    pub(super) async fn may_try(&self, holder: &str, model: &str, trial: Trial) -> MayTry {
        self.queue.try_provider("p", holder, model, Duration::from_secs(5), trial).await.unwrap()
    }
}
