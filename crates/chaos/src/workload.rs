//! Clients: they submit jobs of every sort, follow them to their ends, and write down what they are told.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answer, Client};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::fleet::Endpoints;
use crate::log::{Log, Name, Op, Outcome, View, What};

mod plan;
mod reader;

pub use plan::{Sketch, sketch};

/// How long a client waits for an answer before it calls the outcome unknown.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a client sends a submit whose outcome it does not know again, where the job has an idempotency key.
const SENDS: usize = 40;
/// Jobs that are followed at the same time.
const FOLLOWED: usize = 200;

/// What all clients of a run share.
#[derive(Debug, Clone)]
pub struct Workload {
    log: Arc<Log>,
    endpoints: Endpoints,
    seed: u64,
    /// Until when ended jobs are kept, where not for the pool's time.
    keep_until: Option<Instant>,
    followers: Arc<Semaphore>,
}

impl Workload {
    /// Clients of these APIs.
    pub fn new(log: Arc<Log>, endpoints: Endpoints, seed: u64) -> Self {
        Self { log, endpoints, seed, keep_until: None, followers: Arc::new(Semaphore::new(FOLLOWED)) }
    }

    /// Has the retention of every job that ends at once end at `then`, and that of another as much later as it took. No
    /// job has an idempotency key then: those hold their jobs for a day.
    pub fn keep_until(&mut self, then: Instant) {
        self.keep_until = Some(then);
    }

