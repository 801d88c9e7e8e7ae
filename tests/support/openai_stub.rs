//! A chat and embedding server of the OpenAI dialect that answers by script and keeps what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::PATIENCE;
use crate::port::Port;

mod reply;

pub use reply::{DIMENSIONS, Reply, vector_of};

/// A server in the test's own process. It answers with the queued replies, then with the standing one, which at first
/// is [`Reply::echo`].
#[derive(Debug)]
pub struct OpenAiStub {
    port: Port,
    shared: Arc<Shared>,
    /// Its own, so that a kill takes the connections along; none: it is killed.
    runtime: Option<Runtime>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its body; of a form the fields, and of its file the name and the size.
    pub body: Value,
    /// Its headers.
    pub headers: HeaderMap,
    /// When it came.
    pub at: Instant,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    counts: watch::Sender<Counts>,
}

#[derive(Debug)]
struct Script {
    queued: VecDeque<Reply>,
    standing: Reply,
    health: u16,
    seen: Vec<Seen>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    requests: usize,
    checks: usize,
    disconnects: usize,
}

impl OpenAiStub {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let script = Script { queued: VecDeque::new(), standing: Reply::echo(), health: 200, seen: Vec::new() };
        let shared = Arc::new(Shared { script: Mutex::new(script), counts: watch::Sender::default() });
        let mut stub = Self { port: Port::reserve(), shared, runtime: None };
        stub.serve().await;
        stub
    }

    /// Listens on its port.
    async fn serve(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("the system gives a thread");
        let router = Router::new().fallback(answer).layer(DefaultBodyLimit::disable());
        let (router, port) = (router.with_state(Arc::clone(&self.shared)), self.port.number());
        let listening = runtime.spawn(async move {
            let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("its own port");
            tokio::spawn(async move { axum::serve(listener, router).await });
        });
        listening.await.expect("it does not panic");
        self.runtime = Some(runtime);
    }

    /// Dies at once, connections and all.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Comes back at the same address after a [`OpenAiStub::kill`].
    pub async fn revive(&mut self) {
        self.kill();
        self.serve().await;
    }

    /// Answers questions whether it is there with this status; at first with 200. They do not count as requests.
    pub fn health(&self, status: u16) {
        self.shared.script().health = status;
    }

    /// How often it was asked whether it is there.
    pub fn checks(&self) -> usize {
        self.shared.counts.borrow().checks
    }

    /// What a provider's `base_url` must be.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port.number())
    }

    /// The section `[providers.stub]` for a configuration.
    pub fn provider(&self) -> String {
        format!("[providers.stub]\nkind = \"openai\"\nbase_url = \"{}\"\nmodels = [\"small\"]\n", self.base_url())
    }

    /// Answers the next request that no other queued reply takes.
    pub fn push(&self, reply: Reply) {
        self.shared.script().queued.push_back(reply);
    }

    /// Answers every request for which nothing is queued.
    pub fn always(&self, reply: Reply) {
        self.shared.script().standing = reply;
    }

    /// The requests so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.script().seen.clone()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.shared.counts.borrow().requests
    }

    /// Waits until `count` requests have come, and gives the last of them.
    pub async fn wait_for(&self, count: usize) -> Seen {
        self.wait(PATIENCE, "requests", |counts| counts.requests >= count).await;
        self.shared.script().seen[count - 1].clone()
    }

    /// The texts of each embedding request so far, in order.
    pub fn batches(&self) -> Vec<Vec<String>> {
        let texts = |seen: Seen| serde_json::from_value(seen.body["input"].clone()).unwrap_or_default();
        self.seen().into_iter().map(texts).collect()
    }

    /// Waits until the client has closed `count` requests before their answer was complete.
    pub async fn wait_disconnected(&self, count: usize, within: Duration) {
        self.wait(within, "disconnects", |counts| counts.disconnects >= count).await;
    }

    async fn wait(&self, within: Duration, what: &str, condition: impl FnMut(&Counts) -> bool) {
        let mut counts = self.shared.counts.subscribe();
        let waited = tokio::time::timeout(within, counts.wait_for(condition)).await.is_ok();
        assert!(waited, "not enough {what} within {within:?}: {:?}", *self.shared.counts.borrow());
    }
}

impl Drop for OpenAiStub {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no holder of this lock can panic")
    }
}

/// The fields of a form as an object; of the file its name and its size.
async fn form(headers: &HeaderMap, body: Bytes) -> Option<Value> {
    let boundary = multer::parse_boundary(headers.get("content-type")?.to_str().ok()?).ok()?;
    let body = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut parts = multer::Multipart::new(body, boundary);
    let mut fields = serde_json::Map::new();
    while let Some(part) = parts.next_field().await.ok()? {
        let name = part.name()?.to_owned();
        let value = match part.file_name().map(str::to_owned) {
            Some(name) => serde_json::json!({ "name": name, "bytes": part.bytes().await.ok()?.len() }),
            None => Value::String(part.text().await.ok()?),
        };
        fields.insert(name, value);
    }
    Some(Value::Object(fields))
}

async fn answer(method: Method, State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    if method == Method::GET {
        shared.counts.send_modify(|counts| counts.checks += 1);
        let models = r#"{"object":"list","data":[{"id":"small","object":"model"}]}"#;
        let health = shared.script().health;
        return Reply::status(health, &[], models).answer(&Value::Null, Pending { shared, is_complete: false }).await;
    }
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(_) => form(&headers, body).await.unwrap_or_default(),
    };
    let reply = {
        let mut script = shared.script();
        script.seen.push(Seen { body: body.clone(), headers, at: Instant::now() });
        script.queued.pop_front().unwrap_or_else(|| script.standing.clone())
    };
    shared.counts.send_modify(|counts| counts.requests += 1);
    reply.answer(&body, Pending { shared, is_complete: false }).await
}

/// Lives as long as an answer is under way; dropped before its end, the client has gone.
#[derive(Debug)]
struct Pending {
    shared: Arc<Shared>,
    is_complete: bool,
}

impl Pending {
    fn complete(mut self) {
        self.is_complete = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_complete {
            self.shared.counts.send_modify(|counts| counts.disconnects += 1);
        }
    }
}
