//! Rules 4 to 8: when jobs run, how often, and beside whom.

use std::collections::BTreeMap;

use super::index::{Index, Job, Run};
use super::{Rule, Verdict};
use crate::log::{Answer, Fault, Name, Op, Outcome, RunEnd};

pub(super) fn check(index: &Index, verdict: &mut Verdict) {
    let mut by_key: BTreeMap<&str, Vec<(&Name, &Run)>> = BTreeMap::new();
    for (name, job) in &index.jobs {
        no_run_after_the_end(index, name, job, verdict);
        no_overlap(index, name, job, verdict);
        attempts(index, name, job, verdict);
        not_before_due(index, name, job, verdict);
        if let Some(key) = &job.plan.key {
            by_key.entry(key).or_default().extend(job.runs.iter().map(|run| (name, run)));
        }
    }
    for (key, runs) in by_key {
        one_of_a_key(index, key, runs, verdict);
    }
}

/// Rule 4.
fn no_run_after_the_end(index: &Index, name: &Name, job: &Job, verdict: &mut Verdict) {
    let slack = index.allowance.slack;
    for run in &job.runs {
        // A retry, sent but perhaps not yet answered, declares a new run.
        let declared = |end: u64| {
            let sent = job.calls(Op::Retry).filter(|call| !matches!(call.returned, Some((_, Outcome::Refused(_)))));
            sent.into_iter()
                .any(|call| call.invoked <= run.began && call.returned.as_ref().is_none_or(|(at, _)| *at >= end))
        };
        let ends = job.seen.iter().filter(|(_, _, view)| view.is_terminal()).map(|(at, _, _)| *at);
        let cancels = job.calls(Op::Cancel).filter_map(|call| match call.returned {
            Some((at, Outcome::Ok(_))) => Some(at),
            _ => None,
        });
        // A cancelled run may just be on its way to the provider.
        let Some(end) = ends.chain(cancels.map(|at| at + slack)).filter(|end| *end < run.began).min() else { continue };
        if !declared(end) && !index.is_explained(end.saturating_sub(index.allowance.grace), run.began) {
            let late = run.began - end;
            verdict.add(Rule::RunAfterEnd, Some(name), format!("run {} began {late} ms after the end", run.run));
        }
    }
}

/// Rule 5.
fn no_overlap(index: &Index, name: &Name, job: &Job, verdict: &mut Verdict) {
    for (place, first) in job.runs.iter().enumerate() {
        for second in &job.runs[place + 1..] {
            if let Some(renewed) = first.renewed.iter().find(|at| **at >= second.began) {
                let text = format!("run {} was renewed at {renewed}, after run {} began", first.run, second.run);
                verdict.add(Rule::Overlap, Some(name), text);
            }
            let both = [first, second].iter().all(|run| run.answers.contains(&Answer::Accepted));
            if both && !job.may_have(Op::Retry) {
                let text =
                    format!("runs {} and {} were both accepted: the loser was not fenced", first.run, second.run);
                verdict.add(Rule::Overlap, Some(name), text);
            }
            let Some(length) = overlap(index, first, second) else { continue };
            // Either may be the one that was given up.
            let over = second.began.saturating_add(length).min(second.end());
            let is_explained = index.is_explained(first.began, second.began);
            if is_explained && over <= index.zombies_end(second.began) {
                verdict.explained += 1;
            } else if is_explained {
                let text =
                    format!("runs {} and {} both went on until {over}, long after the fault", first.run, second.run);
                verdict.add(Rule::Overlap, Some(name), text);
            } else {
                let text = format!("run {} began at {} while run {} went on", second.run, second.began, first.run);
                verdict.add(Rule::Overlap, Some(name), text);
            }
        }
    }
}

/// For how long two runs went on at the same time, more than observers may differ by.
fn overlap(index: &Index, first: &Run, second: &Run) -> Option<u64> {
    let end = match first.ended {
        // The provider notices late that its client has gone.
        Some((at, RunEnd::Dropped)) => at.saturating_sub(index.allowance.slack),
        Some((at, _)) => at,
        None => u64::MAX,
    };
    end.checked_sub(second.began).filter(|length| *length > 0)
}

/// Rule 6.
fn one_of_a_key(index: &Index, key: &str, mut runs: Vec<(&Name, &Run)>, verdict: &mut Verdict) {
    runs.sort_by_key(|(_, run)| run.began);
    for (place, (name, first)) in runs.iter().enumerate() {
        for (other, second) in &runs[place + 1..] {
            if second.began >= first.end() {
                continue;
            }
            if name != other
                && overlap(index, first, second).is_some()
                && !index.is_explained(first.began, second.began)
            {
                let text = format!("of key {key} ran from {} while {name} ran until {}", second.began, first.end());
                verdict.add(Rule::KeyOverlap, Some(other), text);
            }
        }
    }
}

/// Rule 7. Every fault may cost the record of one failure: the worker that was told it died, or was silent.
fn attempts(index: &Index, name: &Name, job: &Job, verdict: &mut Verdict) {
    let (Some(first), true) = (job.runs.first(), job.plan.max_attempts > 0) else { return };
    if job.may_have(Op::Retry) {
        return;
    }
    let counts = |run: &&Run| match run.ended {
        // A failover forgets failures with everything else.
        Some((at, RunEnd::Failed)) => index.faults_between(at, at, |fault| fault == Fault::Failover) == 0,
        _ => false,
    };
    let failed = job.runs.iter().filter(counts).count();
    let last = job.runs.last().map_or(u64::MAX, |run| run.began);
    let excused = index.faults_between(first.began, last, |_| true);
    if failed as u64 > job.plan.max_attempts + excused as u64 {
        let text = format!("{failed} runs failed of at most {}, {excused} faults", job.plan.max_attempts);
        verdict.add(Rule::Attempts, Some(name), text);
    }
}

/// Rule 8.
fn not_before_due(index: &Index, name: &Name, job: &Job, verdict: &mut Verdict) {
    let Some(submitted) = job.calls(Op::Submit).map(|call| call.invoked).min() else { return };
    let due = submitted + job.plan.delay;
    // Redis counts whole milliseconds, and so does the log.
    if let Some(run) = job.runs.first().filter(|run| run.began + 2 < due) {
        let stepped = index.faults_between(submitted, run.began, |fault| fault == Fault::ClockStep) > 0;
        if !stepped {
            verdict.add(Rule::BeforeDue, Some(name), format!("run {} began {} ms early", run.run, due - run.began));
        }
    }
}
