//! The sorts of jobs.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::owner;
use crate::log::{Expects, Name, Plan};
use crate::provider::Order;

/// A job before it is submitted.
#[derive(Debug, Clone)]
pub struct Sketch {
    /// What the checker must know of it.
    pub plan: Plan,
    /// The request.
    pub body: Value,
    /// Whether it has an idempotency key.
    pub is_idempotent: bool,
    /// Whether two clients send it at the same time.
    pub is_sent_twice: bool,
    /// Whether somebody reads its events.
    pub readers: bool,
    /// When to cancel it.
    pub cancel_after: Option<Duration>,
    /// Whether to ask for another run after its end.
    pub runs_again: bool,
}

impl Sketch {
    /// Has the job be kept for this long after its end.
    pub fn forgotten_after(&mut self, time: Duration) {
        self.body["result_ttl"] = format!("{}ms", time.as_millis()).into();
        if let Some(members) = self.body.as_object_mut() {
            members.remove("idempotency_key");
        }
        (self.is_idempotent, self.is_sent_twice) = (false, false);
    }
}

/// Enough to outlast any time for which the provider is down.
const MANY_ATTEMPTS: u64 = 60;

/// Draws a job.
pub fn sketch(random: &mut StdRng, job: &Name) -> Sketch {
    let mut order = Order { job: job.clone(), words: random.random_range(1..6), silent: 0, pace: 5, fails: 0 };
    let mut plan = Plan { max_attempts: MANY_ATTEMPTS, ..Plan::default() };
    let mut more = json!({});
    let (mut readers, mut cancel_after, mut runs_again) = (false, None, false);
    match random.random_range(0..100) {
        0..29 => plan.kind = "short",
        29 => {
            // Nothing is heard of it before its end.
            (plan.kind, order.silent) = ("silent", 15_000);
            more["stream"] = false.into();
        }
        30..38 => {
            // Longer than the lease: it must not run twice for that.
            (plan.kind, order.words, order.pace) = ("long", random.random_range(20..60), 100);
            readers = random.random_bool(0.5);
        }
        38..56 => {
            (plan.kind, order.words, order.pace) = ("streamed", random.random_range(5..60), random.random_range(1..30));
            readers = true;
        }
        56..70 => {
            (plan.kind, order.pace) = ("keyed", random.random_range(5..50));
            let key = format!("key{}", random.random_range(0..6));
            more["on_conflict"] = if random.random_bool(0.8) { "queue" } else { "reject" }.into();
            more["concurrency_key"] = key.as_str().into();
            plan.key = Some(key);
        }
        70..75 => {
            // Its own successors may cancel it.
            (plan.kind, plan.expects) = ("replacing", Expects::Anything);
            let key = format!("replaced{}", random.random_range(0..3));
            (order.words, order.pace) = (10, 40);
            more["on_conflict"] = "replace".into();
            more["concurrency_key"] = key.as_str().into();
            plan.key = Some(key);
        }
        75..83 => {
            (plan.kind, plan.delay) = ("delayed", random.random_range(200..4000));
            more["delay"] = format!("{}ms", plan.delay).into();
        }
        83..87 => (plan.kind, plan.max_attempts, order.fails) = ("failing twice", 20, 2),
        87..90 => {
            (plan.kind, plan.max_attempts, order.fails, plan.expects) = ("failing", 3, u64::MAX, Expects::Failed);
        }
        90..97 => {
            (plan.kind, plan.expects) = ("cancelled", Expects::Anything);
            (order.words, order.pace) = (random.random_range(1..40), 50);
            cancel_after = Some(Duration::from_millis(random.random_range(0..1500)));
            readers = random.random_bool(0.3);
        }
        _ => (plan.kind, runs_again) = ("run again", true),
    }
    let is_idempotent = random.random_bool(0.7);
    let mut body = json!({ "task": "chat", "owner": owner(job), "max_attempts": plan.max_attempts,
        "input": { "messages": [{ "role": "user", "content": order.prompt() }] } });
    if is_idempotent {
        body["idempotency_key"] = format!("once-{job}").into();
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body["priority"] = ["high", "normal", "normal", "low"][random.random_range(0..4)].into();
    let is_sent_twice = is_idempotent && random.random_bool(0.2);
    Sketch { plan, body, is_idempotent, is_sent_twice, readers, cancel_after, runs_again }
}
