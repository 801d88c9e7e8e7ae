//! Concurrency keys: what a reloaded page reconnects to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use overshot_common::ids::PoolName;
use overshot_common::job::Job;
use serde::Serialize;

use crate::app::App;
use crate::error::ApiError;
use crate::params::{Pairs, Segment};
use crate::wire::job::KEY_BYTES_MAX;
use crate::wire::sized;

/// Who holds a key, who waits for it, and who had it last.
#[derive(Serialize, Default)]
pub(crate) struct Key {
    active: Option<Job>,
    waiting: Vec<Job>,
    latest: Option<Job>,
}

/// `GET /api/v1/keys/{concurrency_key}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Segment(key): Segment,
    query: Pairs,
) -> Result<Json<Key>, ApiError> {
    sized(&key, KEY_BYTES_MAX).map_err(|problem| ApiError::invalid("concurrency_key", problem))?;
    let pool = match query.one("pool")? {
        Some(name) => app.known_pool(name).await?,
        None => app
            .config
            .default_pool()
            .cloned()
            .ok_or_else(|| ApiError::invalid("pool", "is required: there are several pools"))?,
    };
    let mut found = Key::default();
    for shard in PoolName::shards(&pool) {
        let view = app.queue.key(&shard, &key).await?;
        found.active = found.active.or(view.active);
        found.waiting.extend(view.waiting);
        found.latest = found.latest.into_iter().chain(view.latest).max_by_key(|job| job.created_at);
    }
    Ok(Json(found))
}
