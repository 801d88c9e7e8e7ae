//! Embeddings: what a provider is asked, what it answers, and which of its two dialects of the answer it speaks.

use std::collections::BTreeMap;

use opentelemetry::trace::FutureExt as _;
use overshot_common::task::embedding::Vectors;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Backend, Call, Meter, Provider, ProviderFailure};

/// One batch of texts to embed.
#[derive(Clone, Copy)]
pub struct EmbedRequest<'a> {
    /// The model asked for; none leaves the choice to the provider.
    pub model: Option<&'a str>,
    /// The texts, at least one.
    pub texts: &'a [&'a str],
    /// How many numbers a vector is to have; none leaves it to the model.
    pub dimensions: Option<u32>,
    /// Further members of the request.
    pub extra: &'a BTreeMap<String, Box<RawValue>>,
    /// See [`crate::tasks::Attempt::seed`].
    pub seed: u64,
    /// Asked where the batch takes more than one request.
    pub meter: &'a dyn Meter,
}

impl EmbedRequest<'_> {
    /// Tokens that the texts may have: a quarter of their bytes.
    pub(crate) fn tokens(&self) -> u64 {
        self.texts.iter().map(|text| text.len() as u64).sum::<u64>().div_ceil(4)
    }
}

/// Without the texts: what a caller wrote belongs into no log line.
impl std::fmt::Debug for EmbedRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbedRequest").field("texts", &self.texts.len()).finish_non_exhaustive()
    }
}

/// A batch's vectors.
#[derive(Debug, Clone, Default)]
pub struct EmbedOutput {
    /// One for each text, in the order of the request.
    pub vectors: Vectors,
    /// The model that the answer names.
    pub model: Option<String>,
    /// What the provider counted; none where it does not count.
    pub usage: Option<EmbedUsage>,
}

/// What a provider counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
pub struct EmbedUsage {
    /// Tokens of the texts.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens in all.
    #[serde(default)]
    pub total_tokens: u64,
}

impl Provider {
    /// How many texts one call takes, unless the job asks for another number.
    pub fn batch_size(&self) -> u32 {
        self.batch_size
    }

    /// Embeds one batch of texts, in one call.
    ///
    /// # Errors
    ///
    /// What went wrong, and what the job should do. An answer has a vector for each text, all of the same length, or it is
    /// an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection of this request.
    pub async fn embed(&self, request: EmbedRequest<'_>) -> Result<EmbedOutput, ProviderFailure> {
        let Some(call) = Call::embed(self, request) else { return self.vectors(request).await };
        let answered = Box::pin(self.vectors(request).with_context(call.context())).await;
        call.embedded(&answered);
        answered
    }

    async fn vectors(&self, request: EmbedRequest<'_>) -> Result<EmbedOutput, ProviderFailure> {
        let output = match &self.backend {
            Backend::OpenAi(client) => client.embed(request).await?,
            Backend::Ollama(client) => client.embed(request).await?,
            Backend::Simulated(simulated) => simulated.embed(request).await?,
        };
        if output.vectors.len() != request.texts.len() {
            return Err(ProviderFailure::bad_response("it has not one vector for each text"));
        }
        Ok(output)
    }
}
