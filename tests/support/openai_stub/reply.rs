//! What the stub answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Pending;

/// One scripted answer. A stream is a list of steps.
#[derive(Debug, Clone)]
pub struct Reply(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// The last user message, word by word.
    Echo {
        gate: Option<(usize, Arc<Semaphore>)>,
    },
    Stream(Vec<Step>),
    Plain {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// The vectors of the request's texts.
    Vectors {
        gate: Option<Arc<Semaphore>>,
    },
    /// One word, for as many tokens as the request's member `spend` says.
    Spend {
        after: Duration,
    },
    Hang,
}

#[derive(Debug, Clone)]
enum Step {
    /// The data of one event.
    Data(String),
    /// Waits for a permit.
    Gate(Arc<Semaphore>),
    /// Ends the connection without the rest.
    Cut,
    /// Nothing more comes, and the connection stays.
    Hang,
}

impl Reply {
    /// Streams the last user message back, word by word.
    pub fn echo() -> Self {
        Self(Kind::Echo { gate: None })
    }

    /// As [`Reply::echo`], and waits for a permit of `gate` after that many words.
    pub fn echo_gated(after: usize, gate: &Arc<Semaphore>) -> Self {
        Self(Kind::Echo { gate: Some((after, Arc::clone(gate))) })
    }

    /// Streams these texts, one chunk each.
    pub fn texts(texts: &[&str]) -> Self {
        Self(Kind::Stream(Vec::new())).then_texts(texts)
    }

    /// Streams these chunks' deltas.
    pub fn deltas(deltas: &[Value]) -> Self {
        Self(Kind::Stream(deltas.iter().map(|delta| Step::Data(chunk(delta, None))).collect()))
    }

    /// A plain answer: a status, headers, a body.
    pub fn status(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self(Kind::Plain { status, headers, body: body.to_owned() })
    }

    /// A vector for each text of an embedding request: see [`vector_of`].
    pub fn vectors() -> Self {
        Self(Kind::Vectors { gate: None })
    }

    /// As [`Reply::vectors`], and waits for a permit of `gate` first.
    pub fn vectors_gated(gate: &Arc<Semaphore>) -> Self {
        Self(Kind::Vectors { gate: Some(Arc::clone(gate)) })
    }

    /// Answers after that time, and reports as many tokens as the request's member `spend` says.
    pub fn spending(after: Duration) -> Self {
        Self(Kind::Spend { after })
    }

    /// Takes the request and never answers.
    pub fn hang() -> Self {
        Self(Kind::Hang)
    }

    /// Then these texts.
    #[must_use]
    pub fn then_texts(mut self, texts: &[&str]) -> Self {
        for text in texts {
            self.step(Step::Data(chunk(&json!({ "content": text }), None)));
        }
        self
    }

    /// Then waits for a permit of `gate`.
    #[must_use]
    pub fn then_gate(mut self, gate: &Arc<Semaphore>) -> Self {
        self.step(Step::Gate(Arc::clone(gate)));
        self
    }

    /// Then these very bytes as an event's data.
    #[must_use]
    pub fn then_data(mut self, data: &str) -> Self {
        self.step(Step::Data(data.to_owned()));
        self
    }

    /// Then the end: the finish reason, the usage, the end mark.
    #[must_use]
    pub fn then_end(self, finish_reason: &str) -> Self {
        self.then_end_after(finish_reason, 3, 4)
    }

    fn then_end_after(mut self, finish_reason: &str, prompt: u64, completion: u64) -> Self {
        self.step(Step::Data(chunk(&json!({}), Some(finish_reason))));
        let usage =
            json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion });
        let last = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub-model",
            "choices": [], "usage": usage });
        self.step(Step::Data(last.to_string()));
        self.step(Step::Data("[DONE]".to_owned()));
        self
    }

    /// Then breaks the connection off.
    #[must_use]
    pub fn then_cut(mut self) -> Self {
        self.step(Step::Cut);
        self
    }

    /// Then nothing more, on an open connection.
    #[must_use]
    pub fn then_hang(mut self) -> Self {
        self.step(Step::Hang);
        self
    }

    fn step(&mut self, step: Step) {
        match &mut self.0 {
            Kind::Stream(steps) => steps.push(step),
            other => panic!("only a stream has steps: {other:?}"),
        }
    }

    pub(super) async fn answer(self, request: &Value, pending: Pending) -> Response {
        let steps = match self.0 {
            Kind::Hang => std::future::pending().await,
            Kind::Plain { status, headers, body } => {
                pending.complete();
                return plain(status, &headers, body);
            }
            Kind::Vectors { gate } => {
                if let Some(gate) = gate {
                    gate.acquire().await.expect("a gate is never closed").forget();
                }
                pending.complete();
                return plain(200, &[], embeddings(request));
            }
            Kind::Spend { after } => {
                tokio::time::sleep(after).await;
                let spent = request["spend"].as_u64().unwrap_or_default();
                steps(Self::texts(&["Done."]).then_end_after("stop", 0, spent))
            }
            Kind::Echo { gate } => echo_steps(request, gate),
            Kind::Stream(steps) => steps,
        };
        let state = (steps.into_iter(), Some(pending));
        let body = stream::unfold(state, |(mut steps, mut pending)| async move {
            let data = match steps.next() {
                Some(Step::Gate(gate)) => {
                    gate.acquire().await.expect("a gate is never closed").forget();
                    // An empty comment: a stream's step must give something.
                    return Some((Ok(Bytes::from_static(b": gate\n\n")), (steps, pending)));
                }
                Some(Step::Hang) => std::future::pending().await,
                Some(Step::Cut) => {
                    complete(&mut pending);
                    // The server writes out what it has when nothing more is ready.
                    tokio::task::yield_now().await;
                    return Some((Err(std::io::Error::other("cut")), (steps, pending)));
                }
                Some(Step::Data(data)) => data,
                None => {
                    complete(&mut pending);
                    return None;
                }
            };
            if steps.len() == 0 {
                complete(&mut pending);
            }
            Some((Ok(Bytes::from(format!("data: {data}\n\n"))), (steps, pending)))
        });
        let response = Response::builder().header("content-type", "text/event-stream");
        response.body(Body::from_stream(body)).expect("a plain header is valid")
    }
}

