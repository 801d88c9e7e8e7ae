//! Every way in which a provider fails, as the job shows it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Fleet, OpenAiStub, Reply};

use crate::settings::{chat, chat_with, stubbed};

/// A job over this first reply and good ones after it.
async fn run(fleet: &Fleet, stub: &OpenAiStub, reply: Reply, max_attempts: u32) -> Value {
    stub.push(reply);
    let id = fleet.client.submit(&chat_with("hello", &json!({ "max_attempts": max_attempts }))).await;
    fleet.client.wait_end(&id).await
}

#[tokio::test]
async fn each_class_of_error_has_its_code() {
    let stub = OpenAiStub::start().await;
    let fleet =
        Fleet::start(stubbed(&stub, "").replace("[providers.stub]", "[providers.stub]\nbreaker = \"off\"")).await;
    let error = |fields: Value| json!({ "error": fields }).to_string();
    let status = |status: u16, body: &str| Reply::status(status, &[], body);
    let words = || Reply::texts(&["Hel"]);
    for (reply, code) in [
        (status(400, "{}"), "bad_input"),
        (status(400, &error(json!({ "code": "context_length_exceeded" }))), "context_length"),
        (status(401, ""), "provider_auth"),
        (status(403, "<html>"), "provider_auth"),
        (status(404, &error(json!({ "message": "The model `m` does not exist." }))), "model_unavailable"),
        (status(408, ""), "timeout"),
        (status(500, "{}"), "provider_error"),
        (status(502, "<html>"), "provider_error"),
        (status(429, &error(json!({ "code": "insufficient_quota" }))), "provider_error"),
        (status(200, "{}"), "bad_response"),
        (status(200, &error(json!({ "type": "server_error" }))), "provider_error"),
        (words().then_cut(), "provider_error"),
        (words().then_data(r#"{"error":{"type":"server_error"}}"#).then_cut(), "provider_error"),
        (words().then_data(r#"{"error":{"code":400,"type":"BadRequestError"}}"#).then_cut(), "bad_input"),
        (words().then_data("nonsense").then_cut(), "bad_response"),
    ] {
        let shown = format!("{reply:?}");
        let job = run(&fleet, &stub, reply, 1).await;
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{shown}: {job}");
        assert_eq!(job["attempts"], 1, "{job}");
        let partial = if shown.contains("Hel") { json!(true) } else { Value::Null };
        assert_eq!(job["result"]["partial"], partial, "{shown}: {job}");
    }
}

#[tokio::test]
async fn a_final_error_takes_no_second_attempt_and_a_passing_one_does() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let job = run(&fleet, &stub, Reply::status(400, &[], "{}"), 5).await;
    assert_eq!((&job["status"], &job["attempts"], stub.requests()), (&json!("failed"), &json!(1), 1), "{job}");
    let job = run(&fleet, &stub, Reply::status(500, &[], "{}"), 5).await;
    assert_eq!((&job["status"], &job["attempts"], stub.requests()), (&json!("completed"), &json!(2), 3), "{job}");
    assert_eq!(job["result"]["content"], "hello");
}

#[tokio::test]
async fn a_job_fails_when_its_attempts_are_used_up() {
    let stub = OpenAiStub::start().await;
    let retry = "[pools.chat.retry]\nprovider_error = \"0s\"";
    let fleet = Fleet::start(stubbed(&stub, retry)).await;
    stub.always(Reply::status(500, &[], "{}"));
    let id = fleet.client.submit(&chat_with("x", &json!({ "max_attempts": 3 }))).await;
    let job = fleet.client.wait_status(&id, "failed").await;
    assert_eq!((&job["attempts"], &job["crashes"], stub.requests()), (&json!(3), &json!(0), 3), "{job}");
    assert_eq!(job["error"]["code"], "provider_error");
}

#[tokio::test]
async fn a_retrying_job_shows_its_last_error_and_when_it_is_due() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "[pools.chat.retry]\nprovider_error = \"1h\"")).await;
    stub.push(Reply::status(500, &[], "{}"));
    let id = fleet.client.submit(&chat("x")).await;
    let job = fleet.client.wait_status(&id, "retrying").await;
    assert_eq!((&job["error"]["code"], &job["attempts"]), (&json!("provider_error"), &json!(1)), "{job}");
    let text = |name: &str| job[name].as_str().unwrap().to_owned();
    assert!(text("run_at") > text("updated_at") && text("expires_at") > text("run_at"), "{job}");
    assert_eq!(fleet.client.cancel(&id).await.status, 200, "it waits");
}

#[tokio::test]
async fn a_throttled_job_comes_again_when_the_provider_said_and_uses_no_attempt() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    for status in [429, 503] {
        let start = Instant::now();
        let job = run(&fleet, &stub, Reply::status(status, &[("retry-after", "1")], "{}"), 1).await;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("completed"), &json!(1)), "{status}: {job}");
        assert!(start.elapsed() >= Duration::from_millis(950), "{status}: {:?}", start.elapsed());
    }
    assert_eq!(stub.requests(), 4);
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_unavailable() {
    let stub = OpenAiStub::start().await;
    let config = stubbed(&stub, "").replace("[providers.stub]", "[providers.stub]\nbreaker = \"off\"");
    drop(stub);
    let fleet = Fleet::start(config).await;
    let id = fleet.client.submit(&chat_with("x", &json!({ "max_attempts": 2 }))).await;
    let job = fleet.client.wait_status(&id, "failed").await;
    assert_eq!((&job["error"]["code"], &job["attempts"]), (&json!("provider_unavailable"), &json!(2)), "{job}");
}
