//! The chat task: one chat completion, as `ai.chat_result.v1`.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::task::chat::request_body;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use super::{Attempt, Sink};
use crate::outcome::Outcome;
use crate::providers::{Answer, ChatRequest, Provider, ToolCalls};

#[cfg(test)]
mod tests;

pub(super) async fn run(attempt: &Attempt<'_>, provider: &Provider, sink: &mut impl Sink) -> Outcome {
    // Always a stream towards the provider, also for a job without one: only a stream shows that a long answer is
    // still coming, and only its next write shows most servers that a cancelled reader is gone.
    let body = match request_body(attempt.input, attempt.model, true) {
        Ok(body) => body,
        Err(mistake) => return Outcome::fail(ErrorCode::BadInput, mistake.to_string()),
    };
    let request = ChatRequest { body, publish: attempt.stream, seed: attempt.seed };
    let start = Instant::now();
    match provider.chat(&request, sink).await {
        Ok(output) => Outcome::Done(
            ChatResult {
                model: output.model.as_deref().or(attempt.model),
                usage: output.usage.as_deref(),
                finish_reason: output.finish_reason.as_deref(),
                ..ChatResult::of(&output.answer, start.elapsed())
            }
            .into_json(),
        ),
        Err(failure) => failure.into(),
    }
}

/// `ai.chat_result.v1`.
#[derive(Serialize)]
pub(super) struct ChatResult<'a> {
    schema_version: &'static str,
    content: &'a str,
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a RawValue>,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "ToolCalls::is_empty")]
    tool_calls: &'a ToolCalls,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    refusal: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl<'a> ChatResult<'a> {
    /// What an attempt had when it broke off; the provider's last words are missing.
    pub(super) fn partial(answer: &'a Answer, model: Option<&'a str>, duration: Duration) -> Self {
        Self { model, partial: true, ..Self::of(answer, duration) }
    }

    fn of(answer: &'a Answer, duration: Duration) -> Self {
        Self {
            schema_version: "ai.chat_result.v1",
            content: &answer.content,
            model: None,
            usage: None,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            finish_reason: None,
            tool_calls: &answer.tool_calls,
            reasoning: &answer.reasoning,
            refusal: &answer.refusal,
            partial: false,
        }
    }

    pub(super) fn into_json(self) -> Box<RawValue> {
        to_raw_value(&self).expect("strings, numbers and JSON values always serialize")
    }
}
