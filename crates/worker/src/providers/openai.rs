//! Chat completions, embeddings and transcriptions over HTTP, as OpenAI defined them and vLLM, llama.cpp and gateways serve them.
//!
//! A chat asks for a stream and takes a plain JSON answer as well. Any error ends it: nothing is sent twice.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::HttpProvider;
use overshot_common::task::chat::RequestBody;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Response, Url};
use tokio::time::timeout;

use super::call::traced;
use super::{ChatOutput, Output, ProviderFailure};
use crate::tasks::Sink;

mod answering;
pub(super) mod check;
mod embedding;
pub(super) mod errors;
mod models;
pub(super) mod retry_after;
mod sse;
#[cfg(test)]
mod tests;
mod transcription;

pub(super) use answering::TRAILER_TIMEOUT;

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Below the 5 s after which uvicorn, under vLLM and many others, closes an idle connection: a request that meets the
/// close on its way is lost, and cannot be told from one that the server died under.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The most that is read of an error's body.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// A server that speaks the API.
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    embeddings: Url,
    /// Whether the server refused to write vectors as base64.
    numbers_only: AtomicBool,
    transcriptions: Url,
    plain: transcription::Plain,
    request_timeout: Duration,
}

impl Client {
    /// A client for `base_url`.
    pub(super) fn new(
        config: &HttpProvider,
        request_timeout: Duration,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let base = config.base_url.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/chat/completions")).map_err(|_| "base_url: is not a URL")?;
        let (embeddings, transcriptions) = (embedding::url(base)?, transcription::url(base)?);
        let http = http_client(config, "text/event-stream, application/json", env)?;
        let (numbers_only, plain) = (AtomicBool::new(false), transcription::Plain::default());
        Ok(Self { http, url, embeddings, numbers_only, transcriptions, plain, request_timeout })
    }

    /// One chat completion, within `request_timeout` from the first byte sent to the last one read.
    pub(super) async fn chat<S: Sink>(
        &self,
        body: &RequestBody,
        output: Output<'_, S>,
    ) -> Result<ChatOutput, ProviderFailure> {
        let limit = self.request_timeout;
        timeout(limit, self.call(body, output)).await.map_err(|_| ProviderFailure::timeout(limit))?
    }

    async fn call<S: Sink>(&self, body: &RequestBody, output: Output<'_, S>) -> Result<ChatOutput, ProviderFailure> {
        let body = serde_json::to_vec(body).expect("names and JSON values always serialize");
        let request = traced(self.http.post(self.url.clone()).body(body));
        let response = request.send().await.map_err(|error| errors::unreachable(&error))?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        match form(&response) {
            Form::Stream => answering::read_stream(response, output).await,
            Form::Json => answering::read_json(response, output).await,
            Form::Other => Err(ProviderFailure::bad_response("it is neither an event stream nor JSON")),
        }
    }
}

/// A client that sends the provider's key and takes answers of these types.
pub(super) fn http_client(
    config: &HttpProvider,
    accept: &'static str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<reqwest::Client, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    if let Some(variable) = &config.api_key_env {
        headers.insert(AUTHORIZATION, authorization(variable, env)?);
    }
    reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .no_proxy()
        .build()
        .map_err(|_| "base_url: no HTTP client can be made for it".to_owned())
}

fn authorization(variable: &str, env: impl Fn(&str) -> Option<String>) -> Result<HeaderValue, String> {
    let key = env(variable).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| format!("api_key_env: the variable {variable} is not set"))?;
    let mut value = HeaderValue::try_from(format!("Bearer {key}"))
        .map_err(|_| format!("api_key_env: the variable {variable} holds what no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

enum Form {
    Stream,
    Json,
    Other,
}

/// A missing or plain type is taken for a stream: some proxies lose it.
fn form(response: &Response) -> Form {
    let header = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "" | "text/event-stream" | "text/plain" | "application/octet-stream" => Form::Stream,
        json if json.ends_with("json") => Form::Json,
        _ => Form::Other,
    }
}

async fn refusal(response: Response) -> ProviderFailure {
    let status = response.status().as_u16();
    let retry_after = retry_after::read(response.headers());
    read_error(response).await.classify(status, retry_after)
}

/// What the body of an answer that is no success says.
pub(super) async fn read_error(mut response: Response) -> errors::ProviderError {
    let mut body = Vec::new();
    // A body that breaks off says less, but the status stands.
    while let Ok(Some(bytes)) = response.chunk().await {
        body.extend_from_slice(&bytes);
        if body.len() > ERROR_BYTES_MAX {
            break;
        }
    }
    errors::ProviderError::parse(&body)
}

/// The connection broke after the first byte.
pub(super) fn broken(error: &reqwest::Error) -> ProviderFailure {
    let cause = errors::cause(error);
    ProviderFailure::retry(ErrorCode::ProviderError, format!("the provider's answer broke off in the middle{cause}"))
}
