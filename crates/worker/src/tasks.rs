//! The built-in kinds of task: each turns an attempt at a job into an [`Outcome`], by way of a provider.
//!
//! Knows nothing of the queue: what it has to tell while it works goes to a [`Sink`].

use std::future::Future;

use overshot_common::config::{Config, TaskKind};
use overshot_common::job::{Phase, Progress};
use overshot_common::queue::{Completed, Pass, Put, Shelved};
use overshot_common::task::embedding::Key;
use serde_json::value::RawValue;

use crate::audio::Audio;
use crate::outcome::Outcome;
use crate::providers::{Meter, Provider};

mod chat;
mod embedding;
mod partial;
#[cfg(test)]
pub(crate) mod recorder;
mod transcription;

pub use partial::Partial;

/// Everything that a task may know of its attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The task's name, aliases resolved.
    pub task: &'a str,
    /// The model asked for; none leaves the choice to the provider.
    pub model: Option<&'a str>,
    /// The job's input.
    pub input: &'a RawValue,
    /// The audio of a transcription.
    pub audio: Option<&'a Audio>,
    /// What an earlier attempt at the job left as its partial result.
    pub earlier: Option<&'a RawValue>,
    /// Whether output goes to [`Sink::chunk`] as it comes.
    pub stream: bool,
    /// What the simulated provider draws its jitter and errors from; the same seed gives the same attempt.
    pub seed: u64,
    /// Who counts what the provider is sent.
    pub meter: &'a dyn Meter,
}

/// Where a task reports while it works.
pub trait Sink: Send {
    /// What the attempt is at now.
    fn phase(&mut self, phase: Phase);

    /// How far the attempt is: `done` of `total` (where known), in `unit` (`chunks`, `texts`). Called for every piece of output,
    /// of jobs without a stream too, so that a stalled attempt can be told from a long one.
    fn progress(&mut self, done: u64, total: Option<u64>, unit: &'static str);

    /// What [`Sink::keep`] was given last: by another provider's turn of the same attempt.
    fn kept(&self) -> Option<&RawValue>;

    /// Takes what the job keeps as its partial result, in case the attempt comes to none.
    fn keep(&mut self, partial: Box<RawValue>);

    /// Takes one piece of output: its text and the provider's whole delta object. May hold the task back; that time
    /// counts against the provider's `request_timeout`. Pieces come in order and only if the attempt streams.
    fn chunk(&mut self, text: &str, delta: &RawValue) -> impl Future<Output = ()> + Send;
}

/// What attempts of one job leave to each other, and to who reads its result: values under names, kept as long as the job.
///
/// A failure is the attempt's outcome.
pub trait Stash: Send {
    /// The names of everything that is there.
    fn names(&mut self) -> impl Future<Output = Result<Vec<Vec<u8>>, Outcome>> + Send;

    /// What is there under these names, in their order.
    fn get(&mut self, names: &[&[u8]]) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>, Outcome>> + Send;

    /// Puts values under their names, and tells how far the attempt is: that counts as progress. An empty value drops what
    /// is there. Once it returns, all of it is kept.
    fn put(
        &mut self,
        values: &[(&[u8], &[u8])],
        progress: Option<Progress>,
    ) -> impl Future<Output = Result<(), Outcome>> + Send;

    /// The largest result, in bytes, that stands in its job.
    fn inline_max(&self) -> usize;
}

/// The collections, which outlive the jobs that write to them: see [`Queue`](overshot_common::queue::Queue).
///
/// A failure is the attempt's outcome.
pub trait Shelf: Send {
    /// Opens a pass over a collection.
    fn begin(
        &mut self,
        name: &str,
        space: &Key,
        model: Option<&str>,
    ) -> impl Future<Output = Result<Pass, Outcome>> + Send;

    /// Puts and confirms.
    fn shelve(
        &mut self,
        name: &str,
        pass: &Pass,
        items: &[Put<'_>],
    ) -> impl Future<Output = Result<Shelved, Outcome>> + Send;

    /// Makes the collection what the pass has put and confirmed, `count` ids in all.
    fn complete(
        &mut self,
        name: &str,
        pass: &Pass,
        count: usize,
        model: Option<&str>,
    ) -> impl Future<Output = Result<Completed, Outcome>> + Send;

    /// The vectors of these ids, where they are still made of what their keys name.
    fn look(
        &mut self,
        name: &str,
        items: &[(&str, &Key)],
    ) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>, Outcome>> + Send;
}

/// All that a task may need of its surroundings.
pub trait Surroundings: Sink + Stash + Shelf {}

impl<T: Sink + Stash + Shelf> Surroundings for T {}

/// A built-in kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A chat completion.
    Chat,
    /// Vectors of texts.
    Embedding,
    /// Text of audio.
    Transcription,
}

impl Kind {
    /// Whether its results tell of the turns of all providers themselves.
    pub(crate) fn tells_attempts(self) -> bool {
        self == Self::Transcription
    }

    /// The kind that runs a task of that name: a built-in one, an alias, or a name under `[tasks]`. `None`: this
    /// worker knows none.
    pub fn of(task: &str, config: &Config) -> Option<Self> {
        let named = || config.tasks.get(task).map(|task| task.kind);
        match TaskKind::builtin(task).or_else(named)? {
            TaskKind::Chat => Some(Self::Chat),
            TaskKind::Embedding => Some(Self::Embedding),
            TaskKind::Transcription => Some(Self::Transcription),
        }
    }

    /// The names of all tasks that this worker can run.
    pub fn names(config: &Config) -> Vec<String> {
        let known = TaskKind::ALL.iter().map(|(name, _)| *name).chain(config.tasks.keys().map(String::as_str));
        known.filter(|name| Self::of(name, config).is_some()).map(str::to_owned).collect()
    }
}

/// Runs one attempt to its end.
///
/// # Cancel safety
///
/// Dropping the future drops the provider's connection at once, which is how a provider learns to stop. Nothing else
/// is left behind. What the sink was given stays given.
pub async fn run(kind: Kind, attempt: &Attempt<'_>, provider: &Provider, sink: &mut impl Surroundings) -> Outcome {
    match kind {
        Kind::Chat => chat::run(attempt, provider, sink).await,
        Kind::Embedding => embedding::run(attempt, provider, sink).await,
        Kind::Transcription => Box::pin(transcription::run(attempt, provider, sink)).await,
    }
}
