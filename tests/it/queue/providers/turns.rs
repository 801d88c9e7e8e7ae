//! Turns: which model a provider runs that has room for one at a time.

use super::*;

const LASTS: Duration = Duration::from_secs(10);
const MAX_WAIT: Duration = Duration::from_secs(30);
const LINGER: Duration = Duration::from_millis(200);

impl Provider {
    /// What `worker`, with jobs of a model in flight or none, may begin of these models, whose jobs have waited so many seconds.
    async fn begin(&self, worker: &str, in_flight: Option<&str>, waiting: &[(&str, u64)]) -> Turn {
        self.begin_loaded(worker, in_flight, waiting, &[]).await
    }

    async fn begin_loaded(
        &self,
        worker: &str,
        in_flight: Option<&str>,
        waiting: &[(&str, u64)],
        loaded: &[&str],
    ) -> Turn {
        let waiting: Vec<_> = waiting.iter().map(|(model, s)| (*model, Duration::from_secs(*s))).collect();
        let wish = Wish::Begin { waiting: &waiting, loaded, max_wait: MAX_WAIT, linger: LINGER };
        self.say(worker, in_flight, wish).await
    }

    async fn say(&self, worker: &str, in_flight: Option<&str>, wish: Wish<'_>) -> Turn {
        let call = TurnCall { worker: &worker_id(worker), in_flight, lasts: LASTS, wish };
        self.queue.take_turn("p", &call).await.unwrap()
    }

    async fn leave(&mut self, worker: &str) {
        self.say(worker, None, Wish::Leave).await;
        self.pass(200).await;
    }
}

fn granted(model: &str) -> Turn {
    Turn::Granted(model.to_owned())
}

const REFUSED: Turn = Turn::Refused(None);

#[tokio::test]
async fn workers_run_one_model_together_and_never_two() {
    let mut p = Provider::open().await;
    assert_eq!(p.begin("one", None, &[("a", 0), ("b", 0)]).await, granted("a"));
    assert_eq!(p.begin("two", None, &[("b", 9)]).await, REFUSED, "a is under way");
    assert_eq!(p.begin("two", None, &[("a", 0), ("b", 9)]).await, granted("a"), "what runs goes first");
    p.leave("one").await;
    assert_eq!(p.begin("one", None, &[("b", 9)]).await, REFUSED, "it is still under way at the other");
    assert_eq!(p.begin("two", Some("a"), &[("b", 9)]).await, REFUSED, "not beside its own jobs either");
    p.leave("two").await;
    assert_eq!(p.begin("one", None, &[("b", 9)]).await, granted("b"));
    assert_eq!(p.begin("two", None, &[("a", 0)]).await, REFUSED);
}

#[tokio::test]
async fn who_waits_too_long_has_the_next_turn_and_nobody_begins_more_before() {
    let mut p = Provider::open().await;
    assert_eq!(p.begin("one", None, &[("a", 0)]).await, granted("a"));
    assert_eq!(p.begin("two", None, &[("a", 0), ("b", 29)]).await, granted("a"));
    assert_eq!(p.begin("two", Some("a"), &[("a", 0), ("b", 30)]).await, REFUSED, "the turn is promised to b");
    assert_eq!(p.begin("one", Some("a"), &[("a", 0)]).await, REFUSED, "to all");
    assert_eq!(p.say("one", Some("a"), Wish::Keep).await, granted("a"), "what is in flight goes on");
    p.leave("one").await;
    assert_eq!(p.begin("one", None, &[("a", 0)]).await, REFUSED);
    p.leave("two").await;
    assert_eq!(p.begin("one", None, &[("a", 50)]).await, Turn::Refused(Some(LASTS - 2 * LINGER)), "b is first");
    assert_eq!(p.begin("two", None, &[("a", 50), ("b", 31)]).await, granted("b"));
    p.pass(9_999).await;
    assert_eq!(p.begin("one", None, &[("a", 60), ("b", 0)]).await, granted("b"), "a had its turn not long ago");
    p.pass(20_001).await;
    assert_eq!(
        p.begin("one", Some("b"), &[("a", 90), ("b", 0)]).await,
        granted("a"),
        "and all of b's ended by silence"
    );
}

#[tokio::test]
async fn a_promise_ends_with_those_it_was_made_to() {
    let mut p = Provider::open().await;
    assert_eq!(p.begin("one", None, &[("a", 0)]).await, granted("a"));
    assert_eq!(p.begin("two", None, &[("b", 30)]).await, REFUSED);
    p.pass(5_000).await;
    assert_eq!(p.say("one", Some("a"), Wish::Keep).await, granted("a"));
    p.pass(5_000).await;
    assert_eq!(p.begin("one", Some("a"), &[("a", 0)]).await, granted("a"), "two never came back");
}

