//! Circuits: when they open, who tries them, when they close.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// It may try for so many seconds.
fn yes(seconds: u64) -> MayTry {
    MayTry::Yes(Duration::from_secs(seconds))
}

const BREAKER: BreakerConfig =
    BreakerConfig { failures: 3, window: Duration::from_secs(30), open_for: Duration::from_secs(10) };

fn answered(calls: u64) -> CallReport {
    CallReport::Answered { model: "m".into(), calls }
}

fn failed() -> CallReport {
    CallReport::Failed { model: "m".into(), code: "provider_error" }
}

fn failed_trial() -> CallReport {
    CallReport::TrialFailed { model: "m".into(), code: "provider_error" }
}

/// A provider whose circuit has just opened.
async fn failing() -> Provider {
    let mut provider = Provider::open().await;
    provider.report(Some(BREAKER), &[(); 3].map(|()| failed())).await;
    provider
}

#[tokio::test]
async fn failures_in_a_row_open_a_circuit_and_an_answer_between_them_does_not_let_them() {
    let mut provider = Provider::open().await;
    let standing = provider.report(Some(BREAKER), &[failed(), failed(), answered(9), failed(), failed()]).await;
    assert_eq!(standing.circuits["m"], Circuit { consecutive: 2, ..Circuit::default() });
    let standing = provider.report(Some(BREAKER), &[failed()]).await;
    let until = provider.now + 10_000;
    assert_eq!((standing.circuits["m"].opened, standing.circuits["m"].until), (1, until));
    assert!(!standing.circuits.contains_key("other"), "other models go on");
}

#[tokio::test]
async fn half_of_the_calls_of_a_window_failing_opens_a_circuit_too() {
    let mut provider = Provider::open().await;
    let flapping = [failed(), answered(1), failed(), answered(1)];
    assert_eq!(provider.report(Some(BREAKER), &flapping).await.circuits.len(), 0);
    provider.pass(30_000).await;
    assert_eq!(provider.report(Some(BREAKER), &flapping).await.circuits.len(), 0, "a new window");
    assert_eq!(provider.report(Some(BREAKER), &[failed()]).await.circuits["m"].opened, 1);
}

#[tokio::test]
async fn a_breaker_that_is_off_never_opens_and_a_report_sent_twice_counts_once() {
    let mut provider = Provider::open().await;
    let many = [(); 9].map(|()| failed());
    assert_eq!(provider.report(None, &many).await.circuits["m"].opened, 0);
    provider.report(None, &[answered(1)]).await;
    for _ in 0..5 {
        let standing = provider.report_as(77, Some(BREAKER), &[failed()]).await;
        assert_eq!(standing.circuits["m"].consecutive, 1);
    }
}

#[tokio::test]
async fn of_all_workers_one_tries_a_half_open_circuit_and_a_failed_trial_keeps_it_open_longer() {
    let mut provider = failing().await;
    assert_eq!(provider.may_try("a", "m", Trial::Call).await, MayTry::In(Duration::from_secs(10)));
    for seconds in [10, 20, 40, 60, 60] {
        provider.pass(seconds * 1000 - 1).await;
        assert_eq!(provider.may_try("a", "m", Trial::Call).await, MayTry::In(Duration::from_millis(1)));
        provider.pass(1).await;
        assert_eq!(provider.may_try("a", "m", Trial::Call).await, yes(2));
        assert_eq!(provider.may_try("a", "m", Trial::Call).await, yes(2), "the same holder asks again");
        assert_eq!(provider.may_try("b", "m", Trial::Call).await, MayTry::In(Duration::from_secs(2)));
        let standing = provider.report(Some(BREAKER), &[failed()]).await;
        assert_eq!(standing.circuits["m"].until, provider.now, "only the trial counts");
        provider.report(Some(BREAKER), &[failed_trial()]).await;
    }
    provider.pass(60_000).await;
    assert_eq!(provider.may_try("b", "m", Trial::Call).await, yes(2));
    let standing = provider.report(Some(BREAKER), &[CallReport::TrialAnswered { model: "m".into() }]).await;
    assert!(standing.circuits.is_empty());
    assert_eq!(provider.may_try("a", "m", Trial::Call).await, MayTry::NoNeed);
}

