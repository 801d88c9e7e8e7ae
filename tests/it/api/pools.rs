//! Pools, their pause, their demand, their workers, and the metrics.

use serde_json::json;
use support::{Fleet, FleetOptions, assert_eventually};

use crate::settings::{chat, chat_with, quick, slow};

#[tokio::test]
async fn a_pool_tells_what_it_holds_and_demand_counts_only_what_a_worker_could_do() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    for priority in ["high", "normal", "normal", "low"] {
        client.submit(&chat_with("x", &json!({ "priority": priority }))).await;
    }
    client.submit(&chat_with("x", &json!({ "delay": "1h" }))).await;
    for _ in 0..3 {
        client.submit(&chat_with("x", &json!({ "concurrency_key": "k", "on_conflict": "queue" }))).await;
    }
    let pool = client.get("/api/v1/pools/chat").await;
    assert_eq!(pool.status, 200, "{}", pool.text);
    let pool = pool.json;
    assert_eq!((&pool["pool"], &pool["paused"], &pool["live_workers"]), (&json!("chat"), &json!(false), &json!(0)));
    assert_eq!(pool["by_status"]["queued"], 5, "{pool}");
    assert_eq!(pool["by_status"]["scheduled"], 1, "{pool}");
    assert_eq!(pool["by_status"]["blocked"], 2, "{pool}");
    assert_eq!((&pool["by_priority"]["high"], &pool["by_priority"]["low"]), (&json!(1), &json!(1)), "{pool}");
    assert!(pool["oldest_queued_seconds"].is_number(), "{pool}");
    let demand = client.get("/api/v1/pools/chat/demand").await;
    assert_eq!(demand.json, json!({ "pool": "chat", "demand": 5 }), "{}", demand.text);
    let list = client.get("/api/v1/pools").await;
    assert_eq!(list.json["data"].as_array().map(Vec::len), Some(1), "{}", list.text);
}

#[tokio::test]
async fn a_paused_pool_starts_nothing_until_it_is_resumed() {
    let fleet = Fleet::start(quick()).await;
    let client = &fleet.client;
    let pause = client.post_empty("/api/v1/pools/chat/pause").await;
    assert_eq!((pause.status, &pause.json["paused"]), (200, &json!(true)), "{}", pause.text);
    let waiting = client.submit(&chat("x")).await;
    let demand = client.get("/api/v1/pools/chat/demand").await;
    assert_eq!(demand.json["demand"], 0, "{}", demand.text);
    // A deadline goes on in a paused pool; it also shows that time went by in which nothing was claimed.
    let brief = client.submit(&chat_with("x", &json!({ "expires_in": "500ms" }))).await;
    client.wait_status(&brief, "expired").await;
    assert_eq!(client.job(&waiting).await["status"], "queued");
    let resume = client.post_empty("/api/v1/pools/chat/resume").await;
    assert_eq!((resume.status, &resume.json["paused"]), (200, &json!(false)), "{}", resume.text);
    client.wait_status(&waiting, "completed").await;
}

#[tokio::test]
async fn running_jobs_count_as_demand_while_paused_and_workers_show_what_they_hold() {
    let fleet = Fleet::start(slow()).await;
    let client = &fleet.client;
    let running = client.submit(&chat("x")).await;
    client.wait_status(&running, "running").await;
    client.post_empty("/api/v1/pools/chat/pause").await;
    client.submit(&chat("x")).await;
    assert_eq!(client.get("/api/v1/pools/chat/demand").await.json["demand"], 1);
    let worker_id = client.job(&running).await["worker_id"].clone();
    // The worker tells with its beat.
    assert_eventually!({
        let workers = client.get("/api/v1/workers").await;
        workers.text.contains(worker_id.as_str().unwrap()) && workers.json["data"][0].to_string().contains("chat")
    });
    client.cancel(&running).await;
    client.wait_status(&running, "cancelled").await;
    assert_eventually!(client.get("/api/v1/pools/chat/demand").await.json["demand"] == 0);
}

#[tokio::test]
async fn a_pool_that_left_the_configuration_with_jobs_is_listed_as_orphaned() {
    let second = "\n[pools.second]\nproviders = [\"sim\"]\n";
    let fleet = FleetOptions::new(format!("{}{second}", quick())).workers(0).start().await;
    fleet.client.submit(&chat_with("x", &json!({ "pool": "second" }))).await;
    let url = fleet.redis.url();
    let Fleet { redis, api, .. } = fleet;
    drop(api);
    let fleet = FleetOptions::new(quick()).workers(0).start_over(redis, &url).await;
    let list = fleet.client.get("/api/v1/pools").await;
    let pools = list.json["data"].as_array().unwrap();
    let second = pools.iter().find(|pool| pool["pool"] == "second").unwrap_or_else(|| panic!("{}", list.text));
    assert_eq!(second["orphaned"], true, "{}", list.text);
    let refused = fleet.client.post_job(&chat_with("x", &json!({ "pool": "second" }))).await;
    assert_eq!((refused.status, refused.param()), (404, "pool"), "{}", refused.text);
}

#[tokio::test]
async fn metrics_name_what_happened_and_no_job() {
    let fleet = Fleet::start(quick()).await;
    let client = &fleet.client;
    let answer = client.post("/api/v1/jobs?wait=10s", &chat("x")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let metrics = client.get("/metrics").await.text;
    assert!(metrics.contains("overshot_"), "{metrics}");
    assert!(metrics.contains("pool=\"chat\""), "every pair exists from the start: {metrics}");
    assert!(!metrics.contains(&answer.id()), "{metrics}");
}
