//! Embeddings over `POST /embeddings`.
//!
//! Vectors are asked for as base64, half as long as numbers and quicker to read, as OpenAI's own client does. A server that
//! ignores the wish is understood; one that refuses it is asked for numbers from then on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use overshot_common::code::ErrorCode;
use overshot_common::task::embedding::Vectors;
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Response, Url};
use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::errors::{self, ProviderError};
use super::{Client, broken, refusal};
use crate::providers::call::traced;
use crate::providers::{EmbedOutput, EmbedRequest, EmbedUsage, ProviderFailure};

/// The most that an answer may hold, its envelope aside: 8 192 numbers per text, at 16 bytes each.
const BYTES_PER_TEXT_MAX: usize = 128 << 10;
/// The most that its envelope may hold.
const ENVELOPE_BYTES_MAX: usize = 1 << 20;

/// The address for embeddings below a base that was found good.
pub(super) fn url(base: &str) -> Result<Url, String> {
    Url::parse(&format!("{base}/embeddings")).map_err(|_| "base_url: is not a URL".to_owned())
}

impl Client {
    /// Embeds one batch, within `request_timeout` from the first byte sent to the last one read.
    pub(in crate::providers) async fn embed(&self, request: EmbedRequest<'_>) -> Result<EmbedOutput, ProviderFailure> {
        let limit = self.request_timeout;
        let call = async {
            let base64 = !self.numbers_only.load(Ordering::Relaxed);
            match self.ask(request, base64).await {
                Err(failure) if base64 && is_about_the_form(&failure) => {
                    request.meter.another(request.tokens()).await?;
                    let answer = self.ask(request, false).await?;
                    self.numbers_only.store(true, Ordering::Relaxed);
                    Ok(answer)
                }
                answer => answer,
            }
        };
        timeout(limit, call).await.map_err(|_| ProviderFailure::timeout(limit))?
    }

    async fn ask(&self, request: EmbedRequest<'_>, base64: bool) -> Result<EmbedOutput, ProviderFailure> {
        let body = serde_json::to_vec(&Body { request, base64 }).expect("texts and JSON values always serialize");
        let call = self.http.post(self.embeddings.clone()).header(ACCEPT, HeaderValue::from_static("application/json"));
        let response = traced(call.body(body)).send().await.map_err(|error| errors::unreachable(&error))?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let body = read(response, request.texts.len() * BYTES_PER_TEXT_MAX + ENVELOPE_BYTES_MAX).await?;
        answer(&body, request)
    }
}

/// Whether a server may have refused base64. What else it may have meant, it says again to the second request.
fn is_about_the_form(failure: &ProviderFailure) -> bool {
    failure.error.code == ErrorCode::BadInput
}

/// The request; serializes as a JSON object.
struct Body<'a> {
    request: EmbedRequest<'a>,
    base64: bool,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(model) = self.request.model {
            map.serialize_entry("model", model)?;
        }
        map.serialize_entry("input", self.request.texts)?;
        map.serialize_entry("encoding_format", if self.base64 { "base64" } else { "float" })?;
        if let Some(dimensions) = self.request.dimensions {
            map.serialize_entry("dimensions", &dimensions)?;
        }
        for (name, value) in self.request.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, ProviderFailure> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| broken(&error))? {
        body.extend_from_slice(&bytes);
        if body.len() > most {
            return Err(ProviderFailure::bad_response("it is too large"));
        }
    }
    Ok(body)
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(default, borrow)]
    data: Option<Vec<Datum<'a>>>,
    #[serde(default)]
    usage: Option<EmbedUsage>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
    #[serde(default, borrow)]
    object: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Datum<'a> {
    #[serde(default)]
    index: Option<usize>,
    #[serde(borrow)]
    embedding: &'a RawValue,
}

fn answer(body: &[u8], request: EmbedRequest<'_>) -> Result<EmbedOutput, ProviderFailure> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(body).map_err(|_| ProviderFailure::bad_response("it is not a list of embeddings"))?;
    if envelope.error.is_some() || envelope.object.as_deref() == Some("error") {
        return Err(ProviderError::parse(body).classify_late());
    }
    let data = envelope.data.unwrap_or_default();
    let mut by_index = BTreeMap::new();
    for (place, datum) in data.iter().enumerate() {
        by_index.insert(datum.index.unwrap_or(place), datum.embedding);
    }
    if by_index.len() != request.texts.len() || by_index.keys().next_back() != Some(&(request.texts.len() - 1)) {
        return Err(ProviderFailure::bad_response("it has not one vector for each text"));
    }
    let mut vectors = Vectors::default();
    for embedding in by_index.into_values() {
        push(&mut vectors, embedding).map_err(ProviderFailure::bad_response)?;
    }
    let model = envelope.model.filter(|model| !model.is_empty());
    Ok(EmbedOutput { vectors, model, usage: envelope.usage })
}

fn push(vectors: &mut Vectors, embedding: &RawValue) -> Result<(), &'static str> {
    let json = embedding.get();
    if let Some(base64) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        // A slash may come escaped; nothing else in base64 needs to.
        return match base64.contains('\\') {
            true => vectors.push_base64(base64.replace("\\/", "/").as_bytes()),
            false => vectors.push_base64(base64.as_bytes()),
        };
    }
    let numbers: Vec<f32> = serde_json::from_str(json).map_err(|_| "a vector is no list of numbers")?;
    vectors.push(numbers)
}
