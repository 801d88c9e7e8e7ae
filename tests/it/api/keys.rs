//! Concurrency keys: at most one active job each.

use serde_json::json;
use support::{Client, FleetOptions, OpenAiStub, Reply};

use crate::settings::{chat_with, quick, stubbed};

fn keyed(key: &str, on_conflict: &str) -> serde_json::Value {
    chat_with(key, &json!({ "concurrency_key": key, "on_conflict": on_conflict }))
}

async fn key(client: &Client, key: &str) -> serde_json::Value {
    let answer = client.get(&format!("/api/v1/keys/{key}?pool=chat")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

/// A job in an answer of `/keys`, which may be its id or the job.
fn id_of(value: &serde_json::Value) -> &str {
    value["id"].as_str().or(value.as_str()).unwrap_or_default()
}

#[tokio::test]
async fn reject_names_the_holder_and_the_key_is_free_after_the_end() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let holder = client.submit(&keyed("k", "reject")).await;
    let refused = client.post_job(&chat_with("x", &json!({ "concurrency_key": "k" }))).await;
    assert_eq!((refused.status, refused.code()), (409, "run_already_active"), "{}", refused.text);
    assert!(refused.text.contains(&format!(r#""job_id":"{holder}""#)), "{}", refused.text);
    client.submit(&keyed("another", "reject")).await;
    assert_eq!(id_of(&key(client, "k").await["active"]), holder);
    client.cancel(&holder).await;
    let state = key(client, "k").await;
    assert_eq!((&state["active"], id_of(&state["latest"])), (&json!(null), holder.as_str()), "{state}");
    client.submit(&keyed("k", "reject")).await;
}

#[tokio::test]
async fn queue_runs_one_after_the_other_in_order() {
    let stub = OpenAiStub::start().await;
    let fleet = FleetOptions::new(stubbed(&stub, "")).workers(2).start().await;
    let client = &fleet.client;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    stub.always(Reply::echo_gated(0, &gate));
    let mut ids = Vec::new();
    for n in 0..4 {
        let mut job = keyed("k", "queue");
        job["input"] = json!({ "user": n.to_string() });
        ids.push(client.submit(&job).await);
    }
    for (n, id) in ids.iter().enumerate() {
        let seen = stub.wait_for(n + 1).await;
        assert_eq!(seen.body["messages"][0]["content"], n.to_string());
        let state = key(client, "k").await;
        assert_eq!(id_of(&state["active"]), id, "{state}");
        for waiting in &ids[n + 1..] {
            assert_eq!(client.job(waiting).await["status"], "blocked");
        }
        assert_eq!(stub.requests(), n + 1, "no second one beside it");
        gate.add_permits(1);
        client.wait_status(id, "completed").await;
    }
}

#[tokio::test]
async fn replace_cancels_the_holder_and_all_that_wait() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["never ends"]).then_hang());
    let fleet = FleetOptions::new(stubbed(&stub, "")).start().await;
    let client = &fleet.client;
    let holder = client.submit(&keyed("k", "queue")).await;
    stub.wait_for(1).await;
    let waiting = client.submit(&keyed("k", "queue")).await;
    assert_eq!(client.job(&waiting).await["status"], "blocked");
    let newest = client.submit(&keyed("k", "replace")).await;
    client.wait_status(&holder, "cancelled").await;
    client.wait_status(&waiting, "cancelled").await;
    client.wait_status(&newest, "completed").await;
    stub.wait_disconnected(1, support::PATIENCE).await;
    assert_eq!(id_of(&key(client, "k").await["latest"]), newest);
}
