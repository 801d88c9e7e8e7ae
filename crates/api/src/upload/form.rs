//! The fields of an upload's form, and the submit that they make.

use overshot_common::task::transcription::Upload;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Most fields of a form.
const FIELDS_MAX: usize = 64;

/// Fields of the submit itself; every other one is part of its `input`.
const OF_THE_JOB: &[&str] = &[
    "task",
    "pool",
    "model",
    "provider",
    "priority",
    "max_attempts",
    "run_at",
    "delay",
    "timeout",
    "expires_in",
    "result_ttl",
    "idempotency_key",
    "concurrency_key",
    "on_conflict",
    "fail_fast",
    "owner",
    "metadata",
    "stream",
];
/// Fields whose text is JSON.
const AS_JSON: &[&str] = &["max_attempts", "fail_fast", "owner", "metadata", "stream", "temperature", "extra_body"];

/// What the fields so far say.
#[derive(Debug, Default)]
pub(super) struct Form {
    job: Map<String, Value>,
    input: Map<String, Value>,
    fields: usize,
}

impl Form {
    /// Takes a field. `job` holds a whole submit as JSON, for callers who would rather write that.
    pub(super) fn take(&mut self, name: &str, text: &str) -> Result<(), ApiError> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(ApiError::invalid(shown(name), format!("is one of more than {FIELDS_MAX} fields")));
        }
        if name == "job" {
            return self.take_job(text);
        }
        let value = match AS_JSON.contains(&name).then(|| serde_json::from_str(text)) {
            Some(Ok(value)) => value,
            // Who reads it says what it should have been.
            _ => Value::String(text.to_owned()),
        };
        let of_the_job = OF_THE_JOB.contains(&name);
        if let (Some(list), false) = (name.strip_suffix("[]"), of_the_job) {
            let list = self.input.entry(list).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Err(ApiError::invalid(shown(name), "is given twice")) };
            list.push(value);
            return Ok(());
        }
        let members = if of_the_job { &mut self.job } else { &mut self.input };
        put(members, name, value)
    }

    fn take_job(&mut self, text: &str) -> Result<(), ApiError> {
        let wrong = || ApiError::invalid("job", "must be a JSON object: a submit");
        let mut members: Map<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
        match members.remove("input") {
            None | Some(Value::Null) => {}
            Some(Value::Object(input)) => {
                for (name, value) in input {
                    put(&mut self.input, &name, value)?;
                }
            }
            Some(_) => return Err(ApiError::invalid("input", "must be an object")),
        }
        for (name, value) in members {
            put(&mut self.job, &name, value)?;
        }
        Ok(())
    }

    /// The text of a field of the job that came already.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.job.get(name).and_then(Value::as_str)
    }

    /// The submit: without a task of its own a transcription.
    pub(super) fn into_submit(mut self, upload: &Upload) -> Result<Box<RawValue>, ApiError> {
        let upload = serde_json::to_value(upload).map_err(ApiError::internal)?;
        if self.input.insert("audio".to_owned(), upload).is_some() {
            return Err(ApiError::invalid("audio", "is set by the upload"));
        }
        self.job.entry("task").or_insert_with(|| Value::String("transcription".to_owned()));
        self.job.insert("input".to_owned(), Value::Object(self.input));
        to_raw_value(&self.job).map_err(ApiError::internal)
    }
}

fn put(members: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), ApiError> {
    match members.insert(name.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(ApiError::invalid(shown(name), "is given twice")),
    }
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn submit(fields: &[(&str, &str)]) -> Result<Value, ApiError> {
        let mut form = Form::default();
        for (name, text) in fields {
            form.take(name, text)?;
        }
        let upload = Upload { sha256: "00".into(), bytes: 1, filename: None };
        form.into_submit(&upload).map(|raw| serde_json::from_str(raw.get()).unwrap())
    }

    #[test]
    fn fields_become_the_submit_and_its_input() {
        let made = submit(&[
            ("model", "whisper-1"),
            ("language", "en"),
            ("temperature", "0.2"),
            ("timestamp_granularities[]", "word"),
            ("timestamp_granularities[]", "segment"),
            ("response_format", "json"),
            ("max_attempts", "2"),
            ("owner", r#"{"service":"crm","ref":"7"}"#),
            ("stream", "true"),
        ]);
        let expected = json!({"task": "transcription", "model": "whisper-1", "max_attempts": 2, "stream": true,
            "owner": {"service": "crm", "ref": "7"},
            "input": {"language": "en", "temperature": 0.2, "timestamp_granularities": ["word", "segment"],
                "response_format": "json", "audio": {"sha256": "00", "bytes": 1}}});
        assert_eq!(made.unwrap(), expected);
    }

    #[test]
    fn a_submit_may_come_as_json_beside_the_file() {
        let made = submit(&[("job", r#"{"task":"calls","delay":"1s","input":{"prompt":"p"}}"#), ("language", "de")]);
        let expected = json!({"task": "calls", "delay": "1s",
            "input": {"prompt": "p", "language": "de", "audio": {"sha256": "00", "bytes": 1}}});
        assert_eq!(made.unwrap(), expected);
    }

    #[test]
    fn a_field_given_twice_and_a_forged_upload_are_refused() {
        for fields in [
            &[("pool", "a"), ("pool", "b")][..],
            &[("job", r#"{"pool":"a"}"#), ("pool", "b")],
            &[("job", r#"{"input":{"audio":{}}}"#)],
            &[("audio", "x")],
            &[("job", "[]")],
            &[("job", r#"{"input":7}"#)],
        ] {
            assert_eq!(submit(fields).unwrap_err().status(), 422, "{fields:?}");
        }
        let many = vec![("x[]", "y"); 65];
        assert_eq!(submit(&many).unwrap_err().status(), 422);
    }
}
