//! What is refused because the pool cannot take it, and what ends because it waited too long.

use serde_json::json;
use support::{Fleet, FleetOptions};

use crate::settings::{chat, chat_with, quick, simulated};

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let config = simulated("max_queued = 3", "tokens = 0");
    let fleet = FleetOptions::new(config).workers(0).start().await;
    let client = &fleet.client;
    let first = client.submit(&chat("x")).await;
    client.submit(&chat("x")).await;
    client.submit(&chat_with("x", &json!({ "priority": "high" }))).await;
    let refused = client.post_job(&chat("x")).await;
    assert_eq!((refused.status, refused.code()), (429, "queue_full"), "{}", refused.text);
    let retry_after = refused.headers["retry-after"].to_str().unwrap();
    assert!(retry_after.parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{retry_after}");
    assert_eq!(client.cancel(&first).await.status, 200);
    client.submit(&chat("x")).await;
}

#[tokio::test]
async fn a_queue_is_full_by_bytes_too() {
    let config = simulated("max_queued_bytes = \"10KiB\"", "tokens = 0");
    let fleet = FleetOptions::new(config).workers(0).start().await;
    let client = &fleet.client;
    client.submit(&chat(&"x".repeat(6000))).await;
    let refused = client.post_job(&chat(&"x".repeat(6000))).await;
    assert_eq!((refused.status, refused.code()), (429, "queue_full"), "{}", refused.text);
    client.submit(&chat("small")).await;
}

#[tokio::test]
async fn fail_fast_needs_a_live_worker_and_is_kept_from_a_fleet_without() {
    let mut fleet = FleetOptions::new(quick()).workers(0).start().await;
    let job = chat_with("hello", &json!({ "fail_fast": true }));
    let refused = fleet.client.post_job(&job).await;
    assert_eq!((refused.status, refused.code()), (503, "no_live_worker"), "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    fleet.add_worker();
    fleet.wait_for_workers(1).await;
    let id = fleet.client.submit(&job).await;
    fleet.client.wait_status(&id, "completed").await;
}

#[tokio::test]
async fn a_job_that_waits_too_long_expires_and_says_by_which_limit() {
    let fleet = FleetOptions::new(simulated("queue_timeout = \"300ms\"", "tokens = 0")).workers(0).start().await;
    let client = &fleet.client;
    let by_pool = client.submit(&chat("x")).await;
    let by_itself = client.submit(&chat_with("x", &json!({ "expires_in": "200ms" }))).await;
    let patient = client.submit(&chat_with("x", &json!({ "expires_in": "1h" }))).await;
    for id in [&by_pool, &by_itself] {
        let job = client.wait_status(id, "expired").await;
        assert_eq!(job["error"]["code"], "queue_timeout", "{job}");
        assert!(job["completed_at"].is_string() && job["attempts"] == 0, "{job}");
    }
    let message = |job: serde_json::Value| job["error"]["message"].as_str().unwrap().to_owned();
    let (pools, own) = (message(client.job(&by_pool).await), message(client.job(&by_itself).await));
    assert_ne!(pools, own, "the message names the limit");
    assert_eq!(client.job(&patient).await["status"], "queued");
    assert_eq!(client.cancel(&by_pool).await.status, 409);
}

#[tokio::test]
async fn an_ended_job_is_forgotten_after_its_result_ttl() {
    let fleet = Fleet::start(quick()).await;
    let client = &fleet.client;
    let brief = client.submit(&chat_with("x", &json!({ "result_ttl": "500ms" }))).await;
    let kept = client.submit(&chat("x")).await;
    let cancelled = client.submit(&chat_with("x", &json!({ "result_ttl": "500ms", "delay": "1h" }))).await;
    client.cancel(&cancelled).await;
    for id in [brief, cancelled] {
        let path = format!("/api/v1/jobs/{id}");
        support::assert_eventually!(client.get(&path).await.status == 404);
        support::assert_eventually!(!client.get("/api/v1/jobs").await.text.contains(&id));
    }
    assert_eq!(client.wait_end(&kept).await["status"], "completed");
}