fn complete(pending: &mut Option<Pending>) {
    if let Some(pending) = pending.take() {
        pending.complete();
    }
}

fn plain(status: u16, headers: &[(String, String)], body: String) -> Response {
    let mut response = Response::builder().status(StatusCode::from_u16(status).expect("a test names a real status"));
    if !headers.iter().any(|(name, _)| name == "content-type") {
        response = response.header("content-type", "application/json");
    }
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let body = stream::iter([Ok::<_, Infallible>(Bytes::from(body))]);
    response.body(Body::from_stream(body)).expect("a test names valid headers")
}

/// The vector that the stub gives a text, of [`DIMENSIONS`] numbers unless the request wants other many; JSON carries them
/// without loss.
pub fn vector_of(text: &str, dimensions: usize) -> Vec<f32> {
    let hash = text.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    (0..dimensions as u32).map(|place| (hash.wrapping_mul(place + 1) % 1_000_003) as f32).collect()
}

/// How many numbers the stub's vectors have.
pub const DIMENSIONS: usize = 4;

/// The answer in numbers, whatever form was asked for, as some servers give it.
fn embeddings(request: &Value) -> String {
    let dimensions = request["dimensions"].as_u64().map_or(DIMENSIONS, |wanted| wanted as usize);
    let texts = request["input"].as_array().cloned().unwrap_or_default();
    let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
    let datum = |(index, text): (usize, &&str)| json!({ "object": "embedding", "index": index, "embedding": vector_of(text, dimensions) });
    let data: Vec<Value> = texts.iter().enumerate().map(datum).collect();
    let tokens = texts.len();
    json!({ "object": "list", "model": "stub-model", "data": data, "usage": { "prompt_tokens": tokens, "total_tokens": tokens } })
        .to_string()
}

fn echo_steps(request: &Value, gate: Option<(usize, Arc<Semaphore>)>) -> Vec<Step> {
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let text = messages.last().and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned();
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let Some((after, gate)) = gate else { return steps(Reply::texts(&words).then_end("stop")) };
    let (before, rest) = words.split_at(after.min(words.len()));
    steps(Reply::texts(before).then_gate(&gate).then_texts(rest).then_end("stop"))
}

fn steps(reply: Reply) -> Vec<Step> {
    match reply.0 {
        Kind::Stream(steps) => steps,
        other => panic!("only a stream has steps: {other:?}"),
    }
}

fn chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub-model",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }], "usage": null })
    .to_string()
}