#[tokio::test]
async fn the_trial_of_a_worker_that_died_or_dropped_it_goes_to_another() {
    let mut provider = failing().await;
    provider.pass(10_000).await;
    assert_eq!(provider.may_try("a", "m", Trial::Call).await, yes(2));
    provider.pass(2_000).await;
    assert_eq!(provider.may_try("b", "m", Trial::Call).await, yes(2), "it died");
    let dropped = |holder: &str| CallReport::TrialDropped { model: "m".into(), holder: holder.into() };
    provider.report(Some(BREAKER), &[dropped("a")]).await;
    let wait = MayTry::In(Duration::from_secs(2));
    assert_eq!(provider.may_try("a", "m", Trial::Call).await, wait, "not a's to drop");
    provider.report(Some(BREAKER), &[dropped("b")]).await;
    assert_eq!(provider.may_try("a", "m", Trial::Call).await, yes(2));
}

#[tokio::test]
async fn trials_that_neither_end_nor_fail_let_in_one_more_at_a_time_and_fail_as_one() {
    let mut provider = failing().await;
    // Nobody wanted it for long.
    provider.pass(100_000).await;
    for (holder, seconds) in ["a", "b", "c", "d", "e"].iter().zip([2, 2, 4, 5, 5]) {
        assert_eq!(provider.may_try(holder, "m", Trial::Call).await, yes(seconds));
        provider.pass(seconds * 1000 - 1).await;
        assert_eq!(provider.may_try("z", "m", Trial::Call).await, MayTry::In(Duration::from_millis(1)));
        provider.pass(1).await;
    }
    let standing = provider.report(Some(BREAKER), &[failed_trial(), failed_trial()]).await;
    assert_eq!((standing.circuits["m"].opened, standing.circuits["m"].until), (2, provider.now + 20_000));
    provider.pass(20_000).await;
    assert_eq!(provider.may_try("z", "m", Trial::Call).await, yes(2), "it begins anew");
}

#[tokio::test]
async fn a_trial_that_fails_after_another_was_answered_is_one_failure_like_any() {
    let mut provider = failing().await;
    provider.pass(10_000).await;
    assert_eq!(provider.may_try("silent", "m", Trial::Call).await, yes(2));
    provider.pass(2_000).await;
    assert_eq!(provider.may_try("answered", "m", Trial::Call).await, yes(2));
    let standing = provider.report(Some(BREAKER), &[CallReport::TrialAnswered { model: "m".into() }]).await;
    assert!(standing.circuits.is_empty());
    provider.pass(60_000).await;
    let standing = provider.report(Some(BREAKER), &[failed_trial()]).await;
    assert_eq!(standing.circuits["m"], Circuit { consecutive: 1, ..Circuit::default() });
    let check = CallReport::TrialFailed { model: ITSELF.into(), code: "provider_unavailable" };
    let standing = provider.report(Some(BREAKER), &[check]).await;
    assert_eq!(standing.circuits[ITSELF].opened, 1, "a check that finds nobody is enough");
}

#[tokio::test]
async fn a_provider_that_asks_to_be_left_alone_is_paused_and_not_open() {
    let mut provider = Provider::open().await;
    let pause = |seconds| CallReport::Paused {
        model: "m".into(),
        after: Duration::from_secs(seconds),
        code: "provider_unavailable",
    };
    let standing = provider.report(Some(BREAKER), &[pause(7), pause(3)]).await;
    assert_eq!((standing.circuits["m"].opened, standing.circuits["m"].paused), (0, provider.now + 7000));
    provider.pass(7000).await;
    assert!(provider.report(Some(BREAKER), &[]).await.circuits.is_empty());
}

