//! `[tasks.NAME]`: task names of the user's own, and the built-in ones.

use super::mistakes::Mistakes;
use super::reader::Section;
use crate::ids::PoolName;

/// A task name of the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskConfig {
    /// The built-in kind that runs it.
    pub kind: TaskKind,
    /// Where its jobs go unless the submit says otherwise; `None`: to the only pool.
    pub pool: Option<PoolName>,
    /// The model unless the submit says otherwise; `None`: the provider's first.
    pub model: Option<String>,
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
    /// Reads the section of task `name`; `known` tells whether a pool is configured.
    pub(super) fn read(
        name: &str,
        mut from: Section,
        mistakes: &mut Mistakes,
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
        from.finish(mistakes);
        Some(Self { kind: kind?, pool, model })
    }

    fn is_builtin(name: &str) -> bool {
        TaskKind::builtin(name).is_some()
    }
}
