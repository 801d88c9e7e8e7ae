//! Rules 1 to 3 and 11: every accepted job ends, once, as it was to end, and no other job is there.

use std::collections::BTreeSet;

use super::index::{Index, Job};
use super::{Rule, Verdict};
use crate::log::{Answer, Expects, Fault, Name, Op, Outcome, RunEnd, View};

pub(super) fn check(index: &Index, verdict: &mut Verdict) {
    for (name, job) in &index.jobs {
        accepted_jobs_end(name, job, verdict);
        nothing_comes_unasked(name, job, verdict);
        one_end(name, job, verdict);
        taken_from_the_dead_only(index, name, job, verdict);
    }
}

/// Rule 1.
fn accepted_jobs_end(name: &Name, job: &Job, verdict: &mut Verdict) {
    let ids = job.ids();
    if ids.is_empty() {
        return;
    }
    verdict.accepted += 1;
    if !job.missing.is_empty() {
        verdict.add(Rule::Lost, Some(name), "was accepted, and a client was told that it is not there");
    }
    let Some((_, view)) = job.finals.iter().find(|(id, _)| ids.contains(&id.as_str())) else {
        verdict.lost += 1;
        return verdict.add(Rule::Lost, Some(name), "was accepted and is gone");
    };
    if !view.is_terminal() {
        verdict.lost += 1;
        return verdict.add(Rule::Lost, Some(name), format!("was accepted and is {} after the drain", view.status));
    }
    if let Some(why) = wrong_end(job, view) {
        verdict.add(Rule::Lost, Some(name), format!("ended as {} ({}): {why}", view.status, view.error));
    }
}

fn wrong_end(job: &Job, view: &View) -> Option<String> {
    let status = view.status.as_str();
    let failures = job.runs.iter().filter(|run| matches!(run.ended, Some((_, RunEnd::Failed)))).count() as u64;
    match job.plan.expects {
        Expects::Anything => None,
        Expects::Failed if status != "failed" => Some("every run of it fails".to_owned()),
        Expects::Completed if status == "failed" && failures >= job.plan.max_attempts => None,
        Expects::Completed if status != "completed" => {
            Some(format!("only {failures} of {} attempts failed", job.plan.max_attempts))
        }
        Expects::Failed | Expects::Completed => None,
    }
}

/// Rule 2.
fn nothing_comes_unasked(name: &Name, job: &Job, verdict: &mut Verdict) {
    let is_there = !job.finals.is_empty() || !job.runs.is_empty();
    if !job.is_planned || job.calls(Op::Submit).next().is_none() {
        if is_there {
            verdict.add(Rule::Unexpected, Some(name), "is there, and nobody submitted it");
        }
        return;
    }
    if is_there && !job.may_have(Op::Submit) {
        verdict.add(Rule::Unexpected, Some(name), "was refused, and is there all the same");
    }
    let mut ids: BTreeSet<&str> = job.ids().into_iter().collect();
    if ids.is_empty() {
        verdict.unknown.0 += usize::from(job.may_have(Op::Submit));
        verdict.unknown.1 += usize::from(!job.finals.is_empty());
    }
    ids.extend(job.finals.iter().map(|(id, _)| id.as_str()));
    if ids.len() > 1 {
        verdict.duplicated += 1;
        verdict.add(Rule::Unexpected, Some(name), format!("{} jobs were made of it", ids.len()));
    }
}

/// Rule 3.
fn one_end(name: &Name, job: &Job, verdict: &mut Verdict) {
    let reruns = job.calls(Op::Retry).filter(|call| !matches!(call.returned, Some((_, Outcome::Refused(_))))).count();
    let views = job.seen.iter().map(|(_, _, view)| view).chain(job.finals.iter().map(|(_, view)| view));
    let ended = views.filter(|view| view.is_terminal());
    let mut ends: BTreeSet<_> = ended.map(|view| (&view.status, &view.completed_at, &view.content)).collect();
    // A job that was taken from its holder gets what it had put out a moment after its end; nothing else may change.
    let empty = String::new();
    let later: Vec<_> = ends.iter().filter(|(_, _, content)| !content.is_empty()).copied().collect();
    for (status, at, _) in later.into_iter().filter(|(status, _, _)| *status != "completed") {
        ends.remove(&(status, at, &empty));
    }
    if ends.len() > 1 + reruns {
        verdict.duplicated += 1;
        verdict.add(Rule::OneEnd, Some(name), format!("{} different ends were seen: {ends:?}", ends.len()));
    }
    let accepted = job.runs.iter().filter(|run| run.answers.contains(&Answer::Accepted)).count();
    if accepted > 1 + reruns {
        verdict.duplicated += 1;
        verdict.add(Rule::OneEnd, Some(name), format!("{accepted} runs were told that they ended it"));
    }
    // The provider's answers name job and run, so that a result tells whose it is.
    for (_, _, content) in ends.iter().filter(|(status, _, _)| *status == "completed") {
        let mut words = content.split(' ');
        let (of, run) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let known = job.runs.iter().any(|known| format!("run{}", known.run) == run);
        if of != &**name || !known {
            verdict.add(Rule::OneEnd, Some(name), format!("its result is of {of} {run}"));
        }
    }
}

/// Rule 11.
fn taken_from_the_dead_only(index: &Index, name: &Name, job: &Job, verdict: &mut Verdict) {
    let crashes = job.finals.iter().map(|(_, view)| view.crashes).max().unwrap_or_default();
    let (Some(first), true) = (job.runs.first(), crashes > 0) else { return };
    let until = job.first_end().unwrap_or(u64::MAX);
    let from = first.began.saturating_sub(index.allowance.grace);
    if index.faults_between(from, until, Fault::silences_worker) == 0 {
        verdict.add(
            Rule::SpuriousReclaim,
            Some(name),
            format!("{crashes} crashes were charged, and no worker was silent between {from} and {until} ms"),
        );
    }
}
