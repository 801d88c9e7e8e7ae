//! Several providers behind a pool: who fails gives the job to the next, within the attempt.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Fleet, OpenAiStub, PATIENCE, Reply};
use tokio::sync::Semaphore;

use crate::settings::{chat, chat_with, stubbed_all};

/// The names of the providers that had a turn, in order, and the code with which each gave up.
fn turns(job: &Value) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let turns = job["result"]["attempts"].as_array().cloned().unwrap_or_default();
    turns.iter().map(|turn| (text(&turn["provider"]).unwrap(), text(&turn["error"]["code"]))).collect()
}

async fn run(fleet: &Fleet, fields: &Value) -> Value {
    let id = fleet.client.submit(&chat_with("hello", fields)).await;
    fleet.client.wait_end(&id).await
}

#[tokio::test]
async fn a_provider_that_fails_by_its_own_fault_gives_the_job_to_the_next_in_the_same_attempt() {
    let (a, b) = (OpenAiStub::start().await, OpenAiStub::start().await);
    let fleet = Fleet::start(stubbed_all(&[("a", &a), ("b", &b)], "")).await;
    for (reply, code) in [
        (Reply::status(500, &[], "{}"), "provider_error"),
        (Reply::status(401, &[], "{}"), "provider_auth"),
        (Reply::status(404, &[], r#"{"error":{"code":"model_not_found"}}"#), "model_unavailable"),
        (Reply::texts(&[]).then_cut(), "provider_error"),
        (Reply::status(429, &[("retry-after", "60")], "{}"), "provider_unavailable"),
    ] {
        let job = run(&fleet, &json!({})).await;
        assert_eq!((&job["provider"], turns(&job).len()), (&json!("a"), 0), "one turn is no list: {job}");
        a.push(reply);
        let job = run(&fleet, &json!({})).await;
        assert_eq!((&job["status"], &job["attempts"], &job["provider"]), (&json!("completed"), &json!(1), &json!("b")));
        assert_eq!(turns(&job), [("a".to_owned(), Some(code.to_owned())), ("b".to_owned(), None)], "{job}");
    }
    assert_eq!((a.requests(), b.requests()), (10, 5));
}

#[tokio::test]
async fn a_provider_that_hangs_or_cannot_be_reached_gives_the_job_to_the_next() {
    let (a, b, gone) = (OpenAiStub::start().await, OpenAiStub::start().await, OpenAiStub::start().await);
    let config = stubbed_all(&[("gone", &gone), ("a", &a), ("b", &b)], "");
    let config = config.replace("[providers.a]", "[providers.a]\nrequest_timeout = \"300ms\"");
    let config = config.replace("[providers.gone]", "[providers.gone]\nbreaker = \"off\"");
    drop(gone);
    a.always(Reply::hang());
    let fleet = Fleet::start(config).await;
    let job = run(&fleet, &json!({})).await;
    let codes: Vec<_> = turns(&job).into_iter().map(|(name, code)| (name, code.unwrap_or_default())).collect();
    let expected = [("gone", "provider_unavailable"), ("a", "timeout"), ("b", "")];
    assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code.to_owned())), "{job}");
    a.wait_disconnected(1, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_readers_have_seen_or_what_is_the_jobs_own_fault_goes_to_no_other_provider() {
    let (a, b) = (OpenAiStub::start().await, OpenAiStub::start().await);
    let fleet = Fleet::start(stubbed_all(&[("a", &a), ("b", &b)], "")).await;
    for reply in [Reply::status(400, &[], "{}"), Reply::texts(&["Hel"]).then_cut()] {
        a.push(reply);
        let job = run(&fleet, &json!({ "max_attempts": 1 })).await;
        assert_eq!((&job["status"], &job["provider"]), (&json!("failed"), &json!("a")), "{job}");
    }
    assert_eq!(b.requests(), 0);
    // Nobody has seen anything of a job without a stream.
    a.push(Reply::texts(&["Hel"]).then_cut());
    let job = run(&fleet, &json!({ "max_attempts": 1, "stream": false })).await;
    assert_eq!((&job["result"]["content"], &job["provider"]), (&json!("hello"), &json!("b")), "{job}");
}

#[tokio::test]
async fn a_running_job_names_the_provider_whose_turn_it_is() {
    let (mut a, b) = (OpenAiStub::start().await, OpenAiStub::start().await);
    let fleet = Fleet::start(stubbed_all(&[("a", &a), ("b", &b)], "")).await;
    let gate = Arc::new(Semaphore::new(0));
    a.push(Reply::hang());
    b.push(Reply::echo_gated(0, &gate));
    let id = fleet.client.submit(&chat("hello")).await;
    let at = async |name: &str| {
        let job = fleet.client.wait_until(&id, PATIENCE, |job| job["provider"] == name).await;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("running"), &json!(1)), "{job}");
    };
    at("a").await;
    a.kill();
    at("b").await;
    gate.add_permits(100);
    let done = fleet.client.wait_end(&id).await;
    assert_eq!((&done["status"], &done["provider"]), (&json!("completed"), &json!("b")), "{done}");
}

#[tokio::test]
async fn a_pinned_job_goes_to_no_other_provider() {
    let (a, b) = (OpenAiStub::start().await, OpenAiStub::start().await);
    let fleet = Fleet::start(stubbed_all(&[("a", &a), ("b", &b)], "")).await;
    a.push(Reply::status(500, &[], "{}"));
    let job = run(&fleet, &json!({ "provider": "a" })).await;
    assert_eq!((&job["status"], &job["attempts"], b.requests()), (&json!("completed"), &json!(2), 0), "{job}");
}

#[tokio::test]
async fn where_all_fail_the_attempt_ends_with_the_most_hopeful_failure() {
    let (a, b) = (OpenAiStub::start().await, OpenAiStub::start().await);
    let fleet = Fleet::start(stubbed_all(&[("a", &a), ("b", &b)], "")).await;
    a.push(Reply::status(429, &[("retry-after", "1")], "{}"));
    b.push(Reply::status(401, &[], "{}"));
    let id = fleet.client.submit(&chat("hello")).await;
    let job = fleet.client.wait_end(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("completed"), &json!(1)), "it was snoozed: {job}");
}
