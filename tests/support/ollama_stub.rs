//! An Ollama with room for one chat model: it loads, swaps and answers as the real one does, at a pace that a test sets.
//!
//! A request for a model that is not loaded waits until nobody uses the loaded one, pushes it out and loads its own, while
//! all that come later wait behind it. Embedding models have room of their own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex as Turn, watch};
use tokio::task::JoinHandle;

use crate::PATIENCE;

/// A server in the test's own process.
#[derive(Debug)]
pub struct OllamaStub {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// How long a model takes to load, and an answer to be given.
    load_time: Duration,
    answer_time: Duration,
    state: watch::Sender<Now>,
    /// Who may decide what is loaded: one at a time, in the order in which they came.
    turn: Turn<()>,
    script: Mutex<Script>,
}

#[derive(Debug, Default, Clone)]
struct Now {
    loaded: Option<String>,
    embedders: Vec<String>,
    in_use: usize,
    loads: usize,
    waiting: Vec<String>,
    requests: usize,
}

#[derive(Debug, Default)]
struct Script {
    refusals: Vec<(u16, String)>,
    seen: Vec<(String, Value)>,
    conflicts: usize,
}

impl OllamaStub {
    /// Starts it on a free port; nothing is loaded.
    pub async fn start(load_time: Duration, answer_time: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = watch::Sender::default();
        let script = Mutex::default();
        let shared = Arc::new(Shared { load_time, answer_time, state, turn: Turn::default(), script });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a listener that is bound serves");
        });
        Self { address, shared, server }
    }

    /// The section `[providers.ollama]` for a configuration, with these lines in it.
    pub fn provider(&self, lines: &str) -> String {
        format!("[providers.ollama]\nkind = \"ollama\"\nbase_url = \"http://{}\"\n{lines}\n", self.address)
    }

    /// How often a chat model was loaded.
    pub fn loads(&self) -> usize {
        self.shared.state.borrow().loads
    }

    /// How many chats are under way.
    pub fn in_use(&self) -> usize {
        self.shared.state.borrow().in_use
    }

    /// The chat model that is loaded.
    pub fn loaded(&self) -> Option<String> {
        self.shared.state.borrow().loaded.clone()
    }

    /// How many chats came while one of another model was under way.
    pub fn conflicts(&self) -> usize {
        self.shared.script().conflicts
    }

    /// Has nothing loaded any more, as after a restart.
    pub fn forget(&self) {
        self.shared.state.send_modify(|state| (state.loaded, state.embedders) = (None, Vec::new()));
    }

    /// Refuses the next chat.
    pub fn refuse(&self, status: u16, error: &str) {
        self.shared.script().refusals.push((status, json!({ "error": error }).to_string()));
    }

    /// What was asked at that path.
    pub fn asked(&self, path: &str) -> Vec<Value> {
        let script = self.shared.script();
        script.seen.iter().filter(|(seen, _)| seen == path).map(|(_, body)| body.clone()).collect()
    }

    /// Waits until that chat model is loaded.
    pub async fn wait_loaded(&self, model: &str) {
        let mut state = self.shared.state.subscribe();
        let loaded = state.wait_for(|state| state.loaded.as_deref() == Some(model));
        assert!(tokio::time::timeout(PATIENCE, loaded).await.is_ok(), "{model} was never loaded");
    }
}

impl Drop for OllamaStub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A chat under way; dropped, its model may be pushed out.
struct InUse(Arc<Shared>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.in_use -= 1);
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no holder of this lock can panic")
    }

    /// Has the chat model loaded, after those who came before.
    async fn load(self: &Arc<Self>, model: &str) -> InUse {
        let is_other = |state: &Now| {
            let others = state.waiting.iter().any(|waiting| waiting != model);
            others || (state.in_use > 0 && state.loaded.as_deref() != Some(model))
        };
        if is_other(&self.state.borrow()) {
            self.script().conflicts += 1;
        }
        self.state.send_modify(|state| state.waiting.push(model.to_owned()));
        let turn = self.turn.lock().await;
        if self.state.borrow().loaded.as_deref() != Some(model) {
            let mut state = self.state.subscribe();
            state.wait_for(|state| state.in_use == 0).await.expect("the sender is ours");
            self.state.send_modify(|state| state.loaded = None);
            tokio::time::sleep(self.load_time).await;
            self.state.send_modify(|state| {
                state.loaded = Some(model.to_owned());
                state.loads += 1;
            });
        }
        self.state.send_modify(|state| {
            let place = state.waiting.iter().position(|waiting| waiting == model).expect("it was put there");
            state.waiting.swap_remove(place);
            state.in_use += 1;
        });
        drop(turn);
        InUse(self.clone())
    }
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = uri.path().to_owned();
    shared.script().seen.push((path.clone(), body.clone()));
    shared.state.send_modify(|state| state.requests += 1);
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    match (method, path.as_str()) {
        (Method::GET, "/api/ps" | "/api/tags") => {
            let state = shared.state.borrow().clone();
            let models = state.loaded.into_iter().chain(state.embedders);
            let models: Vec<Value> = models.map(|name| json!({ "name": name, "model": name })).collect();
            plain(200, json!({ "models": models }).to_string())
        }
        (Method::POST, "/api/generate") => {
            drop(shared.load(&model).await);
            plain(200, json!({ "model": model, "done": true, "done_reason": "load" }).to_string())
        }
        (Method::POST, "/api/embed") => {
            shared.state.send_modify(|state| {
                state.embedders.extend((!state.embedders.contains(&model)).then_some(model.clone()))
            });
            let count = body["input"].as_array().map_or(usize::from(body["input"] != ""), Vec::len);
            let vectors = vec![json!([0.5, 0.5]); count];
            plain(200, json!({ "model": model, "embeddings": vectors, "prompt_eval_count": count }).to_string())
        }
        (Method::POST, "/api/chat") => chat(shared, &model, &body).await,
        _ => plain(404, json!({ "error": "not found" }).to_string()),
    }
}

/// Streams the last message back, word by word.
async fn chat(shared: Arc<Shared>, model: &str, body: &Value) -> Response {
    let refusal = shared.script().refusals.pop();
    if let Some((status, body)) = refusal {
        return plain(status, body);
    }
    let in_use = shared.load(model).await;
    let text = body["messages"].as_array().and_then(|messages| messages.last()?["content"].as_str());
    let words: Vec<String> = text.unwrap_or_default().split_inclusive(' ').map(str::to_owned).collect();
    let pause = shared.answer_time / u32::try_from(words.len().max(1)).unwrap_or(1);
    let count = words.len();
    let line = |content: &str| json!({ "model": model, "message": { "role": "assistant", "content": content }, "done": false });
    let mut lines: Vec<Value> = words.iter().map(|word| line(word)).collect();
    lines.push(json!({ "model": model, "message": { "role": "assistant", "content": "" }, "done": true,
        "done_reason": "stop", "prompt_eval_count": 3, "eval_count": count }));
    let body = stream::unfold((lines.into_iter(), Some(in_use)), move |(mut lines, mut in_use)| async move {
        let line = lines.next()?;
        if line["done"] == true {
            in_use = None;
        } else {
            tokio::time::sleep(pause).await;
        }
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(format!("{line}\n"))), (lines, in_use)))
    });
    Response::builder()
        .header("content-type", "application/x-ndjson")
        .body(Body::from_stream(body))
        .expect("a plain header is valid")
}

fn plain(status: u16, body: String) -> Response {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(body)).expect("a plain header is valid")
}
