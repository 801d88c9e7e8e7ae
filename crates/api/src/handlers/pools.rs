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
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::audit;
use crate::error::ApiError;
use crate::openapi::bodies::PoolPath;
use crate::params::{By, Segment};

/// A pool as callers see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pool {
    #[schema(value_type = String)]
    pool: PoolName,
    /// Always `pool`.
    object: &'static str,
    paused: bool,
    /// No longer configured: nobody here looks after its jobs.
    orphaned: bool,
    live_workers: u64,
    by_status: BTreeMap<&'static str, u64>,
    by_priority: BTreeMap<&'static str, u64>,
    queued_bytes: u64,
    /// Queued, due and running jobs: the number to scale on.
    demand: u64,
    oldest_queued_seconds: f64,
}

/// Every pool.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PoolList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Pool>,
}

/// What to scale on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Demand {
    #[schema(value_type = String)]
    pool: PoolName,
    demand: u64,
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

/// Lists the pools, and those that are no longer configured but still have jobs.
#[utoipa::path(
    get,
    path = "/api/v1/pools",
    tag = "fleet",
    responses((status = 200, description = "every pool in numbers", body = PoolList)),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<PoolList>, ApiError> {
    let pools = app.all_pools().await?;
    let mut pools = try_join_all(pools.into_iter().map(|pool| read(&app, pool))).await?;
    pools.retain(|pool| !pool.orphaned || pool.has_jobs());
    Ok(Json(PoolList { object: "list", data: pools }))
}

/// Shows a pool in numbers.
#[utoipa::path(
    get,
    path = "/api/v1/pools/{pool}",
    tag = "fleet",
    params(PoolPath),
    responses(
        (status = 200, description = "its jobs by status and priority, its workers", body = Pool),
        (status = 404, description = "there is no such pool"),
    ),
)]
pub(crate) async fn show(State(app): State<Arc<App>>, Segment(name): Segment) -> Result<Json<Pool>, ApiError> {
    read(&app, app.known_pool(&name).await?).await.map(Json)
}

/// Tells the number to scale a pool's workers on.
///
/// Queued, due and running jobs; blocked ones and those not due yet do not count, a paused pool counts only what runs.
#[utoipa::path(
    get,
    path = "/api/v1/pools/{pool}/demand",
    tag = "fleet",
    params(PoolPath),
    responses(
        (status = 200, description = "the demand", body = Demand),
        (status = 404, description = "there is no such pool"),
    ),
)]
pub(crate) async fn demand(State(app): State<Arc<App>>, Segment(name): Segment) -> Result<Json<Demand>, ApiError> {
    let pool = read(&app, app.known_pool(&name).await?).await?;
    Ok(Json(Demand { pool: pool.pool, demand: pool.demand }))
}

/// Stops a pool's claims: what runs goes on, nothing new begins.
#[utoipa::path(
    post,
    path = "/api/v1/pools/{pool}/pause",
    tag = "fleet",
    params(PoolPath),
    responses(
        (status = 200, description = "paused", body = Pool),
        (status = 404, description = "there is no such pool"),
    ),
)]
pub(crate) async fn pause(
    State(app): State<Arc<App>>,
    By(caller): By,
    Segment(name): Segment,
) -> Result<Json<Pool>, ApiError> {
    set_paused(&app, &caller, &name, true).await
}

/// Lets a pool's claims go on.
#[utoipa::path(
    post,
    path = "/api/v1/pools/{pool}/resume",
    tag = "fleet",
    params(PoolPath),
    responses(
        (status = 200, description = "no longer paused", body = Pool),
        (status = 404, description = "there is no such pool"),
    ),
)]
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    By(caller): By,
    Segment(name): Segment,
) -> Result<Json<Pool>, ApiError> {
    set_paused(&app, &caller, &name, false).await
}

async fn set_paused(app: &App, caller: &Caller, name: &str, paused: bool) -> Result<Json<Pool>, ApiError> {
    let (pool, shards) = app.known_pool(name).await?;
    try_join_all(pool.shards(shards).map(async |shard| app.queue.pause(&shard, paused).await)).await?;
    audit::note(caller, if paused { "pause" } else { "resume" }, &pool, 1);
    read(app, (pool, shards)).await.map(Json)
}
