//! The log by job: what the rules look at.

use std::collections::BTreeMap;

use super::Allowance;
use crate::log::{Answer, Fault, History, Item, Name, Op, Outcome, Plan, RunEnd, View, What};

/// A call about a job.
#[derive(Debug)]
pub struct Call {
    /// What it asked.
    pub op: Op,
    /// When it was sent.
    pub invoked: u64,
    /// When it came back, and with what.
    pub returned: Option<(u64, Outcome)>,
}

/// A run of a job.
#[derive(Debug)]
pub struct Run {
    /// Its number.
    pub run: u64,
    /// When the provider was asked.
    pub began: u64,
    /// When and how the answer ended.
    pub ended: Option<(u64, RunEnd)>,
    /// What the queue answered to its settlements.
    pub answers: Vec<Answer>,
    /// When the queue renewed its lease.
    pub renewed: Vec<u64>,
}

impl Run {
    /// When it was over; a run without an end lasts for ever.
    pub fn end(&self) -> u64 {
        self.ended.map_or(u64::MAX, |(at, _)| at)
    }
}

/// All that is known of a job.
#[derive(Debug, Default)]
pub struct Job {
    /// What it was to be.
    pub plan: Plan,
    /// Whether it was ever planned.
    pub is_planned: bool,
    /// The calls about it.
    pub calls: Vec<Call>,
    /// Its runs, by when they began.
    pub runs: Vec<Run>,
    /// Its record as seen by clients: when, id, what.
    pub seen: Vec<(u64, String, View)>,
    /// When clients were told that it is not there.
    pub missing: Vec<u64>,
    /// What readers got.
    pub read: BTreeMap<u64, Vec<Item>>,
    /// What the listing holds of it after the drain.
    pub finals: Vec<(String, View)>,
}

impl Job {
    /// The calls of one sort.
    pub fn calls(&self, op: Op) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.op == op)
    }

    /// The ids that clients were given.
    pub fn ids(&self) -> Vec<&str> {
        let given = self.calls(Op::Submit).filter_map(|call| match &call.returned {
            Some((_, Outcome::Ok(id))) => Some(id.as_str()),
            _ => None,
        });
        let mut ids: Vec<&str> = given.collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether a call of that sort may have been done.
    pub fn may_have(&self, op: Op) -> bool {
        self.calls(op).any(|call| !matches!(call.returned, Some((_, Outcome::Refused(_)))))
    }

    /// When a client first saw it ended.
    pub fn first_end(&self) -> Option<u64> {
        self.seen.iter().find(|(_, _, view)| view.is_terminal()).map(|(at, _, _)| *at)
    }
}

/// A fault's time.
#[derive(Debug, Clone)]
pub struct Window {
    /// Its kind.
    pub kind: Fault,
    /// When it began.
    pub began: u64,
    /// When it ended.
    pub ended: u64,
}

/// The log by job.
#[derive(Debug)]
pub struct Index {
    /// The jobs.
    pub jobs: BTreeMap<Name, Job>,
    /// The faults.
    pub windows: Vec<Window>,
    pub(super) allowance: Allowance,
}

impl Index {
    /// Reads a history.
    pub fn new(history: &History, allowance: Allowance) -> Self {
        let mut index = Self { jobs: BTreeMap::new(), windows: Vec::new(), allowance };
        let (mut calls, mut runs, mut faults) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for event in &history.events {
            let at = event.at;
            match &event.what {
                What::Planned { job, plan } => {
                    let job = index.job(job);
                    (job.plan, job.is_planned) = (plan.clone(), true);
                }
                What::Invoked { call, job, op } => {
                    let of = index.job(job);
                    calls.insert(*call, (job.clone(), of.calls.len()));
                    of.calls.push(Call { op: *op, invoked: at, returned: None });
                }
                What::Returned { call, outcome } => {
                    if let Some((job, place)) = calls.get(call) {
                        index.job(job).calls[*place].returned = Some((at, outcome.clone()));
                    }
                }
                What::RunBegan { run, job } => {
                    let of = index.job(job);
                    runs.insert(*run, (job.clone(), of.runs.len()));
                    of.runs.push(Run { run: *run, began: at, ended: None, answers: Vec::new(), renewed: Vec::new() });
                }
                What::RunEnded { run, .. } | What::Settled { run, .. } | What::Renewed { run, .. } => {
                    if let Some((job, place)) = runs.get(run) {
                        index.job(job).runs[*place].note(at, &event.what);
                    }
                }
                What::Seen { job, id, view } => index.job(job).seen.push((at, id.clone(), view.clone())),
                What::Missing { job } => index.job(job).missing.push(at),
                What::Read { reader, job, item } => {
                    index.job(job).read.entry(*reader).or_default().push(item.clone());
                }
                What::Final { job, id, view } => index.job(job).finals.push((id.clone(), view.clone())),
                What::FaultBegan { fault, kind, .. } => {
                    faults.insert(*fault, index.windows.len());
                    index.windows.push(Window { kind: *kind, began: at, ended: u64::MAX });
                }
                What::FaultEnded { fault } => {
                    if let Some(place) = faults.get(fault) {
                        index.windows[*place].ended = at;
                    }
                }
                What::Leftover { .. } | What::Forgotten { .. } | What::Mended { .. } | What::Panicked { .. } => {}
            }
        }
        index
    }

    fn job(&mut self, name: &Name) -> &mut Job {
        self.jobs.entry(name.clone()).or_default()
    }

    /// Whether a fault that silences a worker lay between these times, or had ended shortly before.
    pub fn is_explained(&self, from: u64, to: u64) -> bool {
        self.faults_between(from, to, Fault::silences_worker) > 0
    }

    /// How many faults of some kinds lay between these times, their aftermath included.
    pub fn faults_between(&self, from: u64, to: u64, of: impl Fn(Fault) -> bool) -> usize {
        let touches = |window: &&Window| {
            of(window.kind) && window.began <= to && from <= window.ended.saturating_add(self.allowance.grace)
        };
        self.windows.iter().filter(touches).count()
    }

    /// Whether all that was mended, as the audit names it, comes from entries that were taken out of the streams by hand.
    pub fn has_reason_to_mend(&self, what: &str) -> bool {
        const OF_ENTRIES: [&str; 2] = ["waiting job without an entry", "entry without its job"];
        let of_entries = |one: &str| OF_ENTRIES.iter().any(|kind| one.starts_with(kind));
        self.windows.iter().any(|window| window.kind == Fault::DeleteConsumer)
            && what.trim_matches('"').split(", ").all(of_entries)
    }

    /// Until when a worker that was silent as another began its job may go on with that: it finds out within half of the
    /// grace, unless the next fault comes at once.
    pub fn zombies_end(&self, other_began: u64) -> u64 {
        let silencing = self.windows.iter().filter(|window| window.kind.silences_worker());
        let silent_until = silencing.fold(0, |until: u64, window| {
            let goes_on = window.began <= other_began.max(until.saturating_add(self.allowance.slack));
            if goes_on { until.max(window.ended) } else { until }
        });
        silent_until.saturating_add(self.allowance.grace / 2)
    }
}

impl Run {
    fn note(&mut self, at: u64, what: &What) {
        match what {
            What::RunEnded { how, .. } => self.ended = self.ended.or(Some((at, *how))),
            What::Settled { answer, .. } => self.answers.push(*answer),
            What::Renewed { kept: true, .. } => self.renewed.push(at),
            _ => {}
        }
    }
}
