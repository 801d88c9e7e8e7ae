//! SIGTERM.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::{Client, Fleet, FleetOptions, OpenAiStub, PATIENCE, Reply, assert_eventually};
use tokio::sync::Semaphore;

use crate::cli::overshot;
use crate::settings::{chat, quick, stubbed};

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

#[tokio::test]
async fn a_worker_that_the_api_tells_to_drain_finishes_says_so_and_ends() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(1, &gate));
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    let id = fleet.client.submit(&chat("one two")).await;
    stub.wait_for(1).await;
    let own_port = Client::new(&fleet.workers[0].address().await, None);
    let worker = fleet.client.get("/api/v1/workers").await.json["data"][0]["id"].as_str().unwrap().to_owned();
    let answer = fleet.client.post_empty(&format!("/api/v1/workers/{worker}/drain")).await;
    assert_eq!((answer.status, &answer.json["draining"]), (202, &json!(true)), "{}", answer.text);
    let ready = own_port.get("/readyz").await;
    assert!(ready.status == 503 && ready.text.contains("draining"), "{}", ready.text);
    let left = fleet.client.submit(&chat("left")).await;
    let again = fleet.client.post_empty(&format!("/api/v1/workers/{worker}/drain")).await;
    assert_eq!(again.status, 202, "once more changes nothing: {}", again.text);
    gate.add_permits(1);
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!((&job["attempts"], &job["result"]["content"]), (&json!(1), &json!("one two")), "{job}");
    let status = fleet.workers[0].wait(PATIENCE).await;
    assert!(status.success(), "{status}");
    assert_eq!((stub.requests(), &fleet.client.job(&left).await["status"]), (1, &json!("queued")));
    let gone = fleet.client.post_empty(&format!("/api/v1/workers/{worker}/drain")).await;
    assert_eq!((gone.status, gone.code()), (404, "worker_not_found"), "{}", gone.text);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_told_of_while_another_one_drains() {
    let mut fleet =
        FleetOptions::new(quick().replace("liveness = \"3s\"", "liveness = \"20s\"")).workers(2).start().await;
    let listed = fleet.client.get("/api/v1/workers").await.json;
    let ids: Vec<_> = [0, 1].map(|place| listed["data"][place]["id"].as_str().unwrap().to_owned()).into();
    let place = |fleet: &Fleet, id: &str| fleet.workers.iter().position(|worker| worker.has_logged(id)).unwrap();
    let (first, second) = (place(&fleet, &ids[0]), place(&fleet, &ids[1]));
    fleet.workers[first].stop();
    let answer = fleet.client.post_empty(&format!("/api/v1/workers/{}/drain", ids[0])).await;
    assert_eq!((answer.status, answer.code()), (503, "worker_silent"), "{}", answer.text);
    fleet.workers[first].cont();
    let said = overshot(&fleet.client, &["workers", "drain", &ids[1], "--wait"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(fleet.workers[second].wait(PATIENCE).await.success());
}
