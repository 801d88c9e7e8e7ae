//! From a chat-completion request to the body of `/api/chat`.
//!
//! What has no counterpart there is left out, as Ollama's own chat-completion endpoint does; extras of a caller
//! (`extra_body`) go along under their names, and `options` in them over the ones made here.

use std::collections::BTreeMap;

use overshot_common::code::ErrorCode;
use overshot_common::config::KeepAlive;
use overshot_common::task::chat::{RequestBody, is_parameter};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::providers::{ProviderFailure, Then};

mod messages;

/// Parameters that mean the same as an option of another name; of several for one option the first that is there counts.
const OPTIONS: &[(&str, &str)] = &[
    ("frequency_penalty", "frequency_penalty"),
    ("max_completion_tokens", "num_predict"),
    ("max_tokens", "num_predict"),
    ("presence_penalty", "presence_penalty"),
    ("seed", "seed"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
];

/// Parameters that are called the same there.
const SAME: &[&str] = &["logprobs", "tools", "top_logprobs"];

/// Named members in the text that they came in; the last of a name counts.
type Members = BTreeMap<String, Box<RawValue>>;

/// The body of `/api/chat`.
#[derive(Debug)]
pub(super) struct Body {
    model: String,
    members: Members,
}

impl Body {
    /// The model that is asked.
    pub(super) fn model(&self) -> &str {
        &self.model
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.members.serialize(serializer)
    }
}

/// Translates a request. `keep_alive` is the configured one.
///
/// # Errors
/// What Ollama has no form for: an image behind a URL, tool arguments that are no object.
pub(super) fn chat(request: &RequestBody, keep_alive: Option<&KeepAlive>) -> Result<Body, ProviderFailure> {
    let model = request.get("model").and_then(text).unwrap_or_default();
    if model.is_empty() {
        return Err(no_model());
    }
    let extras = request.iter().filter(|(name, _)| !is_parameter(name));
    let mut members: Members = extras.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for name in SAME {
        if let Some(value) = request.get(name) {
            members.insert((*name).to_owned(), value.to_owned());
        }
    }
    // The one choice among tools that can be told: none of them.
    if request.get("tool_choice").and_then(text).is_some_and(|choice| choice == "none") {
        members.remove("tools");
    }
    let messages = request.get("messages").map_or("[]", RawValue::get);
    members.insert("messages".into(), raw(&messages::translate(messages)?));
    members.insert("model".into(), raw(&model));
    members.insert("stream".into(), raw(&true));
    let options = options(request, members.remove("options").as_deref());
    if !options.is_empty() {
        members.insert("options".into(), raw(&options));
    }
    if let Some(format) = request.get("response_format").and_then(format) {
        members.entry("format".into()).or_insert(format);
    }
    if let Some(think) = request.get("reasoning_effort").and_then(think) {
        members.entry("think".into()).or_insert(think);
    }
    match keep_alive {
        Some(configured) => drop(members.insert("keep_alive".into(), raw(configured))),
        None => drop(members.entry("keep_alive".into()).or_insert_with(|| raw(&KeepAlive::FOREVER))),
    }
    Ok(Body { model, members })
}

fn options(request: &RequestBody, own: Option<&RawValue>) -> Members {
    let mut options = Members::new();
    for (parameter, option) in OPTIONS {
        if let Some(value) = request.get(parameter) {
            options.entry((*option).to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    if let Some(stop) = request.get("stop") {
        let list = if stop.get().starts_with('[') { stop.to_owned() } else { raw(&[stop]) };
        options.insert("stop".into(), list);
    }
    options.extend(own.and_then(|own| serde_json::from_str::<Members>(own.get()).ok()).unwrap_or_default());
    options
}

/// `json_schema` becomes the schema itself, `json_object` the word `json`; a text needs no format.
fn format(response_format: &RawValue) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Format<'a> {
        r#type: String,
        #[serde(borrow, default)]
        json_schema: Option<JsonSchema<'a>>,
    }
    #[derive(Deserialize)]
    struct JsonSchema<'a> {
        #[serde(borrow, default)]
        schema: Option<&'a RawValue>,
    }
    let format: Format<'_> = serde_json::from_str(response_format.get()).ok()?;
    match format.r#type.as_str() {
        "json_schema" => Some(format.json_schema?.schema?.to_owned()),
        "json_object" => Some(raw("json")),
        _ => None,
    }
}

/// Ollama knows three levels, and `false`.
fn think(effort: &RawValue) -> Option<Box<RawValue>> {
    Some(match text(effort)?.as_str() {
        "none" => raw(&false),
        "minimal" => raw("low"),
        "xhigh" => raw("high"),
        level => raw(level),
    })
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

pub(super) fn no_model() -> ProviderFailure {
    bad_input("model: Ollama needs one, and neither the job nor the provider names any")
}

/// Names the place and the rule, never the value: it may be a prompt.
fn bad_input(message: impl Into<String>) -> ProviderFailure {
    ProviderFailure::new(ErrorCode::BadInput, Then::Fail, message)
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("texts, numbers and JSON values always serialize")
}
