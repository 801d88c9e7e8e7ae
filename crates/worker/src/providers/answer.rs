//! The parts of a chat answer, put together from its deltas.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// The most that one answer may hold: text, reasoning and tool calls together.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The most tool calls of one answer.
const TOOL_CALLS_MAX: usize = 4096;

/// A chat answer, whole or so far.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    pub(crate) refusal: String,
    pub(crate) tool_calls: ToolCalls,
    bytes: usize,
}

/// Tool calls by their index; serializes as the list of them.
#[derive(Debug, Default)]
pub(crate) struct ToolCalls(BTreeMap<u64, Value>);

impl Answer {
    /// Takes a delta, or a whole message, which has the same members. Returns its text, or nothing when it carries no
    /// output at all.
    ///
    /// # Errors
    ///
    /// The delta is malformed, or the answer is too large. The answer keeps what it had.
    pub(crate) fn push(&mut self, delta: &RawValue) -> Result<Option<String>, &'static str> {
        let members: BTreeMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(delta.get()).map_err(|_| "a delta is not an object")?;
        let empty = |name: &str, value: &RawValue| name == "role" || matches!(value.get(), "null" | "\"\"" | "[]");
        if members.iter().all(|(name, value)| empty(name, value)) {
            return Ok(None);
        }
        if delta.get().len() > ANSWER_BYTES_MAX - self.bytes {
            return Err("the answer is larger than 16 MiB");
        }
        let text = |name: &str| members.get(name).map_or(Ok(String::new()), |value| text_of(value));
        let content = text("content")?;
        let reasoning = match text("reasoning_content")? {
            none if none.is_empty() => text("reasoning")?,
            reasoning => reasoning,
        };
        let refusal = text("refusal")?;
        let calls = match members.get("tool_calls") {
            Some(calls) => serde_json::from_str::<Option<Vec<ToolCallDelta>>>(calls.get())
                .map_err(|_| "`tool_calls` is not a list of tool calls")?
                .unwrap_or_default(),
            None => Vec::new(),
        };
        self.tool_calls.merge(calls)?;
        self.content.push_str(&content);
        self.reasoning.push_str(&reasoning);
        self.refusal.push_str(&refusal);
        // Never more than the delta's own length, which had room; tool calls are not worth a closer count.
        let texts = content.len() + reasoning.len() + refusal.len();
        self.bytes += if members.contains_key("tool_calls") { delta.get().len() } else { texts };
        Ok(Some(content))
    }
}

/// A string, `null`, or a list of parts, of which the texts count.
fn text_of(value: &RawValue) -> Result<String, &'static str> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        text: Option<String>,
    }
    if value.get().starts_with('"') {
        return serde_json::from_str(value.get()).map_err(|_| "a text of the answer is not a string");
    }
    match serde_json::from_str::<Option<Vec<Part>>>(value.get()) {
        Ok(None) => Ok(String::new()),
        Ok(Some(parts)) => Ok(parts.into_iter().filter_map(|part| part.text).collect()),
        Err(_) => Err("a text of the answer is not a string"),
    }
}

#[derive(Deserialize)]
struct ToolCallDelta {
    #[serde(default)]
    index: Option<u64>,
    #[serde(flatten)]
    members: serde_json::Map<String, Value>,
}

impl ToolCalls {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn merge(&mut self, calls: Vec<ToolCallDelta>) -> Result<(), &'static str> {
        for (position, call) in calls.into_iter().enumerate() {
            let index = call.index.unwrap_or_else(|| self.index_of(&call, position));
            if !self.0.contains_key(&index) && self.0.len() >= TOOL_CALLS_MAX {
                return Err("the answer has too many tool calls");
            }
            let target = self.0.entry(index).or_insert_with(|| Value::Object(serde_json::Map::new()));
            merge(target, Value::Object(call.members));
        }
        Ok(())
    }

    /// The index of a call that names none, as in a whole message and from some servers: that of the same id, else a
    /// new one; without an id, its place in the list.
    fn index_of(&self, call: &ToolCallDelta, position: usize) -> u64 {
        let Some(id) = call.members.get("id").filter(|id| id.is_string()) else {
            return position as u64;
        };
        let known = self.0.iter().find(|(_, known)| known.get("id") == Some(id)).map(|(index, _)| *index);
        known.unwrap_or_else(|| self.0.last_key_value().map_or(0, |(last, _)| last.saturating_add(1)))
    }
}

/// Adds a delta to what stands: texts grow, objects merge, anything else is replaced. What names a call is not text:
/// some servers repeat it in every delta.
fn merge(target: &mut Value, delta: Value) {
    let (Value::Object(target), Value::Object(delta)) = (target, delta) else { return };
    for (name, new) in delta {
        match (target.get_mut(&name), new) {
            (Some(_), Value::Null) => {}
            (Some(Value::String(old)), Value::String(new)) => match name.as_str() {
                "id" | "type" | "name" if new.is_empty() || *old == new => {}
                "id" | "type" => *old = new,
                _ => old.push_str(&new),
            },
            (Some(old @ Value::Object(_)), new @ Value::Object(_)) => merge(old, new),
            (_, new) => {
                target.insert(name, new);
            }
        }
    }
}

impl Serialize for ToolCalls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values())
    }
}
