//! Connections to Redis that break or go silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{ChaosProxy, Fleet, FleetOptions, OpenAiStub, PATIENCE, RedisServer, Reply, assert_eventually};
use tokio::sync::Semaphore;

use super::load::{all_complete, nothing_is_left_over, submit_surely};
use crate::settings::{chat, chat_with, stubbed};

async fn proxied(config: &str) -> (Fleet, ChaosProxy) {
    let redis = RedisServer::options().tcp().start().await;
    let proxy = ChaosProxy::start(&redis).await;
    let mut fleet = FleetOptions::new(config).start_over(redis, &proxy.url()).await;
    // A broken connection is what these tests make.
    fleet.allow_error("");
    (fleet, proxy)
}

// Fails without `return { 2 }` in enqueue.lua.
#[tokio::test]
async fn a_submit_whose_answer_from_redis_is_lost_makes_one_job() {
    let stub = OpenAiStub::start().await;
    let (fleet, proxy) = proxied(&stubbed(&stub, "")).await;
    let mut jobs = Vec::new();
    for n in 1..=10 {
        let key = format!("needle {n}");
        // Its input is in the enqueue and in nothing before it.
        proxy.lose_answer_to(key.as_bytes());
        jobs.push((key.clone(), submit_surely(&fleet.client, &key).await));
        proxy.wait_for_lost(n).await;
        assert_eq!(submit_surely(&fleet.client, &key).await, jobs.last().unwrap().1, "the key still names it");
    }
    all_complete(&fleet.client, &jobs).await;
    nothing_is_left_over(&fleet.client, &jobs).await;
    assert_eq!(stub.requests(), jobs.len(), "each ran once");
}

#[tokio::test]
async fn a_settle_whose_answer_is_lost_ends_the_job_once() {
    let stub = OpenAiStub::start().await;
    let (fleet, proxy) = proxied(&stubbed(&stub, "")).await;
    for n in 1..=5 {
        // Only the result holds the version.
        proxy.lose_answer_to(b"ai.chat_result.v1");
        let id = fleet.client.submit(&chat("one two")).await;
        let job = fleet.client.wait_status(&id, "completed").await;
        proxy.wait_for_lost(n).await;
        assert_eq!(job["attempts"], 1, "{job}");
        assert_eq!(job["result"]["content"], "one two");
    }
    assert_eq!(stub.requests(), 5, "nothing ran twice");
}

// Found by chaos, seeds 102 and 103. Fails without the nonce in retry.lua.
#[tokio::test]
async fn a_retry_by_hand_whose_answer_from_redis_is_lost_is_accepted_and_runs_once() {
    let stub = OpenAiStub::start().await;
    let (fleet, proxy) = proxied(&stubbed(&stub, "")).await;
    let id = fleet.client.submit(&chat("first")).await;
    fleet.client.wait_status(&id, "completed").await;
    for n in 1..=3 {
        // The new input is in the retry and in nothing before it.
        let text = format!("needle {n}");
        proxy.lose_answer_to(text.as_bytes());
        let body = serde_json::json!({ "input": chat(&text)["input"] });
        let answer = fleet.client.post(&format!("/api/v1/jobs/{id}/retry"), &body).await;
        proxy.wait_for_lost(n).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let job = fleet.client.wait_until(&id, PATIENCE, |job| job["result"]["content"] == text.as_str()).await;
        assert_eq!(job["attempts"], 1, "{job}");
        assert_eq!(stub.requests(), 1 + usize::try_from(n).unwrap(), "it ran once more");
    }
}

#[tokio::test]
async fn silent_connections_are_given_up_within_five_seconds() {
    let stub = OpenAiStub::start().await;
    let (fleet, proxy) = proxied(&stubbed(&stub, "max_crashes = 100")).await;
    for swallow in [ChaosProxy::black_hole, ChaosProxy::one_way] {
        let id = fleet.client.submit(&chat("before")).await;
        fleet.client.wait_status(&id, "completed").await;
        swallow(&proxy);
        let start = Instant::now();
        let id = submit_surely(&fleet.client, &format!("after {start:?}")).await;
        let api = start.elapsed();
        assert!(api < Duration::from_secs(5), "the API took {api:?}");
        assert_eventually!(fleet.client.get("/readyz").await.status == 200);
        let ready = start.elapsed();
        let job = fleet.client.wait_status(&id, "completed").await;
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "the worker took {:?} after the API took {api:?}, ready {ready:?}: {job}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn connections_cut_under_load_lose_and_double_nothing() {
    let stub = OpenAiStub::start().await;
    let (fleet, proxy) = proxied(&stubbed(&stub, "max_crashes = 100")).await;
    let mut jobs = Vec::new();
    for n in 0..100 {
        let key = format!("job {n}");
        jobs.push((key.clone(), submit_surely(&fleet.client, &key).await));
        if n % 10 == 9 {
            proxy.cut();
        }
    }
    all_complete(&fleet.client, &jobs).await;
    nothing_is_left_over(&fleet.client, &jobs).await;
}

#[tokio::test]
async fn a_redis_that_refuses_connections_is_a_503_and_then_over() {
    let stub = OpenAiStub::start().await;
    let (fleet, proxy) = proxied(&stubbed(&stub, "")).await;
    proxy.refuse();
    assert_eventually!(fleet.client.get("/readyz").await.status == 503);
    let began = Instant::now();
    let refused = fleet.client.post_job(&chat("x")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(began.elapsed() < Duration::from_secs(7), "tried for {:?}", began.elapsed());
    assert!(refused.headers.contains_key("retry-after"), "{}", refused.text);
    assert_eq!(fleet.client.get("/healthz").await.status, 200);
    proxy.pass();
    let id = submit_surely(&fleet.client, "back").await;
    fleet.client.wait_status(&id, "completed").await;
}

#[tokio::test]
async fn killed_subscriptions_cost_a_reader_nothing() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let words: Vec<String> = (0..200).map(|n| format!("word-{n} ")).collect();
    let reply = words.iter().fold(Reply::texts(&[]), |reply, word| reply.then_gate(&gate).then_texts(&[word]));
    stub.push(reply.then_end("stop"));
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    fleet.allow_error("");
    let client = fleet.client.clone();
    let id = client.submit(&chat_with("x", &serde_json::json!({}))).await;
    let events = client.events(&id, None).await;
    let wait = {
        let (client, path) = (client.clone(), format!("/api/v1/jobs/{id}?wait=60s"));
        tokio::spawn(async move { client.get(&path).await })
    };
    let killing = {
        let mut connection = fleet.redis.connection().await;
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            let mut killed = 0;
            for _ in 0..20 {
                gate.add_permits(10);
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("TYPE").arg("pubsub");
                killed += kill.query_async::<usize>(&mut connection).await.unwrap();
                // Lets some of them come back, so that there is something to kill.
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            killed
        })
    };
    let events = events.rest().await;
    assert!(killing.await.unwrap() > 0, "nothing was killed");
    let text: String = events.iter().filter(|event| event.event == "chunk").map(support::Event::text).collect();
    assert_eq!(text, words.concat(), "complete, in order, once");
    assert_eq!(events.last().unwrap().data["result"]["content"], words.concat());
    let waited = wait.await.unwrap();
    assert_eq!(waited.json["status"], "completed", "{}", waited.text);
}
