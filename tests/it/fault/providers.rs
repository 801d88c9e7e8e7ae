//! Providers that die, come back, are full, or sleep, under real workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Client, Fleet, FleetOptions, OpenAiStub, Reply, assert_eventually};
use tokio::sync::Semaphore;

use crate::settings::{chat, chat_with, stubbed_all};

/// These stubs behind one pool, each with these settings.
fn config(stubs: &[(&str, &OpenAiStub)], provider: &str, pool: &str) -> String {
    let mut config = stubbed_all(stubs, pool);
    if pool.contains("concurrency") {
        config = config.replace("concurrency = 4\n", "");
    }
    stubs.iter().fold(config, |config, (name, _)| {
        config.replace(&format!("[providers.{name}]"), &format!("[providers.{name}]\n{provider}"))
    })
}

const BREAKER: &str = r#"breaker = { failures = 3, open_for = "300ms" }"#;

async fn submit(fleet: &Fleet, count: usize, fields: &Value) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(fleet.client.submit(&chat_with("hello", fields)).await);
    }
    ids
}

async fn all_completed(fleet: &Fleet, ids: &[String]) -> Vec<Value> {
    let mut jobs = Vec::new();
    for id in ids {
        jobs.push(fleet.client.wait_status(id, "completed").await);
    }
    jobs
}

async fn by_status(fleet: &Fleet, status: &str) -> u64 {
    fleet.client.get("/api/v1/pools/chat").await.json["by_status"][status].as_u64().unwrap()
}

/// How often its workers have told Redis of their providers.
async fn reports(fleet: &mut Fleet) -> u64 {
    let mut count = 0;
    for worker in &mut fleet.workers {
        let page = Client::new(&worker.address().await, None).get("/metrics").await.text;
        let line = "overshot_redis_call_duration_seconds_count{script=\"provider_report\"} ";
        count += page.lines().find_map(|found| found.strip_prefix(line)).unwrap().parse::<u64>().unwrap();
    }
    count
}

