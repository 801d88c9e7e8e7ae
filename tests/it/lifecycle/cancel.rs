//! Cancelling a job that runs.

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Fleet, OpenAiStub, Reply};

use crate::settings::{chat, stubbed};

#[tokio::test]
async fn a_cancel_reaches_the_provider_within_a_second_and_keeps_what_there_was() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["one ", "two"]).then_hang());
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let id = client.submit(&chat("x")).await;
    let mut events = client.events(&id, None).await;
    events.next_chunk().await;
    events.next_chunk().await;
    let start = Instant::now();
    let answer = client.cancel(&id).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert!(answer.json["cancel_requested_at"].is_string(), "{}", answer.text);
    stub.wait_disconnected(1, Duration::from_secs(1)).await;
    let job = client.wait_status(&id, "cancelled").await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(job["error"]["code"], "cancelled", "{job}");
    assert_eq!((&job["result"]["content"], &job["result"]["partial"]), (&json!("one two"), &json!(true)), "{job}");
    let last = events.rest().await.pop().unwrap();
    assert_eq!((last.event.as_str(), &last.data["status"]), ("done", &json!("cancelled")));
    assert_eq!(client.cancel(&id).await.status, 200);
    assert_eq!(stub.requests(), 1);
}

#[tokio::test]
async fn a_cancel_before_the_first_word_leaves_no_result() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::hang());
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let id = client.submit(&chat("x")).await;
    stub.wait_for(1).await;
    assert_eq!(client.cancel(&id).await.status, 202);
    stub.wait_disconnected(1, Duration::from_secs(1)).await;
    let job = client.wait_status(&id, "cancelled").await;
    assert_eq!(job["result"], json!(null), "{job}");
}

#[tokio::test]
async fn a_large_output_that_its_holder_cannot_settle_stands_beside_its_job() {
    let stub = OpenAiStub::start().await;
    let word = "word ".repeat(20_000);
    let words = [word.as_str(); 12];
    stub.push(Reply::texts(&words).then_hang());
    let config = stubbed(&stub, "").replace("\"3s\"", "\"60s\"");
    let mut fleet = Fleet::start(format!("max_inline_result = \"1KiB\"\n{config}")).await;
    let id = fleet.client.submit(&chat("x")).await;
    let mut events = fleet.client.events(&id, None).await;
    for _ in words {
        events.next_chunk().await;
    }
    fleet.workers[0].stop();
    assert_eq!(fleet.client.cancel(&id).await.status, 202);
    fleet.client.wait_status(&id, "cancelled").await;
    let ended = fleet.client.wait_until(&id, support::PATIENCE, |job| !job["result_url"].is_null()).await;
    assert_eq!(ended["result"], json!(null), "{ended}");
    let kept = fleet.client.get(ended["result_url"].as_str().unwrap()).await.json;
    assert_eq!((&kept["content"], &kept["partial"]), (&json!(words.concat()), &json!(true)));
    fleet.workers[0].cont();
    stub.wait_disconnected(1, support::PATIENCE).await;
    fleet.workers[0].allow_error("settle_abandoned");
}

#[tokio::test]
async fn a_holder_that_does_not_confirm_loses_its_grant_and_the_job_ends() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["one ", "two"]).then_hang());
    // Long enough that neither the lease nor the beat can be what ends the job.
    let config = stubbed(&stub, "").replace("\"3s\"", "\"60s\"");
    let mut fleet = Fleet::start(config).await;
    let id = fleet.client.submit(&chat("x")).await;
    let mut events = fleet.client.events(&id, None).await;
    events.next_chunk().await;
    events.next_chunk().await;
    fleet.workers[0].stop();
    let start = Instant::now();
    assert_eq!(fleet.client.cancel(&id).await.status, 202);
    let job = fleet.client.wait_status(&id, "cancelled").await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    fleet.workers[0].cont();
    stub.wait_disconnected(1, support::PATIENCE).await;
    // Whoever took the job from it keeps the output, a moment after the end.
    let after = fleet.client.wait_until(&id, support::PATIENCE, |job| !job["result"].is_null()).await;
    assert_eq!(after["updated_at"], job["updated_at"], "the zombie changed nothing");
    assert_eq!(
        (&after["result"]["content"], &after["result"]["partial"]),
        (&json!("one two"), &json!(true)),
        "{after}"
    );
    fleet.workers[0].allow_error("settle_abandoned");
}
