//! The judgement on each component.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use overshot_common::job::Status;
use overshot_common::provider;
use overshot_common::queue::{self, PoolNumbers};
use serde_json::json;

use super::{Component, Level};
use crate::app::App;
use crate::infra::InfraView;
use crate::overview::{self, Ended, PoolOverview, StageView};
use crate::redis_watch::RedisState;

/// Is it there, may it be trusted, has it room.
pub(super) async fn redis(app: &App) -> Component {
    let state = *app.redis.borrow();
    if state == RedisState::Starting {
        return Component::down("redis", "redis was not found ready yet");
    }
    let begun = tokio::time::Instant::now();
    let (answered, look) = tokio::join!(app.ping.answered(&app.probe), app.probe.look_at_server());
    if !answered {
        return Component::down("redis", "redis does not answer");
    }
    let (used, most) = look.map_or((0, 0), |look| {
        let load = look.load_since(None);
        (load.used_memory, load.max_memory)
    });
    let round_trip_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let data = json!({ "round_trip_ms": round_trip_ms, "used_memory_bytes": used, "max_memory_bytes": most });
    let mut component = Component::new("redis", &data);
    if state == RedisState::Unfit {
        component = component.but(Level::Down, "redis may lose jobs; the log tells why");
    }
    if most > 0 && used as f64 > most as f64 * app.config.health.redis_memory {
        component = component.but(Level::Degraded, "redis' memory is nearly full");
    }
    component
}

/// Who answers the jobs, as the workers found them. What does not answer is down; of what nobody tells nothing is known.
pub(super) async fn providers(app: &App) -> Component {
    let looks = app.config.providers.iter().map(async |(name, config)| {
        let status = app.probe.provider_status(name).await;
        (name, config, status)
    });
    let (mut told, mut down, mut silent, mut unread) = (Vec::new(), 0, 0, None);
    for (name, config, status) in join_all(looks).await {
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                told.push(json!({ "provider": name, "ok": false, "error": "its state cannot be read" }));
                unread = Some(error);
                continue;
            }
        };
        let state = provider::state(config, &status);
        let stale = provider::is_stale(&status, app.config.worker.liveness);
        match state {
            provider::State::Down => down += 1,
            provider::State::Unconfigured => silent += 1,
            provider::State::Ok | provider::State::Asleep | provider::State::Waking => silent += u32::from(stale),
        }
        told.push(json!({
            "provider": name, "ok": state == provider::State::Ok, "state": state, "stale": stale,
            "in_flight": status.in_flight,
        }));
    }
    // `error` is open to all: names are in `data`.
    let mut component = Component::new("providers", &json!({ "providers": told }));
    if down > 0 {
        component = component.but(Level::Down, format!("providers that do not answer: {down}"));
    }
    if silent > 0 {
        component = component.but(Level::Degraded, format!("providers of which no worker has told of late: {silent}"));
    }
    match unread {
        Some(error) => component.but(Level::Degraded, format!("the state of providers cannot be read: {error}")),
        None => component,
    }
}

/// Their states could not be read in time.
pub(super) fn providers_unread() -> Component {
    Component::new("providers", &json!({ "providers": [] })).but(Level::Degraded, "their states cannot be read in time")
}

/// For how long the job that runs longest has run, of those whose leases end first.
pub(super) async fn oldest_running(app: &App) -> Result<Option<Duration>, queue::Error> {
    let shards = app.config.shards().flat_map(|(pool, shards)| pool.shards(shards)).collect::<Vec<_>>();
    let found = try_join_all(shards.iter().map(|shard| app.probe.oldest_running(shard))).await?;
    Ok(found.into_iter().flatten().max())
}

