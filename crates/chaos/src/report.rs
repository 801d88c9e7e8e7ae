//! What a run prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::checker::{Allowance, Index, Verdict};
use crate::fleet::{LEASE, LIVENESS};
use crate::log::{Fault, History, Name, What};
use crate::run::{Options, Outcome};

/// Violations that are printed at most.
const VIOLATIONS_SHOWN: usize = 40;

/// Times in ms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times(Vec<u64>);

impl Times {
    /// Adds those of another run.
    fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// The smallest time that this share of all do not exceed.
    fn quantile(&self, share: f64) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a short list")]
        let place = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
        sorted.get(place).copied().unwrap_or_default()
    }

    fn text(&self) -> String {
        if self.0.is_empty() {
            return "-".to_owned();
        }
        format!("{} / {} / {} ({})", self.quantile(0.5), self.quantile(0.99), self.quantile(1.0), self.0.len())
    }
}

/// How fast the fleet was back after faults of one kind.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// How often.
    pub count: usize,
    /// From the fault's end until a job was seen completed, in ms.
    pub next_completion: Times,
    /// From the fault's begin until a job whose run it broke off ran again, in ms.
    pub runs_again: Times,
}

/// The recoveries of several runs, by kind of fault.
#[derive(Debug, Clone, Default)]
pub struct Recoveries(BTreeMap<Fault, Recovery>);

impl Recoveries {
    /// Adds those of another run.
    pub fn extend(&mut self, other: &Self) {
        for (kind, more) in &other.0 {
            let recovery = self.0.entry(*kind).or_default();
            recovery.count += more.count;
            recovery.next_completion.extend(&more.next_completion);
            recovery.runs_again.extend(&more.runs_again);
        }
    }

    /// As a table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = write_recovery(&mut text, &self.0);
        text
    }
}

/// By kind of fault.
pub fn recovery(history: &History, allowance: Allowance) -> Recoveries {
    let index = Index::new(history, allowance);
    let completions = history.events.iter().filter_map(|event| match &event.what {
        What::Seen { view, .. } if view.status == "completed" => Some(event.at),
        _ => None,
    });
    let completions: Vec<u64> = completions.collect();
    let mut kinds: BTreeMap<Fault, Recovery> = BTreeMap::new();
    for window in &index.windows {
        let recovery = kinds.entry(window.kind).or_default();
        recovery.count += 1;
        if let Some(at) = completions.iter().find(|at| **at >= window.ended) {
            recovery.next_completion.0.push(at - window.ended);
        }
        for job in index.jobs.values().filter(|job| job.plan.kind != "cancelled") {
            for pair in job.runs.windows(2) {
                let was_on = pair[0].began < window.began && pair[0].end() >= window.began;
                let until = window.ended.saturating_add(allowance.grace);
                // Broken off by this fault, not by the next one; a frozen worker's run goes on beside the new one.
                let its_own = pair[0].end() <= window.ended + allowance.slack || pair[0].end() > pair[1].began;
                if was_on && its_own && (window.began..until).contains(&pair[1].began) {
                    recovery.runs_again.0.push(pair[1].began - window.began);
                }
            }
        }
    }
    Recoveries(kinds)
}

/// The whole report.
pub fn text(options: &Options, outcome: &Outcome, allowance: Allowance) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_head(&mut text, options, &outcome.history, &outcome.verdict);
    text.push_str(&recovery(&outcome.history, allowance).table());
    let _ = write_violations(&mut text, options, outcome);
    text
}

