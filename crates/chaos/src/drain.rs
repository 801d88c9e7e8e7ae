//! After the faults: everything is made whole, the fleet works off what it has, and what is left is written down.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{FromRedisValue as _, Value};
use reqwest::Method;
use support::Client;
use tokio::time::{Instant, sleep};

use crate::fleet::{Fleet, POOL};
use crate::log::{Log, Name, What};
use crate::provider::Health;
use crate::workload::{name, send_within, view};

/// Ends every fault that may still go on.
///
/// # Errors
/// When Redis does not answer.
pub async fn heal(fleet: &Fleet) -> anyhow::Result<()> {
    for proxy in fleet.proxies() {
        proxy.pass();
        proxy.cut();
    }
    fleet.provider.set(Health::Well);
    fleet.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    Ok(())
}

/// Waits until no job is open, as the pool's counters have it, or the time is up; whether they are.
pub async fn wait_until_idle(fleet: &Fleet, until: Instant) -> bool {
    while Instant::now() < until {
        let client = fleet.endpoints.one(0);
        let request = client.request(Method::GET, &format!("/api/v1/pools/{POOL}"));
        if let Some(answer) = send_within(&client, request).await.filter(|answer| answer.status == 200) {
            let open = ["queued", "scheduled", "blocked", "running", "retrying"];
            if open.iter().all(|status| answer.json["by_status"][status] == 0) {
                return true;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    false
}

/// Writes down every job that the listing holds, and everything in Redis that should be gone.
///
/// # Errors
/// When the fleet, which is whole now, does not answer.
pub async fn sweep(fleet: &Fleet, log: &Log) -> anyhow::Result<()> {
    let client = fleet.endpoints.one(0);
    let ids = list(&client, log).await?;
    waiting_places_are_empty(fleet, log).await?;
    no_orphans(fleet, log, &ids).await?;
    fleet.note_logs();
    Ok(())
}

/// Every job's record, and the ids.
async fn list(client: &Client, log: &Log) -> anyhow::Result<BTreeSet<String>> {
    let (mut ids, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = get(client, &format!("/api/v1/jobs?limit=200{after}")).await?;
        for listed in page["data"].as_array().into_iter().flatten() {
            let id = listed["id"].as_str().unwrap_or_default().to_owned();
            // The listing leaves results out.
            let job = get(client, &format!("/api/v1/jobs/{id}")).await?;
            let name = name(&job).unwrap_or_else(|| Name::from(id.as_str()));
            log.record(What::Final { job: name, id: id.clone(), view: view(&job) });
            ids.insert(id);
        }
        match page["next"].as_str() {
            Some(next) if page["has_more"] == true => after = format!("&after={next}"),
            _ => return Ok(ids),
        }
    }
}

async fn get(client: &Client, path: &str) -> anyhow::Result<serde_json::Value> {
    // The last fault's traces may still be there.
    for _ in 0..20 {
        let answer = send_within(client, client.request(Method::GET, path)).await;
        if let Some(answer) = answer.filter(|answer| answer.status == 200) {
            return Ok(answer.json);
        }
        sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("GET {path} is not answered, and all faults are over")
}

async fn waiting_places_are_empty(fleet: &Fleet, log: &Log) -> anyhow::Result<()> {
    let base = format!("overshot:{{{POOL}.0}}");
    let lanes = ["high", "normal", "low", "front", "suspect"];
    let lengths = lanes.iter().map(|lane| ("XLEN", format!("q:{lane}")));
    let sets = ["due", "exp", "leases", "cancels", "open"].iter().map(|set| ("ZCARD", (*set).to_owned()));
    for (command, place) in lengths.chain(sets) {
        let count = number(&fleet.redis.command(&[command, &format!("{base}:{place}")]).await?);
        leftover(log, &place, count);
    }
    for lane in lanes {
        // No group, nothing pending.
        if let Ok(Value::Array(pending)) =
            fleet.redis.command(&["XPENDING", &format!("{base}:q:{lane}"), "workers"]).await
        {
            leftover(log, &format!("what is pending of {lane}"), pending.first().map_or(0, number));
        }
    }
    for field in ["w1", "w2", "w3", "scheduled", "blocked", "retrying", "retries", "bytes"] {
        // Negative ones too.
        let count = number(&fleet.redis.command(&["HGET", &format!("{base}:n"), field]).await?);
        leftover(log, &format!("the counter {field}"), count.abs());
    }
    leftover(
        log,
        "the counter of suspects",
        number(&fleet.redis.command(&["HGET", &format!("{base}:ctl"), "suspects"]).await?),
    );
    Ok(())
}

/// Every key of a job belongs to one that the listing holds, and no concurrency key is held.
async fn no_orphans(fleet: &Fleet, log: &Log, ids: &BTreeSet<String>) -> anyhow::Result<()> {
    let base = format!("overshot:{{{POOL}.0}}:");
    // An id names pool and shard before the part that the keys bear.
    let locals: BTreeSet<&str> = ids.iter().filter_map(|id| id.rsplit('-').next()).collect();
    let keys = Vec::<String>::from_redis_value(fleet.redis.command(&["KEYS", &format!("{base}*")]).await?)?;
    let (mut records, mut chunks, mut held, mut turns) = (0, 0, 0, 0);
    for key in keys.iter().filter_map(|key| key.strip_prefix(&base)) {
        match key.split_once(':') {
            Some(("j", id)) => records += i64::from(!locals.contains(id)),
            Some(("c", id)) => chunks += i64::from(!locals.contains(id)),
            Some(("k" | "kw", _)) => held += 1,
            Some(("m", _)) => turns += 1,
            _ => {}
        }
    }
    leftover(log, "records that no list holds", records);
    leftover(log, "chunks without their job", chunks);
    leftover(log, "concurrency keys held or waited for", held);
    leftover(log, "models for whose turn jobs wait", turns);
    Ok(())
}

fn leftover(log: &Log, what: &str, count: i64) {
    if count != 0 {
        log.record(What::Leftover { what: what.to_owned(), count: count.unsigned_abs() });
    }
}

fn number(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::BulkString(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(-1),
        _ => 0,
    }
}