#[tokio::test]
async fn the_model_that_is_loaded_goes_before_the_one_that_waits_longer() {
    let mut p = Provider::open().await;
    let waiting = [("a", 5), ("b", 3), ("c", 9)];
    assert_eq!(p.begin_loaded("one", None, &waiting, &["embedder", "b"]).await, granted("b"));
    p.leave("one").await;
    assert_eq!(p.begin_loaded("one", None, &waiting, &["a"]).await, granted("a"), "somebody else had a loaded");
    p.leave("one").await;
    assert_eq!(p.begin_loaded("one", None, &waiting, &["a", "c"]).await, granted("a"), "both are, and a ran last");
    p.leave("one").await;
    assert_eq!(p.begin("one", None, &waiting[1..]).await, granted("c"), "nothing is known to be loaded");
}

#[tokio::test]
async fn a_model_keeps_its_turn_for_a_moment_after_its_last_job() {
    let mut p = Provider::open().await;
    assert_eq!(p.begin("one", None, &[("a", 0)]).await, granted("a"));
    p.say("one", None, Wish::Leave).await;
    p.pass(50).await;
    assert_eq!(p.begin("two", None, &[("b", 1)]).await, Turn::Refused(Some(LINGER - Duration::from_millis(50))));
    assert_eq!(p.begin("one", None, &[("a", 0), ("b", 1)]).await, granted("a"));
    p.say("one", None, Wish::Leave).await;
    assert_eq!(p.begin("two", None, &[("b", 30)]).await, granted("b"), "but not where another has waited too long");
}

#[tokio::test]
async fn a_worker_that_died_holds_no_turn() {
    let mut p = Provider::open().await;
    assert_eq!(p.begin("one", None, &[("a", 0)]).await, granted("a"));
    p.pass(9_999).await;
    assert_eq!(p.begin("two", None, &[("b", 1)]).await, REFUSED);
    p.pass(1 + 200).await;
    p.begin("two", None, &[("b", 1)]).await;
    p.pass(200).await;
    assert_eq!(p.begin("two", None, &[("b", 1)]).await, granted("b"));
    assert_eq!(p.say("one", Some("a"), Wish::Keep).await, REFUSED, "should it come back");
}

#[tokio::test]
async fn a_clock_that_steps_back_leaves_the_turns_changing() {
    let mut p = Provider::open().await;
    assert_eq!(p.begin("dies", None, &[("a", 0)]).await, granted("a"));
    assert_eq!(p.begin("promised", None, &[("b", 30)]).await, REFUSED);
    p.now -= 7_200_000;
    p.pass(0).await;
    assert_eq!(p.begin("two", None, &[("c", 1)]).await, REFUSED);
    p.pass(10_000).await;
    p.begin("two", None, &[("c", 1)]).await;
    p.pass(200).await;
    assert_eq!(
        p.begin("two", None, &[("c", 1)]).await,
        granted("c"),
        "neither the dead one nor the promise holds it up"
    );
    p.say("two", None, Wish::Leave).await;
    p.now -= 7_200_000;
    p.pass(200).await;
    assert_eq!(
        p.begin("one", None, &[("a", 30)]).await,
        granted("a"),
        "its last turn lies ahead, and its next one not"
    );
    p.say("one", None, Wish::Leave).await;
    p.now -= 7_200_000;
    p.pass(0).await;
    assert_eq!(p.begin("two", None, &[("c", 1)]).await, Turn::Refused(Some(LINGER)));
}

#[tokio::test]
async fn under_a_backlog_of_many_models_each_gets_its_turn_in_time_and_the_server_swaps_seldom() {
    let mut p = Provider::open().await;
    let models = ["a", "b", "c", "d"];
    let (mut last, mut turns, mut longest) = (String::new(), 0_u64, [0_u64; 4]);
    let mut since = [0_u64; 4];
    // Jobs of a second each, for ten minutes, and always more of all.
    for second in 0..600 {
        let waiting: Vec<_> = models.iter().enumerate().map(|(place, model)| (*model, second - since[place])).collect();
        let Turn::Granted(model) = p.begin("one", None, &waiting).await else { panic!("nobody else is there") };
        let place = models.iter().position(|one| *one == model).unwrap();
        longest[place] = longest[place].max(second - since[place]);
        since[place] = second;
        turns += u64::from(model != last);
        last = model;
        p.pass(1000).await;
    }
    assert!(longest.iter().all(|waited| *waited <= 30 + 3), "waits of {longest:?} s");
    assert!(turns <= 600 / 30 * 3 + 4, "{turns} turns");
}
