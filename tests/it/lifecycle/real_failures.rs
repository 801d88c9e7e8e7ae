//! How real servers fail, and what the job shows of it: llama.cpp and Whisper, and the network between.

use serde_json::{Value, json};
use support::{ChaosProxy, ChatServer, Fleet, SpeechServer};

use crate::settings::{chat_with, quick};

/// A fleet over the real chat model, or over what stands in front of it on that port; `more` follows the pool's section.
async fn fleet(port: u16, more: &str) -> Fleet {
    let pool = "breaker = \"off\"\n[pools.real]\nproviders = [\"real\"]\n";
    Fleet::start(format!("{}\n{}{pool}{more}", quick(), ChatServer::provider(port))).await
}

/// A job of one attempt over this input, once it has ended.
async fn end(fleet: &Fleet, text: &str, input: &Value) -> Value {
    let mut job = chat_with(text, &json!({ "pool": "real", "max_attempts": 1 }));
    job["input"].as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
    fleet.client.wait_end(&fleet.client.submit(&job).await).await
}

/// The job failed with this code.
fn failed(job: &Value, code: &str) {
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{job}");
}

#[tokio::test]
async fn a_real_server_refuses_what_is_too_long_and_what_it_cannot_read() {
    let Some(server) = ChatServer::start() else { return };
    let fleet = fleet(server.port(), "").await;
    let long = "far too many words ".repeat(1500);
    for stream in [true, false] {
        let job = chat_with(&long, &json!({ "pool": "real", "stream": stream }));
        let job = fleet.client.wait_end(&fleet.client.submit(&job).await).await;
        failed(&job, "context_length");
        assert_eq!(job["attempts"], 1, "another attempt would be no shorter: {job}");
        assert!(!job["error"]["message"].as_str().unwrap().contains("words"), "{job}");
    }
    failed(&end(&fleet, "x", &json!({ "extra_body": { "grammar": "root ::= (((" } })).await, "bad_input");
    let embedding = json!({ "task": "embedding", "pool": "real", "input": { "input": "x" } });
    let job = fleet.client.wait_end(&fleet.client.submit(&embedding).await).await;
    failed(&job, "bad_input");
    assert_eq!(job["attempts"], 1, "a chat server makes no vectors the next time, either: {job}");
}

#[tokio::test]
async fn a_real_server_that_wants_another_key_is_provider_auth() {
    let Some(server) = ChatServer::start_with_key("the-right-key") else { return };
    let fleet = fleet(server.port(), "").await;
    failed(&end(&fleet, "x", &json!({})).await, "provider_auth");
}

#[tokio::test]
async fn a_real_models_answer_that_ends_too_soon_for_its_schema_is_a_bad_response() {
    let Some(server) = ChatServer::start() else { return };
    let schema = r#"{"type":"object","required":["city"],"properties":{"city":{"type":"string","minLength":20}}}"#;
    let task = format!("[tasks.capital]\nkind = \"chat\"\npool = \"real\"\nschema = '{schema}'");
    let fleet = fleet(server.port(), &task).await;
    let job = json!({ "task": "capital", "max_attempts": 1, "input": { "user": "x", "max_tokens": 3 } });
    let job = fleet.client.wait_end(&fleet.client.submit(&job).await).await;
    failed(&job, "bad_response");
}

#[tokio::test]
async fn a_connection_that_breaks_has_the_code_of_the_moment_at_which_it_broke() {
    let Some(server) = ChatServer::start() else { return };
    let proxy = ChaosProxy::to(server.port()).await;
    let fleet = fleet(proxy.port(), "[pools.real.retry]\nprovider_error = \"0s\"\n").await;
    // Unless told to go on, the model may well be done before the line breaks.
    let long = json!({ "max_tokens": 200, "extra_body": { "ignore_eos": true } });
    // Before the first byte: the request was there.
    proxy.lose_answer_to(b"/chat/completions");
    let job = end(&fleet, "x", &long).await;
    failed(&job, "provider_unavailable");
    // In the middle: what readers had stays.
    proxy.break_off_answer_to(b"/chat/completions", 3000);
    let job = end(&fleet, "Count to one hundred.", &long).await;
    failed(&job, "provider_error");
    assert!(job["result"]["partial"] == true && !job["result"]["content"].as_str().unwrap().is_empty(), "{job}");
    // With an attempt left the job is done all the same.
    proxy.break_off_answer_to(b"/chat/completions", 3000);
    let mut job = chat_with("Count to ten.", &json!({ "pool": "real" }));
    job["input"].as_object_mut().unwrap().extend(long.as_object().unwrap().clone());
    let job = fleet.client.wait_end(&fleet.client.submit(&job).await).await;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("completed"), &json!(2)), "{job}");
    proxy.refuse();
    failed(&end(&fleet, "x", &long).await, "provider_unavailable");
}

#[tokio::test]
async fn a_real_server_that_falls_silent_in_the_middle_is_a_timeout() {
    let Some(server) = ChatServer::start() else { return };
    let fleet = fleet(server.port(), "stall_timeout = \"5s\"").await;
    let mut job = chat_with("Count to one hundred.", &json!({ "pool": "real", "max_attempts": 1 }));
    job["input"]["extra_body"] = json!({ "ignore_eos": true });
    let id = fleet.client.submit(&job).await;
    fleet.client.wait_until(&id, support::PATIENCE, |job| job["first_chunk_at"].is_string()).await;
    server.freeze();
    let job = fleet.client.wait_end(&id).await;
    failed(&job, "timeout");
    assert_eq!(job["result"]["partial"], true, "{job}");
}

#[tokio::test]
async fn a_real_speech_server_without_the_model_and_one_behind_a_broken_line() {
    let Some(server) = SpeechServer::start().await else { return };
    let proxy = ChaosProxy::to(server.port()).await;
    let provider = SpeechServer::provider_at(proxy.port(), &["openai/whisper-tiny.en", "whisper-none"]);
    let pool = "breaker = \"off\"\n[pools.speech]\nproviders = [\"speech\"]\n\
        [pools.speech.retry]\nprovider_unavailable = \"0s\"\nprovider_error = \"0s\"\n";
    let fleet = Fleet::start(format!("{}\n{provider}{pool}", quick())).await;
    let upload = async |fields: &[(&str, &str)]| {
        let fields = [&[("pool", "speech")], fields].concat();
        let answer = fleet.client.upload(&fields, crate::transcription::silence(2, 0)).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        fleet.client.wait_end(&answer.id()).await
    };
    let job = upload(&[("max_attempts", "1"), ("model", "whisper-none")]).await;
    failed(&job, "model_unavailable");
    // The line breaks before the answer, and in the middle of it; each time the next attempt is asked for.
    for (keep, code) in [(0, "provider_unavailable"), (200, "provider_error")] {
        proxy.break_off_answer_to(b"/audio/transcriptions", keep);
        let job = upload(&[("max_attempts", "1")]).await;
        failed(&job, code);
        proxy.break_off_answer_to(b"/audio/transcriptions", keep);
        let job = upload(&[("max_attempts", "2")]).await;
        assert_eq!(job["attempts"], 2, "{job}");
        let attempts = job["result"]["attempts"].as_array().unwrap();
        assert_eq!((attempts.len(), &attempts[0]["error"]["code"]), (2, &json!(code)), "{job}");
        assert_ne!(attempts[1]["error"]["code"], code, "the second had its answer: {job}");
    }
}
