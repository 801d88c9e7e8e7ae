//! The providers: the only code that knows vendors and their wire formats.
//!
//! A provider answers one request and classifies what went wrong. It never retries: the job does.

use std::fmt;
use std::sync::Arc;

use opentelemetry::trace::FutureExt as _;
use overshot_common::config::{ProviderConfig, ProviderKind};
use overshot_common::job::Phase;
use overshot_common::task::chat::RequestBody;
use reqwest::Url;
use serde_json::value::RawValue;

use crate::tasks::Sink;

mod answer;
mod call;
mod embed;
mod failure;
mod meter;
mod ollama;
mod openai;
mod simulated;
mod transcript;
mod turnstile;

pub(crate) use answer::{Answer, ToolCalls};
use call::Call;
pub use embed::{EmbedOutput, EmbedRequest, EmbedUsage};
pub use failure::{ProviderFailure, Then};
pub use meter::{Meter, Unmetered};
pub use transcript::{Spoken, Transcript, TranscriptionRequest};
#[cfg(test)]
pub(crate) use turnstile::Open;
pub(crate) use turnstile::Turnstile;

/// One configured provider. Shared by all jobs of a process; its connections are kept and used again.
pub struct Provider {
    name: Arc<str>,
    batch_size: u32,
    /// Host and port, for spans; none of a simulated one.
    server: Option<(String, Option<u16>)>,
    backend: Backend,
}

enum Backend {
    OpenAi(openai::Client),
    Ollama(ollama::Client),
    Simulated(simulated::Simulated),
}

impl Provider {
    /// Makes a provider ready to call; calls nothing. `env` looks up the variable that holds its key.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, with its key. Never the API key itself.
    pub fn new(name: &str, config: &ProviderConfig, env: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let limit = config.request_timeout;
        let base = match &config.kind {
            ProviderKind::OpenAi(http) => Url::parse(&http.base_url).ok(),
            ProviderKind::Ollama(ollama) => Url::parse(&ollama.http.base_url).ok(),
            ProviderKind::Simulated(_) => None,
        };
        let server = base.and_then(|base| Some((base.host_str()?.to_owned(), base.port_or_known_default())));
        let backend = match &config.kind {
            ProviderKind::OpenAi(http) => openai::Client::new(http, limit, env).map(Backend::OpenAi),
            ProviderKind::Ollama(ollama) => ollama::Client::new(name, ollama, limit, env).map(Backend::Ollama),
            ProviderKind::Simulated(settings) => Ok(Backend::Simulated(simulated::Simulated::new(settings, limit))),
        };
        let backend = backend.map_err(|mistake| format!("providers.{name}.{mistake}"))?;
        Ok(Self { name: name.into(), batch_size: config.batch_size, server, backend })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Answers one chat completion.
    ///
    /// # Errors
    ///
    /// What went wrong, and what the job should do. What the sink was given by then stays given.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection of this request.
    pub async fn chat(&self, request: &ChatRequest, sink: &mut impl Sink) -> Result<ChatOutput, ProviderFailure> {
        sink.phase(Phase::Working);
        let Some(call) = Call::chat(self, request) else { return self.answer(request, sink, None).await };
        let answered = Box::pin(self.answer(request, sink, Some(&call)).with_context(call.context())).await;
        call.chatted(&answered);
        answered
    }

    async fn answer(
        &self,
        request: &ChatRequest,
        sink: &mut impl Sink,
        call: Option<&Call>,
    ) -> Result<ChatOutput, ProviderFailure> {
        let output = Output { sink, publish: request.publish, answer: Answer::default(), pieces: 0, call };
        match &self.backend {
            Backend::OpenAi(client) => client.chat(&request.body, output).await,
            Backend::Ollama(client) => client.chat(request, output).await,
            Backend::Simulated(simulated) => simulated.chat(request, output).await,
        }
    }
}

impl Provider {
    /// Does what the provider wants done beside the jobs, for ever: models that are configured to be loaded ahead, each in its
    /// turn. Ends where there is nothing to do.
    pub(crate) async fn tend(&self, turns: &impl Turnstile) {
        match &self.backend {
            Backend::Ollama(client) => client.tend(turns).await,
            Backend::OpenAi(_) | Backend::Simulated(_) => {}
        }
    }

    /// The models that it has loaded, by the names that it gives them; `None` where it does not tell.
    pub(crate) async fn loaded(&self) -> Option<Vec<String>> {
        match &self.backend {
            Backend::OpenAi(client) => client.loaded().await,
            Backend::Ollama(client) => client.loaded_models().await.ok(),
            Backend::Simulated(_) => None,
        }
    }

    /// Whether two names mean the same of its models.
    pub(crate) fn is_same_model(&self, one: &str, other: &str) -> bool {
        match &self.backend {
            Backend::Ollama(_) => ollama::is_same_model(one, other),
            Backend::OpenAi(_) | Backend::Simulated(_) => one == other,
        }
    }

    /// What it speaks, as spans name it.
    fn kind(&self) -> &'static str {
        match self.backend {
            Backend::OpenAi(_) => "openai",
            Backend::Ollama(_) => "ollama",
            Backend::Simulated(_) => "simulated",
        }
    }

    /// Whether it is there and lets us in. Asks it for nothing that costs.
    ///
    /// # Errors
    ///
    /// What went wrong. Takes as long as the provider does.
    pub async fn check(&self) -> Result<(), ProviderFailure> {
        match &self.backend {
            Backend::OpenAi(client) => client.check().await,
            Backend::Ollama(client) => client.check().await,
            Backend::Simulated(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a provider is asked.
#[derive(Debug)]
pub struct ChatRequest {
    /// The request; asks for a stream.
    pub body: RequestBody,
    /// Whether pieces go to the sink.
    pub publish: bool,
    /// See [`crate::tasks::Attempt::seed`].
    pub seed: u64,
}

/// What a provider answered.
#[derive(Debug, Default)]
pub struct ChatOutput {
    pub(crate) answer: Answer,
    pub(crate) model: Option<String>,
    pub(crate) usage: Option<Box<RawValue>>,
    pub(crate) finish_reason: Option<String>,
}

/// The answer as it grows, and who is told of it.
struct Output<'a, S> {
    sink: &'a mut S,
    publish: bool,
    answer: Answer,
    pieces: u64,
    /// The call's span, where it is traced.
    call: Option<&'a Call>,
}

impl<S: Sink> Output<'_, S> {
    /// Takes a delta, or the whole message of an answer without a stream. One that holds nothing but a role is no
    /// output: it says only that the provider has begun.
    async fn push(&mut self, delta: &RawValue) -> Result<(), ProviderFailure> {
        let text = self.answer.push(delta).map_err(ProviderFailure::bad_response)?;
        let Some(text) = text else { return Ok(()) };
        self.pieces += 1;
        if let (1, Some(call)) = (self.pieces, self.call) {
            call.first_chunk();
        }
        self.sink.progress(self.pieces, None, "chunks");
        if self.publish {
            if self.pieces == 1 {
                self.sink.phase(Phase::Streaming);
            }
            self.sink.chunk(&text, delta).await;
        }
        Ok(())
    }
}
