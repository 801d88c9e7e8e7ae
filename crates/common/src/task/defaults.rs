//! What a task's configuration adds to its jobs' inputs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::InvalidInput;

/// Members of an input by name, as JSON.
pub type Defaults = BTreeMap<String, String>;

/// Names for the same thing: where a caller sets one, the default of the other does not count.
const SAME: &[(&str, &str)] = &[("max_tokens", "max_completion_tokens"), ("input", "texts")];

/// An input with the defaults for what its caller left out.
///
/// A default `system` becomes the first of `messages` where there is none from the system or developer yet.
///
/// # Errors
/// The input is no object.
pub fn with_defaults<'a>(input: &'a RawValue, defaults: &Defaults) -> Result<Cow<'a, RawValue>, InvalidInput> {
    if defaults.is_empty() {
        return Ok(Cow::Borrowed(input));
    }
    let mut members: BTreeMap<String, &RawValue> =
        serde_json::from_str(input.get()).map_err(|_| InvalidInput::new("input", "must be an object"))?;
    members.retain(|_, value| value.get() != "null");
    let parsed = defaults.iter().filter_map(|(name, json)| Some((name, serde_json::from_str::<&RawValue>(json).ok()?)));
    let has_messages = members.contains_key("messages");
    let mut system = None;
    for (name, value) in parsed {
        let other = SAME.iter().find_map(|(one, other)| match name.as_str() {
            name if name == *one => Some(*other),
            name if name == *other => Some(*one),
            _ => None,
        });
        if members.contains_key(name) || other.is_some_and(|other| members.contains_key(other)) {
            continue;
        }
        match name.as_str() {
            "system" if has_messages => system = Some(value),
            "user" if has_messages => {}
            _ => drop(members.insert(name.clone(), value)),
        }
    }
    let messages = system.and_then(|system| prepend(members.get("messages")?, system));
    if let Some(messages) = &messages {
        members.insert("messages".to_owned(), messages);
    }
    Ok(Cow::Owned(to_raw_value(&members).expect("names and JSON values always serialize")))
}

/// The messages with the system's before them; none where it has spoken already, or where they are no messages.
fn prepend(messages: &RawValue, system: &RawValue) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Role {
        role: String,
    }
    let list: Vec<&RawValue> = serde_json::from_str(messages.get()).ok()?;
    let speaks = |message: &&RawValue| {
        serde_json::from_str::<Role>(message.get()).is_ok_and(|of| matches!(of.role.as_str(), "system" | "developer"))
    };
    if list.iter().any(speaks) {
        return None;
    }
    let first = format!("{{\"role\":\"system\",\"content\":{}}}", system.get());
    let first = RawValue::from_string(first).ok()?;
    let mut whole = vec![&*first];
    whole.extend(list);
    Some(to_raw_value(&whole).expect("JSON values always serialize"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn merged(input: &Value, defaults: &Value) -> Value {
        let defaults = defaults.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.to_string()));
        let input = to_raw_value(input).unwrap();
        serde_json::from_str(with_defaults(&input, &defaults.collect()).unwrap().get()).unwrap()
    }

    #[test]
    fn a_caller_wins_over_the_defaults_of_the_task() {
        let defaults = json!({"system": "s", "temperature": 0.2, "max_tokens": 9});
        let input = json!({"user": "u", "temperature": 1, "call_id": 7, "max_completion_tokens": 3});
        let expected = json!({"system": "s", "user": "u", "temperature": 1, "call_id": 7, "max_completion_tokens": 3});
        assert_eq!(merged(&input, &defaults), expected);
        assert_eq!(merged(&json!({"user": "u", "system": null}), &json!({"system": "s"}))["system"], "s");
    }

    #[test]
    fn a_system_prompt_goes_before_messages_that_have_none() {
        let defaults = json!({"system": "s"});
        let user = json!({"role": "user", "content": "u"});
        let with = merged(&json!({"messages": [user]}), &defaults);
        assert_eq!(with, json!({"messages": [{"role": "system", "content": "s"}, user]}));
        let own = json!({"messages": [{"role": "developer", "content": "d"}, user]});
        assert_eq!(merged(&own, &defaults), own);
    }
}
