//! One job from its claim to its ending, without Redis.

use overshot_common::job::{JobSpec, Phase};
use overshot_common::queue::Verdict;

use super::*;
use crate::runner::station::tests::{Inboxes, held, unconnected};

fn job(held: &overshot_common::queue::Held, task: &str) -> ClaimedJob {
    let input = r#"{"messages":[{"role":"user","content":"hello"}]}"#;
    ClaimedJob {
        id: held.id.clone(),
        grant: held.grant.clone(),
        spec: JobSpec::new(task),
        input: Some(RawValue::from_string(input.to_owned()).unwrap()),
        attempt: 1,
        max_attempts: 5,
        timeout: Duration::from_secs(60),
        age: Duration::ZERO,
        waited: Duration::ZERO,
    }
}

/// Runs a job to its end, with `meanwhile` beside it; chunks are acknowledged by nobody.
async fn ending(station: &Arc<Station>, inboxes: &mut Inboxes, task: &str, stop: Option<Stop>) -> Option<Ending> {
    let held = held(station);
    let attempt = station.registry.enter(held.clone());
    let slot = station.pool.slots.clone().try_acquire_owned().unwrap();
    let running = execute(station.clone(), attempt.clone(), job(&held, task), slot);
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.into_iter().for_each(|why| attempt.stop(why));
    };
    tokio::join!(running, stopping);
    inboxes.endings.try_recv().ok().map(|ended| ended.ending)
}

fn failed_with(ending: Option<Ending>) -> ErrorCode {
    match ending {
        Some(Ending::Settle(settlement)) => match settlement.verdict {
            Verdict::Failed(error) | Verdict::Retry(error, _) | Verdict::Cancelled(error) => error.code,
            Verdict::Completed(result) => panic!("completed with {result}"),
        },
        other => panic!("{other:?}"),
    }
}

