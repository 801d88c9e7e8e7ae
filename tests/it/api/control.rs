//! Cancel, retry, metadata: one by one and in bulk.

use serde_json::json;
use support::{Fleet, FleetOptions, OpenAiStub, Reply};

use crate::settings::{chat, chat_with, quick, stubbed};

#[tokio::test]
async fn metadata_is_merged_in_any_state() {
    let fleet = Fleet::start(quick()).await;
    let client = &fleet.client;
    let id = client.submit(&chat_with("x", &json!({ "metadata": { "a": "1", "b": "1" } }))).await;
    client.wait_status(&id, "completed").await;
    let patch = |body: serde_json::Value| {
        client.send(client.request(reqwest::Method::PATCH, &format!("/api/v1/jobs/{id}")).json(&body))
    };
    let answer = patch(json!({ "metadata": { "b": "2", "c": "3" } })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let merged = json!({ "a": "1", "b": "2", "c": "3" });
    assert_eq!(answer.json["metadata"], merged);
    let too_many: serde_json::Map<_, _> = (0..14).map(|n| (format!("k{n}"), json!("v"))).collect();
    for wrong in [json!({ "metadata": too_many }), json!({ "metadata": { "a": 1 } }), json!({ "status": "queued" })] {
        let answer = patch(wrong.clone()).await;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text);
    }
    let job = client.job(&id).await;
    assert_eq!((&job["metadata"], &job["status"]), (&merged, &json!("completed")));
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once_and_an_ended_one_not_at_all() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    for fields in [json!({}), json!({ "delay": "1h" })] {
        let id = client.submit(&chat_with("x", &fields)).await;
        let answer = client.cancel(&id).await;
        assert_eq!((answer.status, &answer.json["status"]), (200, &json!("cancelled")), "{}", answer.text);
        assert_eq!(answer.json["error"]["code"], "cancelled", "{}", answer.text);
        assert_eq!(client.cancel(&id).await.status, 200, "already cancelled");
    }
    let id = client.submit(&chat("x")).await;
    let delete = client.send(client.request(reqwest::Method::DELETE, &format!("/api/v1/jobs/{id}"))).await;
    assert_eq!((delete.status, &delete.json["status"]), (200, &json!("cancelled")), "{}", delete.text);
    let mut fleet = fleet;
    fleet.add_worker();
    let done = fleet.client.submit(&chat("x")).await;
    fleet.client.wait_status(&done, "completed").await;
    assert_eq!(fleet.client.cancel(&done).await.status, 409);
    assert_eq!(fleet.client.job(&done).await["status"], "completed");
    assert_eq!(fleet.client.job(&id).await["status"], "cancelled", "a worker did not wake it");
}

#[tokio::test]
async fn a_retry_by_hand_runs_with_the_new_input_and_a_new_budget() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    stub.push(Reply::status(400, &[], r#"{"error":{"message":"no"}}"#));
    let id = client.submit(&chat_with("first", &json!({ "max_attempts": 1 }))).await;
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!((&failed["error"]["code"], &failed["attempts"]), (&json!("bad_input"), &json!(1)));
    let retry = format!("/api/v1/jobs/{id}/retry");
    let wrong = client.post(&retry, &json!({ "input": { "messages": 1 } })).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    assert_eq!(client.job(&id).await["status"], "failed");
    let answer = client.post(&retry, &json!({ "input": { "user": "second" } })).await;
    assert_eq!((answer.status, answer.id()), (202, id.clone()), "{}", answer.text);
    let done = client.wait_status(&id, "completed").await;
    assert_eq!(done["result"]["content"], "second", "{done}");
    assert_eq!(done["attempts"], 1, "a new budget: {done}");
    let again = client.post_empty(&retry).await;
    assert_eq!(again.status, 202, "{}", again.text);
    client.wait_until(&id, support::PATIENCE, |job| job["status"] == "completed").await;
    let waiting = client.submit(&chat_with("x", &json!({ "delay": "1h" }))).await;
    assert_eq!(client.post_empty(&format!("/api/v1/jobs/{waiting}/retry")).await.status, 409);
}

#[tokio::test]
async fn bulk_cancel_and_retry_change_all_that_match_and_want_a_filter() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let owned = |service: &str| json!({ "owner": { "service": service, "ref": "r" } });
    for _ in 0..5 {
        client.submit(&chat_with("x", &owned("ours"))).await;
    }
    let theirs = client.submit(&chat_with("x", &owned("theirs"))).await;
    for path in ["/api/v1/jobs/cancel", "/api/v1/jobs/retry"] {
        for wrong in [json!({}), json!({ "no_such_filter": 1 })] {
            let answer = client.post(path, &wrong).await;
            assert_eq!(answer.status, 422, "{path} {wrong}: {}", answer.text);
        }
    }
    let filter = json!({ "owner_service": "ours" });
    let answer = client.post("/api/v1/jobs/cancel", &filter).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json, json!({ "matched": 5, "changed": 5, "more": false }));
    let answer = client.post("/api/v1/jobs/cancel", &filter).await;
    assert_eq!(answer.json["changed"], 0, "{}", answer.text);
    assert_eq!(client.job(&theirs).await["status"], "queued");
    let answer = client.post("/api/v1/jobs/retry", &json!({ "status": ["cancelled"] })).await;
    assert_eq!(answer.json["changed"], 5, "{}", answer.text);
    let queued = client.get("/api/v1/jobs?status=queued").await;
    assert_eq!(queued.json["data"].as_array().unwrap().len(), 6, "{}", queued.text);
}
