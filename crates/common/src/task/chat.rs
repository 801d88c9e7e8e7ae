//! The input of the chat task, and the chat-completion request made of it.
//!
//! Values travel as the caller wrote them: a JSON schema keeps the order of its properties, in which models answer,
//! and a number keeps its digits.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::InvalidInput;
use crate::job::Job;

mod parameters;
#[cfg(test)]
mod tests;

/// What a caller cannot set by `extra_body`, because the task itself does.
const RESERVED: &[&str] = &["model", "messages", "stream", "stream_options", "n"];

/// Members of a JSON object by name, in the text they came in. Of a name given twice, the last counts.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The result of a job whose worker is gone: the text of its last attempt's chunks, each `{"text", …}`; none without
/// any.
pub fn partial_result(chunks: &[String], job: &Job) -> Option<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Chunk {
        text: String,
    }
    let texts = chunks.iter().filter_map(|chunk| serde_json::from_str::<Chunk>(chunk).ok()).map(|chunk| chunk.text);
    let content: String = (!chunks.is_empty()).then(|| texts.collect())?;
    let took = job.completed_at?.duration_since(job.started_at?);
    let result = serde_json::json!({
        "schema_version": "ai.chat_result.v1",
        "content": content,
        "model": job.model,
        "duration_ms": took.as_millis(),
        "partial": true,
    });
    to_raw_value(&result).ok()
}

/// Judges an input without building the request.
///
/// # Errors
///
/// The first mistake found, with its place.
pub fn validate(input: &RawValue) -> Result<(), InvalidInput> {
    Input::parse(input).map(drop)
}

/// Whether that is the name of a chat-completion parameter, not an extra of some server's own.
pub fn is_parameter(name: &str) -> bool {
    RESERVED.contains(&name) || parameters::find(name).is_some()
}

/// Builds the body of a chat-completion request.
///
/// The messages and the known parameters, then `extra_body`, which wins over a parameter of the same name. A stream
/// always asks for its usage. Everything else in the input stays here.
///
/// # Errors
///
/// The first mistake found, with its place.
pub fn request_body(input: &RawValue, model: Option<&str>, stream: bool) -> Result<RequestBody, InvalidInput> {
    let input = Input::parse(input)?;
    let mut members = BTreeMap::new();
    for (name, value) in &input.parameters {
        members.insert((*name).to_owned(), (*value).to_owned());
    }
    members.insert("messages".to_owned(), input.messages.to_raw());
    members.insert("stream".to_owned(), raw(&stream));
    if let Some(model) = model {
        members.insert("model".to_owned(), raw(model));
    }
    if stream {
        let mut options = owned(&input.stream_options);
        options.insert("include_usage".to_owned(), raw(&true));
        members.insert("stream_options".to_owned(), raw(&options));
    }
    members.extend(owned(&input.extra_body));
    Ok(RequestBody { members })
}

/// The body of a chat-completion request; serializes as a JSON object.
#[derive(Debug, Clone)]
pub struct RequestBody {
    members: BTreeMap<String, Box<RawValue>>,
}

impl RequestBody {
    /// The member of that name, as JSON.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.members.get(name).map(AsRef::as_ref)
    }

    /// Every member, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.members.iter().map(|(name, value)| (name.as_str(), &**value))
    }
}

impl Serialize for RequestBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (name, value) in &self.members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// An input that was found good.
struct Input<'a> {
    messages: Messages<'a>,
    parameters: Vec<(&'static str, &'a RawValue)>,
    stream_options: Members<'a>,
    extra_body: Members<'a>,
}

/// The two ways to give a conversation.
enum Messages<'a> {
    Full(&'a RawValue),
    Compact { system: Option<&'a RawValue>, user: Option<&'a RawValue> },
}

impl<'a> Input<'a> {
    fn parse(input: &'a RawValue) -> Result<Self, InvalidInput> {
        let mut members = object(input, "input")?;
        members.retain(|_, value| value.get() != "null");
        let messages = Messages::parse(&members)?;
        let mut known = Vec::new();
        for (name, value) in &members {
            let prompt = name == "user" && matches!(messages, Messages::Compact { .. });
            if let Some((name, rule)) = parameters::find(name).filter(|_| !prompt) {
                rule.check(value).map_err(|mistake| mistake.at(&format!("input.{name}")))?;
                known.push((name, *value));
            }
        }
        let stream_options = optional_object(&members, "stream_options")?;
        let extra_body = optional_object(&members, "extra_body")?;
        if let Some(name) = RESERVED.iter().find(|name| extra_body.contains_key(**name)) {
            return Err(InvalidInput::new(format!("input.extra_body.{name}"), "cannot be set by `extra_body`"));
        }
        Ok(Self { messages, parameters: known, stream_options, extra_body })
    }
}

impl<'a> Messages<'a> {
    fn parse(members: &Members<'a>) -> Result<Self, InvalidInput> {
        let system = members.get("system").copied();
        let user = members.get("user").copied();
        let Some(messages) = members.get("messages").copied() else {
            for (name, text) in [("input.system", system), ("input.user", user)] {
                if text.is_some_and(|text| !text.get().starts_with('"')) {
                    return Err(InvalidInput::new(name, "must be a string"));
                }
            }
            if system.is_none() && user.is_none() {
                return Err(InvalidInput::new("input.messages", "is required, or `system` and `user`"));
            }
            return Ok(Self::Compact { system, user });
        };
        // Beside `messages`, `user` is the chat-completion parameter of that name: the caller's end user.
        if system.is_some() {
            return Err(InvalidInput::new("input.system", "cannot stand beside `messages`"));
        }
        check_messages(messages)?;
        Ok(Self::Full(messages))
    }

    fn to_raw(&self) -> Box<RawValue> {
        #[derive(serde::Serialize)]
        struct Message<'a> {
            role: &'static str,
            content: &'a RawValue,
        }
        match self {
            Self::Full(messages) => (*messages).to_owned(),
            Self::Compact { system, user } => {
                let message = |role, content: &Option<&'a RawValue>| content.map(|content| Message { role, content });
                let both = [message("system", system), message("user", user)];
                raw(&both.into_iter().flatten().collect::<Vec<_>>())
            }
        }
    }
}

fn check_messages(messages: &RawValue) -> Result<(), InvalidInput> {
    let wrong = || InvalidInput::new("input.messages", "must be an array of messages, at least one");
    let list: Vec<&RawValue> = serde_json::from_str(messages.get()).map_err(|_| wrong())?;
    if list.is_empty() {
        return Err(wrong());
    }
    for (index, message) in list.into_iter().enumerate() {
        let wrong_role = |problem| InvalidInput::new(format!("input.messages[{index}].role"), problem);
        match object(message, format_args!("input.messages[{index}]"))?.get("role") {
            Some(role) if role.get().starts_with('"') => {}
            Some(_) => return Err(wrong_role("must be a string")),
            None => return Err(wrong_role("is required")),
        }
    }
    Ok(())
}

fn object<'a>(value: &'a RawValue, param: impl fmt::Display) -> Result<Members<'a>, InvalidInput> {
    serde_json::from_str(value.get()).map_err(|_| InvalidInput::new(param.to_string(), "must be an object"))
}

fn optional_object<'a>(members: &Members<'a>, name: &str) -> Result<Members<'a>, InvalidInput> {
    members.get(name).map_or_else(|| Ok(Members::new()), |value| object(value, format_args!("input.{name}")))
}

fn owned(members: &Members<'_>) -> BTreeMap<String, Box<RawValue>> {
    members.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect()
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("strings, booleans and JSON values always serialize")
}
