//! The fleet in counters, as callers read them.

use serde_json::json;
use support::{Fleet, OpenAiStub, Reply, assert_eventually};

use crate::settings::{chat, chat_with, stubbed};

#[tokio::test]
async fn stats_tell_what_was_accepted_and_what_became_of_it_by_pool_stage_service_and_code() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let owned = chat_with("a b", &json!({ "owner": { "service": "desk", "ref": "1" } }));
    let answer = client.post("/api/v1/jobs?wait=10s", &owned).await;
    assert_eq!(answer.json["status"], "completed", "{}", answer.text);
    stub.always(Reply::status(500, &[], "{}"));
    let failed = client.submit(&chat_with("x", &json!({ "max_attempts": 2 }))).await;
    client.wait_status(&failed, "failed").await;
    let later = client.submit(&chat_with("x", &json!({ "delay": "1h" }))).await;
    let cancelled = client.submit(&chat_with("x", &json!({ "delay": "1h" }))).await;
    client.cancel(&cancelled).await;
    let stats = client.get("/api/v1/stats").await.json;
    let totals = &stats["totals"];
    assert_eq!(totals["by_owner_service"], json!({ "desk": 1 }), "{stats:#}");
    assert_eq!(totals["by_status"]["scheduled"], 1, "{stats:#}");
    for counted in [totals, &stats["pools"][0], &stats["pools"][0]["stages"][0]] {
        let numbers = ["accepted", "open", "completed", "failed", "cancelled", "expired", "retried"];
        let numbers: Vec<_> = numbers.iter().map(|name| counted[*name].as_u64().unwrap()).collect();
        assert_eq!(numbers, [4, 1, 1, 1, 1, 0, 1], "{stats:#}");
        assert_eq!(counted["last_24h"]["completed"], 1, "{stats:#}");
    }
    assert_eq!(stats["errors"], json!({ "provider_error": { "total": 1, "last_24h": 1 } }));
    assert_eq!(stats["retries"], json!({ "provider_error": { "total": 1, "last_24h": 1 } }));
    assert_eq!(stats["pools"][0]["stages"][0]["task"], "chat");
    // One run again by hand is open again, and no second one.
    assert_eq!(client.post(&format!("/api/v1/jobs/{failed}/retry"), &json!({})).await.status, 202);
    assert_eventually!(client.get("/api/v1/stats").await.json["totals"]["failed"] == 2);
    assert_eq!(client.get("/api/v1/stats").await.json["totals"]["open"], 1);
    assert_eq!(client.job(&later).await["status"], "scheduled");
}

#[tokio::test]
async fn jobs_of_a_killed_worker_are_counted_once() {
    let mut fleet = Fleet::start(crate::settings::slow()).await;
    let job = fleet.client.submit(&chat("x")).await;
    fleet.client.wait_status(&job, "running").await;
    fleet.workers[0].kill();
    fleet.add_worker();
    fleet.client.wait_until(&job, std::time::Duration::from_secs(30), |job| job["crashes"] == 1).await;
    fleet.client.wait_status(&job, "running").await;
    fleet.client.cancel(&job).await;
    fleet.client.wait_end(&job).await;
    let totals = fleet.client.get("/api/v1/stats").await.json["totals"].clone();
    assert_eq!((&totals["accepted"], &totals["open"], &totals["cancelled"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(totals["retried"], 1, "{totals:#}");
}
