//! The simulated provider, in paused time.

use std::time::Duration;

use futures_util::FutureExt;
use overshot_common::code::ErrorCode;
use overshot_common::config::{ProviderConfig, SimulatedProvider};
use overshot_common::task::chat::request_body;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::providers::{ChatOutput, ChatRequest, Provider, ProviderFailure};
use crate::tasks::recorder::Recorder;

const PACE: Duration = Duration::from_millis(20);

fn provider(tokens: u32, jitter: f64, error_rate: f64) -> Provider {
    let settings = SimulatedProvider { tokens, pace: PACE, jitter, error_rate };
    Provider::new("sim", &ProviderConfig::simulated(settings), |_| None).unwrap()
}

fn request(seed: u64) -> ChatRequest {
    let input = RawValue::from_string(r#"{"user":"hi"}"#.to_owned()).unwrap();
    ChatRequest { body: request_body(&input, None, true).unwrap(), publish: true, seed }
}

async fn chat(provider: &Provider, seed: u64) -> (Result<ChatOutput, ProviderFailure>, Recorder, Duration) {
    let mut recorder = Recorder::default();
    let start = Instant::now();
    let answer = provider.chat(&request(seed), &mut recorder).await;
    (answer, recorder, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn it_speaks_its_tokens_at_its_pace() {
    let (answer, recorder, took) = chat(&provider(25, 0.0, 0.0), 1).await;
    let answer = answer.unwrap();
    assert_eq!(recorder.texts.len(), 25);
    assert_eq!(recorder.texts.concat(), answer.answer.content);
    assert!(answer.answer.content.starts_with("The water runs along the flume"));
    assert!(answer.usage.unwrap().get().contains(r#""completion_tokens":25"#));
    assert_eq!(took, PACE * 25);
}

#[tokio::test(start_paused = true)]
async fn jitter_strays_around_the_pace_and_the_same_seed_strays_the_same() {
    let provider = provider(100, 0.5, 0.0);
    let took = chat(&provider, 1).await.2;
    assert!(took > PACE * 80 && took < PACE * 120 && took != PACE * 100, "{took:?}");
    assert_eq!(chat(&provider, 1).await.2, took);
    assert_ne!(chat(&provider, 2).await.2, took);
}

#[test]
fn no_tokens_is_an_empty_answer_at_once() {
    // Outside a runtime: the first timer would panic.
    let (answer, recorder, _) = chat(&provider(0, 0.2, 0.0), 1).now_or_never().unwrap();
    assert_eq!(answer.unwrap().answer.content, "");
    assert!(recorder.texts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn its_share_of_errors_comes_early_and_in_the_middle_and_the_seed_decides() {
    let provider = provider(10, 0.0, 0.5);
    let mut chunks_before_failure = Vec::new();
    for seed in 0..100 {
        let (answer, recorder, _) = chat(&provider, seed).await;
        assert_eq!(chat(&provider, seed).await.0.is_ok(), answer.is_ok());
        if let Err(failure) = answer {
            assert_eq!(failure.error.code, ErrorCode::ProviderError);
            chunks_before_failure.push(recorder.texts.len());
        }
    }
    assert!((30..70).contains(&chunks_before_failure.len()), "{chunks_before_failure:?}");
    assert!(chunks_before_failure.contains(&0) && chunks_before_failure.iter().any(|chunks| *chunks > 0));
}
