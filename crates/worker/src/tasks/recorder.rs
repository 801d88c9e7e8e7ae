//! A sink that keeps what it was given, for tests.

use overshot_common::job::Phase;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Sink;

/// What a task reported.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) phases: Vec<Phase>,
    pub(crate) progress: Vec<u64>,
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

    async fn chunk(&mut self, text: &str, delta: &RawValue) {
        self.texts.push(text.to_owned());
        self.deltas.push(serde_json::from_str(delta.get()).unwrap());
        if let Some(told) = self.first_chunk.take() {
            told.send(()).unwrap();
        }
    }
}
