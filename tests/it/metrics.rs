//! The pages that Prometheus reads, of real programs.

use std::io::Write as _;
use std::process::{Command, Stdio};

use overshot_common::metrics::{ALL, Kind};
use serde_json::json;
use support::{Client, Fleet, FleetOptions, assert_eventually};

use crate::settings::{chat, chat_with, quick, slow, stubbed};

/// The sum of all series of a metric whose labels hold all of `labels`.
fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// The pages of the API and of the first worker.
async fn pages(fleet: &mut Fleet) -> [String; 2] {
    let worker = Client::new(&fleet.workers[0].address().await, None);
    [fleet.client.get("/metrics").await.text, worker.get("/metrics").await.text]
}

#[tokio::test]
async fn both_pages_have_every_series_and_count_what_a_job_does() {
    let mut fleet = Fleet::start(quick()).await;
    for page in pages(&mut fleet).await {
        for metric in ALL {
            let sample =
                if metric.kind == Kind::Histogram { format!("{}_count", metric.name) } else { metric.name.into() };
            assert!(page.lines().any(|line| line.split(['{', ' ']).next() == Some(&sample)), "no series of {sample}");
        }
        assert_eq!(sum(&page, "overshot_jobs_finished_total", &[]), 0.0);
    }
    let answer = fleet.client.post("/api/v1/jobs?wait=10s", &chat("x")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let chat = r#"pool="chat""#;
    assert_eventually!(sum(&pages(&mut fleet).await[1], "overshot_settle_duration_seconds_count", &[chat]) == 1.0);
    let [api, worker] = pages(&mut fleet).await;
    assert_eq!(sum(&api, "overshot_jobs_submitted_total", &[chat, r#"task="chat""#]), 1.0);
    assert_eq!(sum(&api, "overshot_results_read_total", &[chat]), 1.0);
    for (name, labels) in [
        ("overshot_jobs_finished_total", &[chat, r#"task="chat""#, r#"status="completed""#, r#"code="none""#][..]),
        ("overshot_attempts_total", &[chat, r#"code="none""#]),
        ("overshot_queue_wait_seconds_count", &[chat]),
        ("overshot_attempt_duration_seconds_count", &[chat, r#"task="chat""#]),
        ("overshot_time_to_first_token_seconds_count", &[chat]),
        ("overshot_job_duration_seconds_count", &[chat, r#"status="completed""#]),
    ] {
        assert_eq!(sum(&worker, name, labels), 1.0, "{name}");
    }
    for page in [&api, &worker] {
        assert_eq!(sum(page, "overshot_redis_up", &[]), 1.0);
        assert!(!page.contains(&answer.id()), "no job has a series of its own");
    }
    assert!(sum(&worker, "overshot_redis_call_duration_seconds_count", &[r#"script="claim""#]) >= 1.0);
    assert!(sum(&worker, "overshot_chunks_published_total", &[chat]) >= 1.0);
    assert_eventually!(sum(&pages(&mut fleet).await[1], "overshot_event_loop_lag_seconds_count", &[]) > 0.0);
}

#[tokio::test]
async fn the_queue_in_numbers_follows_what_waits_runs_and_ended() {
    let mut fleet = Fleet::start(slow()).await;
    for n in 0..6 {
        fleet.client.submit(&chat_with(&n.to_string(), &json!({ "priority": "low" }))).await;
    }
    assert_eventually!(sum(&pages(&mut fleet).await[0], "overshot_jobs", &[r#"status="running""#]) == 4.0);
    let [api, worker] = pages(&mut fleet).await;
    assert_eq!(sum(&api, "overshot_queued_jobs", &[r#"priority="low""#]), 2.0);
    assert_eq!(sum(&api, "overshot_demand", &[]), 6.0);
    assert_eq!(sum(&api, "overshot_live_workers", &[]), 1.0);
    assert!(sum(&api, "overshot_queued_bytes", &[]) > 0.0);
    assert!(sum(&api, "overshot_redis_used_memory_bytes", &[]) > 0.0);
    assert_eq!(sum(&worker, "overshot_worker_slots_busy", &[]), 4.0);
    assert_eq!(sum(&worker, "overshot_draining", &[]), 0.0);
    fleet.client.post("/api/v1/pools/chat/pause", &json!({})).await;
    assert_eventually!(sum(&pages(&mut fleet).await[0], "overshot_paused", &[]) == 1.0);
    fleet.workers[0].term();
    assert_eventually!(sum(&pages(&mut fleet).await[1], "overshot_draining", &[]) == 1.0);
}

#[tokio::test]
async fn a_failed_attempt_counts_by_its_code_whether_the_job_runs_again_or_not() {
    let stub = support::OpenAiStub::start().await;
    stub.always(support::Reply::status(500, &[], "{}"));
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    let job = fleet.client.submit(&chat_with("x", &json!({ "max_attempts": 2 }))).await;
    fleet.client.wait_status(&job, "failed").await;
    let code = r#"code="provider_error""#;
    assert_eventually!(sum(&pages(&mut fleet).await[1], "overshot_jobs_finished_total", &[code]) == 1.0);
    let worker = pages(&mut fleet).await[1].clone();
    assert_eq!(sum(&worker, "overshot_attempts_total", &[code]), 2.0);
    assert_eq!(sum(&worker, "overshot_retried_total", &[code]), 1.0);
}

#[tokio::test]
async fn a_redis_that_does_not_answer_shows_on_the_page_and_does_not_hold_it_up() {
    let mut fleet = Fleet::start(quick()).await;
    assert_eventually!(sum(&pages(&mut fleet).await[0], "overshot_redis_up", &[]) == 1.0);
    fleet.redis.freeze();
    let begun = std::time::Instant::now();
    assert_eventually!(sum(&fleet.client.get("/metrics").await.text, "overshot_redis_up", &[]) == 0.0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    fleet.redis.thaw();
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_the_pages() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("*** SKIPPED: promtool is missing (Debian's package prometheus)");
        return;
    }
    let config = format!("{}\n[tasks.summary]\nkind = \"chat\"\n", quick());
    let mut fleet = FleetOptions::new(config).start().await;
    let answer = fleet.client.post("/api/v1/jobs?wait=10s", &chat("x")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    for page in pages(&mut fleet).await {
        let mut tool = Command::new("promtool");
        tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tool = tool.spawn().unwrap();
        tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let found = tool.wait_with_output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
        assert!(found.status.success() && said.is_empty(), "{said}");
    }
}
