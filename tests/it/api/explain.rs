//! `/api/v1/jobs/{id}/explain`: why a job is not running.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use support::{Fleet, FleetOptions, OpenAiStub, Reply, assert_eventually};
use tokio::sync::Semaphore;

use crate::settings::{chat, chat_with, quick, slow, stubbed};

async fn explain(fleet: &Fleet, id: &str) -> Value {
    let answer = fleet.client.get(&format!("/api/v1/jobs/{id}/explain")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

#[tokio::test]
async fn a_queued_job_is_told_its_position_the_pause_and_that_no_worker_lives() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    for priority in ["normal", "normal", "high"] {
        fleet.client.submit(&chat_with("x", &json!({ "priority": priority }))).await;
    }
    let id = fleet.client.submit(&chat("x")).await;
    let told = explain(&fleet, &id).await;
    assert_eq!((&told["reason"], &told["position"]), (&json!("no_live_worker"), &json!(3)), "{told:#}");
    assert_eq!(told["summary"], "No live worker serves the pool chat; 3 other jobs come first.");
    fleet.client.post("/api/v1/pools/chat/pause", &json!({})).await;
    let told = explain(&fleet, &id).await;
    assert_eq!((&told["reason"], &told["paused"]), (&json!("paused"), &json!(true)), "{told:#}");
    let later = fleet.client.submit(&chat_with("x", &json!({ "delay": "1h" }))).await;
    let told = explain(&fleet, &later).await;
    assert_eq!(told["reason"], "not_due", "{told:#}");
    assert!(told["due_in_seconds"].as_f64().unwrap() > 3500.0, "{told:#}");
    assert_eq!(fleet.client.get("/api/v1/jobs/job_chat-0-01jzzzzzzzzzzzzzzzzzzzzzzz/explain").await.status, 404);
}

#[tokio::test]
async fn a_blocked_job_is_told_who_holds_its_key_and_how_many_wait_before_it() {
    let fleet = Fleet::start(slow()).await;
    let keyed = chat_with("x", &json!({ "concurrency_key": "k", "on_conflict": "queue" }));
    let holder = fleet.client.submit(&keyed).await;
    fleet.client.submit(&keyed).await;
    let last = fleet.client.submit(&keyed).await;
    let told = explain(&fleet, &last).await;
    assert_eq!(told["reason"], "waiting_for_key", "{told:#}");
    assert_eq!(told["waiting_for_key"], json!({ "key": "k", "held_by": holder, "waiters_before": 1 }));
    assert!(told["summary"].as_str().unwrap().contains(&holder), "{told:#}");
    fleet.client.wait_status(&holder, "running").await;
    assert_eq!(explain(&fleet, &holder).await["reason"], "running");
}

#[tokio::test]
async fn a_job_behind_others_is_told_how_long_that_may_take_at_the_pace_of_late() {
    let fleet = Fleet::start(slow()).await;
    let quick: Vec<String> = vec![fleet.client.submit(&chat("x")).await, fleet.client.submit(&chat("x")).await];
    // What is remembered of the shard: nothing has ended yet.
    let begun = Instant::now();
    explain(&fleet, &quick[0]).await;
    for id in &quick {
        fleet.client.wait_status(id, "running").await;
        fleet.client.cancel(id).await;
        fleet.client.wait_status(id, "cancelled").await;
    }
    assert_eq!(explain(&fleet, &quick[0]).await["reason"], "ended");
    for _ in 0..4 {
        let id = fleet.client.submit(&chat("x")).await;
        fleet.client.wait_status(&id, "running").await;
    }
    fleet.client.submit(&chat("x")).await;
    let id = fleet.client.submit(&chat("x")).await;
    assert_eventually!(explain(&fleet, &id).await["position"] == 1);
    // Two ended since the first look: two more take as long.
    assert_eventually!(explain(&fleet, &id).await["eta_seconds"] != json!(null));
    let told = explain(&fleet, &id).await;
    assert_eq!(told["reason"], "queued", "{told:#}");
    let eta = told["eta_seconds"].as_f64().unwrap();
    assert!((1.0..=begun.elapsed().as_secs_f64()).contains(&eta), "{told:#}");
    let summary = told["summary"].as_str().unwrap();
    assert!(summary.contains("1 other job comes first, about ") && summary.contains("at the pace of late"), "{told:#}");
}

#[tokio::test]
async fn a_job_is_told_the_circuit_that_is_open_and_the_limit_that_is_reached() {
    let mut stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(0, &gate));
    let settings = "[providers.stub]\nmax_in_flight = 1\nbreaker = { failures = 1, open_for = \"1h\" }";
    let fleet = Fleet::start(stubbed(&stub, "").replace("[providers.stub]", settings)).await;
    let first = fleet.client.submit(&chat("x")).await;
    stub.wait_for(1).await;
    let second = fleet.client.submit(&chat("y")).await;
    assert_eventually!(explain(&fleet, &second).await["reason"] == "provider_limited");
    let told = explain(&fleet, &second).await;
    let limit = json!({ "name": "max_in_flight", "value": 1, "threshold": 1 });
    let server = json!({ "provider": "stub", "state": "ok", "breaker": "closed", "limit": limit, "runs": null });
    assert_eq!(told["providers"], json!([server]), "{told:#}");
    assert!(told["summary"].as_str().unwrap().contains("max_in_flight of stub is reached (1 of 1)"), "{told:#}");
    gate.add_permits(1);
    fleet.client.wait_status(&second, "completed").await;
    assert_eq!(explain(&fleet, &first).await["providers"], json!([]), "it has ended");
    stub.kill();
    let third = fleet.client.submit(&chat_with("z", &json!({ "max_attempts": 9 }))).await;
    assert_eventually!(explain(&fleet, &third).await["reason"] == "provider_down");
    let told = explain(&fleet, &third).await;
    assert_eq!(told["providers"][0]["state"], "down", "{told:#}");
    assert_ne!(told["providers"][0]["breaker"], "closed", "{told:#}");
    let page = fleet.client.get("/metrics").await.text;
    for (metric, value) in [("up", 0), ("breaker_state", 2), ("limit_used_ratio", 0)] {
        let line = format!("overshot_provider_{metric}{{provider=\"stub\"}} {value}");
        assert!(page.lines().any(|found| found == line), "{line}");
    }
}
