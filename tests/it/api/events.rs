//! The event stream: live, late, resumed, abandoned; and the same over pub/sub.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json};
use support::{Event, Fleet, FleetOptions, OpenAiStub, RedisServer, Reply};
use tokio::sync::Semaphore;

use crate::settings::{chat, stubbed};

fn text(events: &[Event]) -> String {
    events.iter().filter(|event| event.event == "chunk").map(Event::text).collect()
}

/// What holds for every complete reading.
#[track_caller]
fn check_complete(events: &[Event], expected: &str) {
    assert_eq!(text(events), expected);
    let last = events.last().unwrap();
    assert_eq!((last.event.as_str(), &last.data["status"]), ("done", &json!("completed")), "{last:?}");
    assert_eq!(last.data["result"]["content"], expected);
    assert_eq!(events.iter().filter(|event| event.event == "done").count(), 1);
    let mut seen = HashSet::new();
    let chunks = events.iter().filter(|event| event.event == "chunk");
    assert!(chunks.clone().all(|event| seen.insert(&event.id)), "an id came twice");
    let seqs: Vec<_> = chunks.map(|event| event.data["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    let known = ["status", "chunk", "attempt", "truncated", "done"];
    assert!(events.iter().all(|event| known.contains(&event.event.as_str())), "{events:?}");
}

#[tokio::test]
async fn chunks_reach_a_live_reader_as_they_come_and_a_late_one_gets_all() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(2, &gate));
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let id = client.submit(&chat("one two three four")).await;
    let mut live = client.events(&id, None).await;
    // The provider is held at its gate: these can only have come live.
    let first = live.next_chunk().await;
    assert_eq!((first.text(), &first.data["delta"]["content"]), ("one ", &json!("one ")), "{first:?}");
    assert_eq!(first.data["attempt"], 1);
    assert_eq!(live.next_chunk().await.text(), "two ");
    let job = client.job(&id).await;
    assert_eq!((&job["status"], &job["phase"]), (&json!("running"), &json!("streaming")), "{job}");
    assert!(job["first_chunk_at"].is_string(), "{job}");
    let mut joined = client.events(&id, None).await;
    assert_eq!(joined.next_chunk().await.text(), "one ");
    gate.add_permits(1);
    assert_eq!(text(&live.rest().await), "three four");
    assert_eq!(text(&joined.rest().await), "two three four");
    check_complete(&client.events(&id, None).await.rest().await, "one two three four");
}

#[tokio::test]
async fn a_reader_resumes_after_any_event_exactly_once() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let id = client.submit(&chat("a b c d e f")).await;
    client.wait_status(&id, "completed").await;
    let all = client.events(&id, None).await.rest().await;
    check_complete(&all, "a b c d e f");
    let chunks: Vec<_> = all.iter().filter(|event| event.event == "chunk").collect();
    for (place, chunk) in chunks.iter().enumerate() {
        let rest = client.events(&id, Some(&chunk.id)).await.rest().await;
        let expected: String = chunks[place + 1..].iter().map(|event| event.text()).collect();
        assert_eq!(text(&rest), expected, "after {}", chunk.id);
        assert_eq!(rest.last().unwrap().event, "done");
    }
}

#[tokio::test]
async fn a_live_reader_resumes_in_the_middle_of_a_stream() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(3, &gate));
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let id = client.submit(&chat("a b c d e")).await;
    let mut first = client.events(&id, None).await;
    let _ = first.next_chunk().await;
    let second = first.next_chunk().await;
    drop(first);
    let mut resumed = client.events(&id, Some(&second.id)).await;
    assert_eq!(resumed.next_chunk().await.text(), "c ");
    gate.add_permits(1);
    assert_eq!(text(&resumed.rest().await), "d e");
}

#[tokio::test]
async fn a_new_attempt_is_announced_and_its_output_starts_anew() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["lost ", "words"]).then_cut());
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let id = client.submit(&chat("kept words")).await;
    let live = client.events(&id, None).await.rest().await;
    client.wait_status(&id, "completed").await;
    let late = client.events(&id, None).await.rest().await;
    for events in [live, late] {
        let second = events.iter().position(|event| event.event == "attempt" && event.data["attempt"] == 2);
        let second = second.unwrap_or_else(|| panic!("no second attempt in {events:?}"));
        assert_eq!(text(&events[second..]), "kept words");
        assert!(events[second..].iter().filter(|event| event.event == "chunk").all(|e| e.data["attempt"] == 2));
        assert_eq!(events.last().unwrap().data["result"]["content"], "kept words");
    }
}

#[tokio::test]
async fn a_reader_that_leaves_changes_nothing() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(1, &gate));
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let id = client.submit(&chat("one two")).await;
    let mut reader = client.events(&id, None).await;
    reader.next_chunk().await;
    drop(reader);
    let wait = client.request(reqwest::Method::GET, &format!("/api/v1/jobs/{id}?wait=30s"));
    let left = tokio::time::timeout(std::time::Duration::from_millis(200), client.send(wait)).await;
    assert!(left.is_err(), "the job is held");
    gate.add_permits(1);
    let job = client.wait_status(&id, "completed").await;
    assert_eq!((&job["result"]["content"], &job["attempts"]), (&json!("one two"), &json!(1)));
    assert_eq!(stub.requests(), 1);
}

#[tokio::test]
async fn a_job_without_a_stream_has_no_chunks_but_an_end() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let mut job = chat("one two");
    job["stream"] = json!(false);
    let id = client.submit(&job).await;
    let events = client.events(&id, None).await.rest().await;
    assert_eq!(text(&events), "");
    assert_eq!(events.last().unwrap().data["result"]["content"], "one two");
}

#[tokio::test]
async fn pub_sub_carries_the_same_events() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(0, &gate));
    let fleet = FleetOptions::new(stubbed(&stub, "")).redis(RedisServer::options().standalone()).start().await;
    let client = &fleet.client;
    let id = client.submit(&chat("one two")).await;
    let mut pubsub = redis::Client::open(fleet.redis.url()).unwrap().get_async_pubsub().await.unwrap();
    pubsub.subscribe(format!("overshot:{{chat.0}}:events:{id}")).await.unwrap();
    gate.add_permits(1);
    let mut heard = Vec::new();
    let mut messages = pubsub.on_message();
    loop {
        let message = tokio::time::timeout(support::PATIENCE, messages.next()).await.unwrap().unwrap();
        let event: Value = serde_json::from_slice(message.get_payload_bytes()).unwrap();
        assert!(event["id"].is_string() && event["event"].is_string() && event["data"].is_object(), "{event}");
        let is_done = event["event"] == "done";
        heard.push(event);
        if is_done {
            break;
        }
    }
    let replayed = client.events(&id, None).await.rest().await;
    let chunks = |event: &&Value| event["event"] == "chunk";
    let heard_chunks: Vec<_> = heard.iter().filter(chunks).map(|e| (e["id"].clone(), e["data"].clone())).collect();
    let replayed_chunks: Vec<_> =
        replayed.iter().filter(|e| e.event == "chunk").map(|e| (json!(e.id), e.data.clone())).collect();
    assert_eq!(heard_chunks, replayed_chunks);
    assert_eq!(heard.last().unwrap()["data"]["status"], "completed");
}
