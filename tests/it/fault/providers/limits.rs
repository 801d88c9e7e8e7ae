//! Limits of a provider, over all workers: jobs in flight, requests and tokens per minute.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use support::{Fleet, FleetOptions, OpenAiStub, Reply, Seen, assert_eventually};
use tokio::sync::Semaphore;

use super::{all_completed, attempts, by_status, config, submit};
use crate::settings::chat;

#[tokio::test]
async fn jobs_in_flight_at_a_provider_are_limited_over_all_workers_and_the_rest_waits_in_the_store() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.always(Reply::echo_gated(0, &gate));
    let fleet = FleetOptions::new(config(&[("a", &stub)], "max_in_flight = 3", "")).workers(2).start().await;
    let ids = submit(&fleet, 12, &json!({})).await;
    stub.wait_for(3).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((stub.requests(), by_status(&fleet, "running").await, by_status(&fleet, "queued").await), (3, 3, 9));
    for done in 1..=9 {
        gate.add_permits(1);
        stub.wait_for(3 + done).await;
        assert_eq!(stub.requests(), 3 + done, "one more for each that is done");
    }
    gate.add_permits(3);
    assert_eq!(attempts(&all_completed(&fleet, &ids).await), 12);
}

#[tokio::test]
async fn the_permits_of_a_killed_worker_return() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.always(Reply::echo_gated(0, &gate));
    let mut fleet = Fleet::start(config(&[("a", &stub)], "max_in_flight = 2", "")).await;
    let ids = submit(&fleet, 4, &json!({})).await;
    stub.wait_for(2).await;
    fleet.workers[0].kill();
    fleet.add_worker();
    // After the liveness of 3 s; the dead worker's connections are closed.
    stub.wait_for(4).await;
    gate.add_permits(100);
    all_completed(&fleet, &ids).await;
}

#[tokio::test]
async fn requests_beyond_a_minutes_limit_are_not_claimed() {
    let stub = OpenAiStub::start().await;
    let fleet = FleetOptions::new(config(&[("a", &stub)], "requests_per_minute = 5", "")).workers(2).start().await;
    let ids = submit(&fleet, 9, &json!({})).await;
    assert_eventually!(by_status(&fleet, "completed").await == 5);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((stub.requests(), by_status(&fleet, "queued").await), (5, 4));
    for id in ids {
        fleet.client.cancel(&id).await;
    }
}

#[tokio::test]
async fn each_batch_of_an_embedding_counts_as_a_request_and_what_finds_no_room_waits_in_the_store() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::vectors());
    let limits = "requests_per_minute = 7\nbatch_size = 2";
    let fleet = FleetOptions::new(config(&[("a", &stub)], limits, "")).workers(2).start().await;
    let texts: Vec<String> = (0..8).map(|number| format!("text {number}")).collect();
    let embedding = |name: &str| {
        let texts: Vec<String> = texts.iter().map(|text| format!("{name} {text}")).collect();
        json!({ "task": "embedding", "input": { "input": texts } })
    };
    let first = fleet.client.submit(&embedding("first")).await;
    all_completed(&fleet, &[first]).await;
    let second = fleet.client.submit(&embedding("second")).await;
    stub.wait_for(7).await;
    let waiting = fleet.client.wait_status(&second, "scheduled").await;
    assert_eq!((stub.requests(), &waiting["attempts"]), (7, &json!(0)), "{waiting}");
    assert_eq!(waiting["progress"], json!({ "done": 6, "total": 8, "unit": "texts" }), "{waiting}");
    let status = fleet.client.get("/api/v1/providers/status").await.json["data"][0].clone();
    assert_eq!(status["limits"]["requests_per_minute"], json!({ "limit": 7, "used": 7 }));
    assert_eq!(status["breaker"]["stub-model"]["state"].as_str().unwrap_or("closed"), "closed", "{status}");
    fleet.client.cancel(&second).await;
}

