//! What calls came to, until it is reported: answers together, everything else at once.

use std::collections::HashMap;
use std::time::Duration;

use overshot_common::queue::CallReport;

/// Most reports that wait while Redis is away; what is older says little.
const WAITING_MAX: usize = 256;
/// Most models whose answers are counted apart.
const MODELS_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    answered: HashMap<String, u64>,
    latency: Option<Duration>,
    others: Vec<CallReport>,
}

/// What one report holds.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) latency: Option<Duration>,
    pub(super) calls: Vec<CallReport>,
}

impl Tally {
    /// Counts an answer.
    pub(super) fn answered(&mut self, model: &str, latency: Duration) {
        self.latency = Some(latency);
        if let Some(calls) = self.answered.get_mut(model) {
            *calls += 1;
        } else if self.answered.len() < MODELS_MAX {
            self.answered.insert(model.to_owned(), 1);
        }
    }

    pub(super) fn add(&mut self, call: CallReport) {
        if self.others.len() >= WAITING_MAX {
            self.others.remove(0);
        }
        self.others.push(call);
    }

    /// Whether something else than answers waits.
    pub(super) fn is_urgent(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether anything waits.
    pub(super) fn has_news(&self) -> bool {
        self.is_urgent() || self.waiting().next().is_some()
    }

    /// The models that have answered.
    pub(super) fn models(&self) -> Vec<String> {
        self.answered.keys().cloned().collect()
    }

    /// Those with answers that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &str> {
        self.answered.iter().filter(|(_, calls)| **calls > 0).map(|(model, _)| model.as_str())
    }

    /// Takes all for a report: answers first, since failures that came after them stand alone.
    pub(super) fn take(&mut self) -> Batch {
        let answered = self.answered.iter_mut().filter(|(_, calls)| **calls > 0);
        let answered =
            answered.map(|(model, calls)| CallReport::Answered { model: model.clone(), calls: std::mem::take(calls) });
        let mut calls: Vec<CallReport> = answered.collect();
        calls.append(&mut self.others);
        Batch { latency: self.latency.take(), calls }
    }
}
