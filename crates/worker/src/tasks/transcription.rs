//! The transcription task: audio in, `ai.transcription_result.v1` out, its text held against what was heard.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::JobError;
use overshot_common::task::transcription::Transcription;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use super::{Attempt, Sink};
use crate::audio::Heard;
use crate::outcome::Outcome;
use crate::providers::{Provider, ProviderFailure, TranscriptionRequest};

mod judge;
mod phrases;
mod split;
#[cfg(test)]
mod tests;

use split::Segment;

/// Most earlier attempts that a result tells of: the last ones.
const ATTEMPTS_KEPT_MAX: usize = 20;

pub(super) async fn run(attempt: &Attempt<'_>, provider: &Provider, sink: &mut impl Sink) -> Outcome {
    let input = match Transcription::parse(attempt.input) {
        Ok(input) => input,
        Err(mistake) => return Outcome::fail(ErrorCode::BadInput, mistake.to_string()),
    };
    let Some(audio) = attempt.audio else {
        return Outcome::retry(ErrorCode::StorageError, "the job's audio is not there");
    };
    let begun = Instant::now();
    let heard = audio.listen().await;
    let seconds = heard.sound().map(|sound| sound.seconds);
    let total = seconds.map(whole);
    sink.progress(0, total, "seconds");
    let (model, seed, meter) = (attempt.model, attempt.seed, attempt.meter);
    let request = TranscriptionRequest { audio, seconds, model, input: &input, seed, meter };
    let mut entry = AttemptEntry { provider: provider.name(), model: attempt.model, ..AttemptEntry::default() };
    let before = earlier(sink.kept().or(attempt.earlier));
    let answered = provider.transcribe(&request).await;
    entry.duration_ms = millis(begun.elapsed());
    let told_language = input.language.as_deref().unwrap_or("unknown");
    let result = |entry: AttemptEntry<'_>, language: &str, segments: &[Segment], partial| {
        let mut attempts = before.clone();
        attempts.push(to_raw_value(&entry).expect("texts and numbers always serialize"));
        let (provider, model) = (entry.provider, entry.model);
        let duration_ms = millis(begun.elapsed());
        TranscriptionResult {
            provider,
            model,
            attempts,
            language,
            segments,
            duration_ms,
            partial,
            ..Default::default()
        }
        .into_json()
    };
    let transcript = match answered {
        Ok(transcript) => transcript,
        Err(failure) => {
            let outcome = blame(failure, &heard);
            entry.error = outcome.error();
            sink.keep(result(entry, told_language, &[], true));
            return outcome;
        }
    };
    let segments = split::tidy(&transcript, seconds);
    let language = transcript.language.as_deref().unwrap_or(told_language);
    if !provider.is_simulated()
        && let Err(fault) = judge::judge(&transcript, &segments, heard.sound())
    {
        let entry = AttemptEntry { error: Some(&fault), text: Some(&transcript.text), segments: &segments, ..entry };
        sink.keep(result(entry, language, &[], true));
        return Outcome::Retry { after: None, error: fault };
    }
    let segments = split::readable(segments);
    tell(&segments, total, attempt.stream, sink).await;
    Outcome::Done(result(entry, language, &segments, false))
}

/// Tells of the segments, one by one where the job streams.
async fn tell(segments: &[Segment], total: Option<u64>, stream: bool, sink: &mut impl Sink) {
    for segment in segments.iter().filter(|_| stream) {
        sink.progress(whole(segment.end), total, "seconds");
        let delta = to_raw_value(segment).expect("texts and numbers always serialize");
        sink.chunk(&segment.text, &delta).await;
    }
    let end = segments.last().map_or(0, |segment| whole(segment.end));
    sink.progress(total.unwrap_or(end), total, "seconds");
}

fn whole(seconds: f64) -> u64 {
    seconds.ceil() as u64
}

/// What a failed call means: where nothing can be heard in the audio, a provider that stumbles over it is not to blame.
fn blame(failure: ProviderFailure, heard: &Heard) -> Outcome {
    let stumbled =
        matches!(failure.error.code, ErrorCode::ProviderError | ErrorCode::BadInput | ErrorCode::BadResponse);
    if stumbled && *heard == Heard::Nothing {
        return Outcome::fail(ErrorCode::BadAudio, "the audio cannot be decoded, and the provider refuses it");
    }
    failure.into()
}

/// The attempts that an earlier result tells of.
fn earlier(result: Option<&RawValue>) -> Vec<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Earlier {
        #[serde(default)]
        attempts: Vec<Box<RawValue>>,
    }
    let earlier = result.and_then(|result| serde_json::from_str::<Earlier>(result.get()).ok());
    let mut attempts = earlier.map(|earlier| earlier.attempts).unwrap_or_default();
    attempts.drain(..attempts.len().saturating_sub(ATTEMPTS_KEPT_MAX));
    attempts
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `ai.transcription_result.v1`.
#[derive(Serialize)]
struct TranscriptionResult<'a> {
    schema_version: &'static str,
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    attempts: Vec<Box<RawValue>>,
    language: &'a str,
    segments: &'a [Segment],
    duration_ms: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl Default for TranscriptionResult<'_> {
    fn default() -> Self {
        Self {
            schema_version: "ai.transcription_result.v1",
            provider: "",
            model: None,
            attempts: Vec::new(),
            language: "unknown",
            segments: &[],
            duration_ms: 0,
            partial: false,
        }
    }
}

impl TranscriptionResult<'_> {
    fn into_json(self) -> Box<RawValue> {
        to_raw_value(&self).expect("texts and numbers always serialize")
    }
}

/// One call to one provider. The text is told where it was found wanting; else it stands in the result's segments.
#[derive(Default, Serialize)]
struct AttemptEntry<'a> {
    provider: &'a str,
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a JobError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Segment]>::is_empty")]
    segments: &'a [Segment],
    duration_ms: u64,
}
