//! An Ollama that says what a test tells it to, and keeps what it was asked.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// The answer to a POST.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

#[derive(Debug)]
pub(super) struct Script {
    pub(super) answer: Answer,
    /// `/api/ps`.
    pub(super) loaded: Vec<String>,
    /// `/api/generate` and `/api/embed` load; these models cannot generate.
    pub(super) embedders: Vec<String>,
    pub(super) seen: Vec<(String, Value)>,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    /// A permit lets one answer of `/api/chat` begin.
    pub(super) gate: Arc<Semaphore>,
    script: Arc<Mutex<Script>>,
}

type Shared = (Arc<Mutex<Script>>, Arc<Semaphore>);

impl Server {
    /// Answers each chat with these lines.
    pub(super) async fn start(lines: &[&str]) -> Self {
        let answer = Answer { status: 200, body: lines.iter().map(|line| format!("{line}\n")).collect() };
        let script = Script { answer, loaded: Vec::new(), embedders: Vec::new(), seen: Vec::new() };
        let script = Arc::new(Mutex::new(script));
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answered).with_state((script.clone(), gate.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, gate, script }
    }

    /// As [`Server::start`], with one answer that is no success.
    pub(super) async fn refusing(status: u16, body: &str) -> Self {
        let server = Self::start(&[]).await;
        server.script().answer = Answer { status, body: body.to_owned() };
        server
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// What was asked at that path.
    pub(super) fn asked(&self, path: &str) -> Vec<Value> {
        let script = self.script();
        script.seen.iter().filter(|(seen, _)| seen == path).map(|(_, body)| body.clone()).collect()
    }
}

async fn answered(State((script, gate)): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    script.lock().unwrap().seen.push((path.clone(), body.clone()));
    if method == Method::GET {
        let models: Vec<_> =
            script.lock().unwrap().loaded.iter().map(|name| json!({"name": name, "model": name})).collect();
        return plain(200, json!({ "models": models }).to_string());
    }
    if path == "/api/chat" {
        gate.acquire().await.unwrap().forget();
        let Answer { status, body } = script.lock().unwrap().answer.clone();
        return plain(status, body);
    }
    let mut script = script.lock().unwrap();
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    if path == "/api/show" {
        let capability = if script.embedders.contains(&model) { "embedding" } else { "completion" };
        return plain(200, json!({ "capabilities": [capability] }).to_string());
    }
    if path == "/api/generate" && script.embedders.contains(&model) {
        return plain(400, json!({ "error": format!("{model:?} does not support generate") }).to_string());
    }
    let vectors: Vec<_> = body["input"].as_array().into_iter().flatten().map(|_| json!([0.25, 0.5])).collect();
    let answer = json!({ "model": model, "embeddings": vectors, "prompt_eval_count": 5 });
    script.loaded.push(model);
    plain(200, answer.to_string())
}

fn plain(status: u16, body: String) -> Response {
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

/// Waits until `condition` holds, by the real clock.
pub(super) async fn until(condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it never came");
}
