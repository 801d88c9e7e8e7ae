//! A model server whose answers name the job and the run, so that a result tells which run made it.
//!
//! A prompt is an order: `<job> words=<n> silent=<ms> pace=<ms> fails=<n>`. The answer is `<job> run<n> w1 w2 …`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::log::{Log, Name, RunEnd, What};

/// How the provider does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// As ordered.
    Well,
    /// Eight times slower than ordered.
    Slow,
    /// Breaks off what it streams, and answers 503.
    Down,
}

/// What a job's prompt orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The job.
    pub job: Name,
    /// How many words to answer.
    pub words: u64,
    /// Pause before the first, in ms.
    pub silent: u64,
    /// Pause before each, in ms.
    pub pace: u64,
    /// How many runs fail first.
    pub fails: u64,
}

impl Order {
    /// As a prompt.
    pub fn prompt(&self) -> String {
        let Self { job, words, silent, pace, fails } = self;
        format!("{job} words={words} silent={silent} pace={pace} fails={fails}")
    }

    fn parse(prompt: &str) -> Option<Self> {
        let mut words = prompt.split(' ');
        let job = words.next()?.into();
        let mut number = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        let (words, silent) = (number("words")?, number("silent")?);
        Some(Self { job, words, silent, pace: number("pace")?, fails: number("fails")? })
    }
}

/// A running provider. Dropped, it stops.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    log: Arc<Log>,
    health: watch::Sender<Health>,
    /// How often each job was asked for, of those that fail at first.
    failures: Mutex<HashMap<Name, u64>>,
}

impl Provider {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(log: Arc<Log>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let health = watch::Sender::new(Health::Well);
        let shared = Arc::new(Shared { log, health, failures: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            // Ends with the task, never by itself.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, server })
    }

    /// Its `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Makes it well, slow or absent.
    pub fn set(&self, health: Health) {
        self.shared.health.send_replace(health);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Writes the end of a run down; dropped before, the worker has gone.
struct Running {
    log: Arc<Log>,
    run: u64,
    how: RunEnd,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.log.record(What::RunEnded { run: self.run, how: self.how });
    }
}

async fn answer(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let last = request["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
    let Some(order) = last["content"].as_str().and_then(Order::parse) else {
        return (StatusCode::BAD_REQUEST, "no order").into_response();
    };
    let run = shared.log.number("run");
    shared.log.record(What::RunBegan { run, job: order.job.clone() });
    let mut running = Running { log: Arc::clone(&shared.log), run, how: RunEnd::Dropped };
    if *shared.health.borrow() == Health::Down {
        running.how = RunEnd::Failed;
        return (StatusCode::SERVICE_UNAVAILABLE, "down").into_response();
    }
    if fails(&shared, &order) {
        running.how = RunEnd::Failed;
        return (StatusCode::INTERNAL_SERVER_ERROR, "made to fail").into_response();
    }
    stream_words(shared.health.subscribe(), &order, running)
}

fn fails(shared: &Shared, order: &Order) -> bool {
    if order.fails == 0 {
        return false;
    }
    let mut failures = shared.failures.lock().expect("no holder of this lock can panic");
    let failed = failures.entry(order.job.clone()).or_default();
    *failed += 1;
    *failed <= order.fails
}

fn stream_words(health: watch::Receiver<Health>, order: &Order, running: Running) -> Response {
    let head = [format!("{} ", order.job), format!("run{} ", running.run)];
    let words = head.into_iter().chain((1..=order.words).map(|word| format!("w{word} ")));
    let mut events: Vec<String> = words.map(|word| chunk(&json!({ "content": word }), None)).collect();
    events.push(chunk(&json!({}), Some("stop")));
    events.push("[DONE]".to_owned());
    let state = (events.into_iter(), Some(running), order.silent);
    let pace = order.pace;
    let body = stream::unfold(state, move |(mut events, mut running, silent)| {
        let mut health = health.clone();
        async move {
            let event = events.next()?;
            if events.len() == 0 {
                // The last event is as good as read: nobody can tell from here.
                if let Some(mut running) = running.take() {
                    running.how = RunEnd::Answered;
                }
            } else if events.len() > 1 {
                let factor = if *health.borrow() == Health::Slow { 8 } else { 1 };
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(silent + pace * factor)) => {}
                    _ = health.wait_for(|health| *health == Health::Down) => {
                        if let Some(running) = &mut running {
                            running.how = RunEnd::Failed;
                        }
                        return Some((Err(std::io::Error::other("down")), (Vec::new().into_iter(), running, 0)));
                    }
                }
            }
            Some((Ok(Bytes::from(format!("data: {event}\n\n"))), (events, running, 0)))
        }
    });
    let response = Response::builder().header("content-type", "text/event-stream");
    response.body(Body::from_stream(body)).expect("a plain header is valid")
}

fn chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "small",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }], "usage": null })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_back_from_its_prompt() {
        let order = Order { job: "j1".into(), words: 3, silent: 7, pace: 20, fails: u64::MAX };
        assert_eq!(Order::parse(&order.prompt()), Some(order));
        assert_eq!(Order::parse("hello"), None);
    }
}
