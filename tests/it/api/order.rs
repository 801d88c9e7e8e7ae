//! Priorities, first in first out, and times to come.

use std::time::Duration;

use serde_json::json;
use support::{Fleet, FleetOptions, OpenAiStub};

use crate::settings::{chat, chat_with, quick, stubbed};

#[tokio::test]
async fn higher_priorities_go_first_and_equals_in_the_order_they_came() {
    let stub = OpenAiStub::start().await;
    let mut fleet =
        FleetOptions::new(stubbed(&stub, "").replace("concurrency = 4", "concurrency = 1")).workers(0).start().await;
    let mut ids = Vec::new();
    for name in ["low-1", "normal-1", "high-1", "low-2", "normal-2", "high-2"] {
        let priority = name.split('-').next().unwrap();
        ids.push(fleet.client.submit(&chat_with(name, &json!({ "priority": priority }))).await);
    }
    fleet.add_worker();
    for id in &ids {
        fleet.client.wait_status(id, "completed").await;
    }
    let order: Vec<String> =
        stub.seen().iter().map(|s| s.body["messages"][0]["content"].as_str().unwrap().into()).collect();
    let of = |priority: &str| order.iter().filter(|name| name.starts_with(priority)).cloned().collect::<Vec<_>>();
    for priority in ["high", "normal", "low"] {
        assert_eq!(of(priority), [format!("{priority}-1"), format!("{priority}-2")], "{order:?}");
    }
    // Lower ones have a share, so only the two ends are certain.
    assert_eq!((order[0].as_str(), order[5].as_str()), ("high-1", "low-2"), "{order:?}");
}

#[tokio::test]
async fn a_delayed_job_runs_when_due_and_not_before() {
    let fleet = Fleet::start(quick()).await;
    let client = &fleet.client;
    let answer = client.post_job(&chat_with("x", &json!({ "delay": "1s" }))).await;
    assert_eq!((&answer.json["status"], &answer.json["attempts"]), (&json!("scheduled"), &json!(0)), "{}", answer.text);
    let id = answer.id();
    let far = client.submit(&chat_with("x", &json!({ "run_at": "2099-01-01T00:00:00Z" }))).await;
    let past = client.submit(&chat_with("x", &json!({ "run_at": "2020-01-01T00:00:00+02:00" }))).await;
    let job = client.wait_status(&id, "completed").await;
    let text = |name: &str| job[name].as_str().unwrap().to_owned();
    assert!(text("started_at") >= text("run_at"), "RFC 3339 in UTC sorts as text: {job}");
    assert!(text("run_at") > text("created_at"), "{job}");
    client.wait_status(&past, "completed").await;
    let far = client.job(&far).await;
    assert_eq!((&far["status"], &far["run_at"]), (&json!("scheduled"), &json!("2099-01-01T00:00:00.000Z")), "{far}");
    let both = client.post_job(&chat_with("x", &json!({ "delay": "1s", "run_at": "2099-01-01T00:00:00Z" }))).await;
    assert_eq!(both.status, 422, "{}", both.text);
}

#[tokio::test]
async fn a_lone_job_starts_at_once() {
    let fleet = Fleet::start(quick()).await;
    let client = &fleet.client;
    // A poll in place of the doorbell would cost its period every time.
    let start = std::time::Instant::now();
    for _ in 0..10 {
        let answer = client.post("/api/v1/jobs?wait=10s", &chat("x")).await;
        assert_eq!((answer.status, &answer.json["status"]), (200, &json!("completed")), "{}", answer.text);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?} for ten jobs one after the other", start.elapsed());
}
