//! Concurrency keys: what a reloaded page reconnects to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use overshot_common::job::Job;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;
use crate::params::{By, Pairs, Segment};
use crate::wire::job::KEY_BYTES_MAX;
use crate::wire::sized;

/// Who holds a key, who waits for it, and who had it last.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    active: Option<Job>,
    waiting: Vec<Job>,
    latest: Option<Job>,
}

/// Shows who holds a concurrency key, who waits for it, and who had it last.
#[utoipa::path(
    get,
    path = "/api/v1/keys/{*concurrency_key}",
    tag = "jobs",
    params(
        ("concurrency_key" = String, Path, description = "the key, `/` included", min_length = 1, max_length = 256),
        ("pool" = Option<String>, Query, description = "the key's pool; needed where there are several"),
    ),
    responses(
        (status = 200, description = "the jobs of the key; nobody may hold it", body = Key),
        (status = 404, description = "there is no such pool"),
        (status = 422, description = "the key is too long, or the pool is missing"),
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    By(caller): By,
    Segment(key): Segment,
    query: Pairs,
) -> Result<Json<Key>, ApiError> {
    sized(&key, KEY_BYTES_MAX).map_err(|problem| ApiError::invalid("concurrency_key", problem))?;
    let (pool, shards) = match query.one("pool")? {
        Some(name) => app.known_pool(name).await?,
        None => app
            .config
            .default_pool()
            .and_then(|name| Some((name.clone(), app.config.pool(name)?.shards)))
            .ok_or_else(|| ApiError::invalid("pool", "is required: there are several pools"))?,
    };
    let view = app.queue.key(&pool.shard_of_key(&key, shards), &key).await?;
    let own = |job: &Job| caller.sees_job(job);
    let waiting = view.waiting.into_iter().filter(own).collect();
    Ok(Json(Key { active: view.active.filter(own), waiting, latest: view.latest.filter(own) }))
}