#[tokio::test]
async fn a_request_that_is_sent_a_second_time_in_another_form_counts_twice() {
    let stub = OpenAiStub::start().await;
    let limits = "requests_per_minute = 50";
    let fleet = Fleet::start(config(&[("a", &stub)], limits, "")).await;
    let used = async || {
        let status = fleet.client.get("/api/v1/providers/status").await;
        status.json["data"][0]["limits"]["requests_per_minute"]["used"].clone()
    };
    stub.push(Reply::status(400, &[], "{}"));
    stub.always(Reply::vectors());
    let id = fleet.client.submit(&json!({ "task": "embedding", "input": { "input": "x" } })).await;
    all_completed(&fleet, &[id]).await;
    assert_eq!((stub.requests(), used().await), (2, json!(2)));
    stub.push(Reply::status(400, &[], r#"{"error":{"message":"unknown response_format"}}"#));
    stub.always(Reply::status(200, &[], r#"{"text":"Hello."}"#));
    let answer = fleet.client.upload(&[], crate::transcription::silence(2, 0)).await;
    all_completed(&fleet, &[answer.id()]).await;
    assert_eq!((stub.requests(), used().await), (4, json!(4)));
}

#[tokio::test]
async fn an_answer_without_a_limit_of_its_own_is_reserved_for_and_corrected_by_what_it_used() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.always(Reply::echo_gated(0, &gate));
    // 1024 for the answer of each, and some for the prompt: room for four, not for five.
    let settings = config(&[("a", &stub)], "tokens_per_minute = 4500", "concurrency = 8");
    let fleet = Fleet::start(settings).await;
    let ids = submit(&fleet, 7, &json!({})).await;
    stub.wait_for(4).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(stub.requests(), 4, "what is reserved is not there for another");
    // Each uses 7 of them.
    for done in 1..=3 {
        gate.add_permits(1);
        stub.wait_for(4 + done).await;
    }
    gate.add_permits(4);
    all_completed(&fleet, &ids).await;
    let status = async || fleet.client.get("/api/v1/providers/status").await.json["data"][0].clone();
    assert_eventually!(status().await["limits"]["tokens_per_minute"]["used"] == 7 * 7);
}

#[tokio::test]
async fn tokens_are_reserved_before_a_call_and_what_was_not_used_is_given_back() {
    let stub = OpenAiStub::start().await;
    let limits = "tokens_per_minute = 1000";
    let fleet = Fleet::start(config(&[("a", &stub)], limits, "concurrency = 1")).await;
    let mut job = chat("hello");
    // The stub reports 7 tokens each.
    job["input"]["max_tokens"] = json!(800);
    for _ in 0..12 {
        let id = fleet.client.submit(&job).await;
        fleet.client.wait_status(&id, "completed").await;
    }
    let gate = Arc::new(Semaphore::new(0));
    stub.always(Reply::echo_gated(0, &gate));
    let held = fleet.client.submit(&job).await;
    stub.wait_for(13).await;
    let second = fleet.client.submit(&job).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stub.requests(), 13, "what is reserved is not there for another");
    stub.always(Reply::echo());
    gate.add_permits(1);
    all_completed(&fleet, &[held, second]).await;
}

const MINUTE: Duration = Duration::from_secs(60);
const TOKENS: u64 = 60_000;

/// A job that uses that many tokens: of three, one says how many its answer may have.
fn spender(number: usize, tokens: u64) -> Value {
    let mut job = chat(&"word ".repeat(1 + number % 50));
    job["input"]["extra_body"] = json!({ "spend": tokens });
    match number % 3 {
        0 => job["input"]["max_tokens"] = json!(300),
        1 => {}
        _ => job["stream"] = json!(false),
    }
    job
}

/// The tokens of the requests that came within a minute of the first of these.
fn spent_in_a_minute(seen: &[Seen]) -> u64 {
    let within = seen.iter().take_while(|next| next.at.duration_since(seen[0].at) < MINUTE);
    within.map(|seen| seen.body["spend"].as_u64().unwrap()).sum()
}

/// `LIMIT_MINUTES=10` runs it for ten of them.
#[tokio::test]
async fn eight_workers_hold_a_limit_of_tokens_within_two_percent_and_use_it_up() {
    let minutes = std::env::var("LIMIT_MINUTES").map_or(1, |minutes| minutes.parse().expect("a number of minutes"));
    let stub = OpenAiStub::start().await;
    stub.always(Reply::spending(Duration::from_millis(150)));
    let limits = format!("tokens_per_minute = {TOKENS}");
    let fleet = FleetOptions::new(config(&[("a", &stub)], &limits, "concurrency = 8")).workers(8).start().await;
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    // Enough for all that time, by the average of 200 each.
    for start in (0..(minutes + 2) * 310).step_by(310) {
        let jobs: Vec<Value> = (start..start + 310).map(|number| spender(number, rng.random_range(100..300))).collect();
        assert_eq!(fleet.client.post("/api/v1/jobs/batch", &json!({ "jobs": jobs })).await.status, 200);
    }
    stub.wait_for(1).await;
    let whole = MINUTE * u32::try_from(minutes).unwrap();
    // The next minute's tokens are there as soon as the last one's have left the window.
    tokio::time::sleep(whole + Duration::from_secs(10)).await;
    let seen = stub.seen();
    let most = (0..seen.len()).map(|first| spent_in_a_minute(&seen[first..])).max().unwrap();
    let spent = |from: Duration, to: Duration| -> u64 {
        let inside = seen.iter().filter(|one| (from..to).contains(&one.at.duration_since(seen[0].at)));
        inside.map(|one| one.body["spend"].as_u64().unwrap()).sum()
    };
    let (all, limit) = (spent(Duration::ZERO, whole) as f64, (TOKENS * minutes as u64) as f64);
    let (share, fullest) = (all / limit, most as f64 / TOKENS as f64);
    println!("{minutes} min: {share:.4} of the limit in all, {fullest:.4} of it in the fullest minute");
    assert!((0.97..=1.02).contains(&share), "{share} of the limit in {minutes} minutes");
    assert!(fullest <= 1.02, "{fullest} of the limit in some minute");
    assert!(spent(whole, whole + Duration::from_secs(10)) as f64 >= 0.9 * TOKENS as f64, "the next minute has begun");
}
