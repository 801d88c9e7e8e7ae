//! Each rule: a good history passes it, a bad one does not, and a fault excuses what it explains.

use super::*;
use crate::log::{Answer, Expects, Fault, Item, Op, Outcome, Plan, RunEnd, View};

const ALLOWANCE: Allowance = Allowance { grace: 100, slack: 10 };

/// A history under construction. Every step says when.
#[derive(Default)]
struct Story {
    history: History,
    calls: u64,
}

impl Story {
    fn add(mut self, at: u64, what: What) -> Self {
        self.history.push(at, what);
        self
    }

    fn planned(self, at: u64, job: &str, plan: Plan) -> Self {
        self.add(at, What::Planned { job: job.into(), plan })
    }

    fn call(mut self, at: u64, job: &str, op: Op, outcome: Outcome) -> Self {
        self.calls += 1;
        let call = self.calls;
        self.add(at, What::Invoked { call, job: job.into(), op }).add(at + 1, What::Returned { call, outcome })
    }

    fn submitted(self, at: u64, job: &str) -> Self {
        let id = format!("id-{job}");
        self.planned(at, job, Plan { max_attempts: 3, ..Plan::default() }).call(at, job, Op::Submit, Outcome::Ok(id))
    }

    fn run(self, run: u64, job: &str, from: u64, to: u64, how: RunEnd) -> Self {
        self.add(from, What::RunBegan { run, job: job.into() }).add(to, What::RunEnded { run, how })
    }

    fn seen(self, at: u64, job: &str, view: View) -> Self {
        self.add(at, What::Seen { job: job.into(), id: format!("id-{job}"), view })
    }

    fn last(self, job: &str, view: View) -> Self {
        self.add(9000, What::Final { job: job.into(), id: format!("id-{job}"), view })
    }

    fn fault(mut self, kind: Fault, from: u64, to: u64) -> Self {
        self.calls += 1;
        let fault = self.calls;
        self.add(from, What::FaultBegan { fault, kind, target: String::new() }).add(to, What::FaultEnded { fault })
    }

    fn read(self, job: &str, items: &[Item]) -> Self {
        let read = |item: &Item| What::Read { reader: 1, job: job.into(), item: item.clone() };
        items.iter().fold(self, |story, item| story.add(50, read(item)))
    }

    fn verdict(mut self) -> Verdict {
        self.history.events.sort_by_key(|event| event.at);
        check(&self.history, ALLOWANCE)
    }

    fn breaks(self, rule: Rule) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.broken(), BTreeSet::from([rule]), "{:#?}", verdict.violations);
        verdict
    }

    fn passes(self) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.violations, []);
        verdict
    }
}

fn done(job: &str, run: u64) -> View {
    View {
        status: "completed".into(),
        completed_at: "t1".into(),
        attempts: 1,
        content: format!("{job} run{run} w1 "),
        ..View::default()
    }
}

fn status(status: &str) -> View {
    View { status: status.into(), completed_at: "t1".into(), ..View::default() }
}

fn chunk(attempt: u64, seq: u64, text: &str) -> Item {
    Item::Chunk { attempt, seq, text: text.into() }
}

/// A job `a` that ran once, as run 1 from 20 to 40, and completed.
fn good() -> Story {
    Story::default()
        .submitted(10, "a")
        .run(1, "a", 20, 40, RunEnd::Answered)
        .seen(45, "a", done("a", 1))
        .last("a", done("a", 1))
}

#[test]
fn a_good_history_passes() {
    let items = [chunk(1, 1, "a "), chunk(1, 2, "run1 "), chunk(1, 3, "w1 "), Item::Done("completed".into())];
    let verdict = good().read("a", &items).passes();
    assert_eq!((verdict.accepted, verdict.lost, verdict.duplicated, verdict.explained), (1, 0, 0, 0));
}

#[test]
fn an_accepted_job_that_is_gone_or_open_or_not_found_is_lost() {
    let gone = Story::default().submitted(10, "a").breaks(Rule::Lost);
    assert_eq!(gone.lost, 1);
    let open = Story::default().submitted(10, "a").last("a", View { status: "queued".into(), ..View::default() });
    assert_eq!(open.breaks(Rule::Lost).lost, 1);
    good().add(30, What::Missing { job: "a".into() }).breaks(Rule::Lost);
}

