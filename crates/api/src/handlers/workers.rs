//! The live workers, merged over the shards in which they beat.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::future::try_join_all;
use overshot_common::ids::{Shard, WorkerId};
use overshot_common::job::times;
use overshot_common::queue::{self, WorkerInfo};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::audit;
use crate::error::ApiError;
use crate::openapi::bodies;
use crate::params::{By, Segment};

/// How long a worker may take to say that it drains, and how often it is asked.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(200);

/// The live workers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    /// Always `list`.
    object: &'static str,
    #[schema(value_type = Vec<bodies::Worker>)]
    data: Vec<Value>,
}

/// Lists the live workers: what each last said of itself.
#[utoipa::path(
    get,
    path = "/api/v1/workers",
    tag = "fleet",
    responses((status = 200, description = "the live workers", body = WorkerList)),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<WorkerList>, ApiError> {
    let beats = beats(&app).await?;
    Ok(Json(WorkerList { object: "list", data: merge(beats.into_iter().map(|(_, beat)| beat)) }))
}

/// Tells a worker to drain: it takes no more jobs, finishes within its grace, hands back the rest, and ends.
///
/// Answered once the worker says that it drains. `/api/v1/workers` lists it until it has left.
#[utoipa::path(
    post,
    path = "/api/v1/workers/{id}/drain",
    tag = "fleet",
    params(("id" = String, Path, description = "the worker's id", example = "host-0123456789abcdef")),
    responses(
        (status = 202, description = "it drains", body = bodies::Worker),
        (status = 404, description = "no live worker has this id"),
        (status = 503, description = "the worker did not answer; send the request again"),
    ),
)]
pub(crate) async fn drain(
    State(app): State<Arc<App>>,
    By(caller): By,
    Segment(id): Segment,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "worker_not_found", "no live worker has this id");
    let worker: WorkerId = id.parse().map_err(|_| unknown())?;
    let (deadline, mut asked) = (Instant::now() + ANSWERED_WITHIN, None);
    loop {
        let own: Vec<_> = beats(&app).await?.into_iter().filter(|(_, beat)| beat.id == worker).collect();
        let shard = own.first().map(|(shard, _)| shard.clone());
        let said = merge(own.into_iter().map(|(_, beat)| beat)).pop();
        let (shard, said) = match (shard, said, asked.take()) {
            (Some(shard), Some(said), _) if said["draining"] != true => (shard, said),
            // One that had nothing to do may be gone before it could say that it drains.
            (_, Some(said), _) | (_, None, Some(said)) => {
                audit::note(&caller, "drain", &worker, 1);
                return Ok((StatusCode::ACCEPTED, Json(said)));
            }
            (_, None, None) => return Err(unknown()),
        };
        if Instant::now() >= deadline {
            return Err(ApiError::unavailable("worker_silent", "the worker does not say that it drains"));
        }
        app.queue.ask_to_drain(&shard, &worker).await?;
        asked = Some(said);
        tokio::time::sleep(LOOK).await;
    }
}

/// The last beat of each live worker in each shard.
async fn beats(app: &App) -> Result<Vec<(Shard, WorkerInfo)>, ApiError> {
    let shards = app.shards(None).await?;
    let beats = shards.into_iter().map(async |shard| {
        let beats = app.queue.workers(&shard, app.config.worker.liveness).await?;
        Ok::<_, queue::Error>(beats.into_iter().map(move |beat| (shard.clone(), beat)).collect::<Vec<_>>())
    });
    Ok(try_join_all(beats).await?.into_iter().flatten().collect())
}

/// One object per worker: what it last said of itself, and every pool in which it beat.
fn merge(beats: impl Iterator<Item = WorkerInfo>) -> Vec<Value> {
    #[derive(Default)]
    struct Merged {
        last_beat: u64,
        pools: Vec<String>,
        said: Map<String, Value>,
    }
    let mut by_id = BTreeMap::<String, Merged>::new();
    for beat in beats {
        let info = serde_json::from_str(beat.info.get()).unwrap_or_default();
        let merged = by_id.entry(beat.id.to_string()).or_default();
        if merged.pools.last().is_none_or(|last| *last != beat.pool.as_str()) {
            merged.pools.push(beat.pool.to_string());
        }
        if beat.last_beat >= merged.last_beat {
            (merged.last_beat, merged.said) = (beat.last_beat, info);
        }
    }
    let workers = by_id.into_iter().map(|(id, Merged { last_beat, pools, said: mut worker })| {
        worker.insert("id".into(), id.into());
        worker.insert("object".into(), "worker".into());
        worker.entry("pools").or_insert_with(|| pools.into());
        let last_beat = times::from_ms(last_beat).map(times::text);
        worker.insert("last_beat".into(), last_beat.into());
        Value::Object(worker)
    });
    workers.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn beat(pool: &str, last_beat: u64, info: &str) -> WorkerInfo {
        let (id, pool) = ("w-1".parse().unwrap(), pool.parse().unwrap());
        WorkerInfo { id, pool, last_beat, info: serde_json::from_str(info).unwrap() }
    }

    #[test]
    fn a_worker_of_two_pools_is_listed_once_with_its_last_word() {
        let beats = [beat("a", 2000, r#"{"slots":2}"#), beat("b", 1000, r#"{"slots":1}"#)];
        let workers = merge(beats.into_iter());
        assert_eq!(workers.len(), 1);
        assert_eq!(workers[0]["slots"], 2);
        assert_eq!(workers[0]["pools"], json!(["a", "b"]));
        assert_eq!(workers[0]["last_beat"], "1970-01-01T00:00:02.000Z");
    }
}
