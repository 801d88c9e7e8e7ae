//! Ollama's own HTTP API: `/api/chat` as a stream of JSON lines, `/api/embed`, `/api/ps`, `/api/tags`, and loading models ahead of
//! their jobs.
//!
//! Requests come in and answers go out in the chat-completion shape, so that nobody else has to know this one. Any error ends
//! a call: nothing is sent twice. Protocol: `docs/api.md` and `api/types.go` of <https://github.com/ollama/ollama>.

use std::pin::pin;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::{KeepAlive, OllamaProvider};
use overshot_common::job::Phase;
use reqwest::{Response, Url};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::call::traced;
use super::openai::{self, errors, retry_after};
use super::{ChatOutput, ChatRequest, Output, ProviderFailure, Then};
use crate::tasks::Sink;

mod answering;
mod embedding;
mod models;
mod request;
#[cfg(test)]
mod tests;
mod warm;

/// After so long without a first byte the server is asked whether it is loading the model.
const LATE: Duration = Duration::from_secs(1);

/// How long a server that is full is left alone when it does not say.
const FULL_PAUSE: Duration = Duration::from_secs(5);

pub(super) use models::is_same as is_same_model;

/// A server that speaks the API.
pub(super) struct Client {
    name: String,
    http: reqwest::Client,
    base: String,
    keep_alive: Option<KeepAlive>,
    preload: Vec<String>,
    request_timeout: Duration,
    /// What it was last seen to have loaded.
    loaded: models::Loaded,
}

impl Client {
    /// A client for the server; `name` is the provider's. A `/v1` at the end of the URL, the other API's, does not count.
    pub(super) fn new(
        name: &str,
        config: &OllamaProvider,
        request_timeout: Duration,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let base = config.http.base_url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Url::parse(&base).map_err(|_| "base_url: is not a URL")?;
        let http = openai::http_client(&config.http, "application/x-ndjson, application/json", env)?;
        let (keep_alive, preload) = (config.keep_alive.clone(), config.preload.clone());
        let loaded = models::Loaded::default();
        Ok(Self { name: name.to_owned(), http, base, keep_alive, preload, request_timeout, loaded })
    }

    /// Whether the server is there, and finds its models: it is asked for the list of those that it could load.
    pub(super) async fn check(&self) -> Result<(), ProviderFailure> {
        let url = Url::parse(&format!("{}/api/tags", self.base)).expect("it was judged when the client was made");
        openai::check::check(&self.http, url).await
    }

    /// One chat completion, within `request_timeout` from the first byte sent to the last one read.
    pub(super) async fn chat<S: Sink>(
        &self,
        request: &ChatRequest,
        output: Output<'_, S>,
    ) -> Result<ChatOutput, ProviderFailure> {
        let limit = self.request_timeout;
        timeout(limit, self.call(request, output)).await.map_err(|_| ProviderFailure::timeout(limit))?
    }

    async fn call<S: Sink>(&self, request: &ChatRequest, output: Output<'_, S>) -> Result<ChatOutput, ProviderFailure> {
        let body = request::chat(&request.body, self.keep_alive.as_ref())?;
        let model = body.model().to_owned();
        let mut loading = !self.loaded.knows(&model) && self.is_absent(&model).await;
        if loading {
            output.sink.phase(Phase::Loading);
        }
        let response = {
            let mut answer = pin!(self.post("chat", &body));
            let mut late = pin!(async {
                sleep(LATE).await;
                self.is_absent(&model).await
            });
            let mut asked = loading;
            loop {
                tokio::select! {
                    biased;
                    response = &mut answer => break response?,
                    absent = &mut late, if !asked => {
                        asked = true;
                        loading = absent;
                        if absent {
                            output.sink.phase(Phase::Loading);
                        }
                    }
                }
            }
        };
        if loading {
            output.sink.phase(Phase::Working);
        }
        let answer = answering::read(response, output, request.seed).await?;
        self.loaded.note(&model);
        Ok(answer)
    }

    /// Sends a request; an answer that is no success is classified.
    async fn post(&self, path: &str, body: &impl Serialize) -> Result<Response, ProviderFailure> {
        let body = serde_json::to_vec(body).expect("texts, numbers and JSON values always serialize");
        let sent = traced(self.http.post(format!("{}/api/{path}", self.base)).body(body)).send().await;
        let response = sent.map_err(|error| errors::unreachable(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }
}

/// Reads a body whole, up to `most` bytes.
async fn read_body(mut response: Response, most: usize) -> Result<Vec<u8>, ProviderFailure> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| openai::broken(&error))? {
        body.extend_from_slice(&bytes);
        if body.len() > most {
            return Err(ProviderFailure::bad_response("it is too large"));
        }
    }
    Ok(body)
}

/// Classifies an answer that is no success: as any server's, but for what only Ollama says.
async fn refusal(response: Response) -> ProviderFailure {
    let status = response.status().as_u16();
    let retry_after = retry_after::read(response.headers());
    classify(&openai::read_error(response).await, status, retry_after)
}

fn classify(error: &errors::ProviderError, status: u16, retry_after: Option<Duration>) -> ProviderFailure {
    // What stands in its way is on its side, and may be gone later: memory that others use, a load that took too long.
    let load = ["more system memory", "timed out waiting for llama runner", "unable to load model"];
    if status >= 500 && error.says(&load) {
        let message = format!("the provider answered {status}: it cannot load the model");
        return ProviderFailure::new(ErrorCode::ModelUnavailable, Then::Retry(retry_after), message);
    }
    // "server busy, please try again": its queue is full, and it never says for how long.
    let retry_after = if status == 503 { retry_after.or(Some(FULL_PAUSE)) } else { retry_after };
    error.classify(status, retry_after)
}