fn write_head(text: &mut String, options: &Options, history: &History, verdict: &Verdict) -> std::fmt::Result {
    writeln!(
        text,
        "chaos: seed {}, {:?}, {} APIs, {} workers, {} clients; lease {LEASE:?}, liveness {LIVENESS:?}, appendfsync always",
        options.seed, options.time, options.apis, options.workers, options.clients
    )?;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut runs, mut readers) = (0, BTreeSet::new());
    for event in &history.events {
        match &event.what {
            What::Planned { plan, .. } => *kinds.entry(plan.kind).or_default() += 1,
            What::RunBegan { .. } => runs += 1,
            What::Read { reader, .. } => _ = readers.insert(*reader),
            _ => {}
        }
    }
    let planned: usize = kinds.values().sum();
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    writeln!(text, "jobs: {planned} submitted ({}), {runs} runs, {} readers", kinds.join(", "), readers.len())?;
    writeln!(
        text,
        "      {} accepted; {} without an answer, of which {} had been accepted; {} overlapping runs, all of them fenced",
        verdict.accepted, verdict.unknown.0, verdict.unknown.1, verdict.explained
    )?;
    let mended: u64 =
        history.events.iter().map(|e| if let What::Mended { count, .. } = &e.what { *count } else { 0 }).sum();
    writeln!(text, "      {mended} entries mended by the audit")?;
    for event in &history.events {
        if let What::Forgotten { before, after } = &event.what {
            writeln!(
                text,
                "after the retention: {} keys of jobs (before {}), {} KB in all keys (before {})",
                after.keys,
                before.keys,
                after.bytes >> 10,
                before.bytes >> 10
            )?;
        }
    }
    Ok(())
}

fn write_recovery(text: &mut String, kinds: &BTreeMap<Fault, Recovery>) -> std::fmt::Result {
    let row = |text: &mut String, cells: [&str; 4]| {
        writeln!(text, "{:<26}{:>4}  {:<34}{}", cells[0], cells[1], cells[2], cells[3])
    };
    let heads = ["next job completed after its end", "broken-off runs begun again after its begin"];
    text.push('\n');
    row(text, ["fault", "n", heads[0], heads[1]])?;
    row(text, ["", "", "p50 / p99 / max ms (n)", "p50 / p99 / max ms (n)"])?;
    for (kind, recovery) in kinds {
        let (next, again) = (recovery.next_completion.text(), recovery.runs_again.text());
        row(text, [kind.name(), &recovery.count.to_string(), &next, &again])?;
    }
    Ok(())
}

fn write_violations(text: &mut String, options: &Options, outcome: &Outcome) -> std::fmt::Result {
    let verdict = &outcome.verdict;
    writeln!(
        text,
        "\nlost {}, duplicated {}, violations {}; again with: make chaos SEED={} SECONDS={}",
        verdict.lost,
        verdict.duplicated,
        verdict.violations.len(),
        options.seed,
        options.time.as_secs()
    )?;
    let mut told: BTreeSet<&Name> = BTreeSet::new();
    for violation in verdict.violations.iter().take(VIOLATIONS_SHOWN) {
        writeln!(text, "  {violation}")?;
        if let Some(job) = violation.job.as_ref().filter(|job| told.insert(*job)) {
            write_life(text, &outcome.history, job)?;
        }
    }
    Ok(())
}

/// All that the log has of a job, and the faults of its time.
fn write_life(text: &mut String, history: &History, job: &Name) -> std::fmt::Result {
    let (mut calls, mut runs) = (BTreeSet::new(), BTreeSet::new());
    let mut begun = false;
    for event in &history.events {
        let is_its_own = match &event.what {
            What::Planned { job: of, .. }
            | What::Seen { job: of, .. }
            | What::Missing { job: of }
            | What::Read { job: of, .. }
            | What::Final { job: of, .. } => of == job,
            What::Invoked { job: of, call, .. } => of == job && calls.insert(*call),
            What::RunBegan { job: of, run } => of == job && runs.insert(*run),
            What::Returned { call, .. } => calls.contains(call),
            What::RunEnded { run, .. } | What::Settled { run, .. } | What::Renewed { run, .. } => runs.contains(run),
            What::FaultBegan { .. } | What::FaultEnded { .. } => begun,
            What::Leftover { .. } | What::Forgotten { .. } | What::Mended { .. } | What::Panicked { .. } => false,
        };
        begun |= is_its_own;
        if is_its_own {
            writeln!(text, "    {:>7} {:?}", event.at, event.what)?;
        }
        if begun && matches!(&event.what, What::Final { job: of, .. } if of == job) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_time_that_was_measured() {
        let times = Times((1..=100).rev().collect());
        assert_eq!((times.quantile(0.5), times.quantile(0.99), times.quantile(1.0)), (50, 99, 100));
        assert_eq!(Times(vec![7]).quantile(0.5), 7);
        assert_eq!(Times::default().text(), "-");
    }
}
