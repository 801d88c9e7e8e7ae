//! Providers that die, come back, are full, or sleep, under real workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Client, Fleet, FleetOptions, OpenAiStub, PATIENCE, Reply, assert_eventually};
use tokio::sync::Semaphore;

use crate::settings::{chat_with, stubbed_all};

mod limits;

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
    let first = submit(&fleet, 1, &json!({ "max_attempts": 5 })).await;
    // A check has found it down, and both know.
    for worker in &mut fleet.workers {
        worker.wait_for_line("a provider changed").await;
    }
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

/// Two workers and eight jobs, which have found out that the stub fails and wait behind its circuit.
async fn waiting_jobs(stub: &OpenAiStub, open_for: &str) -> (Fleet, Vec<String>) {
    let breaker = format!("breaker = {{ failures = 2, open_for = \"{open_for}\" }}");
    let fleet = FleetOptions::new(config(&[("a", stub)], &breaker, "")).workers(2).start().await;
    stub.always(Reply::status(500, &[], "{}"));
    let ids = submit(&fleet, 8, &json!({ "max_attempts": 100 })).await;
    assert_eventually!(by_status(&fleet, "running").await == 0 && stub.requests() >= 2);
    (fleet, ids)
}

#[tokio::test]
async fn a_half_open_circuit_is_tried_by_one_job_and_then_opens_for_all() {
    let stub = OpenAiStub::start().await;
    let (fleet, ids) = waiting_jobs(&stub, "1500ms").await;
    let gate = Arc::new(Semaphore::new(0));
    let before = stub.requests();
    stub.always(Reply::echo_gated(0, &gate));
    stub.wait_for(before + 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((stub.requests(), by_status(&fleet, "running").await), (before + 1, 1), "one tries for all");
    stub.always(Reply::echo());
    gate.add_permits(1);
    all_completed(&fleet, &ids).await;
}

/// What the circuit of the stub's model is in.
async fn circuit(fleet: &Fleet) -> Value {
    let status = fleet.client.get("/api/v1/providers/status").await.json;
    status["data"][0]["breaker"]["small"]["state"].clone()
}

#[tokio::test]
async fn a_trial_that_is_being_answered_lets_the_others_in_however_long_it_takes() {
    let stub = OpenAiStub::start().await;
    let breaker = r#"breaker = { failures = 2, open_for = "300ms" }"#;
    let fleet = FleetOptions::new(config(&[("a", &stub)], breaker, "")).workers(2).start().await;
    for streams in [true, false] {
        stub.always(Reply::status(500, &[], "{}"));
        for id in submit(&fleet, 2, &json!({ "max_attempts": 1 })).await {
            fleet.client.wait_status(&id, "failed").await;
        }
        assert_eventually!(circuit(&fleet).await == "half_open");
        let gate = Arc::new(Semaphore::new(0));
        stub.push(Reply::texts(&["a first word"]).then_gate(&gate).then_end("stop"));
        let ids = submit(&fleet, 1, &json!({ "stream": streams })).await;
        assert_eventually!(circuit(&fleet).await.as_str().is_none_or(|state| state == "closed"));
        assert_eq!(by_status(&fleet, "running").await, 1);
        gate.add_permits(1);
        all_completed(&fleet, &ids).await;
    }
}

#[tokio::test]
async fn a_trial_that_says_nothing_lets_others_try_beside_it() {
    let stub = OpenAiStub::start().await;
    let (fleet, ids) = waiting_jobs(&stub, "300ms").await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(0, &gate));
    stub.always(Reply::echo());
    // Sooner than the longest right to try is over, 15 s.
    assert_eventually!(by_status(&fleet, "completed").await == 7, Duration::from_secs(10));
    assert_eq!(by_status(&fleet, "running").await, 1, "the one that says nothing");
    gate.add_permits(1);
    all_completed(&fleet, &ids).await;
}

