//! Answers of `/api/chat`: one JSON object a line, the last one `done`.

use bytes::BytesMut;
use overshot_common::code::ErrorCode;
use reqwest::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::timeout;

use crate::providers::openai::errors::ProviderError;
use crate::providers::openai::{TRAILER_TIMEOUT, broken};
use crate::providers::{ChatOutput, Output, ProviderFailure};
use crate::tasks::Sink;

/// The most that one line may hold.
const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(default, borrow)]
    message: Option<Message<'a>>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    content: String,
    #[serde(default)]
    thinking: String,
    #[serde(default, borrow)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(default, borrow)]
    arguments: Option<&'a RawValue>,
}

/// A piece as readers get it, whoever the provider is.
#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallDelta<'a>>,
}

#[derive(Serialize)]
struct ToolCallDelta<'a> {
    index: u64,
    id: String,
    r#type: &'static str,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    name: &'a str,
    /// A JSON object as a text, which is how chat completions carry it.
    arguments: &'a str,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

/// Reads an answer up to its last line. One that ends without it was cut, whatever came before. `seed` names tool calls
/// that the server leaves unnamed.
pub(super) async fn read<S: Sink>(
    mut response: Response,
    output: Output<'_, S>,
    seed: u64,
) -> Result<ChatOutput, ProviderFailure> {
    let mut reading = Reading { output, model: None, calls: 0, seed };
    let mut buffer = BytesMut::new();
    let mut seen = 0;
    loop {
        while let Some(end) = buffer[seen..].iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(seen + end + 1);
            seen = 0;
            if let Some(last) = reading.take(&line).await? {
                // Read to its end, the connection can be used again.
                let _ = timeout(TRAILER_TIMEOUT, async { while let Ok(Some(_)) = response.chunk().await {} }).await;
                return Ok(last);
            }
        }
        seen = buffer.len();
        if seen > LINE_BYTES_MAX {
            return Err(ProviderFailure::bad_response("a line of it is larger than 1 MiB"));
        }
        match response.chunk().await.map_err(|error| broken(&error))? {
            Some(bytes) => buffer.extend_from_slice(&bytes),
            // The last line may lack its end.
            None => {
                let last = reading.take(&buffer).await?;
                let cut = "the provider's stream was cut before its last line";
                return last.ok_or_else(|| ProviderFailure::retry(ErrorCode::ProviderError, cut));
            }
        }
    }
}

/// An answer that is being read.
struct Reading<'a, S> {
    output: Output<'a, S>,
    model: Option<String>,
    /// Tool calls so far.
    calls: u64,
    seed: u64,
}

impl<S: Sink> Reading<'_, S> {
    /// Takes a line; the whole answer, where it was the last one.
    async fn take(&mut self, line: &[u8]) -> Result<Option<ChatOutput>, ProviderFailure> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        let read: Line<'_> =
            serde_json::from_slice(line).map_err(|_| ProviderFailure::bad_response("it is not a chat answer"))?;
        if read.error.is_some() {
            return Err(super::classify(&ProviderError::parse(line), 500, None));
        }
        self.model = read.model.filter(|model| !model.is_empty()).or(self.model.take());
        if let Some(message) = &read.message {
            self.push(message).await?;
        }
        Ok(read.done.then(|| self.finish(read.done_reason, read.prompt_eval_count, read.eval_count)))
    }

    async fn push(&mut self, message: &Message<'_>) -> Result<(), ProviderFailure> {
        let calls = message.tool_calls.as_deref().unwrap_or_default().iter();
        let tool_calls = calls.map(|call| self.name(call)).collect();
        let delta = Delta { content: &message.content, reasoning: &message.thinking, tool_calls };
        if delta.content.is_empty() && delta.reasoning.is_empty() && delta.tool_calls.is_empty() {
            return Ok(());
        }
        self.output.push(&raw(&delta)).await
    }

    /// A call with the id that its result will refer to. Older servers give none: it is made of the attempt's number.
    fn name<'c>(&mut self, call: &'c ToolCall<'_>) -> ToolCallDelta<'c> {
        let index = self.calls;
        self.calls += 1;
        let id = call.id.clone().filter(|id| !id.is_empty());
        ToolCallDelta {
            index,
            id: id.unwrap_or_else(|| format!("call_{}_{index}", self.seed)),
            r#type: "function",
            function: FunctionDelta {
                name: &call.function.name,
                arguments: call.function.arguments.map_or("{}", RawValue::get),
            },
        }
    }

    fn finish(&mut self, reason: Option<String>, prompt_tokens: u64, completion_tokens: u64) -> ChatOutput {
        let usage =
            Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens.saturating_add(completion_tokens) };
        let reason = reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| "stop".to_owned());
        ChatOutput {
            answer: std::mem::take(&mut self.output.answer),
            model: self.model.take(),
            usage: Some(raw(&usage)),
            // Ollama says `stop` of a turn that ends in calls.
            finish_reason: Some(if self.calls > 0 && reason == "stop" { "tool_calls".to_owned() } else { reason }),
        }
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("texts and numbers always serialize")
}