#[tokio::test]
async fn a_sleeper_is_woken_once_and_after_a_failed_wake_not_at_once_again() {
    let mut provider = Provider::open().await;
    let wake = Trial::Wake(Duration::from_secs(60));
    assert_eq!(provider.may_try("a", ITSELF, wake).await, yes(5), "it has never answered");
    assert_eq!(provider.may_try("b", ITSELF, wake).await, MayTry::In(Duration::from_secs(5)));
    let standing = provider.report(Some(BREAKER), &[CallReport::Waking { timeout: Duration::from_secs(300) }]).await;
    assert_eq!(standing.waking, provider.now + 300_000);
    let failed = CallReport::NotWoken { after: Duration::from_secs(30), code: "model_unavailable" };
    let standing = provider.report(Some(BREAKER), &[failed]).await;
    assert_eq!((standing.waking, standing.circuits[ITSELF].opened), (0, 0), "asleep again, not down");
    assert_eq!(provider.may_try("b", ITSELF, wake).await, MayTry::In(Duration::from_secs(30)));
    provider.pass(30_000).await;
    assert_eq!(provider.may_try("b", ITSELF, wake).await, yes(5));
    let standing = provider.report(Some(BREAKER), &[CallReport::TrialAnswered { model: ITSELF.into() }]).await;
    assert_eq!(standing.answered, provider.now);
    assert_eq!(provider.may_try("a", ITSELF, wake).await, MayTry::NoNeed);
    provider.pass(60_000).await;
    assert_eq!(provider.may_try("a", ITSELF, wake).await, yes(5), "it fell asleep");
}

#[tokio::test]
async fn a_clock_that_steps_back_keeps_no_circuit_open_and_no_sleeper_awake() {
    let mut provider = Provider::open().await;
    let pause = CallReport::Paused { model: "p".into(), after: Duration::from_secs(600), code: "provider_unavailable" };
    provider.report(Some(BREAKER), &[answered(1), failed(), failed(), failed(), pause]).await;
    provider.pass(10_000).await;
    assert_eq!(provider.may_try("dies", "m", Trial::Call).await, yes(2));
    let waking = CallReport::Waking { timeout: Duration::from_secs(300) };
    let standing = provider.report(Some(BREAKER), &[failed_trial(), waking]).await;
    assert_eq!(standing.waking, provider.now + 300_000);
    provider.now -= 7_200_000;
    provider.pass(0).await;
    let standing = provider.report(Some(BREAKER), &[]).await;
    assert_eq!(standing.waking, 0, "who woke it may have died");
    assert_eq!((standing.circuits["m"].opened, standing.circuits["m"].until), (2, provider.now + 10_000));
    assert!(!standing.circuits.contains_key("p"), "{standing:?}");
    assert_eq!(standing.answered, provider.now);
    provider.pass(10_000).await;
    assert_eq!(provider.may_try("a", "m", Trial::Call).await, yes(2));
    provider.pass(60_000).await;
    let wake = Trial::Wake(Duration::from_secs(60));
    assert_eq!(provider.may_try("a", ITSELF, wake).await, yes(5), "asleep");
    // What is open or paused for long is left so.
    let pause = CallReport::Paused { model: "p".into(), after: Duration::from_secs(600), code: "provider_unavailable" };
    let standing = provider.report(Some(BREAKER), &[pause, failed_trial()]).await;
    assert_eq!(standing.circuits["p"].paused, provider.now + 600_000);
    assert_eq!(standing.circuits["m"].until, provider.now + 40_000);
}

#[tokio::test]
async fn a_worker_that_knows_a_shorter_time_open_does_not_end_that_of_another() {
    let mut provider = Provider::open().await;
    let longer = BreakerConfig { open_for: Duration::from_secs(600), ..BREAKER };
    let standing = provider.report(Some(longer), &[(); 3].map(|()| failed())).await;
    assert_eq!(standing.circuits["m"].until, provider.now + 600_000);
    // As in a rolling deploy: to that worker it looks like a clock that stepped back.
    let standing = provider.report(Some(BREAKER), &[]).await;
    assert_eq!(standing.circuits["m"].until, provider.now + 10_000);
    assert_eq!(provider.may_try("a", "m", Trial::Call).await, MayTry::In(Duration::from_secs(10)));
}

#[tokio::test]
async fn callers_cannot_make_circuits_without_end() {
    let mut provider = Provider::open().await;
    let of = |n: u32| CallReport::Failed { model: format!("m{n}"), code: "provider_error" };
    let standing = provider.report(Some(BREAKER), &(0..100).map(of).collect::<Vec<_>>()).await;
    assert_eq!(standing.circuits.len(), 64);
}

