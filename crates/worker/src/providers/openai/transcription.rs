//! Transcriptions over HTTP: a form with the audio, answered as `verbose_json`, or as `json` where a server has no other.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::{Response, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::errors::ProviderError;
use super::{Client, broken, errors, read_error, retry_after};
use crate::providers::call::traced;
use crate::providers::{ProviderFailure, Spoken, Transcript, TranscriptionRequest};

/// The most that an answer may hold.
const BODY_BYTES_MAX: usize = 32 << 20;
/// Models of a provider that are remembered to give plain answers only.
const PLAIN_MODELS_MAX: usize = 256;

/// Where transcriptions are asked for.
pub(super) fn url(base: &str) -> Result<Url, String> {
    Url::parse(&format!("{base}/audio/transcriptions")).map_err(|_| "base_url: is not a URL".to_owned())
}

/// The models whose server refused `verbose_json`.
#[derive(Debug, Default)]
pub(super) struct Plain(Mutex<HashSet<String>>);

impl Plain {
    fn knows(&self, model: &str) -> bool {
        self.lock().contains(model)
    }

    fn learn(&self, model: &str) {
        let mut models = self.lock();
        if models.len() < PLAIN_MODELS_MAX {
            models.insert(model.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call did not bring a transcript, and whether the form of the answer may be what the server refuses.
struct Refused {
    failure: ProviderFailure,
    form: Blame,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// The server says so.
    Form,
    /// It refuses the request and does not say why.
    Perhaps,
    /// Something else failed.
    Other,
}

impl Client {
    /// One transcription; each call within `request_timeout` from the first byte sent to the last one read.
    pub(in crate::providers) async fn transcribe(
        &self,
        request: &TranscriptionRequest<'_>,
    ) -> Result<Transcript, ProviderFailure> {
        let model = request.model.unwrap_or_default();
        if self.plain.knows(model) {
            return self.ask_for(request, "json").await.map_err(|refused| refused.failure);
        }
        let refused = match self.ask_for(request, "verbose_json").await {
            Ok(transcript) => return Ok(transcript),
            Err(refused) => refused,
        };
        if refused.form == Blame::Other {
            return Err(refused.failure);
        }
        request.meter.another(0).await?;
        match self.ask_for(request, "json").await {
            Ok(transcript) => {
                self.plain.learn(model);
                Ok(transcript)
            }
            // What it said first is about the request itself.
            Err(_) if refused.form == Blame::Perhaps => Err(refused.failure),
            Err(second) => Err(second.failure),
        }
    }

    async fn ask_for(&self, request: &TranscriptionRequest<'_>, format: &'static str) -> Result<Transcript, Refused> {
        let limit = self.request_timeout;
        let late = |_| Refused { failure: ProviderFailure::timeout(limit), form: Blame::Other };
        timeout(limit, self.send_audio(request, format)).await.map_err(late)?
    }

    async fn send_audio(
        &self,
        request: &TranscriptionRequest<'_>,
        format: &'static str,
    ) -> Result<Transcript, Refused> {
        let other = |failure| Refused { failure, form: Blame::Other };
        let call = self.http.post(self.transcriptions.clone()).multipart(form(request, format));
        let call = call.header(ACCEPT, HeaderValue::from_static("application/json"));
        let response = traced(call).send().await.map_err(|error| other(errors::unreachable(&error)))?;
        if response.status().is_success() {
            return read(response).await.map_err(other);
        }
        let (status, retry_after) = (response.status().as_u16(), retry_after::read(response.headers()));
        let error = read_error(response).await;
        let form = match status {
            _ if error.mentions(&["response_format", "verbose_json"]) => Blame::Form,
            400 | 415 | 422 | 501 if !error.is_unknown_model(status) => Blame::Perhaps,
            _ => Blame::Other,
        };
        Err(Refused { failure: error.classify(status, retry_after), form })
    }
}

fn form(request: &TranscriptionRequest<'_>, format: &'static str) -> Form {
    let audio = request.audio;
    let part = Part::stream_with_length(audio.bytes().clone(), audio.bytes().len() as u64).file_name(audio.name());
    let part = part.mime_str(audio.mime()).expect("a fixed text is a media type");
    let mut form = Form::new().text("response_format", format);
    if let Some(model) = request.model {
        form = form.text("model", model.to_owned());
    }
    let input = request.input;
    for (name, value) in [("language", &input.language), ("prompt", &input.prompt)] {
        if let Some(value) = value {
            form = form.text(name, value.clone());
        }
    }
    if let Some(temperature) = input.temperature {
        form = form.text("temperature", temperature.to_string());
    }
    for (name, value) in &input.extra {
        form = form.text(name.clone(), value.clone());
    }
    // Last: a server that reads as it comes knows what to do with it.
    form.part("file", part)
}

async fn read(mut response: Response) -> Result<Transcript, ProviderFailure> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| broken(&error))? {
        body.extend_from_slice(&bytes);
        if body.len() > BODY_BYTES_MAX {
            return Err(ProviderFailure::bad_response("it is larger than 32 MiB"));
        }
    }
    parse(&body)
}

/// Reads either form of answer. An error inside a 200 is one.
fn parse(body: &[u8]) -> Result<Transcript, ProviderFailure> {
    #[derive(Deserialize)]
    struct Answer {
        text: Option<String>,
        language: Option<Value>,
        duration: Option<Value>,
        segments: Option<Vec<Part>>,
        usage: Option<Usage>,
        error: Option<Value>,
    }
    #[derive(Deserialize)]
    struct Usage {
        seconds: Option<f64>,
    }
    #[derive(Deserialize)]
    struct Part {
        start: f64,
        end: f64,
        text: String,
        speaker: Option<Value>,
        no_speech_prob: Option<f64>,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| ProviderFailure::bad_response("it is not a transcription"))?;
    if answer.error.is_some() {
        return Err(ProviderError::parse(body).classify_late());
    }
    let parts = answer.segments.unwrap_or_default().into_iter().map(|part| Spoken {
        start: part.start,
        end: part.end,
        text: part.text,
        speaker: part.speaker.as_ref().and_then(plain),
        no_speech: part.no_speech_prob,
    });
    let segments: Vec<Spoken> = parts.collect();
    if answer.text.is_none() && segments.is_empty() {
        return Err(ProviderFailure::bad_response("it holds no text"));
    }
    // Some servers write the number as text.
    let seconds = answer.duration.as_ref().and_then(|value| plain(value)?.parse().ok());
    Ok(Transcript {
        text: answer.text.unwrap_or_else(|| segments.iter().map(|part| part.text.as_str()).collect()),
        segments,
        language: answer.language.as_ref().and_then(plain).filter(|language| !language.is_empty()),
        seconds: seconds.or(answer.usage.and_then(|usage| usage.seconds)),
    })
}

/// A text or a number, as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
