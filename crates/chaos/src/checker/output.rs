//! Rule 9: what readers get.

use super::index::{Index, Job};
use super::{Rule, Verdict};
use crate::log::{Fault, Item, Name};

pub(super) fn check(index: &Index, verdict: &mut Verdict) {
    for (name, job) in &index.jobs {
        for items in job.read.values() {
            if let Some(text) = broken(index, job, items, verdict) {
                verdict.add(Rule::Chunks, Some(name), text);
            }
        }
        readers_end_with_the_result(index, name, job, verdict);
    }
}

/// What is wrong with a reader's items, if anything is.
fn broken(index: &Index, job: &Job, items: &[Item], verdict: &mut Verdict) -> Option<String> {
    let (mut attempt, mut next) = (0, 1);
    let mut is_done = false;
    for item in items {
        if is_done {
            return Some(format!("{item:?} after the end"));
        }
        match item {
            Item::Attempt(number) if *number < attempt => return Some(format!("attempt {number} after {attempt}")),
            Item::Attempt(number) => (attempt, next) = (*number, 1),
            Item::Chunk { attempt: of, seq, .. } => {
                if *of < attempt {
                    return Some(format!("a chunk of attempt {of} in attempt {attempt}"));
                }
                if *of > attempt {
                    (attempt, next) = (*of, 1);
                }
                if *seq < next {
                    verdict.duplicated += 1;
                    return Some(format!("chunk {seq} of attempt {of} came again"));
                }
                if *seq > next && !may_drop(index, job) {
                    return Some(format!("chunks {next} to {} of attempt {of} are missing", seq - 1));
                }
                next = seq + 1;
            }
            Item::Truncated if !may_drop(index, job) => return Some("chunks were truncated".to_owned()),
            Item::Truncated => {}
            Item::Done(_) => is_done = true,
        }
    }
    None
}

/// Whether Redis had no memory for chunks during the job's life: then, and only then, they may be dropped.
fn may_drop(index: &Index, job: &Job) -> bool {
    let (Some(first), Some(last)) = (job.runs.first(), job.runs.last()) else { return false };
    // A worker that could not reach Redis still has chunks to tell after the provider's end.
    let over = last.end().max(job.first_end().unwrap_or_default());
    index.faults_between(first.began, over, |fault| fault == Fault::OutOfMemory) > 0
}

/// The last attempt's chunks are the result, for whoever read to the end.
fn readers_end_with_the_result(index: &Index, name: &Name, job: &Job, verdict: &mut Verdict) {
    let Some((_, view)) = job.finals.first().filter(|(_, view)| view.status == "completed") else { return };
    if job.calls(crate::log::Op::Retry).next().is_some() || may_drop(index, job) {
        return;
    }
    for items in job.read.values().filter(|items| items.last() == Some(&Item::Done("completed".to_owned()))) {
        let mut text = String::new();
        let mut of = 0;
        for item in items {
            match item {
                // A run that was handed back takes its attempt's number with it.
                Item::Attempt(_) => text.clear(),
                Item::Chunk { attempt, text: words, .. } => {
                    if *attempt != of {
                        text.clear();
                    }
                    of = *attempt;
                    text.push_str(words);
                }
                Item::Truncated | Item::Done(_) => {}
            }
        }
        if text != view.content {
            verdict.add(Rule::Chunks, Some(name), format!("a reader got {text:?}, the result is {:?}", view.content));
        }
    }
}