fn attempts(jobs: &[Value]) -> u64 {
    jobs.iter().map(|job| job["attempts"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn jobs_for_a_provider_known_to_be_down_wait_in_the_store_and_use_no_attempt() {
    let mut stub = OpenAiStub::start().await;
    stub.kill();
    let mut fleet = FleetOptions::new(config(&[("a", &stub)], BREAKER, "")).workers(2).start().await;
    // The first worker's check has found it down.
    let first = submit(&fleet, 1, &json!({ "max_attempts": 5 })).await;
    assert_eventually!(by_status(&fleet, "queued").await + by_status(&fleet, "retrying").await == 1);
    let ids = submit(&fleet, 20, &json!({ "max_attempts": 2 })).await;
    let before = reports(&mut fleet).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reports = reports(&mut fleet).await - before;
    assert!((1..60).contains(&reports), "{reports} reports of two workers in two seconds on what does not change");
    assert_eq!(by_status(&fleet, "queued").await + by_status(&fleet, "retrying").await, 21);
    stub.revive().await;
    let jobs = all_completed(&fleet, &ids).await;
    assert_eq!(attempts(&jobs), 20, "each ran once");
    all_completed(&fleet, &first).await;
}

#[tokio::test]
async fn a_provider_that_dies_is_found_out_once_for_all_workers() {
    let mut stub = OpenAiStub::start().await;
    let fleet = FleetOptions::new(config(&[("a", &stub)], BREAKER, "concurrency = 1")).workers(3).start().await;
    all_completed(&fleet, &submit(&fleet, 6, &json!({})).await).await;
    stub.kill();
    let ids = submit(&fleet, 30, &json!({})).await;
    let mut checked = Instant::now();
    assert_eventually!({
        let waits = by_status(&fleet, "running").await == 0 && by_status(&fleet, "scheduled").await == 0;
        if !waits {
            checked = Instant::now();
        }
        waits && checked.elapsed() > Duration::from_millis(500)
    });
    stub.revive().await;
    let jobs = all_completed(&fleet, &ids).await;
    // Each worker may have had one call under way, and one more until it heard.
    assert!(attempts(&jobs) <= 30 + 6, "{} attempts for 30 jobs", attempts(&jobs));
}

#[tokio::test]
async fn while_one_provider_is_open_all_jobs_go_to_the_other_and_none_is_lost_on_it() {
    let (a, b) = (OpenAiStub::start().await, OpenAiStub::start().await);
    let breaker = r#"breaker = { failures = 3, open_for = "1h" }"#;
    let fleet = FleetOptions::new(config(&[("a", &a), ("b", &b)], breaker, "")).workers(2).start().await;
    a.always(Reply::status(500, &[], "{}"));
    let jobs = all_completed(&fleet, &submit(&fleet, 40, &json!({})).await).await;
    assert_eq!((attempts(&jobs), b.requests()), (40, 40));
    // Three in a row, and what was under way on eight slots before all had heard.
    assert!((3..=11).contains(&a.requests()), "{} requests to an open provider", a.requests());
    let known = a.requests();
    all_completed(&fleet, &submit(&fleet, 20, &json!({})).await).await;
    assert_eq!(a.requests(), known);
}

#[tokio::test]
async fn a_half_open_circuit_is_tried_by_one_job_and_then_opens_for_all() {
    let stub = OpenAiStub::start().await;
    let breaker = r#"breaker = { failures = 2, open_for = "1500ms" }"#;
    let fleet = FleetOptions::new(config(&[("a", &stub)], breaker, "")).workers(2).start().await;
    stub.always(Reply::status(500, &[], "{}"));
    let gate = Arc::new(Semaphore::new(0));
    let ids = submit(&fleet, 8, &json!({ "max_attempts": 100 })).await;
    assert_eventually!(by_status(&fleet, "running").await == 0 && stub.requests() >= 2);
    let before = stub.requests();
    stub.always(Reply::echo_gated(0, &gate));
    stub.wait_for(before + 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((stub.requests(), by_status(&fleet, "running").await), (before + 1, 1), "one tries for all");
    stub.always(Reply::echo());
    gate.add_permits(1);
    all_completed(&fleet, &ids).await;
}

#[tokio::test]
async fn with_a_provider_killed_every_second_every_job_is_done_and_no_attempt_is_wasted_on_the_dead_one() {
    let (mut a, mut b) = (OpenAiStub::start().await, OpenAiStub::start().await);
    let options = FleetOptions::new(config(&[("a", &a), ("b", &b)], BREAKER, ""));
    let fleet = options.workers(2).start().await;
    let mut ids = Vec::new();
    for round in 0..8 {
        let stub = if round % 2 == 0 { &mut a } else { &mut b };
        stub.kill();
        ids.extend(submit(&fleet, 25, &json!({})).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        stub.revive().await;
        ids.extend(submit(&fleet, 5, &json!({})).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let jobs = all_completed(&fleet, &ids).await;
    // Only an answer that readers had seen the beginning of costs an attempt.
    assert!(attempts(&jobs) <= 240 + 8 * 4, "{} attempts for 240 jobs", attempts(&jobs));
}

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

#[tokio::test]
async fn a_provider_that_throttles_is_left_alone_by_all() {
    let stub = OpenAiStub::start().await;
    let fleet = FleetOptions::new(config(&[("a", &stub)], BREAKER, "concurrency = 1")).workers(2).start().await;
    all_completed(&fleet, &submit(&fleet, 2, &json!({})).await).await;
    stub.push(Reply::status(429, &[("retry-after", "2")], "{}"));
    let begun = Instant::now();
    let ids = submit(&fleet, 1, &json!({})).await;
    stub.wait_for(3).await;
    assert_eventually!(by_status(&fleet, "scheduled").await == 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rest = submit(&fleet, 6, &json!({})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stub.requests(), 3, "all leave it alone");
    assert_eq!(attempts(&all_completed(&fleet, &[ids, rest].concat()).await), 7);
    assert!(begun.elapsed() >= Duration::from_millis(1900));
}

#[tokio::test]
async fn the_first_job_wakes_a_sleeping_provider_for_all_that_wait() {
    let mut stub = OpenAiStub::start().await;
    stub.kill();
    let woken = tempfile::tempdir().unwrap();
    let file = woken.path().join("woken");
    // Each wake adds a line.
    let command = format!("wake_command = [\"sh\", \"-c\", \"echo woken >> {}\"]", file.display());
    let fleet = FleetOptions::new(config(&[("a", &stub)], &command, "")).workers(2).start().await;
    let ids = submit(&fleet, 10, &json!({})).await;
    assert_eventually!(file.exists());
    let mut loading = Value::Null;
    assert_eventually!({
        for id in &ids {
            let job = fleet.client.job(id).await;
            if job["phase"] == "loading" {
                loading = job;
            }
        }
        loading["status"] == "running"
    });
    assert_eq!((by_status(&fleet, "running").await, by_status(&fleet, "queued").await), (1, 9), "the others wait");
    stub.revive().await;
    assert_eq!(attempts(&all_completed(&fleet, &ids).await), 10);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "woken\n");
}

#[tokio::test]
async fn a_wake_that_fails_is_model_unavailable_and_the_provider_sleeps_on() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(config(&[("a", &stub)], "wake_command = [\"false\"]", "")).await;
    let ids = submit(&fleet, 3, &json!({ "max_attempts": 1 })).await;
    let mut failed = Vec::new();
    assert_eventually!({
        failed.clear();
        for id in &ids {
            let job = fleet.client.job(id).await;
            if job["status"] == "failed" {
                failed.push(job);
            }
        }
        failed.len() == 1
    });
    assert_eq!(failed[0]["error"]["code"], "model_unavailable", "{failed:?}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((by_status(&fleet, "queued").await, stub.requests()), (2, 0), "the next wake waits a while");
}

#[tokio::test]
async fn the_status_tells_what_the_workers_know_and_a_job_that_would_not_wait_is_refused_where_its_provider_is_down() {
    let (a, mut b) = (OpenAiStub::start().await, OpenAiStub::start().await);
    b.kill();
    let gate = Arc::new(Semaphore::new(0));
    a.push(Reply::echo_gated(0, &gate));
    let settings = format!("{BREAKER}\nmax_in_flight = 4\nrequests_per_minute = 50");
    let fleet = Fleet::start(config(&[("a", &a), ("b", &b)], &settings, "")).await;
    let ids = submit(&fleet, 1, &json!({ "provider": "a" })).await;
    a.wait_for(1).await;
    let status = async || fleet.client.get("/api/v1/providers/status").await.json["data"].clone();
    assert_eventually!(status().await[0]["limits"]["max_in_flight"]["used"] == 1);
    assert_eventually!(status().await[1]["state"] == "down");
    let shown = status().await;
    assert_eq!((&shown[0]["state"], &shown[0]["ok"], &shown[0]["stale"]), (&json!("ok"), &json!(true), &json!(false)));
    assert_eq!(shown[0]["limits"]["requests_per_minute"], json!({ "limit": 50, "used": 1 }));
    assert_eq!(shown[1]["last_error"]["code"], "provider_unavailable", "{shown}");
    assert_ne!(shown[1]["breaker"]["*"]["state"], "closed", "{shown}");
    let refused = fleet.client.post_job(&chat_with("x", &json!({ "provider": "b", "fail_fast": true }))).await;
    assert_eq!((refused.status, refused.code()), (503, "no_live_worker"));
    let taken = fleet.client.post_job(&chat_with("x", &json!({ "provider": "b" }))).await;
    assert_eq!(taken.status, 202, "who waits is not refused");
    gate.add_permits(1);
    all_completed(&fleet, &ids).await;
}