/// The turns of these jobs' last attempts that found nobody there.
fn turns_in_vain(jobs: &[Value]) -> usize {
    let turns = jobs.iter().filter_map(|job| job["result"]["attempts"].as_array()).flatten();
    turns.filter(|turn| turn["error"]["code"] == "provider_unavailable").count()
}

/// `KILL_MINUTES=10` runs it for so long, with a kill every ten seconds.
#[tokio::test]
async fn with_a_provider_killed_all_the_time_every_job_is_done_and_no_attempt_is_wasted_on_the_dead_one() {
    let minutes = std::env::var("KILL_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
    let (rounds, period) = minutes.map_or((8, 1), |minutes: usize| (minutes * 6, 10));
    let mut stubs = [OpenAiStub::start().await, OpenAiStub::start().await];
    stubs.iter().for_each(|stub| stub.always(Reply::spending(Duration::from_millis(100))));
    let settings = config(&[("a", &stubs[0]), ("b", &stubs[1])], BREAKER, "");
    let fleet = FleetOptions::new(settings).workers(2).start().await;
    let mut ids = Vec::new();
    for round in 0..rounds {
        // Half the time it is dead, and work comes all the time.
        stubs[round % 2].kill();
        for tick in 0..10 * period {
            if tick == 5 * period {
                stubs[round % 2].revive().await;
            }
            ids.extend(submit(&fleet, 3, &json!({})).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let jobs = all_completed(&fleet, &ids).await;
    let (extra, vain) = (attempts(&jobs) as usize - jobs.len(), turns_in_vain(&jobs));
    println!("{} jobs, {rounds} kills: {extra} attempts beyond the first, {vain} turns in vain", jobs.len());
    // Only an answer that readers had seen the beginning of costs an attempt: of two workers' eight slots, few.
    assert!(extra <= rounds * 4, "{extra} attempts beyond the first of {} jobs", jobs.len());
    // Three find out that it is dead; the other slots may have been on their way.
    assert!(vain <= rounds * 8, "{vain} turns at a provider that was dead, in {rounds} deaths");
}

#[tokio::test]
async fn a_provider_that_dies_in_an_answer_is_found_dead_before_the_next_attempt() {
    let mut stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["so "]).then_hang());
    let retry = "[pools.chat.retry]\nprovider_error = \"4s\"\n";
    let fleet = Fleet::start(config(&[("a", &stub)], BREAKER, retry)).await;
    let id = fleet.client.submit(&chat_with("hello", &json!({}))).await;
    fleet.client.wait_until(&id, PATIENCE, |job| job["phase"] == "streaming").await;
    stub.kill();
    let job = fleet.client.wait_status(&id, "retrying").await;
    assert_eq!(job["error"]["code"], "provider_error", "{job}");
    let explained = async || fleet.client.get(&format!("/api/v1/jobs/{id}/explain")).await.json["reason"].clone();
    assert_eventually!(explained().await == "provider_down");
    stub.revive().await;
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!(job["attempts"], 2, "none was used to find nobody there: {job}");
}

#[tokio::test]
async fn a_provider_that_throttles_is_left_alone_by_all() {
    let stub = OpenAiStub::start().await;
    let fleet = FleetOptions::new(config(&[("a", &stub)], BREAKER, "concurrency = 1")).workers(2).start().await;
    all_completed(&fleet, &submit(&fleet, 2, &json!({})).await).await;
    stub.push(Reply::status(429, &[("retry-after", "5")], "{}"));
    let begun = Instant::now();
    let ids = submit(&fleet, 1, &json!({})).await;
    stub.wait_for(3).await;
    assert_eventually!(by_status(&fleet, "scheduled").await == 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rest = submit(&fleet, 6, &json!({})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stub.requests(), 3, "all leave it alone");
    assert_eq!(attempts(&all_completed(&fleet, &[ids, rest].concat()).await), 7);
    assert!(begun.elapsed() >= Duration::from_millis(4900));
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