/// What waits and runs.
pub(super) fn queue(app: &App, pools: &[PoolOverview], oldest_running: Option<Duration>) -> Component {
    let limits = &app.config.health;
    let (by_status, _) = overview::totals(pools);
    let count = |status: Status| by_status.get(status.as_str()).copied().unwrap_or(0);
    let running = count(Status::Running);
    let pending: u64 =
        Status::ALL.iter().filter(|s| !s.is_terminal() && **s != Status::Running).map(|s| count(*s)).sum();
    let stale: u64 = pools.iter().map(|pool| pool.numbers.stale_running).sum();
    let oldest = pools.iter().map(|pool| pool.numbers.oldest_queued).max().unwrap_or_default();
    let backlog = |pool: &PoolOverview| pool.numbers.ready();
    let by_pool: BTreeMap<_, _> = pools
        .iter()
        .map(|pool| {
            let numbers = &pool.numbers;
            let told = json!({
                "backlog": backlog(pool), "running": numbers.by_status[Status::Running as usize], "paused": numbers.paused,
                "live_workers": numbers.live_workers, "oldest_queued_seconds": numbers.oldest_queued.as_secs_f64(),
            });
            (pool.pool.as_str(), told)
        })
        .collect();
    let mut component = Component::new(
        "queue",
        &json!({
            "pending": pending, "running": running, "stale_running": stale,
            "oldest_pending_seconds": oldest.as_secs_f64(),
            "oldest_running_seconds": oldest_running.map(|age| age.as_secs_f64()),
            "backlog": pools.iter().map(backlog).sum::<u64>(),
            "by_status": by_status, "by_owner_service": overview::services(pools), "pools": by_pool,
        }),
    );
    if stale >= limits.stale_running {
        component = component.but(Level::Degraded, format!("{stale} running jobs have not been renewed in time"));
    }
    if oldest > limits.oldest_queued {
        let limit = humantime::format_duration(limits.oldest_queued);
        component = component.but(Level::Degraded, format!("a job has waited for more than {limit}"));
    }
    component
}

/// What failed.
pub(super) fn errors(app: &App, pools: &[PoolOverview]) -> Component {
    let (_, sum) = overview::totals(pools);
    let (total, last_24h) = (sum.total.all_failed(), sum.last_day.all_failed());
    let by_code = overview::by_code(&sum.total.failed, &sum.last_day.failed);
    let component =
        Component::new("errors", &json!({ "failed": total, "failed_last_24h": last_24h, "by_code": by_code }));
    if last_24h < app.config.health.failures_24h {
        return component;
    }
    component.but(Level::Degraded, format!("{last_24h} jobs failed in the last 24 h"))
}

/// What gets done.
pub(super) fn throughput(pools: &[PoolOverview]) -> Component {
    let (_, sum) = overview::totals(pools);
    let stages: Vec<StageView> = pools.iter().flat_map(PoolOverview::stages).collect();
    let at_work = |stage: &StageView| pools.iter().any(|pool| pool.pool == stage.pool && has_work(&pool.numbers));
    let stuck: Vec<_> = stages.iter().filter(|stage| is_stuck(stage) && at_work(stage)).collect();
    let last_24h = Ended::from(&sum.last_day);
    let names: Vec<_> = stuck
        .iter()
        .map(
            |stage| json!({ "pool": stage.pool, "task": stage.task, "model": stage.model, "open": stage.counted.open }),
        )
        .collect();
    let told: Vec<_> =
        stuck.iter().map(|stage| format!("{} {}", stage.task, stage.model.as_deref().unwrap_or("-"))).collect();
    let component = Component::new(
        "throughput",
        &json!({
            "done_last_24h": last_24h.completed, "retried_last_24h": last_24h.retried, "stages": stages,
            "stuck_stages": names,
        }),
    );
    if told.is_empty() {
        return component;
    }
    component.but(Level::Degraded, format!("nothing was done in 24 h, though jobs wait or run: {}", told.join(", ")))
}

/// Whether anything waits for a worker, a key or its retry, or runs: not only jobs that are not due yet.
fn has_work(numbers: &PoolNumbers) -> bool {
    let count = |status: Status| numbers.by_status[status as usize];
    numbers.ready() + count(Status::Running) + count(Status::Retrying) + count(Status::Blocked) > 0
}

/// Work waits or runs, and nothing of its kind was done in the last day.
fn is_stuck(stage: &StageView) -> bool {
    stage.counted.open > 0 && stage.counted.last_24h.completed == 0
}

/// What the sidecar says.
pub(super) fn infra(view: &InfraView) -> Component {
    let component = Component::new("infra", view);
    match &view.sidecar_error {
        Some(error) => component.but(Level::Degraded, error.clone()),
        None => component,
    }
}
