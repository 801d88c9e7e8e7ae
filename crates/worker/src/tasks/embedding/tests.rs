//! The embedding task on the simulated provider.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::{ProviderConfig, SimulatedProvider};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::providers::{Provider, Unmetered};
use crate::tasks::recorder::Recorder;
use crate::tasks::{Attempt, Kind, run};

mod resume;

/// One attempt, on what earlier ones left in the recorder.
async fn attempt(input: &Value, error_rate: f64, recorder: &mut Recorder) -> Outcome {
    let settings = SimulatedProvider { tokens: 3, pace: Duration::ZERO, jitter: 0.0, error_rate };
    let provider = Provider::new("sim", &ProviderConfig::simulated(settings), |_| None).unwrap();
    let input = to_raw_value(input).unwrap();
    let (model, input) = (Some("m"), &*input);
    let attempt = Attempt {
        task: "embedding",
        model,
        input,
        audio: None,
        earlier: None,
        stream: false,
        seed: 1,
        meter: &Unmetered,
    };
    run(Kind::Embedding, &attempt, &provider, recorder).await
}

async fn outcome(input: &Value, error_rate: f64) -> (Outcome, Recorder) {
    let mut recorder = Recorder { inline_max: 1 << 20, ..Recorder::default() };
    (attempt(input, error_rate, &mut recorder).await, recorder)
}

async fn result(input: &Value) -> (Value, Recorder) {
    let (outcome, recorder) = outcome(input, 0.0).await;
    let Outcome::Done(result) = outcome else { panic!("{outcome:?}") };
    (serde_json::from_str(result.get()).unwrap(), recorder)
}

#[tokio::test]
async fn texts_become_an_embedding_result_in_their_order() {
    let input = json!({"input": ["one", "two", "one"], "batch_size": 1, "dimensions": 3});
    let (mut result, recorder) = result(&input).await;
    assert!(result["duration_ms"].take().is_u64());
    let data = result["data"].take();
    let head = json!({"schema_version": "ai.embedding_result.v1", "model": "m", "dimensions": 3, "data": null,
        "usage": {"prompt_tokens": 2, "total_tokens": 2}, "duration_ms": null});
    assert_eq!(result, head);
    let item = &data[1];
    assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(1)));
    assert_eq!(item["embedding"].as_array().unwrap().len(), 3);
    assert_eq!(data[0]["embedding"], data[2]["embedding"]);
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    assert_eq!(recorder.progress, [2, 3], "the third text has its vector with the first");
}

#[tokio::test]
async fn ids_are_given_back_and_base64_is_written_where_asked_for() {
    let input = json!({"input": [{"id": "a\"b", "text": "one"}], "encoding_format": "base64", "dimensions": 2});
    let (result, _) = result(&input).await;
    let item = &result["data"][0];
    assert_eq!(item["id"], "a\"b");
    assert_eq!(item["embedding"].as_str().map(str::len), Some(12), "{item}");
}

#[tokio::test]
async fn a_mistake_in_the_input_fails_for_good() {
    let (outcome, _) = outcome(&json!({"input": [""]}), 0.0).await;
    assert!(matches!(&outcome, Outcome::Fail { error } if error.code == ErrorCode::BadInput), "{outcome:?}");
}

#[tokio::test]
async fn a_failure_of_the_provider_is_left_to_the_retry_table() {
    let (outcome, _) = outcome(&json!({"input": "one"}), 1.0).await;
    assert!(matches!(&outcome, Outcome::Retry { error, .. } if error.code == ErrorCode::ProviderError), "{outcome:?}");
}
