//! Error classification: from what a server says to the public error codes.

use std::error::Error;
use std::io;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use serde_json::Value;

use crate::providers::{ProviderFailure, Then};

/// How long a throttled job waits when the server does not say.
const SNOOZE_DEFAULT: Duration = Duration::from_secs(5);

/// What a server says in its 503 that is only full, in lower case.
const FULL: [&str; 4] = ["overload", "at capacity", "too busy", "server busy"];

/// The longest identifier of a server's that reaches a message.
const IDENTIFIER_BYTES_MAX: usize = 64;

/// What a server says of its error. All of it is optional: dialects differ.
#[derive(Debug, Default)]
pub(in crate::providers) struct ProviderError {
    kind: String,
    code: String,
    param: String,
    /// Lower case. Only compared, never shown: it may quote the prompt.
    message: String,
}

/// Classifies a request that got no answer at all.
pub(in crate::providers) fn unreachable(error: &reqwest::Error) -> ProviderFailure {
    let message = if error.is_connect() { "cannot be reached" } else { "broke the connection before it answered" };
    ProviderFailure::retry(ErrorCode::ProviderUnavailable, format!("the provider {message}{}", cause(error)))
}

/// The operating system's name of the cause, in brackets; nothing else of the error, which may show the URL.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>().filter(|io| io.kind() != io::ErrorKind::Other) {
            return format!(" ({})", io.kind());
        }
        source = inner.source();
    }
    String::new()
}

impl ProviderError {
    /// Reads an error body; one that is no JSON says nothing.
    pub(in crate::providers) fn parse(body: &[u8]) -> Self {
        serde_json::from_slice::<Value>(body).map(|body| Self::of(&body)).unwrap_or_default()
    }

    /// Reads `{"error":{…}}`, `{"error":"…"}`, `{"detail":"…"}` (as `FastAPI` has it), the error object itself, or a list
    /// that begins with one of them.
    pub(in crate::providers) fn of(value: &Value) -> Self {
        let value = value.get(0).unwrap_or(value);
        let value = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        if let Value::String(message) = value {
            return Self { message: message.to_lowercase(), ..Self::default() };
        }
        let text = |name: &str| match value.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let message = value.get("message").or(value.get("detail")).and_then(Value::as_str).unwrap_or_default();
        Self { kind: text("type"), code: text("code"), param: text("param"), message: message.to_lowercase() }
    }

    /// Classifies an error inside a 200, by its own code or else by its names.
    pub(in crate::providers) fn classify_late(&self) -> ProviderFailure {
        let status = self.code.parse().ok().filter(|code| (400..600).contains(code));
        self.classify(status.unwrap_or_else(|| self.status_by_name()), None)
    }

    /// Classifies an answer with that status.
    pub(in crate::providers) fn classify(&self, status: u16, retry_after: Option<Duration>) -> ProviderFailure {
        use ErrorCode::{
            BadInput, ContextLength, ModelUnavailable, ProviderAuth, ProviderError, ProviderUnavailable, Timeout,
        };
        let (code, then) = match status {
            401 | 403 => (ProviderAuth, Then::Fail),
            429 if self.names().contains("insufficient_quota") => (ProviderError, Then::Retry(retry_after)),
            429 => (ProviderUnavailable, Then::Snooze(retry_after.unwrap_or(SNOOZE_DEFAULT))),
            _ if self.is_context_length() => (ContextLength, Then::Fail),
            _ if self.is_unknown_model(status) => (ModelUnavailable, Then::Retry(retry_after)),
            408 => (Timeout, Then::Retry(retry_after)),
            // Its bill, what stands behind it, or a moment that is over soon: nothing of that is in the request.
            402 | 409 | 423..=425 => (ProviderError, Then::Retry(retry_after)),
            // 501: it has no such call, and would not have one the next time.
            400..=499 | 501 => (BadInput, Then::Fail),
            503 if self.says(&["loading"]) => (ModelUnavailable, Then::Snooze(retry_after.unwrap_or(SNOOZE_DEFAULT))),
            503 | 529 if retry_after.is_some() || status == 529 || self.says(&FULL) => {
                (ProviderUnavailable, Then::Snooze(retry_after.unwrap_or(SNOOZE_DEFAULT)))
            }
            _ => (ProviderError, Then::Retry(retry_after)),
        };
        ProviderFailure::new(code, then, format!("the provider answered {status}{}", self.identifiers()))
    }

    /// Whether its message holds one of these, given in lower case.
    pub(in crate::providers) fn says(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.message.contains(text))
    }

    fn names(&self) -> String {
        format!("{} {}", self.kind, self.code).to_ascii_lowercase()
    }

    fn is_context_length(&self) -> bool {
        let patterns = ["context length", "maximum context", "context size", "context window"];
        let names = self.names();
        names.contains("context_length_exceeded")
            || names.contains("exceed_context_size")
            || patterns.iter().any(|pattern| self.message.contains(pattern))
    }

    /// Whether it says one of these, in lower case.
    pub(super) fn mentions(&self, words: &[&str]) -> bool {
        let said = format!("{} {} {}", self.names(), self.param, self.message);
        words.iter().any(|word| said.contains(word))
    }

    /// Whether it says that there is no such model.
    pub(super) fn is_unknown_model(&self, status: u16) -> bool {
        let absent = ["not found", "does not exist", "not exist"].iter().any(|text| self.message.contains(text));
        self.names().contains("model_not_found") || (status == 404 && self.message.contains("model") && absent)
    }

    /// The status that a server would have answered, had it known the error before its first byte.
    fn status_by_name(&self) -> u16 {
        let names = self.names();
        let any = |patterns: &[&str]| patterns.iter().any(|pattern| names.contains(pattern));
        match () {
            () if any(&["rate_limit", "ratelimit", "too_many_requests", "insufficient_quota"]) => 429,
            () if any(&["authentication", "invalid_api_key", "permission"]) => 401,
            () if any(&["not_found", "notfound"]) => 404,
            () if any(&["timeout"]) => 408,
            () if any(&[
                "bad_request",
                "badrequest",
                "invalid_",
                "unprocessable",
                "exceed_context",
                "context_length",
            ]) =>
            {
                400
            }
            () => 500,
        }
    }

    /// What the server calls the error, as far as it looks like a name; a number only says the status again.
    fn identifiers(&self) -> String {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
        let is_name = |text: &&str| {
            (1..=IDENTIFIER_BYTES_MAX).contains(&text.len())
                && text.bytes().all(is_part)
                && !text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let names = [&self.kind, &self.code, &self.param].map(String::as_str);
        let names: Vec<&str> = names.into_iter().filter(is_name).collect();
        if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
    }
}
