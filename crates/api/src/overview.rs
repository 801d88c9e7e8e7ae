//! The fleet in counters: what `/api/v1/stats` and `/health/detail` both tell. Reading them walks no job.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use overshot_common::ids::PoolName;
use overshot_common::job::Status;
use overshot_common::queue::{self, OTHER, Outcomes, PoolNumbers, Queue, Stage, Tallies};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::handlers::pools::numbers;

/// Most services that are told apart over all pools.
const MOST_SERVICES: usize = 64;

/// One pool in counters.
#[derive(Debug)]
pub(crate) struct PoolOverview {
    pub(crate) pool: PoolName,
    pub(crate) configured: bool,
    pub(crate) numbers: PoolNumbers,
    pub(crate) tallies: Tallies,
}

/// Reads every pool over `queue`.
pub(crate) async fn read(app: &App, queue: &Queue) -> Result<Vec<PoolOverview>, queue::Error> {
    let pools = app.all_pools_over(queue).await?;
    try_join_all(pools.into_iter().map(async |(pool, shards)| {
        let of_shards = try_join_all(pool.shards(shards).map(async |shard| {
            let tallies = queue.tallies(&shard).await?;
            app.paces.note(&shard, &tallies);
            Ok(tallies)
        }));
        let numbers = numbers(queue, (&pool, shards), app.config.worker.liveness);
        let (numbers, of_shards) = futures_util::try_join!(numbers, of_shards)?;
        let mut tallies = Tallies::default();
        of_shards.iter().for_each(|of_shard| tallies.merge(of_shard));
        let configured = app.config.pools.contains_key(&pool);
        Ok(PoolOverview { pool, configured, numbers, tallies })
    }))
    .await
}

/// How jobs ended, as callers see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Ended {
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) expired: u64,
    pub(crate) retried: u64,
}

impl From<&Outcomes> for Ended {
    fn from(outcomes: &Outcomes) -> Self {
        Self {
            completed: outcomes.completed,
            failed: outcomes.all_failed(),
            cancelled: outcomes.cancelled,
            expired: outcomes.expired,
            retried: outcomes.all_retried(),
        }
    }
}

/// Counters of whatever it is: a stage, a pool, all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Counted {
    pub(crate) accepted: u64,
    /// Jobs that have not ended.
    pub(crate) open: u64,
    #[serde(flatten)]
    pub(crate) ended: Ended,
    pub(crate) last_24h: Ended,
}

impl From<&Stage> for Counted {
    fn from(stage: &Stage) -> Self {
        let (ended, last_24h) = (Ended::from(&stage.total), Ended::from(&stage.last_day));
        Self { accepted: stage.accepted, open: stage.open(), ended, last_24h }
    }
}

/// A task and its model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct StageView {
    #[schema(value_type = String)]
    pub(crate) pool: PoolName,
    pub(crate) task: String,
    pub(crate) model: Option<String>,
    #[serde(flatten)]
    pub(crate) counted: Counted,
}

/// How often a code ended jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct OfCode {
    pub(crate) total: u64,
    pub(crate) last_24h: u64,
}

impl PoolOverview {
    /// All stages together.
    pub(crate) fn sum(&self) -> Stage {
        let mut sum = Stage::default();
        self.tallies.stages.values().for_each(|stage| sum.merge(stage));
        sum
    }

    /// Every task and model.
    pub(crate) fn stages(&self) -> impl Iterator<Item = StageView> {
        self.tallies.stages.iter().map(|((task, model), stage)| StageView {
            pool: self.pool.clone(),
            task: task.clone(),
            model: model.clone(),
            counted: stage.into(),
        })
    }
}

/// Sums over pools: by status, and of all stages.
pub(crate) fn totals(pools: &[PoolOverview]) -> (BTreeMap<&'static str, u64>, Stage) {
    let (mut by_status, mut sum) = (BTreeMap::new(), Stage::default());
    for pool in pools {
        for (status, count) in Status::ALL.iter().zip(pool.numbers.by_status) {
            *by_status.entry(status.as_str()).or_default() += count;
        }
        sum.merge(&pool.sum());
    }
    (by_status, sum)
}

/// Jobs accepted by owner's service; those with few jobs together, where there are too many.
pub(crate) fn services(pools: &[PoolOverview]) -> BTreeMap<String, u64> {
    let mut sums = Tallies::default();
    pools.iter().for_each(|pool| sums.merge(&pool.tallies));
    let mut services: Vec<_> = sums.services.into_iter().collect();
    services.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest: u64 = services.iter().skip(MOST_SERVICES).map(|(_, count)| count).sum();
    services.truncate(MOST_SERVICES);
    let mut services: BTreeMap<_, _> = services.into_iter().collect();
    if rest > 0 {
        *services.entry(OTHER.to_owned()).or_default() += rest;
    }
    services
}

/// Codes that ended jobs, or that attempts failed with before another, from their counts ever and in the last day.
pub(crate) fn by_code(ever: &BTreeMap<String, u64>, last_day: &BTreeMap<String, u64>) -> BTreeMap<String, OfCode> {
    let of = |(code, total): (&String, &u64)| {
        (code.clone(), OfCode { total: *total, last_24h: last_day.get(code).copied().unwrap_or(0) })
    };
    ever.iter().map(of).collect()
}