#[test]
fn a_job_must_end_as_its_runs_did() {
    Story::default()
        .submitted(10, "a")
        .run(1, "a", 20, 30, RunEnd::Failed)
        .last("a", status("failed"))
        .breaks(Rule::Lost);
    let failures = (1..=3).fold(Story::default().submitted(10, "a"), |story, run| {
        story.run(run, "a", 20 * run, 20 * run + 10, RunEnd::Failed)
    });
    failures.last("a", status("failed")).passes();
    let failing = Plan { expects: Expects::Failed, max_attempts: 1, ..Plan::default() };
    good().planned(11, "a", failing).breaks(Rule::Lost);
    let any = Plan { expects: Expects::Anything, ..Plan::default() };
    Story::default().submitted(10, "a").planned(11, "a", any).last("a", status("cancelled")).passes();
}

#[test]
fn an_unknown_submit_may_have_made_its_job_or_not() {
    let unknown = || Story::default().planned(10, "a", Plan::default()).call(10, "a", Op::Submit, Outcome::Unknown);
    assert_eq!(unknown().passes().unknown, (1, 0));
    let made = unknown().run(1, "a", 20, 40, RunEnd::Answered).last("a", done("a", 1)).passes();
    assert_eq!((made.unknown, made.accepted), ((1, 1), 0));
}

#[test]
fn a_job_that_nobody_submitted_or_that_was_refused_is_unexpected() {
    good().last("b", done("b", 2)).add(5, What::RunBegan { run: 2, job: "b".into() }).breaks(Rule::Unexpected);
    let refused = Story::default().planned(10, "a", Plan::default()).call(10, "a", Op::Submit, Outcome::Refused(429));
    refused.run(1, "a", 20, 30, RunEnd::Answered).breaks(Rule::Unexpected);
}

#[test]
fn two_jobs_of_one_request_are_a_duplicate() {
    let twice = good().call(15, "a", Op::Submit, Outcome::Ok("id-other".into())).breaks(Rule::Unexpected);
    assert_eq!(twice.duplicated, 1);
    good().call(15, "a", Op::Submit, Outcome::Ok("id-a".into())).passes();
}

#[test]
fn an_end_that_changes_is_a_second_one() {
    let other = View { completed_at: "t2".into(), ..done("a", 1) };
    assert_eq!(good().seen(60, "a", other.clone()).breaks(Rule::OneEnd).duplicated, 1);
    good().call(50, "a", Op::Retry, Outcome::Ok("id-a".into())).seen(60, "a", other).passes();
    good().seen(60, "a", View { content: "a run1 w2 ".into(), ..done("a", 1) }).breaks(Rule::OneEnd);
}

#[test]
fn what_a_taken_job_had_put_out_may_come_after_its_end() {
    let late = View { content: "a run1 ".into(), ..status("cancelled") };
    let any = Plan { expects: Expects::Anything, ..Plan::default() };
    let story = Story::default().submitted(10, "a").planned(11, "a", any).run(1, "a", 20, 30, RunEnd::Dropped);
    story.seen(40, "a", status("cancelled")).last("a", late).passes();
}

#[test]
fn a_result_of_another_job_or_of_no_run_is_none() {
    let story = |view: View| Story::default().submitted(10, "a").run(1, "a", 20, 40, RunEnd::Answered).last("a", view);
    story(done("b", 1)).breaks(Rule::OneEnd);
    story(done("a", 2)).breaks(Rule::OneEnd);
}

#[test]
fn a_run_that_begins_after_the_end_needs_a_retry_or_a_fault() {
    let again = || good().run(2, "a", 500, 510, RunEnd::Dropped);
    again().breaks(Rule::RunAfterEnd);
    again().call(400, "a", Op::Retry, Outcome::Ok("id-a".into())).passes();
    again().call(400, "a", Op::Retry, Outcome::Refused(409)).breaks(Rule::RunAfterEnd);
    again().fault(Fault::StopWorker, 15, 490).passes();
    again().fault(Fault::KillRedis, 15, 490).breaks(Rule::RunAfterEnd);
}

