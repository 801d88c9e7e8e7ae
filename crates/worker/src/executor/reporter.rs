//! Where the task of one attempt reports: to the publisher, to the watch over its time, and into its partial result.

use std::sync::Arc;
use std::time::Duration;

use overshot_common::job::{Phase, Progress};
use overshot_common::metrics;
use overshot_common::queue::ClaimedJob;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::outcome::Outcome;
use crate::runner::publisher::Outlet;
use crate::runner::registry::Attempt;
use crate::runner::station::Station;
use crate::tasks::{Partial, Sink};
use crate::upstream::Trying;

/// How often the progress of an attempt without a stream is noted.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The sink of one attempt.
pub(super) struct Reporter<'a> {
    station: &'a Station,
    outlet: &'a Arc<Outlet>,
    attempt: &'a Arc<Attempt>,
    job: &'a ClaimedJob,
    /// The number of the last chunk.
    seq: u64,
    /// Whose turn it is, or was last.
    provider: Option<&'a Arc<str>>,
    /// What the call tries out, until the answer begins.
    trial: Option<Arc<Trying<'a>>>,
    partial: Partial,
    /// What the task wants kept; it knows better than the chunks.
    kept: Option<Box<RawValue>>,
    progress: Option<Progress>,
    noted: Instant,
}

/// A chunk as readers get it.
#[derive(Serialize)]
struct Chunk<'a> {
    seq: u64,
    attempt: u32,
    text: &'a str,
    delta: &'a RawValue,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(
        station: &'a Station,
        outlet: &'a Arc<Outlet>,
        attempt: &'a Arc<Attempt>,
        job: &'a ClaimedJob,
    ) -> Self {
        let noted = attempt.begun;
        let (provider, trial, partial) = (None, None, Partial::new());
        Self { station, outlet, attempt, job, seq: 0, provider, trial, partial, kept: None, progress: None, noted }
    }

    pub(super) fn station(&self) -> &'a Station {
        self.station
    }

    pub(super) fn attempt(&self) -> &'a Arc<Attempt> {
        self.attempt
    }

    /// How old the job is.
    pub(super) fn age(&self) -> Duration {
        self.job.age + self.attempt.begun.elapsed()
    }

    /// Notes whose turn it is.
    pub(super) fn on_provider(&mut self, name: &'a Arc<str>) {
        self.provider = Some(name);
        self.outlet.note_provider(self.station, name);
    }

    /// Notes what the call tries out, if anything.
    pub(super) fn on_trial(&mut self, trial: Option<Arc<Trying<'a>>>) {
        self.trial = trial;
    }

    /// Whose turn it was last.
    pub(super) fn provider(&self) -> Option<&'a Arc<str>> {
        self.provider
    }

    /// Whether anything was put out.
    pub(super) fn streamed(&self) -> bool {
        self.seq > 0
    }

    /// Takes out what the attempt keeps though it broke off.
    pub(super) fn take_partial(&mut self, model: Option<&str>) -> Option<Box<RawValue>> {
        let partial = std::mem::take(&mut self.partial);
        self.kept.take().or_else(|| partial.into_result(model, self.attempt.begun.elapsed()))
    }

    /// The same, where the outcome is not a whole result.
    pub(super) fn take_partial_of(&mut self, model: Option<&str>, outcome: &Outcome) -> Option<Box<RawValue>> {
        if matches!(outcome, Outcome::Done(_)) { None } else { self.take_partial(model) }
    }
}

impl Sink for Reporter<'_> {
    fn phase(&mut self, phase: Phase) {
        self.attempt.progressed();
        match phase {
            Phase::Loading => self.outlet.note_phase(self.station, phase),
            // News only to those who were told otherwise; else the watch tells it when the attempt takes its time.
            Phase::Working if self.outlet.told() => self.outlet.note_phase(self.station, phase),
            // The first chunk says it.
            Phase::Working | Phase::Streaming | Phase::Claimed => {}
        }
    }

    fn progress(&mut self, done: u64, total: Option<u64>, unit: &'static str) {
        self.attempt.progressed();
        if let Some(trial) = self.trial.take() {
            trial.answered();
        }
        let progress = Progress { done, total, unit: unit.to_owned() };
        if self.job.spec.stream {
            // Goes with the chunk that follows.
            self.progress = Some(progress);
        } else if self.noted.elapsed() >= PROGRESS_EVERY {
            self.noted = Instant::now();
            self.outlet.note_progress(self.station, progress);
        }
    }

    fn kept(&self) -> Option<&RawValue> {
        self.kept.as_deref()
    }

    fn keep(&mut self, partial: Box<RawValue>) {
        self.kept = Some(partial);
    }

    async fn chunk(&mut self, text: &str, delta: &RawValue) {
        self.attempt.progressed();
        self.seq += 1;
        if self.seq == 1 {
            let pool = &self.station.pool.name;
            let model = metrics::model_label(&self.station.config, pool, self.job.spec.model.as_deref());
            metrics::time_to_first_token(pool, model, self.attempt.begun.elapsed());
        }
        self.partial.push(text, delta);
        let chunk = Chunk { seq: self.seq, attempt: self.job.attempt, text, delta };
        let data = serde_json::to_string(&chunk).expect("texts, numbers and JSON values always serialize");
        self.outlet.chunk(self.station, self.seq, data, self.progress.take()).await;
    }
}
