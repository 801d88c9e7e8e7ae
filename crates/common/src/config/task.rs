//! `[tasks.NAME]`: task names of the user's own, and the built-in ones.

use std::path::Path;
use std::time::Duration;

use serde_json::value::RawValue;

use super::mistakes::Mistakes;
use super::reader::{POSITIVE, Section};
use crate::ids::PoolName;
use crate::task::{AnswerSchema, Defaults, InvalidInput, chat, with_defaults};

/// The most that a file with a schema may hold.
const SCHEMA_BYTES_MAX: u64 = 1 << 20;

/// In place of a duration that was a mistake.
const NO_TIME: Duration = Duration::ZERO;

/// A task name of the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskConfig {
    /// The built-in kind that runs it.
    pub kind: TaskKind,
    /// Where its jobs go unless the submit says otherwise; `None`: to the only pool.
    pub pool: Option<PoolName>,
    /// The model unless the submit says otherwise; `None`: the provider's first.
    pub model: Option<String>,
    /// What a job's input holds unless its caller sets it: a system prompt, parameters.
    pub input: Defaults,
    /// What every answer of a chat must fit.
    pub schema: Option<AnswerSchema>,
    /// How many failures end a job that does not say, 1 to 100.
    pub max_attempts: Option<u32>,
    /// Wall-clock limit of one attempt of a job that does not say; `None`: its pool's.
    pub timeout: Option<Duration>,
    /// How long a job may wait that does not say; `None`: as its pool's.
    pub queue_timeout: Option<Duration>,
    /// How long a job is kept that does not say; `None`: as its pool's.
    pub result_ttl: Option<Duration>,
    /// The largest input; `None`: what a request may hold.
    pub max_input_bytes: Option<u64>,
}

/// What runs a job. Each kind is also a task by its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskKind {
    /// Chat completion.
    Chat,
    /// Vectors of texts.
    Embedding,
    /// Text of audio.
    Transcription,
}

impl TaskKind {
    /// Every kind, with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("chat", Self::Chat), ("embedding", Self::Embedding), ("transcription", Self::Transcription)];

    /// The name, which is also that of the built-in task.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
            Self::Transcription => "transcription",
        }
    }

    /// The kind that a built-in task name or alias means.
    pub fn builtin(name: &str) -> Option<Self> {
        match name {
            "llm_chat" => Some(Self::Chat),
            name => Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind),
        }
    }
}

impl TaskConfig {
    /// Reads the section of task `name`; `known` tells whether a pool is configured, `base` where relative paths begin.
    pub(super) fn read(
        name: &str,
        mut from: Section,
        mistakes: &mut Mistakes,
        base: &Path,
        known: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let path = super::reader::join("tasks", name);
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            mistakes.add(&path, "a task name is 1 to 64 characters of a-z, 0-9, '_' and '-'");
        } else if Self::is_builtin(name) {
            mistakes.add(&path, "is the name of a built-in task");
        }
        let absent = !from.names().iter().any(|name| name == "kind");
        let kind = from.choice(mistakes, "kind", &TaskKind::ALL);
        if absent {
            mistakes.add(&from.key("kind"), "is missing: chat, embedding or transcription");
        }
        let pool = from.text(mistakes, "pool").and_then(|pool| {
            if !known(&pool) {
                mistakes.add(&from.key("pool"), format!("no pool is named `{}`", pool.escape_debug()));
            }
            pool.parse().ok()
        });
        let model = from.text(mistakes, "model");
        let mut input = from.members(mistakes, "input");
        let schema = read_schema(&mut from, mistakes, base);
        if let Some(schema) = &schema {
            // The form that servers constrain their answers by.
            let form = format!(r#"{{"name":"{name}","schema":{}}}"#, schema.json().get());
            let form = format!(r#"{{"type":"json_schema","json_schema":{form}}}"#);
            input.entry("response_format".to_owned()).or_insert(form);
        }
        let sizes = 1..=1 << 40;
        let task = Self {
            kind: kind.unwrap_or(TaskKind::Chat),
            pool,
            model,
            input,
            schema,
            max_attempts: optional(&mut from, "max_attempts", |from| {
                from.integer(mistakes, "max_attempts", &(1..=100), 5)
            }),
            timeout: optional(&mut from, "timeout", |from| from.duration(mistakes, "timeout", &POSITIVE, NO_TIME)),
            queue_timeout: optional(&mut from, "queue_timeout", |from| {
                from.duration(mistakes, "queue_timeout", &POSITIVE, NO_TIME)
            }),
            result_ttl: optional(&mut from, "result_ttl", |from| {
                from.duration(mistakes, "result_ttl", &POSITIVE, NO_TIME)
            }),
            max_input_bytes: from.bytes(mistakes, "max_input_bytes", &sizes),
        };
        if kind.is_some() {
            task.check(&from, mistakes);
        }
        from.finish(mistakes);
        kind.map(|_| task)
    }

    /// The input of a job with the task's defaults in it.
    ///
    /// # Errors
    /// The input is no object.
    pub fn with_defaults<'a>(&self, input: &'a RawValue) -> Result<std::borrow::Cow<'a, RawValue>, InvalidInput> {
        with_defaults(input, &self.input)
    }

    /// What only the kind tells: whether its jobs could run with these defaults, and whether it has answers to judge.
    fn check(&self, from: &Section, mistakes: &mut Mistakes) {
        if self.kind != TaskKind::Chat {
            if self.schema.is_some() {
                mistakes.add(&from.key("schema"), "only a chat's answers can be judged by a schema");
            }
            return;
        }
        let least: &RawValue = serde_json::from_str(r#"{"user":"-"}"#).expect("a constant");
        let whole = self.with_defaults(least).expect("an object");
        if let Err(mistake) = chat::validate(&whole) {
            mistakes.add(&from.key(&mistake.param).replace('"', ""), mistake.message);
        }
    }

    fn is_builtin(name: &str) -> bool {
        TaskKind::builtin(name).is_some()
    }
}

/// A key that has no default.
fn optional<T>(from: &mut Section, name: &str, read: impl FnOnce(&mut Section) -> T) -> Option<T> {
    from.names().iter().any(|known| known == name).then(|| read(from))
}

/// A schema as JSON, or the path of a file that holds it.
fn read_schema(from: &mut Section, mistakes: &mut Mistakes, base: &Path) -> Option<AnswerSchema> {
    let given = from.json(mistakes, "schema")?;
    let json = if given.trim_start().starts_with('{') { Ok(given) } else { read_file(&base.join(given)) };
    let schema = json.and_then(|json| AnswerSchema::new(&json));
    schema.map_err(|problem| mistakes.add(&from.key("schema"), problem)).ok()
}

fn read_file(path: &Path) -> Result<String, String> {
    let problem = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    if std::fs::metadata(path).map_err(problem)?.len() > SCHEMA_BYTES_MAX {
        return Err(format!("`{}` is larger than 1 MiB", path.display()));
    }
    std::fs::read_to_string(path).map_err(problem)
}