    /// Submits with as many clients until `submit_until`, follows what was accepted until `follow_until`.
    pub async fn run(self, clients: u64, submit_until: Instant, follow_until: Instant) {
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let this = self.clone();
            tasks.spawn(async move { this.client(client, submit_until, follow_until).await });
        }
        tasks.join_all().await;
    }

    async fn client(&self, client: u64, submit_until: Instant, follow_until: Instant) {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_mul(1009).wrapping_add(client));
        let mut jobs = JoinSet::new();
        while Instant::now() < submit_until {
            let name: Name = format!("j{client}-{}", self.log.number("job")).into();
            let mut sketch = sketch(&mut random, &name);
            if let Some(then) = self.keep_until {
                sketch.forgotten_after(then.duration_since(Instant::now()));
            }
            let luck = random.random();
            let permit = Arc::clone(&self.followers).acquire_owned().await.expect("it is never closed");
            let this = self.clone();
            jobs.spawn(async move {
                // Bounded from outside too, so that a run ends whatever happens.
                let _ = tokio::time::timeout_at(follow_until, this.job(name, sketch, luck)).await;
                drop(permit);
            });
            while jobs.try_join_next().is_some() {}
            sleep(Duration::from_millis(random.random_range(20..250))).await;
        }
        jobs.join_all().await;
    }

    /// One job, from its submit to its end.
    async fn job(&self, job: Name, sketch: Sketch, luck: u64) {
        let mut random = StdRng::seed_from_u64(luck);
        self.log.record(What::Planned { job: job.clone(), plan: sketch.plan.clone() });
        let twin = sketch.is_sent_twice.then(|| {
            let (this, job, sketch) = (self.clone(), job.clone(), sketch.clone());
            tokio::spawn(async move { this.submit(&job, &sketch, luck ^ 1).await })
        });
        let id = self.submit(&job, &sketch, luck).await;
        // Its answers are in the log.
        let twin = match twin {
            Some(twin) => twin.await.ok().flatten(),
            None => None,
        };
        let Some(id) = id.or(twin) else { return };
        let reader = sketch.readers.then(|| {
            let (this, job, id) = (self.clone(), job.clone(), id.clone());
            tokio::spawn(async move { this.read(&job, &id, luck).await })
        });
        if let Some(after) = sketch.cancel_after {
            sleep(after).await;
            self.change(&job, &id, Op::Cancel, luck).await;
        }
        self.follow(&job, &id, &mut random).await;
        if let Some(reader) = reader {
            // It ends with the job, or at its own deadline.
            let _ = reader.await;
        }
        if sketch.runs_again && self.change(&job, &id, Op::Retry, luck).await {
            self.follow(&job, &id, &mut random).await;
        }
    }

    /// Submits until the outcome is known, where sending again is safe; the id, where it was accepted.
    async fn submit(&self, job: &Name, sketch: &Sketch, luck: u64) -> Option<String> {
        for send in 0..if sketch.is_idempotent { SENDS } else { 1 } {
            let client = self.endpoints.one(luck.wrapping_add(send as u64));
            let call = self.log.number("call");
            self.log.record(What::Invoked { call, job: job.clone(), op: Op::Submit });
            let request = client.request(Method::POST, "/api/v1/jobs").json(&sketch.body);
            let answer = send_within(&client, request).await;
            let outcome = outcome(answer.as_ref());
            self.log.record(What::Returned { call, outcome: outcome.clone() });
            match outcome {
                Outcome::Ok(id) => return Some(id),
                Outcome::Refused(_) => return None,
                Outcome::Unknown => sleep(Duration::from_millis(100 + 20 * send as u64)).await,
            }
        }
        None
    }

    /// Cancels the job or has it run again; whether that was accepted, or may have been.
    async fn change(&self, job: &Name, id: &str, op: Op, luck: u64) -> bool {
        let path = format!("/api/v1/jobs/{id}/{}", if op == Op::Cancel { "cancel" } else { "retry" });
        let client = self.endpoints.one(luck);
        let call = self.log.number("call");
        self.log.record(What::Invoked { call, job: job.clone(), op });
        let answer = send_within(&client, client.request(Method::POST, &path)).await;
        let outcome = outcome(answer.as_ref());
        self.log.record(What::Returned { call, outcome: outcome.clone() });
        if op == Op::Cancel
            && let Some(answer) = answer.filter(|answer| answer.status == 200)
        {
            self.see(job, id, &answer.json);
        }
        !matches!(outcome, Outcome::Refused(_))
    }

    /// Waits for the job's end, at whichever API answers.
    async fn follow(&self, job: &Name, id: &str, random: &mut StdRng) {
        loop {
            let client = self.endpoints.one(random.random());
            let request = client.request(Method::GET, &format!("/api/v1/jobs/{id}?wait=3s"));
            match send_within(&client, request).await {
                Some(answer) if answer.status == 200 => {
                    if self.see(job, id, &answer.json) {
                        return;
                    }
                }
                Some(answer) if answer.status == 404 => {
                    return self.log.record(What::Missing { job: job.clone() });
                }
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Notes an end; whether it was one.
    fn see(&self, job: &Name, id: &str, json: &Value) -> bool {
        let view = view(json);
        let ended = view.is_terminal();
        if ended {
            self.log.record(What::Seen { job: job.clone(), id: id.to_owned(), view });
        }
        ended
    }
}

/// The answer; `None` when there is none in time.
pub(crate) async fn send_within(client: &Client, request: reqwest::RequestBuilder) -> Option<Answer> {
    timeout(PATIENCE, client.try_send(request)).await.ok()?.ok()
}

fn outcome(answer: Option<&Answer>) -> Outcome {
    match answer {
        Some(answer @ Answer { status: 200..=299, .. }) => match answer.json["id"].as_str() {
            Some(id) => Outcome::Ok(id.to_owned()),
            None => Outcome::Unknown,
        },
        Some(Answer { status: status @ 400..=499, .. }) => Outcome::Refused(*status),
        _ => Outcome::Unknown,
    }
}

/// What a job object says.
pub fn view(job: &Value) -> View {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    View {
        status: text(&job["status"]),
        completed_at: text(&job["completed_at"]),
        attempts: job["attempts"].as_u64().unwrap_or_default(),
        crashes: job["crashes"].as_u64().unwrap_or_default(),
        content: text(&job["result"]["content"]),
        error: text(&job["error"]["code"]),
    }
}

/// The name that a job's owner bears.
pub(crate) fn name(job: &Value) -> Option<Name> {
    job["owner"]["ref"].as_str().map(Name::from)
}

/// The owner of a job of this name.
pub(crate) fn owner(job: &str) -> Value {
    json!({ "service": "chaos", "ref": job })
}
