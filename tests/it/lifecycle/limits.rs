//! How long an attempt may take.

use serde_json::json;
use support::{Fleet, OpenAiStub, Reply};

use crate::settings::{chat_with, stubbed};

#[tokio::test]
async fn an_attempt_over_its_timeout_ends_with_what_it_had_and_the_call_is_dropped() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::texts(&["some ", "words"]).then_hang());
    let fleet = Fleet::start(stubbed(&stub, "job_timeout = \"500ms\"")).await;
    let client = &fleet.client;
    for fields in [json!({ "max_attempts": 1 }), json!({ "max_attempts": 1, "timeout": "300ms" })] {
        let id = client.submit(&chat_with("x", &fields)).await;
        let job = client.wait_status(&id, "failed").await;
        assert_eq!(job["error"]["code"], "timeout", "{job}");
        assert_eq!((&job["result"]["content"], &job["result"]["partial"]), (&json!("some words"), &json!(true)));
    }
    stub.wait_disconnected(2, support::PATIENCE).await;
}

#[tokio::test]
async fn a_longer_timeout_of_its_own_outlives_the_pools() {
    let stub = OpenAiStub::start().await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    stub.push(Reply::echo_gated(1, &gate));
    stub.push(Reply::texts(&["a"]).then_hang());
    let fleet = Fleet::start(stubbed(&stub, "job_timeout = \"300ms\"")).await;
    let client = &fleet.client;
    let long = client.submit(&chat_with("one two", &json!({ "timeout": "1h" }))).await;
    stub.wait_for(1).await;
    // Begun after it, and over: so much time has passed.
    let short = client.submit(&chat_with("x", &json!({ "max_attempts": 1 }))).await;
    client.wait_status(&short, "failed").await;
    assert_eq!(client.job(&long).await["status"], "running");
    gate.add_permits(1);
    client.wait_status(&long, "completed").await;
}

#[tokio::test]
async fn an_attempt_without_progress_ends_and_the_next_one_may_do_better() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["half"]).then_hang());
    let fleet = Fleet::start(stubbed(&stub, "stall_timeout = \"500ms\"")).await;
    let id = fleet.client.submit(&chat_with("whole", &json!({}))).await;
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!((&job["attempts"], &job["result"]["content"]), (&json!(2), &json!("whole")), "{job}");
    stub.wait_disconnected(1, support::PATIENCE).await;
}

#[tokio::test]
async fn a_long_job_outlives_its_lease_and_runs_once() {
    // A lease of 2 s, renewed; the answer takes twice as long.
    let config = crate::settings::simulated("", "tokens = 50\npace = \"80ms\"\njitter = 0.0");
    let mut fleet = Fleet::start(config.replace("lease = \"3s\"", "lease = \"2s\"")).await;
    fleet.add_worker();
    fleet.wait_for_workers(2).await;
    let id = fleet.client.submit(&chat_with("x", &json!({}))).await;
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!((&job["attempts"], &job["crashes"]), (&json!(1), &json!(0)), "{job}");
    assert!(job["heartbeat_at"].as_str() > job["started_at"].as_str(), "{job}");
}