#[test]
fn a_run_that_begins_after_a_cancel_was_accepted_is_one_too_many() {
    let cancelled = |outcome| {
        let any = Plan { expects: Expects::Anything, ..Plan::default() };
        let story = Story::default().submitted(10, "a").planned(11, "a", any).run(1, "a", 20, 40, RunEnd::Failed);
        story.call(50, "a", Op::Cancel, outcome).run(2, "a", 100, 110, RunEnd::Dropped).last("a", status("cancelled"))
    };
    cancelled(Outcome::Ok("id-a".into())).breaks(Rule::RunAfterEnd);
    cancelled(Outcome::Refused(409)).passes();
    cancelled(Outcome::Unknown).passes();
}

#[test]
fn runs_of_one_job_overlap_only_beside_a_fault_of_a_worker() {
    let two = || good().run(2, "a", 30, 50, RunEnd::Dropped);
    two().breaks(Rule::Overlap);
    assert_eq!(two().fault(Fault::StopWorker, 15, 25).passes().explained, 1);
    two().fault(Fault::FreezeRedis, 15, 25).breaks(Rule::Overlap);
}

#[test]
fn a_worker_that_was_silent_gives_up_soon_after() {
    let two = |until| {
        let story = Story::default().submitted(10, "a").run(1, "a", 20, until, RunEnd::Answered);
        story.run(2, "a", 50, 400, RunEnd::Answered).last("a", done("a", 2)).fault(Fault::StopWorker, 30, 100)
    };
    two(150).passes();
    two(151).breaks(Rule::Overlap);
    two(151).fault(Fault::StopWorker, 105, 110).passes();
    two(151).fault(Fault::StopWorker, 120, 140).breaks(Rule::Overlap);
}

#[test]
fn a_run_that_was_dropped_a_moment_ago_overlaps_nothing() {
    let story = |second| {
        let story = Story::default().submitted(10, "a").run(1, "a", 20, 40, RunEnd::Dropped);
        story.run(2, "a", second, 60, RunEnd::Answered).last("a", done("a", 2))
    };
    story(31).passes();
    story(29).breaks(Rule::Overlap);
}

#[test]
fn the_loser_of_two_runs_is_fenced() {
    let answered = |run, answer| What::Settled { run, answer };
    let two = || good().fault(Fault::StopWorker, 15, 25).run(2, "a", 30, 50, RunEnd::Answered);
    two().add(41, answered(1, Answer::Accepted)).add(51, answered(2, Answer::Fenced)).passes();
    let both = two().add(41, answered(1, Answer::Accepted)).add(51, answered(2, Answer::Accepted)).verdict();
    assert_eq!(both.broken(), BTreeSet::from([Rule::OneEnd, Rule::Overlap]));
    two().add(35, What::Renewed { run: 1, kept: false }).passes();
    two().add(35, What::Renewed { run: 1, kept: true }).breaks(Rule::Overlap);
}

#[test]
fn jobs_of_one_key_run_one_after_the_other() {
    let keyed = |job: &str| Plan { key: Some(if job == "c" { "k2" } else { "k1" }.into()), ..Plan::default() };
    let with = |job: &str, from, fault: Option<Fault>| {
        let story = good().planned(11, "a", keyed("a")).submitted(12, job).planned(12, job, keyed(job));
        let story = story.run(2, job, from, from + 30, RunEnd::Answered).last(job, done(job, 2));
        match fault {
            Some(fault) => story.fault(fault, 15, 25),
            None => story,
        }
    };
    with("b", 30, None).breaks(Rule::KeyOverlap);
    with("b", 40, None).passes();
    with("c", 30, None).passes();
    with("b", 30, Some(Fault::BlackHole)).passes();
    with("b", 30, Some(Fault::ScriptFlush)).breaks(Rule::KeyOverlap);
}

