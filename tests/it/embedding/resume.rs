//! What was paid for is kept: over crashes, full providers, a full Redis, and retries by hand.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use support::{OpenAiStub, Reply, vector_of};
use tokio::sync::Semaphore;

use super::{fleet, job, options, texts};

/// Every text has its vector, in its place.
#[track_caller]
fn complete(done: &Value, texts: &[String]) {
    assert_eq!(done["status"], "completed", "{done}");
    let data = done["result"]["data"].as_array().unwrap();
    assert_eq!(data.len(), texts.len());
    for (item, text) in data.iter().zip(texts) {
        assert_eq!(item["embedding"], json!(vector_of(text, support::DIMENSIONS)), "{text}");
    }
}

/// No text was asked for twice, but for those of the requests at these places.
#[track_caller]
fn paid_once(stub: &OpenAiStub, but: &[usize]) {
    let mut seen = HashSet::new();
    for (place, batch) in stub.batches().into_iter().enumerate() {
        for text in batch {
            assert!(but.contains(&place) || seen.insert(text.clone()), "{text} was paid for again in request {place}");
        }
    }
}

#[tokio::test]
async fn a_worker_killed_at_a_batch_costs_that_batch_alone() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::vectors());
    (0..3).for_each(|_| stub.push(Reply::vectors()));
    stub.push(Reply::hang());
    let mut fleet = options(&stub, "batch_size = 4", "").start().await;
    let texts = texts(22);
    let id = fleet.client.submit(&job(&json!({ "input": texts }))).await;
    let events = fleet.client.events(&id, None).await;
    stub.wait_for(4).await;
    let running = fleet.client.job(&id).await;
    assert_eq!(running["progress"], json!({ "done": 12, "total": 22, "unit": "texts" }), "{running}");
    fleet.workers[0].kill();
    fleet.add_worker();
    let done = fleet.client.wait_status(&id, "completed").await;
    complete(&done, &texts);
    assert_eq!((&done["attempts"], &done["crashes"]), (&json!(2), &json!(1)), "{done}");
    assert_eq!(done["progress"], json!({ "done": 22, "total": 22, "unit": "texts" }));
    assert_eq!(done["usage"]["total_tokens"], 22, "the batch that was lost was answered by nobody");
    assert_eq!(stub.batches()[4], texts[12..16], "it goes on where it was");
    paid_once(&stub, &[3]);
    let told: Vec<u64> =
        events.rest().await.iter().filter_map(|event| event.data["progress"]["done"].as_u64()).collect();
    assert!(told.contains(&12) && told.last() == Some(&22) && told.is_sorted(), "readers are told: {told:?}");
}

#[tokio::test]
async fn a_provider_that_is_full_in_the_middle_costs_time_alone() {
    let (stub, fleet) = fleet("batch_size = 2", "").await;
    stub.push(Reply::vectors());
    stub.push(Reply::status(429, &[("retry-after", "1")], "{}"));
    stub.push(Reply::vectors());
    stub.push(Reply::status(500, &[], "{}"));
    let texts = texts(7);
    let id = fleet.client.submit(&job(&json!({ "input": texts }))).await;
    let done = fleet.client.wait_end(&id).await;
    complete(&done, &texts);
    assert_eq!(done["attempts"], 2, "only the 500 was an attempt: {done}");
    paid_once(&stub, &[1, 3]);
}

#[tokio::test]
async fn a_retry_with_a_changed_input_pays_for_the_change_alone() {
    let (stub, fleet) = fleet("batch_size = 2", "").await;
    let mut texts = texts(9);
    let id = fleet.client.submit(&job(&json!({ "input": texts }))).await;
    complete(&fleet.client.wait_end(&id).await, &texts);
    let before = stub.requests();
    texts[4] = "another".to_owned();
    texts.push("one more".to_owned());
    let answer = fleet.client.post(&format!("/api/v1/jobs/{id}/retry"), &json!({ "input": { "input": texts } })).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    complete(&fleet.client.wait_end(&id).await, &texts);
    assert_eq!(stub.batches()[before..], [["another", "one more"]]);
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_is_a_storage_error_and_retried() {
    let (stub, mut fleet) = fleet("batch_size = 2", "").await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::vectors());
    stub.push(Reply::vectors_gated(&gate));
    let texts = texts(6);
    let id = fleet.client.submit(&job(&json!({ "input": texts }))).await;
    stub.wait_for(2).await;
    fleet.allow_error("redis");
    fleet.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    gate.add_permits(1);
    let job = fleet.client.wait_until(&id, support::PATIENCE, |job| job["error"]["code"] == "storage_error").await;
    assert_eq!(job["progress"]["done"], 2, "{job}");
    fleet.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    complete(&fleet.client.wait_end(&id).await, &texts);
    assert_eq!(stub.batches()[0], texts[..2]);
    assert!(stub.batches()[1..].iter().all(|batch| *batch != texts[..2]), "what was kept stays kept");
}
