//! A provider without a network: it makes answers up at a set pace, for load and for a first try.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::SimulatedProvider;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::task::consume_budget;
use tokio::time::{sleep, timeout};

use super::{ChatOutput, ChatRequest, Output, ProviderFailure, Spoken, Transcript, TranscriptionRequest};
use crate::tasks::Sink;

mod embedding;
#[cfg(test)]
mod tests;

/// What every answer says, over and over up to its length.
const TEXT: &str = "The water runs along the flume and falls over the top of the wheel. It fills one bucket after \
    another, and the wheel turns: slowly, and with all the weight of the stream. Nothing is lost on the way. What a \
    bucket cannot carry now, the next one takes, and below the wheel the stream goes on as it came. ";

/// A line of a transcript, and how long one of its words takes where the audio's length is not known.
const WORDS_PER_LINE: usize = 10;
const WORD_SECONDS: f64 = 0.4;

/// See the module.
pub(super) struct Simulated {
    settings: SimulatedProvider,
    request_timeout: Duration,
}

#[derive(Serialize)]
struct Delta<'a> {
    content: &'a str,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl Simulated {
    pub(super) fn new(settings: &SimulatedProvider, request_timeout: Duration) -> Self {
        Self { settings: settings.clone(), request_timeout }
    }

    /// Answers from the seed alone: the same seed gives the same pauses and the same error at the same place.
    pub(super) async fn chat<S: Sink>(
        &self,
        request: &ChatRequest,
        mut output: Output<'_, S>,
    ) -> Result<ChatOutput, ProviderFailure> {
        // The no-op of the benchmarks draws nothing and waits for nothing.
        if self.settings.tokens > 0 || self.settings.error_rate > 0.0 {
            let limit = self.request_timeout;
            timeout(limit, self.speak(request, &mut output)).await.map_err(|_| ProviderFailure::timeout(limit))??;
        }
        let completion_tokens = u64::from(self.settings.tokens);
        let prompt_tokens = prompt_tokens(request);
        let usage = Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
        Ok(ChatOutput {
            answer: output.answer,
            model: None,
            usage: Some(raw(&usage)),
            finish_reason: Some("stop".to_owned()),
        })
    }

    /// As many words as a chat answer has, spread over the audio, in lines.
    pub(super) async fn transcribe(&self, request: &TranscriptionRequest<'_>) -> Result<Transcript, ProviderFailure> {
        let limit = self.request_timeout;
        timeout(limit, self.write_down(request)).await.map_err(|_| ProviderFailure::timeout(limit))?
    }

    async fn write_down(&self, request: &TranscriptionRequest<'_>) -> Result<Transcript, ProviderFailure> {
        let mut rng = StdRng::seed_from_u64(request.seed);
        if rng.random_bool(self.settings.error_rate) {
            return Err(failed());
        }
        let count = self.settings.tokens as usize;
        for _ in 0..count {
            self.pause(&mut rng).await;
        }
        let words: Vec<&str> = TEXT.split_inclusive(' ').cycle().take(count).collect();
        let seconds = request.seconds.unwrap_or(count as f64 * WORD_SECONDS);
        let at = |word: usize| seconds * word as f64 / count as f64;
        let lines = words.chunks(WORDS_PER_LINE).enumerate().map(|(line, words)| {
            let first = line * WORDS_PER_LINE;
            Spoken { start: at(first), end: at(first + words.len()), text: words.concat(), ..Spoken::default() }
        });
        let segments = lines.collect();
        Ok(Transcript { text: words.concat(), segments, language: Some("en".to_owned()), seconds: Some(seconds) })
    }

    async fn speak<S: Sink>(&self, request: &ChatRequest, output: &mut Output<'_, S>) -> Result<(), ProviderFailure> {
        let mut rng = StdRng::seed_from_u64(request.seed);
        let tokens = self.settings.tokens;
        // Half of the failing attempts fail before the first token, the others somewhere in the middle.
        let fails_at = rng.random_bool(self.settings.error_rate).then(|| {
            let early = tokens == 0 || rng.random_bool(0.5);
            if early { 0 } else { rng.random_range(0..tokens) }
        });
        let mut words = TEXT.split_inclusive(' ').cycle();
        for token in 0..tokens {
            if fails_at == Some(token) {
                break;
            }
            self.pause(&mut rng).await;
            let content = words.next().expect("a cycle of words never ends");
            output.push(&raw(&Delta { content })).await?;
        }
        match fails_at {
            Some(_) => Err(failed()),
            None => Ok(()),
        }
    }

    async fn pause(&self, rng: &mut StdRng) {
        if self.settings.pace.is_zero() {
            // Without a timer, a long answer would keep its thread from every other job.
            consume_budget().await;
        } else {
            let stray = self.settings.jitter * rng.random_range(-1.0..=1.0);
            sleep(self.settings.pace.mul_f64((1.0 + stray).max(0.0))).await;
        }
    }
}

fn failed() -> ProviderFailure {
    ProviderFailure::retry(ErrorCode::ProviderError, "the simulated provider failed, as set")
}

/// A token is about four bytes.
fn prompt_tokens(request: &ChatRequest) -> u64 {
    request.body.get("messages").map_or(0, |messages| messages.get().len().div_ceil(4) as u64)
}

fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("strings and numbers always serialize")
}
