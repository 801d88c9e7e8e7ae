//! SIGTERM.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::{Fleet, OpenAiStub, PATIENCE, Reply, assert_eventually};
use tokio::sync::Semaphore;

use crate::settings::{chat, stubbed};

/// Waits until the worker has heard the signal.
async fn is_draining(fleet: &mut Fleet) {
    fleet.workers[0].wait_for_line("draining").await;
}

#[tokio::test]
async fn a_draining_worker_finishes_what_fits_and_takes_nothing_new() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(1, &gate));
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    let id = fleet.client.submit(&chat("one two")).await;
    stub.wait_for(1).await;
    fleet.workers[0].term();
    is_draining(&mut fleet).await;
    let left = fleet.client.submit(&chat("left")).await;
    gate.add_permits(1);
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!((&job["attempts"], &job["result"]["content"]), (&json!(1), &json!("one two")), "{job}");
    let status = fleet.workers[0].wait(PATIENCE).await;
    assert!(status.success(), "{status}");
    assert_eq!(fleet.client.job(&left).await["status"], "queued");
    assert_eq!(stub.requests(), 1);
}

// Fails without `job[ATTEMPTS] = job[ATTEMPTS] - 1` in hand_back.lua.
#[tokio::test]
async fn what_does_not_fit_is_handed_back_and_runs_elsewhere_with_no_attempt_counted() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["never ends"]).then_hang());
    let mut fleet = Fleet::start(stubbed(&stub, "").replace("drain = \"10s\"", "drain = \"500ms\"")).await;
    let id = fleet.client.submit(&chat("one two")).await;
    stub.wait_for(1).await;
    fleet.workers[0].term();
    let status = fleet.workers[0].wait(Duration::from_secs(5)).await;
    assert!(status.success(), "{status}");
    stub.wait_disconnected(1, PATIENCE).await;
    let job = fleet.client.job(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("queued"), &json!(0)), "{job}");
    fleet.add_worker();
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!((&job["attempts"], &job["crashes"]), (&json!(1), &json!(0)), "{job}");
    assert_eq!(job["result"]["content"], "one two");
}

#[tokio::test]
async fn a_second_signal_ends_now() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::hang());
    let mut fleet = Fleet::start(stubbed(&stub, "").replace("drain = \"10s\"", "drain = \"10m\"")).await;
    let id = fleet.client.submit(&chat("x")).await;
    stub.wait_for(1).await;
    fleet.workers[0].term();
    is_draining(&mut fleet).await;
    assert!(fleet.workers[0].is_running(), "it waits for its job");
    fleet.workers[0].term();
    fleet.workers[0].wait(Duration::from_secs(5)).await;
    fleet.add_worker();
    fleet.client.wait_status(&id, "completed").await;
}

#[tokio::test]
async fn a_draining_api_answers_what_it_holds_and_ends() {
    let stub = OpenAiStub::start().await;
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    let id = fleet.client.submit(&chat("x")).await;
    fleet.client.wait_status(&id, "completed").await;
    fleet.api.term();
    let status = fleet.api.wait(PATIENCE).await;
    assert!(status.success(), "{status}");
    fleet.restart_api().await;
    assert_eventually!(fleet.client.job(&id).await["status"] == "completed");
}
