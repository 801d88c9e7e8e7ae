//! Answers to a chat completion, as a stream of chunks or as one JSON body.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use overshot_common::code::ErrorCode;
use reqwest::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::broken;
use super::errors::ProviderError;
use super::sse;
use crate::providers::{ChatOutput, Output, ProviderFailure};
use crate::tasks::Sink;

/// The most that a JSON answer may hold, its envelope included.
const BODY_BYTES_MAX: usize = 17 << 20;

/// How long the end of a finished answer is waited for; a connection that was read to its end can be used again.
pub(in crate::providers) const TRAILER_TIMEOUT: Duration = Duration::from_millis(20);

/// A chunk of a stream, or a whole answer: the same envelope.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(default, borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    object: Option<String>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default, borrow)]
    delta: Option<&'a RawValue>,
    #[serde(default, borrow)]
    message: Option<&'a RawValue>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// Reads a stream up to its end mark, `[DONE]`. One that ends without it was cut, whatever came before.
pub(super) async fn read_stream<S: Sink>(
    response: Response,
    output: Output<'_, S>,
) -> Result<ChatOutput, ProviderFailure> {
    let mut events = pin!(sse::events(response));
    let mut reading = Reading::new(output);
    while let Some(data) = events.next().await.transpose()? {
        match data.trim() {
            "" => {}
            "[DONE]" => {
                read_to_end(events).await;
                return reading.finish();
            }
            data => reading.take(data).await?,
        }
    }
    Err(ProviderFailure::retry(ErrorCode::ProviderError, "the provider's stream was cut before its end mark"))
}

async fn read_to_end(events: impl Stream) {
    // Whatever follows the end mark changes nothing.
    let _ = timeout(TRAILER_TIMEOUT, events.for_each(|_| async {})).await;
}

/// Reads an answer in one JSON body.
pub(super) async fn read_json<S: Sink>(
    mut response: Response,
    output: Output<'_, S>,
) -> Result<ChatOutput, ProviderFailure> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| broken(&error))? {
        body.extend_from_slice(&bytes);
        if body.len() > BODY_BYTES_MAX {
            return Err(ProviderFailure::bad_response("it is larger than 16 MiB"));
        }
    }
    let body = String::from_utf8(body).map_err(|_| ProviderFailure::bad_response("it is not UTF-8"))?;
    let mut reading = Reading::new(output);
    reading.take(&body).await?;
    reading.finish()
}

/// An answer that is being read.
struct Reading<'a, S> {
    output: Output<'a, S>,
    has_choice: bool,
    model: Option<String>,
    usage: Option<Box<RawValue>>,
    finish_reason: Option<String>,
}

impl<'a, S: Sink> Reading<'a, S> {
    fn new(output: Output<'a, S>) -> Self {
        Self { output, has_choice: false, model: None, usage: None, finish_reason: None }
    }

    async fn take(&mut self, json: &str) -> Result<(), ProviderFailure> {
        let envelope: Envelope<'_> =
            serde_json::from_str(json).map_err(|_| ProviderFailure::bad_response("it is not a chat completion"))?;
        if envelope.error.is_some() || envelope.object.as_deref() == Some("error") {
            return Err(ProviderError::parse(json.as_bytes()).classify_late());
        }
        self.model = envelope.model.filter(|model| !model.is_empty()).or(self.model.take());
        if let Some(usage) = envelope.usage.filter(|usage| usage.get().starts_with('{')) {
            self.usage = Some(usage.to_owned());
        }
        for choice in envelope.choices.unwrap_or_default() {
            // One answer was asked for; a server that sends more must not mix them.
            if choice.index.unwrap_or(0) != 0 {
                continue;
            }
            self.has_choice = true;
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
            if let Some(delta) = choice.delta.or(choice.message) {
                self.output.push(delta).await?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<ChatOutput, ProviderFailure> {
        if !self.has_choice {
            return Err(ProviderFailure::bad_response("it holds no choice"));
        }
        Ok(ChatOutput {
            answer: self.output.answer,
            model: self.model,
            usage: self.usage,
            finish_reason: self.finish_reason,
        })
    }
}