/// One thing that happens to a circuit.
#[derive(Debug, Clone, Copy)]
enum Step {
    Answered,
    Failed,
    TrialAnswered,
    TrialFailed,
    Try(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Answered),
        4 => Just(Step::Failed),
        1 => Just(Step::TrialAnswered),
        2 => Just(Step::TrialFailed),
        3 => (0..3_u8).prop_map(Step::Try),
        3 => prop_oneof![1..3_000_u64, 9_000..12_000_u64, 30_000..70_000_u64].prop_map(Step::Pass),
    ]
}

/// The same machine, without a Redis.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    consecutive: u64,
    good: u64,
    bad: u64,
    since: u64,
    opened: u64,
    until: u64,
    trial: Option<(u8, u64)>,
}

impl Model {
    fn roll(&mut self) {
        if self.now - self.since >= 30_000 {
            (self.good, self.bad, self.since) = (0, 0, self.now);
        }
    }

    fn open(&mut self) {
        self.until = self.now + (10_000 << self.opened.min(10)).min(60_000);
        self.opened = (self.opened + 1).min(30);
        self.trial = None;
    }

    fn close(&mut self) {
        *self = Self { now: self.now, since: self.now, ..Self::default() };
    }

    /// What the step does; for a try, whether it may.
    fn apply(&mut self, step: Step) -> Option<bool> {
        match step {
            Step::Pass(ms) => self.now += ms,
            Step::Answered if self.opened == 0 => {
                self.roll();
                (self.good, self.consecutive) = (self.good + 1, 0);
            }
            Step::Answered if self.until <= self.now => self.close(),
            Step::TrialAnswered if self.opened == 0 => {
                self.roll();
                (self.good, self.consecutive, self.trial) = (self.good + 1, 0, None);
            }
            Step::TrialAnswered => self.close(),
            Step::TrialFailed if self.opened > 0 && self.until <= self.now => self.open(),
            Step::Failed | Step::TrialFailed if self.opened == 0 => {
                self.roll();
                (self.bad, self.consecutive) = (self.bad + 1, self.consecutive + 1);
                if self.consecutive >= 3 || (self.bad >= 3 && self.bad >= self.good) {
                    self.open();
                }
            }
            Step::Try(who) => {
                let own = self.trial.is_some_and(|(holder, _)| holder == who);
                let free = self.until <= self.now && self.trial.is_none_or(|(_, until)| until <= self.now);
                let may = own || (self.opened > 0 && free);
                if may {
                    if self.trial.map_or(0, |(_, until)| until) + 5_000 <= self.now {
                        self.until = self.now;
                    }
                    self.trial = Some((who, self.now + (self.now - self.until).clamp(2_000, 5_000)));
                }
                return Some(may);
            }
            Step::Answered | Step::Failed | Step::TrialFailed => {}
        }
        None
    }
}

async fn apply(provider: &mut Provider, step: Step) -> Option<bool> {
    let call = match step {
        Step::Pass(ms) => {
            provider.pass(ms).await;
            return None;
        }
        Step::Try(who) => {
            return Some(matches!(provider.may_try(&who.to_string(), "m", Trial::Call).await, MayTry::Yes(_)));
        }
        Step::Answered => answered(1),
        Step::Failed => failed(),
        Step::TrialAnswered => CallReport::TrialAnswered { model: "m".into() },
        Step::TrialFailed => failed_trial(),
    };
    provider.report(Some(BREAKER), &[call]).await;
    None
}

#[test]
fn a_circuit_goes_through_every_history_as_its_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = tokio::sync::Mutex::new(runtime.block_on(Provider::open()));
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in vec(step(), 1..60))| {
        runtime.block_on(async {
            let mut provider = provider.lock().await;
            let () = provider.redis.del("overshot:{provider:p}:circuits").await.unwrap();
            let mut model = Model { now: provider.now, since: 0, ..Model::default() };
            for (place, step) in steps.iter().enumerate() {
                let (expected, done) = (model.apply(*step), apply(&mut provider, *step).await);
                prop_assert_eq!(expected, done, "{}: {:?} of {:?}", place, step, steps);
                let circuit = provider.report(Some(BREAKER), &[]).await.circuits.get("m").copied().unwrap_or_default();
                let expected = (model.opened, if model.opened > 0 { model.until } else { 0 });
                prop_assert_eq!((circuit.opened, circuit.until), expected, "{}: {:?} of {:?}", place, step, steps);
            }
            Ok(())
        })?;
    });
}
