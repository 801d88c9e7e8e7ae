//! The JSON schema that a task's answers must fit.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

/// A schema, ready to judge. References go to its own parts only: nothing is read or fetched.
#[derive(Clone)]
pub struct AnswerSchema {
    text: Box<RawValue>,
    validator: Arc<jsonschema::Validator>,
}

impl AnswerSchema {
    /// Makes a schema ready, given as JSON; the order of its members is kept, in which models answer.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(json: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| format!("is not JSON: {error}"))?;
        if !value.is_object() {
            return Err("must be an object".to_owned());
        }
        let validator = jsonschema::validator_for(&value).map_err(|error| format!("is no JSON schema: {error}"))?;
        let text = RawValue::from_string(json.trim().to_owned()).map_err(|error| format!("is not JSON: {error}"))?;
        Ok(Self { text, validator: Arc::new(validator) })
    }

    /// The schema itself.
    pub fn json(&self) -> &RawValue {
        &self.text
    }

    /// Judges an answer.
    ///
    /// # Errors
    /// Which rule of the schema it breaks, by the rule's place; never what it says.
    pub fn judge(&self, answer: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(answer.trim()).map_err(|_| "it is not JSON".to_owned())?;
        match self.validator.iter_errors(&value).next() {
            None => Ok(()),
            Some(error) => Err(format!("it does not fit the task's schema at {}", error.schema_path())),
        }
    }
}

/// Two are the same when they are written the same.
impl PartialEq for AnswerSchema {
    fn eq(&self, other: &Self) -> bool {
        self.text.get() == other.text.get()
    }
}

impl Eq for AnswerSchema {}

impl fmt::Debug for AnswerSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnswerSchema").field(&self.text.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::AnswerSchema;

    const SCORE: &str =
        r#"{"type":"object","required":["score"],"properties":{"score":{"type":"integer","maximum":10}}}"#;

    #[test]
    fn an_answer_fits_or_breaks_a_rule_that_is_named_without_the_answer() {
        let schema = AnswerSchema::new(SCORE).unwrap();
        assert_eq!(schema.judge(" {\"score\": 7}\n"), Ok(()));
        let broken = |answer| schema.judge(answer).unwrap_err();
        assert_eq!(broken(r#"{"score":"secret"}"#), "it does not fit the task's schema at /properties/score/type");
        assert_eq!(broken(r#"{"secret":1}"#), "it does not fit the task's schema at /required");
        assert_eq!(broken("Sure! {\"score\": 7}"), "it is not JSON");
    }

    #[test]
    fn what_is_no_schema_is_refused_and_nothing_is_fetched() {
        for wrong in ["", "[]", r#"{"type":"no such type"}"#, r#"{"$ref":"http://127.0.0.1:9/schema.json"}"#] {
            assert!(AnswerSchema::new(wrong).is_err(), "{wrong}");
        }
    }
}
