//! The parameters of a chat completion that reach the provider, and what each must look like.
//!
//! The list is that of OpenAI's reference. Only what every server would refuse is refused here: the form and the
//! documented range, not what a vendor allows inside an object.

use serde_json::value::RawValue;

use super::{InvalidInput, Members};

/// Every parameter that is passed on, in order. `messages`, `model`, `stream` and `stream_options` are the task's own.
const ALL: &[(&str, Rule)] = &[
    ("audio", Rule::Object),
    ("frequency_penalty", Rule::Number(-2.0, 2.0)),
    ("function_call", Rule::TextOrObject),
    ("functions", Rule::Objects),
    ("logit_bias", Rule::Object),
    ("logprobs", Rule::Bool),
    ("max_completion_tokens", Rule::Integer(1, i64::MAX)),
    ("max_tokens", Rule::Integer(1, i64::MAX)),
    ("metadata", Rule::Object),
    ("modalities", Rule::Texts),
    ("n", Rule::One),
    ("parallel_tool_calls", Rule::Bool),
    ("prediction", Rule::Object),
    ("presence_penalty", Rule::Number(-2.0, 2.0)),
    ("prompt_cache_key", Rule::Text),
    ("prompt_cache_retention", Rule::Text),
    ("reasoning_effort", Rule::Text),
    ("response_format", Rule::Object),
    ("safety_identifier", Rule::Text),
    ("seed", Rule::Integer(i64::MIN, i64::MAX)),
    ("service_tier", Rule::Text),
    ("stop", Rule::TextOrTexts),
    ("store", Rule::Bool),
    ("temperature", Rule::Number(0.0, 2.0)),
    ("tool_choice", Rule::TextOrObject),
    ("tools", Rule::Objects),
    ("top_logprobs", Rule::Integer(0, 20)),
    ("top_p", Rule::Number(0.0, 1.0)),
    ("user", Rule::Text),
    ("verbosity", Rule::Text),
    ("web_search_options", Rule::Object),
];

/// The parameter of that name, and its rule.
pub(super) fn find(name: &str) -> Option<(&'static str, Rule)> {
    ALL.binary_search_by_key(&name, |(known, _)| known).ok().map(|place| ALL[place])
}

/// What a parameter must look like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    Bool,
    /// From the first to the second, both included.
    Number(f64, f64),
    /// From the first to the second, both included.
    Integer(i64, i64),
    /// A job has one answer.
    One,
    Text,
    Object,
    Texts,
    Objects,
    TextOrTexts,
    TextOrObject,
}

/// What is wrong, and at which element if it is within an array.
pub(super) struct Mistake {
    index: Option<usize>,
    message: String,
}

impl Mistake {
    pub(super) fn at(self, param: &str) -> InvalidInput {
        let place = self.index.map_or_else(|| param.to_owned(), |index| format!("{param}[{index}]"));
        InvalidInput::new(place, self.message)
    }
}

impl Rule {
    /// Judges a value that is not `null`.
    pub(super) fn check(self, value: &RawValue) -> Result<(), Mistake> {
        let json = value.get();
        match self {
            Self::Bool => require(matches!(json, "true" | "false"), "must be true or false"),
            Self::Number(min, max) => {
                let within = |number: f64| (min..=max).contains(&number);
                let good = serde_json::from_str(json).is_ok_and(within);
                require(good, format!("must be a number from {min} to {max}"))
            }
            Self::Integer(min, max) => {
                let within = |number: i64| (min..=max).contains(&number);
                require(serde_json::from_str(json).is_ok_and(within), integer_between(min, max))
            }
            Self::One => {
                require(serde_json::from_str(json).is_ok_and(|n: u64| n == 1), "must be 1: a job has one answer")
            }
            Self::Text => require(is_text(json), "must be a string"),
            Self::Object => require(is_object(json), "must be an object"),
            Self::Texts => each(json, "an array of strings", is_text, "must be a string"),
            Self::Objects => each(json, "an array of objects", is_object, "must be an object"),
            Self::TextOrTexts if is_text(json) => Ok(()),
            Self::TextOrTexts => each(json, "a string or an array of strings", is_text, "must be a string"),
            Self::TextOrObject => require(is_text(json) || is_object(json), "must be a string or an object"),
        }
    }
}

fn is_text(json: &str) -> bool {
    serde_json::from_str::<String>(json).is_ok()
}

fn is_object(json: &str) -> bool {
    serde_json::from_str::<Members<'_>>(json).is_ok()
}

fn require(good: bool, message: impl Into<String>) -> Result<(), Mistake> {
    if good { Ok(()) } else { Err(Mistake { index: None, message: message.into() }) }
}

fn each(json: &str, form: &str, good: fn(&str) -> bool, rule: &str) -> Result<(), Mistake> {
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(json) else {
        return require(false, format!("must be {form}"));
    };
    match list.iter().position(|element| !good(element.get())) {
        Some(index) => Err(Mistake { index: Some(index), message: rule.to_owned() }),
        None => Ok(()),
    }
}

fn integer_between(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, i64::MAX) => "must be an integer".to_owned(),
        (min, i64::MAX) => format!("must be an integer of at least {min}"),
        (min, max) => format!("must be an integer from {min} to {max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_found_by_its_name() {
        for (name, _) in ALL {
            assert_eq!(find(name).map(|(found, _)| found), Some(*name), "the list is out of order at {name}");
        }
        assert!(find("top").is_none());
    }
}
