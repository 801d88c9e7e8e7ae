//! The chat task on the simulated provider, and what is kept of an answer that broke off.

use std::path::Path;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::{Config, ProviderConfig, SimulatedProvider};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::providers::{Provider, Unmetered};
use crate::tasks::recorder::Recorder;
use crate::tasks::{Attempt, Kind, Partial, run};

async fn outcome(input: &Value, error_rate: f64) -> (Outcome, Recorder) {
    let settings = SimulatedProvider { tokens: 3, pace: Duration::ZERO, jitter: 0.0, error_rate };
    let provider = Provider::new("sim", &ProviderConfig::simulated(settings), |_| None).unwrap();
    let input = to_raw_value(input).unwrap();
    let attempt = Attempt {
        task: "chat",
        model: Some("m"),
        input: &input,
        audio: None,
        earlier: None,
        stream: true,
        seed: 1,
        meter: &Unmetered,
    };
    let mut recorder = Recorder::default();
    (run(Kind::Chat, &attempt, &provider, &mut recorder).await, recorder)
}

fn value(json: &RawValue) -> Value {
    serde_json::from_str(json.get()).unwrap()
}

#[test]
fn a_task_is_known_by_its_name_its_alias_or_the_configuration() {
    let file = "[tasks.call_analysis]\nkind = \"chat\"\n[tasks.index]\nkind = \"embedding\"\n\
        [pools.chat]\nproviders = [\"sim\"]\n[providers.sim]\nkind = \"simulated\"\n";
    let config = Config::load(Some((Path::new("t.toml"), file)), []).unwrap();
    let known = ["chat", "llm_chat", "call_analysis", "index", "no_such"].map(|name| Kind::of(name, &config));
    assert_eq!(known, [Some(Kind::Chat), Some(Kind::Chat), Some(Kind::Chat), Some(Kind::Embedding), None]);
}

#[tokio::test]
async fn an_answer_becomes_a_chat_result() {
    let (outcome, recorder) = outcome(&json!({"user": "hi", "call_id": 7}), 0.0).await;
    let Outcome::Done(result) = outcome else { panic!("{outcome:?}") };
    let mut result = value(&result);
    assert!(result["duration_ms"].take().is_u64());
    assert_eq!(result["usage"].take()["completion_tokens"], 3);
    let expected = json!({"schema_version": "ai.chat_result.v1", "content": "The water runs ", "model": "m",
        "usage": null, "duration_ms": null, "finish_reason": "stop"});
    assert_eq!(result, expected);
    assert_eq!(recorder.texts, ["The ", "water ", "runs "]);
}

#[tokio::test]
async fn a_mistake_in_the_input_fails_for_good_and_calls_nobody() {
    let (outcome, recorder) = outcome(&json!({"messages": [{"role": 1}]}), 0.0).await;
    assert!(matches!(&outcome, Outcome::Fail { error } if error.code == ErrorCode::BadInput), "{outcome:?}");
    assert_eq!(outcome.error().unwrap().message, "input.messages[0].role: must be a string");
    assert!(recorder.phases.is_empty());
}

#[tokio::test]
async fn a_failure_of_the_provider_is_left_to_the_retry_table() {
    let (outcome, _) = outcome(&json!({"user": "hi"}), 1.0).await;
    let Outcome::Retry { after: None, error } = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.code, ErrorCode::ProviderError);
}

#[test]
fn what_had_streamed_is_kept_as_a_partial_result() {
    let mut partial = Partial::new();
    let call = json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}});
    for (text, delta) in [
        ("", json!({"reasoning": "hm"})),
        ("Hel", json!({"content": "Hel"})),
        ("lo", json!({"content": "lo", "tool_calls": [call]})),
    ] {
        partial.push(text, &to_raw_value(&delta).unwrap());
    }
    let result = value(&partial.into_result(Some("m"), Duration::from_millis(1500)).unwrap());
    let expected = json!({"schema_version": "ai.chat_result.v1", "content": "Hello", "model": "m",
        "duration_ms": 1500, "reasoning": "hm", "partial": true,
        "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]});
    assert_eq!(result, expected);
}

#[test]
fn nothing_is_kept_of_an_attempt_that_had_not_streamed() {
    assert!(Partial::new().into_result(Some("m"), Duration::ZERO).is_none());
}

#[test]
fn a_partial_result_is_bounded_and_has_no_gap() {
    let delta = |text: &str| to_raw_value(&json!({"content": text})).unwrap();
    let (text, mut partial) = ("x".repeat(6 << 20), Partial::new());
    for _ in 0..3 {
        partial.push(&text, &delta(&text));
    }
    partial.push("y", &delta("y"));
    let result = value(&partial.into_result(None, Duration::ZERO).unwrap());
    assert_eq!(result["content"].as_str().map(str::len), Some(12 << 20));
}