const SLOW: &str = "pace = \"1s\"\ntokens = 600";

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_at_once_completes_without_a_word_to_the_publisher() {
    let (station, mut inboxes) = unconnected("", "tokens = 0");
    let ending = ending(&station, &mut inboxes, "chat", None).await;
    assert!(matches!(ending, Some(Ending::Settle(settlement)) if matches!(settlement.verdict, Verdict::Completed(_))));
    assert!(inboxes.outlets.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_task_puts_the_job_off_while_nobody_can_be_asked_who_knows_it() {
    let (station, mut inboxes) = unconnected("", "");
    let ending = ending(&station, &mut inboxes, "juggling", None).await;
    assert!(
        matches!(&ending, Some(Ending::Snooze(_, error)) if error.code == ErrorCode::UnsupportedTask),
        "{ending:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_attempt_settles_as_cancelled_and_keeps_what_it_had() {
    let (station, mut inboxes) = unconnected("", SLOW);
    let begun = Instant::now();
    let Some(Ending::Settle(settlement)) = ending(&station, &mut inboxes, "chat", Some(Stop::Cancelled)).await else {
        panic!("a cancelled attempt settles");
    };
    assert!(matches!(settlement.verdict, Verdict::Cancelled(_)));
    let partial: serde_json::Value = serde_json::from_str(settlement.partial.unwrap().get()).unwrap();
    assert_eq!(partial["partial"], true);
    assert!(begun.elapsed() < Duration::from_secs(6), "it does not wait for a publisher that is behind");
}

#[tokio::test(start_paused = true)]
async fn a_lost_attempt_settles_nothing_and_leaves_the_registry() {
    let (station, mut inboxes) = unconnected("", SLOW);
    assert!(ending(&station, &mut inboxes, "chat", Some(Stop::Lost)).await.is_none());
    assert_eq!((station.registry.len(), station.pool.slots.available_permits()), (0, 8));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_attempt_is_handed_back() {
    let (station, mut inboxes) = unconnected("", SLOW);
    let ending = ending(&station, &mut inboxes, "chat", Some(Stop::HandBack)).await;
    assert!(matches!(ending, Some(Ending::HandBack)));
}

#[tokio::test]
async fn an_attempt_that_ended_as_it_was_stopped_goes_back_only_if_readers_would_miss_something() {
    for streamed in [false, true] {
        let (station, _inboxes) = unconnected("", "");
        let held = held(&station);
        let (attempt, job) = (station.registry.enter(held.clone()), job(&held, "chat"));
        let outlet = Outlet::new(attempt.clone());
        let mut reporter = Reporter::new(&station, &outlet, &attempt, &job);
        let whole = || RawValue::from_string("{}".to_owned()).unwrap();
        if streamed {
            crate::tasks::Sink::chunk(&mut reporter, "a word", &whole()).await;
        }
        attempt.stop(Stop::HandBack);
        outlet.close();
        let end = End::Outcome(Outcome::Done(whole()));
        let ending = judge(end, &station, &attempt, &outlet, &mut reporter, &job).await;
        assert_eq!(matches!(ending, Some(Ending::HandBack)), streamed, "{ending:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_over_its_timeout_fails_as_timeout() {
    let (station, mut inboxes) = unconnected("lease = \"1s\"", SLOW);
    let begun = Instant::now();
    assert_eq!(failed_with(ending(&station, &mut inboxes, "chat", None).await), ErrorCode::Timeout);
    assert!(begun.elapsed() >= Duration::from_secs(60) && begun.elapsed() < Duration::from_secs(62));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_progress_fails_as_timeout_sooner() {
    let (station, mut inboxes) = unconnected("stall_timeout = \"2s\"", "pace = \"40s\"\ntokens = 3");
    let begun = Instant::now();
    assert_eq!(failed_with(ending(&station, &mut inboxes, "chat", None).await), ErrorCode::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn progress_keeps_a_long_attempt_from_stalling() {
    let (station, mut inboxes) = unconnected("stall_timeout = \"2s\"\nlease = \"1s\"", "pace = \"1s\"\ntokens = 30");
    let ending = ending(&station, &mut inboxes, "chat", None).await;
    assert!(matches!(ending, Some(Ending::Settle(settlement)) if matches!(settlement.verdict, Verdict::Completed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_panic_becomes_an_internal_error() {
    let (station, _inboxes) = unconnected("", "");
    let attempt = station.registry.enter(held(&station));
    let outlet = Outlet::new(attempt.clone());
    let work = AssertUnwindSafe(async { panic!("a defect") }).catch_unwind();
    let end = watch(work, &station, &attempt, &outlet, Duration::from_secs(60)).await;
    let End::Outcome(Outcome::Retry { error, .. }) = end else { panic!("a panic is worth another attempt") };
    assert_eq!(error.code, ErrorCode::InternalError);
}

#[tokio::test(start_paused = true)]
async fn readers_are_told_that_a_silent_attempt_is_at_work() {
    let (station, mut inboxes) = unconnected("", "");
    let attempt = station.registry.enter(held(&station));
    let outlet = Outlet::new(attempt.clone());
    let begun = Instant::now();
    let watching = watch::<()>(std::future::pending(), &station, &attempt, &outlet, Duration::from_secs(60));
    tokio::select! {
        _ = watching => panic!("nothing ends it"),
        told = inboxes.outlets.recv() => assert_eq!(told.unwrap().phase(), Some(Phase::Working)),
    }
    assert_eq!(begun.elapsed(), TOLD_AFTER);
}

/// Tens of thousands are spawned each second, and each is moved: large parts that few attempts need stay on the heap.
#[test]
fn the_future_of_an_attempt_is_small() {
    fn size<F: Future>(_: impl Fn(Arc<Station>, Arc<Attempt>, ClaimedJob, OwnedSemaphorePermit) -> F) -> usize {
        std::mem::size_of::<F>()
    }
    let bytes = size(execute);
    assert!(bytes <= 2048, "{bytes} bytes");
}
