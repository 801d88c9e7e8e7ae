//! The span of one call of a provider, and the headers by which the provider goes on in the same trace.

use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use overshot_common::trace::{self, TraceContext};
use overshot_traces::attribute;
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{ChatOutput, ChatRequest, EmbedOutput, EmbedRequest, Provider, ProviderFailure, Transcript};

/// Longest name that a span takes from a caller or a provider, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// A client's span, open.
#[derive(Debug)]
pub(super) struct Call {
    context: Context,
    began: Instant,
}

impl Call {
    /// A chat completion.
    pub(super) fn chat(provider: &Provider, request: &ChatRequest) -> Option<Self> {
        Self::begin(provider, "chat", |attributes| {
            let (body, model) = (&request.body, request.body.get("model"));
            let number = |name| body.get(name).and_then(|value| value.get().parse::<f64>().ok());
            let whole = |name| body.get(name).and_then(|value| value.get().parse::<i64>().ok());
            let most = whole("max_completion_tokens").or_else(|| whole("max_tokens"));
            attributes.push(KeyValue::new(attribute::REQUEST_STREAM, true));
            attributes.extend(most.map(|most| KeyValue::new(attribute::REQUEST_MAX_TOKENS, most)));
            let temperature = number("temperature");
            attributes.extend(temperature.map(|warm| KeyValue::new(attribute::REQUEST_TEMPERATURE, warm)));
            model.and_then(|model| serde_json::from_str(model.get()).ok())
        })
    }

    /// A batch of texts to embed.
    pub(super) fn embed(provider: &Provider, request: EmbedRequest<'_>) -> Option<Self> {
        Self::begin(provider, "embeddings", |_| request.model.map(str::to_owned))
    }

    /// A transcription, for which the conventions have no name yet.
    pub(super) fn transcribe(provider: &Provider, model: Option<&str>) -> Option<Self> {
        Self::begin(provider, "transcription", |_| model.map(str::to_owned))
    }

    /// `None` where traces are off, or the attempt has none. `describe` adds attributes and gives the model.
    fn begin(
        provider: &Provider,
        operation: &'static str,
        describe: impl FnOnce(&mut Vec<KeyValue>) -> Option<String>,
    ) -> Option<Self> {
        let tracer = overshot_traces::tracer()?;
        let attempt = Context::current();
        if !attempt.has_active_span() {
            return None;
        }
        let mut attributes = vec![
            KeyValue::new(attribute::GEN_AI_OPERATION, operation),
            KeyValue::new(attribute::GEN_AI_PROVIDER, provider.kind()),
            KeyValue::new(attribute::PROVIDER, provider.name.clone()),
        ];
        if let Some((host, port)) = &provider.server {
            attributes.push(KeyValue::new(attribute::SERVER_ADDRESS, host.clone()));
            attributes.extend(port.map(|port| KeyValue::new(attribute::SERVER_PORT, i64::from(port))));
        }
        let name = match describe(&mut attributes).filter(|model| is_name(model)) {
            Some(model) => {
                let name = format!("{operation} {model}");
                attributes.push(KeyValue::new(attribute::REQUEST_MODEL, model));
                name
            }
            None => operation.to_owned(),
        };
        let span = tracer.span_builder(name).with_kind(SpanKind::Client).with_attributes(attributes);
        let span = span.start_with_context(tracer, &attempt);
        Some(Self { context: attempt.with_span(span), began: Instant::now() })
    }

    /// What the request is sent in.
    pub(super) fn context(&self) -> Context {
        self.context.clone()
    }

    /// Notes the first piece of the answer.
    pub(super) fn first_chunk(&self) {
        self.set(attribute::FIRST_CHUNK, self.began.elapsed().as_secs_f64());
    }

    /// Ends the span of a chat.
    pub(super) fn chatted(self, answered: &Result<ChatOutput, ProviderFailure>) {
        if let Ok(output) = answered {
            self.set_name(attribute::RESPONSE_MODEL, output.model.as_deref());
            if let Some(reason) = output.finish_reason.as_deref().filter(|reason| is_name(reason)) {
                let reasons = Array::String(vec![StringValue::from(reason.to_owned())]);
                self.set(attribute::FINISH_REASONS, Value::Array(reasons));
            }
            self.set_usage(output.usage.as_deref());
        }
        self.end(answered.as_ref().err());
    }

    /// Ends the span of a batch.
    pub(super) fn embedded(self, answered: &Result<EmbedOutput, ProviderFailure>) {
        if let Ok(output) = answered {
            self.set_name(attribute::RESPONSE_MODEL, output.model.as_deref());
            if let Some(usage) = output.usage {
                self.set(attribute::INPUT_TOKENS, count(usage.prompt_tokens));
            }
        }
        self.end(answered.as_ref().err());
    }

    /// Ends the span of a transcription.
    pub(super) fn transcribed(self, answered: &Result<Transcript, ProviderFailure>) {
        self.end(answered.as_ref().err());
    }

    fn set_usage(&self, usage: Option<&RawValue>) {
        #[derive(Deserialize)]
        struct Usage {
            prompt_tokens: Option<u64>,
            completion_tokens: Option<u64>,
            prompt_tokens_details: Option<Details>,
            completion_tokens_details: Option<Details>,
        }
        #[derive(Deserialize)]
        struct Details {
            cached_tokens: Option<u64>,
            reasoning_tokens: Option<u64>,
        }
        let Some(usage) = usage.and_then(|usage| serde_json::from_str::<Usage>(usage.get()).ok()) else { return };
        let (cached, reasoning) = (usage.prompt_tokens_details, usage.completion_tokens_details);
        for (name, tokens) in [
            (attribute::INPUT_TOKENS, usage.prompt_tokens),
            (attribute::OUTPUT_TOKENS, usage.completion_tokens),
            (attribute::CACHED_TOKENS, cached.and_then(|details| details.cached_tokens)),
            (attribute::REASONING_TOKENS, reasoning.and_then(|details| details.reasoning_tokens)),
        ] {
            if let Some(tokens) = tokens {
                self.set(name, count(tokens));
            }
        }
    }

    fn set_name(&self, attribute: &'static str, name: Option<&str>) {
        if let Some(name) = name.filter(|name| is_name(name)) {
            self.set(attribute, name.to_owned());
        }
    }

    fn set(&self, attribute: &'static str, value: impl Into<Value>) {
        self.context.span().set_attribute(KeyValue::new(attribute, value));
    }

    fn end(self, failure: Option<&ProviderFailure>) {
        let span = self.context.span();
        if let Some(failure) = failure {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, failure.error.code.as_str()));
            // Without the message, which may have words of the provider's.
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// Lets the provider go on in the trace of the call under way, where there is one.
pub(super) fn traced(request: RequestBuilder) -> RequestBuilder {
    if overshot_traces::tracer().is_none() {
        return request;
    }
    let Some(context) = TraceContext::of(Context::current().span().span_context()) else { return request };
    let request = request.header(trace::TRACEPARENT, context.traceparent());
    match context.tracestate() {
        "" => request,
        state => request.header(trace::TRACESTATE, state),
    }
}

/// Whether a text of others' is a name: short and in one word. What is none could be anything, a prompt for instance.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn count(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}
