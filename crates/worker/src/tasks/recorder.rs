//! A sink that keeps what it was given, for tests.

use std::collections::BTreeMap;

use overshot_common::code::ErrorCode;
use overshot_common::job::{Phase, Progress};
use overshot_common::queue::{Completed, Pass, Put, Shelved};
use overshot_common::task::embedding::Key;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Shelf, Sink, Stash};
use crate::outcome::Outcome;

/// What a task reported.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) phases: Vec<Phase>,
    pub(crate) progress: Vec<u64>,
    /// What it stashed.
    pub(crate) stash: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Writes to the stash that still succeed; `None`: all.
    pub(crate) writes_left: Option<usize>,
    /// See [`Stash::inline_max`].
    pub(crate) inline_max: usize,
    pub(crate) kept: Option<Value>,
    pub(crate) texts: Vec<String>,
    pub(crate) deltas: Vec<Value>,
    /// Told at the first chunk, if there.
    pub(crate) first_chunk: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Sink for Recorder {
    fn phase(&mut self, phase: Phase) {
        self.phases.push(phase);
    }

    fn progress(&mut self, done: u64, _total: Option<u64>, _unit: &'static str) {
        self.progress.push(done);
    }

    fn kept(&self) -> Option<&RawValue> {
        None
    }

    fn keep(&mut self, partial: Box<RawValue>) {
        self.kept = Some(serde_json::from_str(partial.get()).unwrap());
    }

    async fn chunk(&mut self, text: &str, delta: &RawValue) {
        self.texts.push(text.to_owned());
        self.deltas.push(serde_json::from_str(delta.get()).unwrap());
        if let Some(told) = self.first_chunk.take() {
            told.send(()).unwrap();
        }
    }
}

impl Stash for Recorder {
    async fn names(&mut self) -> Result<Vec<Vec<u8>>, Outcome> {
        Ok(self.stash.keys().cloned().collect())
    }

    async fn get(&mut self, names: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Outcome> {
        Ok(names.iter().map(|name| self.stash.get(*name).cloned()).collect())
    }

    async fn put(&mut self, values: &[(&[u8], &[u8])], progress: Option<Progress>) -> Result<(), Outcome> {
        if let Some(left) = &mut self.writes_left {
            *left = left.checked_sub(1).ok_or_else(|| Outcome::retry(ErrorCode::StorageError, "no write is left"))?;
        }
        for (name, value) in values {
            if value.is_empty() {
                self.stash.remove(*name);
            } else {
                self.stash.insert(name.to_vec(), value.to_vec());
            }
        }
        self.progress.extend(progress.map(|progress| progress.done));
        Ok(())
    }

    fn inline_max(&self) -> usize {
        self.inline_max
    }
}

/// Collections are tested where Redis is.
impl Shelf for Recorder {
    async fn begin(&mut self, _: &str, _: &Key, _: Option<&str>) -> Result<Pass, Outcome> {
        unreachable!("no collection here")
    }

    async fn shelve(&mut self, _: &str, _: &Pass, _: &[Put<'_>]) -> Result<Shelved, Outcome> {
        unreachable!("no collection here")
    }

    async fn complete(&mut self, _: &str, _: &Pass, _: usize, _: Option<&str>) -> Result<Completed, Outcome> {
        unreachable!("no collection here")
    }

    async fn look(&mut self, _: &str, _: &[(&str, &Key)]) -> Result<Vec<Option<Vec<u8>>>, Outcome> {
        unreachable!("no collection here")
    }
}
