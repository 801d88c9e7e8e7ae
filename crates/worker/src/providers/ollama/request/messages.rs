//! Messages: parts become a text and images, arguments an object, and a tool's answer learns the tool's name.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::bad_input;
use crate::providers::ProviderFailure;

/// A chat-completion message.
#[derive(Deserialize)]
struct Given<'a> {
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<GivenCall<'a>>>,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct GivenCall<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    function: GivenFunction<'a>,
}

#[derive(Deserialize)]
struct GivenFunction<'a> {
    name: String,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    r#type: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
}

/// A message of `/api/chat`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Message {
    role: String,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    /// Base64 without a prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct Call {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    function: Function,
}

#[derive(Debug, Serialize)]
struct Function {
    name: String,
    arguments: Box<RawValue>,
}

/// Translates a list of messages.
pub(super) fn translate(messages: &str) -> Result<Vec<Message>, ProviderFailure> {
    let given: Vec<&RawValue> = serde_json::from_str(messages).map_err(|_| bad_input("input.messages: not a list"))?;
    let mut tools = HashMap::new();
    let mut translated = Vec::with_capacity(given.len());
    for (index, message) in given.into_iter().enumerate() {
        let place = format!("input.messages[{index}]");
        let message: Given<'_> = serde_json::from_str(message.get())
            .map_err(|_| bad_input(format!("{place}: is not a message that Ollama has a form for")))?;
        translated.push(one(message, &place, &mut tools)?);
    }
    Ok(translated)
}

fn one(given: Given<'_>, place: &str, tools: &mut HashMap<String, String>) -> Result<Message, ProviderFailure> {
    let (content, images) = content(given.content, place)?;
    let mut tool_calls = Vec::new();
    for call in given.tool_calls.unwrap_or_default() {
        if let Some(id) = &call.id {
            tools.insert(id.clone(), call.function.name.clone());
        }
        let arguments = arguments(call.function.arguments, place)?;
        tool_calls.push(Call { id: call.id, function: Function { name: call.function.name, arguments } });
    }
    let (role, is_tool) = match given.role.as_str() {
        "developer" => ("system".to_owned(), false),
        "tool" | "function" => ("tool".to_owned(), true),
        _ => (given.role, false),
    };
    let called = given.tool_call_id.as_ref().and_then(|id| tools.get(id).cloned());
    Ok(Message {
        role,
        content,
        thinking: given.reasoning_content.or(given.reasoning),
        images,
        tool_calls,
        tool_name: called.or(given.name).filter(|_| is_tool),
        tool_call_id: given.tool_call_id.filter(|_| is_tool),
    })
}

/// The text of a message, its parts joined by lines, and its images.
fn content(content: Option<&RawValue>, place: &str) -> Result<(String, Vec<String>), ProviderFailure> {
    let Some(content) = content.filter(|content| content.get() != "null") else { return Ok(Default::default()) };
    if let Ok(text) = serde_json::from_str::<String>(content.get()) {
        return Ok((text, Vec::new()));
    }
    let parts: Vec<Part<'_>> = serde_json::from_str(content.get())
        .map_err(|_| bad_input(format!("{place}.content: must be a text or a list of parts")))?;
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for (index, part) in parts.into_iter().enumerate() {
        match part.r#type.as_str() {
            "text" | "refusal" => texts.extend(part.text),
            "image_url" => images.push(image(part.image_url).ok_or_else(|| {
                bad_input(format!("{place}.content[{index}].image_url: Ollama takes only data URLs in base64"))
            })?),
            _ => return Err(bad_input(format!("{place}.content[{index}].type: Ollama takes texts and images"))),
        }
    }
    Ok((texts.join("\n"), images))
}

fn image(url: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Url {
        Object { url: String },
        Text(String),
    }
    let (Url::Object { url } | Url::Text(url)) = serde_json::from_str(url?.get()).ok()?;
    let (_, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    Some(data.to_owned())
}

/// The arguments of a call, which chat completions carry as a text.
fn arguments(given: Option<&RawValue>, place: &str) -> Result<Box<RawValue>, ProviderFailure> {
    let given = given.map_or("", RawValue::get);
    let object = match serde_json::from_str::<String>(given) {
        Ok(text) => text,
        Err(_) => given.to_owned(),
    };
    let object = if object.trim().is_empty() { "{}".to_owned() } else { object };
    let is_object = object.trim_start().starts_with('{');
    let read = RawValue::from_string(object.trim().to_owned()).ok().filter(|_| is_object);
    read.ok_or_else(|| bad_input(format!("{place}.tool_calls: the arguments must be a JSON object")))
}
