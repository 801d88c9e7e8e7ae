//! The input of the transcription task: where the audio is, and what a provider is told about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use super::InvalidInput;

#[cfg(test)]
mod tests;

/// Longest `audio_url`, in bytes: a signed one may be long.
const URL_BYTES_MAX: usize = 8192;
/// Longest `prompt`, in bytes.
const PROMPT_BYTES_MAX: usize = 16 << 10;
/// Most members of `extra_body`.
const EXTRA_MEMBERS_MAX: usize = 32;
/// What a caller cannot set by `extra_body`, because the task itself does.
const RESERVED: &[&str] = &["file", "model", "language", "prompt", "temperature", "response_format", "stream"];

/// Members of a JSON object by name, in the text they came in.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// An input that was found good.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcription {
    /// Where the audio is.
    pub audio: Audio,
    /// The language that is spoken, where the caller knows it: a code such as `en` or `pt-BR`.
    pub language: Option<String>,
    /// Words that guide the model's spelling.
    pub prompt: Option<String>,
    /// The sampling temperature, 0 to 1.
    pub temperature: Option<f64>,
    /// Further form fields for the provider, as text.
    pub extra: Vec<(String, String)>,
}

/// Where the audio of a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audio {
    /// The worker fetches it: an `http` or `https` URL without credentials.
    Url(String),
    /// It was uploaded with the job and is stored beside its record.
    Upload(Upload),
}

/// An upload, as the API describes it in the input's member `audio`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// SHA-256 of the audio, lower-case hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The name that the caller gave it, at most 255 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

/// Judges the input of a submit without an upload.
///
/// # Errors
///
/// The first mistake found, with its place.
pub fn validate(input: &RawValue) -> Result<(), InvalidInput> {
    match Transcription::parse(input)?.audio {
        Audio::Url(_) => Ok(()),
        Audio::Upload(_) => Err(InvalidInput::new("input.audio", "is set by an upload: give `audio_url`")),
    }
}

/// Judges an input whose audio was uploaded.
///
/// # Errors
///
/// The first mistake found, with its place.
pub fn validate_upload(input: &RawValue) -> Result<(), InvalidInput> {
    match Transcription::parse(input)?.audio {
        Audio::Upload(_) => Ok(()),
        Audio::Url(_) => Err(InvalidInput::new("input.audio_url", "cannot stand beside an uploaded file")),
    }
}

/// The input that replaces another one: without audio of its own it keeps the upload of the old one.
///
/// # Errors
///
/// The first mistake found, with its place.
pub fn replace(new: &RawValue, old: &RawValue) -> Result<Box<RawValue>, InvalidInput> {
    let mut members = members(new, "input")?;
    let old: Members<'_> = serde_json::from_str(old.get()).unwrap_or_default();
    match (members.get("audio").copied(), old.get("audio").copied()) {
        (Some(given), kept) if kept.is_none_or(|kept| kept.get() != given.get()) => {
            return Err(InvalidInput::new("input.audio", "is set by an upload: leave it out, or give `audio_url`"));
        }
        (None, Some(kept)) if !members.contains_key("audio_url") => drop(members.insert("audio".to_owned(), kept)),
        _ => {}
    }
    let whole = serde_json::value::to_raw_value(&members).expect("JSON values always serialize");
    Transcription::parse(&whole)?;
    Ok(whole)
}

impl Transcription {
    /// Reads an input. Members that it does not know belong to the caller.
    ///
    /// # Errors
    ///
    /// The first mistake found, with its place.
    pub fn parse(input: &RawValue) -> Result<Self, InvalidInput> {
        let mut members = members(input, "input")?;
        members.retain(|_, value| value.get() != "null");
        let audio = match (members.get("audio_url"), members.get("audio")) {
            (Some(_), Some(_)) => return Err(InvalidInput::new("input.audio_url", "cannot stand beside `audio`")),
            (Some(url), None) => Audio::Url(audio_url(url)?),
            (None, Some(upload)) => Audio::Upload(
                serde_json::from_str(upload.get())
                    .map_err(|_| InvalidInput::new("input.audio", "is set by an upload: give `audio_url`"))?,
            ),
            (None, None) => {
                let message = "is required, unless the audio is uploaded to /api/v1/jobs/transcription";
                return Err(InvalidInput::new("input.audio_url", message));
            }
        };
        Ok(Self {
            audio,
            language: text(&members, "language", 35)?.map(language).transpose()?,
            prompt: text(&members, "prompt", PROMPT_BYTES_MAX)?,
            temperature: members.get("temperature").map(|value| temperature(value)).transpose()?,
            extra: members.get("extra_body").map(|value| extra(value)).transpose()?.unwrap_or_default(),
        })
    }
}

fn members<'a>(value: &'a RawValue, param: &str) -> Result<Members<'a>, InvalidInput> {
    serde_json::from_str(value.get()).map_err(|_| InvalidInput::new(param, "must be an object"))
}

fn audio_url(value: &RawValue) -> Result<String, InvalidInput> {
    let wrong = |message: &str| InvalidInput::new("input.audio_url", message);
    let text: String = serde_json::from_str(value.get()).map_err(|_| wrong("must be a string"))?;
    if text.len() > URL_BYTES_MAX {
        return Err(wrong("must be at most 8192 bytes long"));
    }
    let url = Url::parse(&text).map_err(|_| wrong("must be a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold credentials"));
    }
    Ok(text)
}

fn text(members: &Members<'_>, name: &str, longest: usize) -> Result<Option<String>, InvalidInput> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let wrong = |message: String| InvalidInput::new(format!("input.{name}"), message);
    let text: String = serde_json::from_str(value.get()).map_err(|_| wrong("must be a string".to_owned()))?;
    if text.len() > longest {
        return Err(wrong(format!("must be at most {longest} bytes long")));
    }
    // A form whose field is left empty says nothing.
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn language(code: String) -> Result<String, InvalidInput> {
    let subtag = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let primary = code.split('-').next().unwrap_or_default();
    let good = primary.len() >= 2 && primary.bytes().all(|byte| byte.is_ascii_alphabetic());
    if good && code.split('-').all(subtag) {
        Ok(code)
    } else {
        Err(InvalidInput::new("input.language", "must be a language code such as \"en\""))
    }
}

fn temperature(value: &RawValue) -> Result<f64, InvalidInput> {
    let number = serde_json::from_str(value.get()).ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| InvalidInput::new("input.temperature", "must be a number from 0 to 1"))
}

/// A list becomes a field `name[]` per element, as forms have it.
fn extra(value: &RawValue) -> Result<Vec<(String, String)>, InvalidInput> {
    let members = members(value, "input.extra_body")?;
    if members.len() > EXTRA_MEMBERS_MAX {
        let message = format!("must have at most {EXTRA_MEMBERS_MAX} members");
        return Err(InvalidInput::new("input.extra_body", message));
    }
    let mut fields = Vec::new();
    for (name, value) in members {
        if RESERVED.contains(&name.trim_end_matches("[]")) {
            return Err(InvalidInput::new(format!("input.extra_body.{name}"), "cannot be set by `extra_body`"));
        }
        match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(list) => fields.extend(list.iter().map(|value| (format!("{name}[]"), plain(value)))),
            Err(_) => fields.push((name, plain(value))),
        }
    }
    Ok(fields)
}

/// A string without its quotes; anything else as JSON.
fn plain(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}