#[test]
fn a_job_fails_no_more_often_than_it_may() {
    let failing = |runs: u64| {
        let story = Story::default().submitted(10, "a");
        let story = (1..=runs).fold(story, |story, run| story.run(run, "a", 20 * run, 20 * run + 10, RunEnd::Failed));
        story.last("a", status("failed"))
    };
    failing(3).passes();
    failing(4).breaks(Rule::Attempts);
    failing(4).fault(Fault::KillWorker, 30, 30).passes();
    failing(5).fault(Fault::KillWorker, 30, 30).breaks(Rule::Attempts);
    // What a failover forgot counts for nothing.
    failing(5).fault(Fault::Failover, 10, 51).passes();
}

#[test]
fn nothing_runs_before_it_is_due() {
    let delayed = |delay| good().planned(10, "a", Plan { delay, ..Plan::default() });
    delayed(10).passes();
    delayed(20).breaks(Rule::BeforeDue);
    delayed(20).fault(Fault::ClockStep, 15, 16).passes();
}

#[test]
fn a_reader_gets_every_chunk_once_and_in_order() {
    let one = |items: &[Item]| good().read("a", items);
    one(&[chunk(1, 1, "a "), chunk(1, 3, "w1 ")]).breaks(Rule::Chunks);
    assert_eq!(one(&[chunk(1, 1, "a "), chunk(1, 1, "a ")]).breaks(Rule::Chunks).duplicated, 1);
    one(&[chunk(1, 2, "a ")]).breaks(Rule::Chunks);
    one(&[chunk(1, 1, "a "), chunk(2, 2, "b ")]).breaks(Rule::Chunks);
    one(&[chunk(2, 1, "a "), chunk(1, 2, "b ")]).breaks(Rule::Chunks);
    one(&[Item::Attempt(2), Item::Attempt(1)]).breaks(Rule::Chunks);
    one(&[Item::Truncated]).breaks(Rule::Chunks);
    one(&[Item::Done("completed".into()), chunk(1, 1, "a ")]).breaks(Rule::Chunks);
    one(&[chunk(1, 1, "x "), Item::Attempt(2), chunk(2, 1, "a "), chunk(2, 2, "run1 ")]).passes();
    let truncated = || one(&[Item::Truncated, chunk(1, 3, "w1 ")]);
    truncated().fault(Fault::OutOfMemory, 25, 26).passes();
    // Before the job's end was seen, though the provider had said all.
    truncated().fault(Fault::OutOfMemory, 42, 43).passes();
    truncated().fault(Fault::OutOfMemory, 46, 47).breaks(Rule::Chunks);
}

#[test]
fn what_a_reader_got_is_the_result() {
    let read = |items: &[Item]| good().read("a", &[items, &[Item::Done("completed".into())]].concat());
    read(&[chunk(1, 1, "a run1 w1 ")]).passes();
    read(&[chunk(1, 1, "a run1 ")]).breaks(Rule::Chunks);
    read(&[chunk(1, 1, "x "), Item::Attempt(1), chunk(1, 1, "a run1 w1 ")]).passes();
    read(&[chunk(1, 1, "x "), chunk(2, 1, "a run1 w1 ")]).passes();
}

#[test]
fn after_the_drain_nothing_is_left_over() {
    good().add(9100, What::Leftover { what: "leases".into(), count: 1 }).breaks(Rule::Leftover);
    let mended = |what: &str| good().add(9100, What::Mended { count: 1, what: format!("\"{what}\"") });
    let entries = "waiting job without an entry a, entry without its job b";
    mended(entries).breaks(Rule::Leftover);
    mended(entries).fault(Fault::DeleteConsumer, 20, 21).passes();
    let more = format!("{entries}, ended job among the open ones c");
    mended(&more).fault(Fault::DeleteConsumer, 20, 21).breaks(Rule::Leftover);
    good().add(9100, What::Panicked { line: "thread panicked at".into() }).breaks(Rule::Unexpected);
}

#[test]
fn a_job_is_taken_from_a_worker_only_while_one_is_silent() {
    let crashed = || {
        let story = Story::default().submitted(10, "a").run(1, "a", 200, 240, RunEnd::Answered);
        story.last("a", View { crashes: 1, ..done("a", 1) })
    };
    crashed().breaks(Rule::SpuriousReclaim);
    crashed().fault(Fault::KillWorker, 210, 210).passes();
    crashed().fault(Fault::KillRedis, 210, 215).breaks(Rule::SpuriousReclaim);
}
