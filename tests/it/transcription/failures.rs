//! Bad audio, bad transcripts, and what of them is kept.

use serde_json::{Value, json};
use support::{Fleet, OpenAiStub, Reply};

use super::{fleet, fleet_with, silence, verbose};
use crate::settings::stubbed_all;

async fn upload(fleet: &Fleet, fields: &[(&str, &str)], file: Vec<u8>) -> Value {
    let answer = fleet.client.upload(fields, file).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    fleet.client.wait_end(&answer.id()).await
}

#[tokio::test]
async fn a_provider_that_stumbles_over_what_is_no_audio_is_not_to_blame() {
    let stub = OpenAiStub::start().await;
    let fleet = fleet(&stub).await;
    let garbage = || b"<html>this is no audio at all</html>".repeat(50);
    for (status, file, code) in [
        (500, garbage(), "bad_audio"),
        (400, garbage(), "bad_audio"),
        (500, silence(2, 0), "provider_error"),
        (400, silence(2, 0), "bad_input"),
        (401, garbage(), "provider_auth"),
    ] {
        stub.always(Reply::status(status, &[], "{}"));
        let job = upload(&fleet, &[("max_attempts", "1")], file).await;
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{status}: {job}");
        let attempt = &job["result"]["attempts"][0];
        assert_eq!((&job["result"]["partial"], &attempt["error"]["code"]), (&json!(true), &json!(code)), "{job}");
    }
}

#[tokio::test]
async fn what_is_no_transcript_is_a_bad_response() {
    let stub = OpenAiStub::start().await;
    let fleet = fleet(&stub).await;
    for (status, body, code) in [
        (200, "{}", "bad_response"),
        (200, "not json", "bad_response"),
        (200, r#"{"error":{"code":500,"message":"out of memory"}}"#, "provider_error"),
        (404, r#"{"error":{"message":"The model `small` does not exist"}}"#, "model_unavailable"),
        (503, "busy", "provider_error"),
    ] {
        stub.always(Reply::status(status, &[], body));
        let job = upload(&fleet, &[("max_attempts", "1")], silence(2, 0)).await;
        assert_eq!(job["error"]["code"], code, "{body}: {job}");
    }
}

#[tokio::test]
async fn a_hallucination_goes_to_the_next_provider_and_stays_in_the_attempts() {
    let (poor, good) = (OpenAiStub::start().await, OpenAiStub::start().await);
    poor.always(verbose(&[(0.0, 2.0, "Thanks for watching!")]));
    good.always(verbose(&[(0.0, 2.0, "The line is bad, I call you back.")]));
    let fleet = Fleet::start(stubbed_all(&[("poor", &poor), ("good", &good)], "")).await;
    let job = upload(&fleet, &[], silence(4, 0)).await;
    assert_eq!(job["status"], "completed", "{job}");
    let result = &job["result"];
    assert_eq!((&result["provider"], &result["attempts"][1]["provider"]), (&json!("good"), &json!("good")), "{result}");
    let first = &result["attempts"][0];
    assert_eq!((&first["provider"], &first["text"]), (&json!("poor"), &json!("Thanks for watching!")), "{result}");
    assert_eq!(first["error"]["code"], "transcript_hallucination", "{result}");
    assert_eq!(first["segments"][0]["end"], 2.0, "{result}");
}

#[tokio::test]
async fn a_later_attempt_tells_of_the_earlier_ones() {
    let stub = OpenAiStub::start().await;
    let looped = "and then we go on ".repeat(40);
    stub.push(verbose(&[(0.0, 60.0, &looped)]));
    stub.always(verbose(&[(0.0, 2.0, "At last.")]));
    let fleet = fleet_with(&stub, "", "[pools.chat.retry]\ntranscript_hallucination = \"0s\"").await;
    let job = upload(&fleet, &[], silence(60, 0)).await;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("completed"), &json!(2)), "{job}");
    let attempts = job["result"]["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["error"]["code"]), (2, &json!("transcript_hallucination")), "{job}");
    assert!(attempts[1].get("error").is_none(), "{job}");
}

#[tokio::test]
async fn a_long_segment_comes_out_in_parts() {
    let stub = OpenAiStub::start().await;
    let talk = "This is the first sentence of the call. Here comes the second one, which is somewhat longer. Then a third. \
        And at the very end there is a fourth sentence that says goodbye.";
    stub.push(verbose(&[(0.0, 30.0, talk)]));
    let fleet = fleet(&stub).await;
    let job = upload(&fleet, &[("stream", "true")], silence(30, 0)).await;
    let segments = job["result"]["segments"].as_array().unwrap();
    assert!(segments.len() >= 3 && segments[0]["start"] == 0.0 && segments.last().unwrap()["end"] == 30.0, "{job}");
    assert_eq!(job["progress"], json!({"done": 30, "total": 30, "unit": "seconds"}), "{job}");
    assert!(segments.iter().all(|segment| segment.get("speaker").is_none()), "nobody is made up: {job}");
    let events = fleet.client.events(job["id"].as_str().unwrap(), None).await.rest().await;
    assert_eq!(events.iter().filter(|event| event.event == "chunk").count(), segments.len());
}
