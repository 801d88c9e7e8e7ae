//! Embeddings over `/api/embed`.

use std::collections::BTreeMap;

use overshot_common::config::KeepAlive;
use overshot_common::task::embedding::Vectors;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{Client, read_body, request};
use crate::providers::{EmbedOutput, EmbedRequest, EmbedUsage, ProviderFailure};

/// The most that an answer may hold, its envelope aside: 8 192 numbers per text, at 24 bytes each.
const BYTES_PER_TEXT_MAX: usize = 192 << 10;
/// The most that its envelope may hold.
const ENVELOPE_BYTES_MAX: usize = 1 << 20;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    /// A text that does not fit is an error: the vector of its beginning would pass for the vector of the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    /// Always: a chat model's comings and goings must not push an embedding model out.
    keep_alive: KeepAlive,
    #[serde(flatten)]
    extra: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
}

impl Client {
    /// Embeds one batch, within `request_timeout` from the first byte sent to the last one read.
    pub(in crate::providers) async fn embed(&self, request: EmbedRequest<'_>) -> Result<EmbedOutput, ProviderFailure> {
        let limit = self.request_timeout;
        timeout(limit, self.ask(request)).await.map_err(|_| ProviderFailure::timeout(limit))?
    }

    async fn ask(&self, request: EmbedRequest<'_>) -> Result<EmbedOutput, ProviderFailure> {
        let model = request.model.ok_or_else(request::no_model)?;
        let mut extra: BTreeMap<&str, &RawValue> =
            request.extra.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
        extra.remove("keep_alive");
        let truncate = (!extra.contains_key("truncate")).then_some(false);
        let dimensions = request.dimensions;
        let body = Body { model, input: request.texts, dimensions, truncate, keep_alive: KeepAlive::FOREVER, extra };
        let response = self.post("embed", &body).await?;
        let most = request.texts.len() * BYTES_PER_TEXT_MAX + ENVELOPE_BYTES_MAX;
        let unusable = || ProviderFailure::bad_response("it is not a list of embeddings");
        let answer: Answer = serde_json::from_slice(&read_body(response, most).await?).map_err(|_| unusable())?;
        let mut vectors = Vectors::default();
        for numbers in answer.embeddings {
            vectors.push(numbers).map_err(ProviderFailure::bad_response)?;
        }
        let usage = answer.prompt_eval_count.map(|tokens| EmbedUsage { prompt_tokens: tokens, total_tokens: tokens });
        Ok(EmbedOutput { vectors, model: answer.model.filter(|model| !model.is_empty()), usage })
    }
}
