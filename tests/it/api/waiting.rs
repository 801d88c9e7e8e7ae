//! `?wait=` on a submit and on a job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Fleet, FleetOptions, OpenAiStub, Reply};
use tokio::sync::Semaphore;

use crate::settings::{chat, quick, stubbed};

#[tokio::test]
async fn a_submit_that_waits_answers_with_the_ended_job() {
    let fleet = Fleet::start(quick()).await;
    let answer = fleet.client.post("/api/v1/jobs?wait=30s", &chat("x")).await;
    assert_eq!((answer.status, &answer.json["status"]), (200, &json!("completed")), "{}", answer.text);
    assert_eq!(answer.json["result"]["schema_version"], "ai.chat_result.v1");
    assert_eq!(answer.json["object"], "job");
}

#[tokio::test]
async fn a_wait_that_is_over_answers_with_the_job_as_it_is() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let answer = client.post("/api/v1/jobs?wait=200ms", &chat("x")).await;
    assert_eq!((answer.status, &answer.json["status"]), (202, &json!("queued")), "{}", answer.text);
    let id = answer.id();
    assert_eq!(answer.headers["location"], format!("/api/v1/jobs/{id}"));
    let start = Instant::now();
    let answer = client.get(&format!("/api/v1/jobs/{id}?wait=300ms")).await;
    assert_eq!((answer.status, &answer.json["status"]), (200, &json!("queued")), "{}", answer.text);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_wait_wakes_when_the_job_ends() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(0, &gate));
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let id = client.submit(&chat("one two")).await;
    stub.wait_for(1).await;
    let path = format!("/api/v1/jobs/{id}?wait=60s");
    let open = || async {
        gate.add_permits(1);
        Instant::now()
    };
    let (first, second, opened) = tokio::join!(client.get(&path), client.get(&path), open());
    assert!(opened.elapsed() < Duration::from_secs(5), "{:?}", opened.elapsed());
    for answer in [first, second] {
        assert_eq!((answer.status, &answer.json["status"]), (200, &json!("completed")), "{}", answer.text);
        assert_eq!(answer.json["result"]["content"], "one two");
    }
    let start = Instant::now();
    client.get(&path).await;
    assert!(start.elapsed() < Duration::from_secs(20), "an ended job is not waited for");
}
