//! The counters of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use overshot_common::ids::PoolName;
use overshot_common::job::{Priority, Status, times};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;
use crate::overview::{self, Counted, OfCode, StageView};

/// The counters of the fleet.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// Always `stats`.
    object: &'static str,
    generated_at: String,
    totals: Totals,
    /// Codes with which jobs ended.
    errors: BTreeMap<String, OfCode>,
    /// Codes of attempts after which the job ran again.
    retries: BTreeMap<String, OfCode>,
    pools: Vec<Pool>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsTotals)]
struct Totals {
    by_status: BTreeMap<&'static str, u64>,
    by_owner_service: BTreeMap<String, u64>,
    #[serde(flatten)]
    counted: Counted,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsOfPool)]
struct Pool {
    #[schema(value_type = String)]
    pool: PoolName,
    by_status: BTreeMap<&'static str, u64>,
    by_priority: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    counted: Counted,
    stages: Vec<StageView>,
}

/// Counters per pool, task and model, ever and of the last 24 h.
#[utoipa::path(
    get,
    path = "/api/v1/stats",
    tag = "fleet",
    responses((status = 200, description = "the counters", body = Stats)),
)]
pub(crate) async fn show(State(app): State<Arc<App>>) -> Result<Json<Stats>, ApiError> {
    let mut pools = overview::read(&app, &app.queue).await?;
    pools.retain(|pool| pool.configured || pool.numbers.by_status.iter().any(|count| *count > 0));
    let (by_status, sum) = overview::totals(&pools);
    let by_owner_service = overview::services(&pools);
    let mut errors = overview::by_code(&sum.total.failed, &sum.last_day.failed);
    if sum.total.expired > 0 {
        let expired = OfCode { total: sum.total.expired, last_24h: sum.last_day.expired };
        errors.insert(overshot_common::code::ErrorCode::QueueTimeout.as_str().to_owned(), expired);
    }
    let view = |pool: &overview::PoolOverview| Pool {
        pool: pool.pool.clone(),
        by_status: Status::ALL.iter().map(|status| status.as_str()).zip(pool.numbers.by_status).collect(),
        by_priority: Priority::ALL.iter().map(|priority| priority.as_str()).zip(pool.numbers.by_priority).collect(),
        counted: (&pool.sum()).into(),
        stages: pool.stages().collect(),
    };
    Ok(Json(Stats {
        object: "stats",
        generated_at: times::text(jiff::Timestamp::now()),
        retries: overview::by_code(&sum.total.retried, &sum.last_day.retried),
        totals: Totals { by_status, by_owner_service, counted: (&sum).into() },
        errors,
        pools: pools.iter().map(view).collect(),
    }))
}
