//! The live workers, merged over the shards in which they beat.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures_util::future::try_join_all;
use overshot_common::job::times;
use overshot_common::queue::WorkerInfo;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;
use crate::openapi::bodies;

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
    let shards = app.shards(None).await?;
    let beats = try_join_all(shards.iter().map(|shard| app.queue.workers(shard, app.config.worker.liveness))).await?;
    let workers = merge(beats.into_iter().flatten());
    Ok(Json(WorkerList { object: "list", data: workers }))
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
