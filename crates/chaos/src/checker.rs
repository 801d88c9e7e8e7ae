//! The ten rules, and an eleventh, over the log of a run that was drained to its end.

use std::collections::BTreeSet;
use std::fmt;

use crate::log::{History, Name, What};

mod ends;
mod index;
mod output;
mod runs;
#[cfg(test)]
mod tests;

pub use index::{Index, Job, Run, Window};

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// 1: no acknowledged job without its end.
    Lost,
    /// 2: no job and no result that nobody asked for, and one job per request.
    Unexpected,
    /// 3: one accepted end per job, the same for all who look.
    OneEnd,
    /// 4: no run that begins after the end, or after a cancel, was acknowledged.
    RunAfterEnd,
    /// 5: two runs of a job overlap only where a fault explains it, and not for long; the loser is fenced.
    Overlap,
    /// 6: jobs of one concurrency key never overlap, outside of faults.
    KeyOverlap,
    /// 7: no more failures than attempts.
    Attempts,
    /// 8: nothing runs before it is due.
    BeforeDue,
    /// 9: what readers get is whole, in order, once, and what the result says.
    Chunks,
    /// 10: after the drain nothing is left over.
    Leftover,
    /// 11: no job is taken from a worker that lives.
    SpuriousReclaim,
}

impl Rule {
    /// Every rule.
    pub const ALL: &[Self] = &[
        Self::Lost,
        Self::Unexpected,
        Self::OneEnd,
        Self::RunAfterEnd,
        Self::Overlap,
        Self::KeyOverlap,
        Self::Attempts,
        Self::BeforeDue,
        Self::Chunks,
        Self::Leftover,
        Self::SpuriousReclaim,
    ];
}

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// The job, where it is about one.
    pub job: Option<Name>,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rule)?;
        if let Some(job) = &self.job {
            write!(f, " {job}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// How much the checker lets pass.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// How long after its end a fault may still explain an overlap or a reclaim, in ms: until the worker counts as dead.
    pub grace: u64,
    /// By how much two observers of the same moment may differ, in ms: a connection is closed before its other end sees it.
    pub slack: u64,
}

/// What the checker found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Every breach.
    pub violations: Vec<Violation>,
    /// Acknowledged jobs.
    pub accepted: usize,
    /// Acknowledged jobs without an end.
    pub lost: usize,
    /// Jobs, ends or chunks that a client sees twice.
    pub duplicated: usize,
    /// Submits without an answer, and how many of them had been accepted.
    pub unknown: (usize, usize),
    /// Overlapping runs of one job that a fault explains.
    pub explained: usize,
}

impl Verdict {
    fn add(&mut self, rule: Rule, job: Option<&Name>, detail: impl Into<String>) {
        self.violations.push(Violation { rule, job: job.cloned(), detail: detail.into() });
    }

    /// The rules that were broken.
    pub fn broken(&self) -> BTreeSet<Rule> {
        self.violations.iter().map(|violation| violation.rule).collect()
    }
}

/// Judges the history of a run that was drained to its end.
pub fn check(history: &History, allowance: Allowance) -> Verdict {
    let index = Index::new(history, allowance);
    let mut verdict = Verdict::default();
    ends::check(&index, &mut verdict);
    runs::check(&index, &mut verdict);
    output::check(&index, &mut verdict);
    for event in &history.events {
        match &event.what {
            What::Leftover { what, count } => verdict.add(Rule::Leftover, None, format!("{count} in {what}")),
            What::Mended { count, what } if *count > 0 && !index.has_reason_to_mend(what) => {
                verdict.add(Rule::Leftover, None, format!("the audit had to mend {count}: {what}"));
            }
            What::Panicked { line } => verdict.add(Rule::Unexpected, None, format!("a panic: {line}")),
            _ => {}
        }
    }
    verdict
}
