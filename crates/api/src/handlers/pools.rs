//! Pools in numbers; pause and resume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::future::try_join_all;
use overshot_common::ids::PoolName;
use overshot_common::job::{Priority, Status};
use overshot_common::queue::{self, PoolNumbers, Queue};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::params::Segment;

/// A pool as callers see it.
#[derive(Debug, Serialize)]
pub(crate) struct Pool {
    pool: PoolName,
    object: &'static str,
    paused: bool,
    /// No longer configured: nobody here looks after its jobs.
    orphaned: bool,
    live_workers: u64,
    by_status: BTreeMap<&'static str, u64>,
    by_priority: BTreeMap<&'static str, u64>,
    queued_bytes: u64,
    demand: u64,
    oldest_queued_seconds: f64,
}

impl Pool {
    fn new(pool: PoolName, orphaned: bool, numbers: &PoolNumbers) -> Self {
        let names = |all: &'static [Status]| all.iter().map(|status| status.as_str());
        let priorities = Priority::ALL.iter().map(|priority| priority.as_str());
        Self {
            pool,
            object: "pool",
            paused: numbers.paused,
            orphaned,
            live_workers: numbers.live_workers,
            by_status: names(Status::ALL).zip(numbers.by_status).collect(),
            by_priority: priorities.zip(numbers.by_priority).collect(),
            queued_bytes: numbers.queued_bytes,
            demand: numbers.demand(),
            oldest_queued_seconds: numbers.oldest_queued.as_secs_f64(),
        }
    }

    fn has_jobs(&self) -> bool {
        self.by_status.values().any(|count| *count > 0)
    }
}

/// The numbers of all shards of a pool together.
pub(crate) async fn numbers(
    queue: &Queue,
    (pool, shards): (&PoolName, u16),
    liveness: Duration,
) -> Result<PoolNumbers, queue::Error> {
    let mut sum = PoolNumbers::default();
    let numbers = pool.shards(shards).map(async |shard| queue.numbers(&shard, liveness).await);
    try_join_all(numbers).await?.iter().for_each(|numbers| sum.add(numbers));
    Ok(sum)
}

async fn read(app: &App, (pool, shards): (PoolName, u16)) -> Result<Pool, ApiError> {
    let numbers = numbers(&app.queue, (&pool, shards), app.config.worker.liveness).await?;
    let orphaned = !app.config.pools.contains_key(&pool);
    Ok(Pool::new(pool, orphaned, &numbers))
}

/// `GET /api/v1/pools`
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let pools = app.all_pools().await?;
    let mut pools = try_join_all(pools.into_iter().map(|pool| read(&app, pool))).await?;
    pools.retain(|pool| !pool.orphaned || pool.has_jobs());
    Ok(Json(json!({ "object": "list", "data": pools })))
}

/// `GET /api/v1/pools/{pool}`
pub(crate) async fn show(State(app): State<Arc<App>>, Segment(name): Segment) -> Result<Json<Pool>, ApiError> {
    read(&app, app.known_pool(&name).await?).await.map(Json)
}

/// `GET /api/v1/pools/{pool}/demand`
pub(crate) async fn demand(State(app): State<Arc<App>>, Segment(name): Segment) -> Result<Json<Value>, ApiError> {
    let pool = read(&app, app.known_pool(&name).await?).await?;
    Ok(Json(json!({ "pool": pool.pool, "demand": pool.demand })))
}

/// `POST /api/v1/pools/{pool}/pause`
pub(crate) async fn pause(State(app): State<Arc<App>>, Segment(name): Segment) -> Result<Json<Pool>, ApiError> {
    set_paused(&app, &name, true).await
}

/// `POST /api/v1/pools/{pool}/resume`
pub(crate) async fn resume(State(app): State<Arc<App>>, Segment(name): Segment) -> Result<Json<Pool>, ApiError> {
    set_paused(&app, &name, false).await
}

async fn set_paused(app: &App, name: &str, paused: bool) -> Result<Json<Pool>, ApiError> {
    let (pool, shards) = app.known_pool(name).await?;
    try_join_all(pool.shards(shards).map(async |shard| app.queue.pause(&shard, paused).await)).await?;
    tracing::info!(%pool, paused, "pool paused or resumed");
    read(app, (pool, shards)).await.map(Json)
}
