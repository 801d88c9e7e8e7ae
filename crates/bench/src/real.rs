//! A real small model: how much later its tokens reach an SSE reader through the fleet than straight from its server.
//!
//! Whoever asks, a gate stands in front of the model and stamps each token with the time at which it passes; the model's own
//! pace, which is most of what a reader waits for, is not in the figure.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::Size;
use crate::programs::Program;
use crate::relay::provider::now_us;
use crate::relay::reader::Reader;
use crate::report::{Aim, Mode, Row, median};
use crate::server::Server;

/// Where `scripts/model-server/install` puts the model's server, from the root of the repository.
const PYTHON: &str = ".tools/model/bin/python";
const SERVE: &str = "scripts/model-server/serve.py";
const MODEL: &str = "smollm2-135m";
/// Tokens of an answer, and of those the ones that are measured: some of the rest may come without text.
const TOKENS: u32 = 150;
const MEASURED: usize = 120;
/// Stands before each token's time.
const MARK: &[u8] = br#""stamp":""#;
/// How long an answer may take after its last measured token.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    if !Path::new(PYTHON).exists() {
        println!("\n*** SKIPPED: no real chat model; scripts/model-server/install chat\n");
        return Ok(Vec::new());
    }
    let (_model, address) = start_model().await?;
    let gate = open_gate(address).await?;
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let config = format!(
        "[pools.chat]\nproviders = [\"real\"]\n[providers.real]\nkind = \"openai\"\nbase_url = \"http://{gate}/v1\"\n\
         models = [\"{MODEL}\"]\n"
    );
    let api = Program::start_with("overshot-api", &server, &config).await?;
    let _worker = Program::start_with("overshot-worker", &server, &config).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut rounds = Vec::new();
    for round in 0..=size.pairs {
        let pair = (fleet(&http, &api.address).await?, direct(&gate).await?);
        // The first round makes the connections.
        if round > 0 {
            rounds.push(pair);
        }
    }
    let ms = |delays: &Histogram<u64>| delays.value_at_quantile(0.5) as f64 / 1000.0;
    let added = median(rounds.iter().map(|(fleet, direct)| ms(fleet) - ms(direct)));
    Ok(vec![Row::new("delay added to a real model's token, p50", "ms", added).aim(Aim::AtMost(2.0))])
}

/// The answer that both ways ask for: the same words, of the same length.
fn request() -> Value {
    json!({ "max_tokens": TOKENS, "temperature": 0, "ignore_eos": true, "cache_prompt": false })
}

/// The delays of a job's tokens, in µs.
async fn fleet(http: &reqwest::Client, api: &str) -> anyhow::Result<Histogram<u64>> {
    let mut input = json!({ "user": "Tell me about rivers.", "max_tokens": TOKENS, "temperature": 0 });
    input["extra_body"] = json!({ "ignore_eos": true, "cache_prompt": false });
    let job = json!({ "task": "chat", "input": input });
    let job: Value = http.post(format!("http://{api}/api/v1/jobs")).json(&job).send().await?.json().await?;
    let id = job["id"].as_str().context("the job was refused")?;
    let reader = Reader::open(api, &format!("/api/v1/jobs/{id}/events"), "event: status").await?;
    let delays = histogram(reader.read(MARK, MEASURED).await?)?;
    let ended: Value = http.get(format!("http://{api}/api/v1/jobs/{id}?wait=60s")).send().await?.json().await?;
    anyhow::ensure!(ended["status"] == "completed", "the job is {}", ended["status"]);
    Ok(delays)
}

/// The delays of the same tokens straight from the gate.
async fn direct(gate: &str) -> anyhow::Result<Histogram<u64>> {
    let reader = Reader::open(gate, "/", "\r\n\r\n").await?;
    histogram(reader.read(MARK, MEASURED).await?)
}

fn histogram(delays: Vec<u64>) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    for delay in delays {
        times.record(delay)?;
    }
    Ok(times)
}

/// Starts the model's server; returns its address.
async fn start_model() -> anyhow::Result<(Child, String)> {
    let mut command = Command::new(PYTHON);
    command.arg(SERVE).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut process = command.spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("no stdout")?).lines();
    let address = tokio::time::timeout(PATIENCE, lines.next_line()).await??.context("the model's server ended")?;
    Ok((process, address))
}

/// Opens the gate in front of the model; returns where it listens.
async fn open_gate(model: String) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let router = Router::new().fallback(pass).with_state((client, format!("{model}/v1/chat/completions")));
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // Of a socket that is gone nobody measures anything.
        let _ = stream.set_nodelay(true);
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// Passes a request on, or asks for the same itself where it is given none; the answer event by event.
async fn pass(State((client, model)): State<(reqwest::Client, String)>, method: Method, body: Bytes) -> Response {
    let call = client.post(model).header("content-type", "application/json");
    let call = match method {
        Method::GET => {
            let mut body = request();
            body["messages"] = json!([{ "role": "user", "content": "Tell me about rivers." }]);
            body["stream"] = json!(true);
            call.json(&body)
        }
        _ => call.body(body),
    };
    let answer = match call.send().await {
        Ok(answer) => answer,
        Err(error) => return Response::builder().status(502).body(Body::from(error.to_string())).unwrap_or_default(),
    };
    let mut rest = Vec::new();
    let events = answer.bytes_stream().map(move |bytes| {
        rest.extend_from_slice(&bytes.map_err(std::io::Error::other)?);
        let end = rest.windows(2).rposition(|window| window == b"\n\n").map_or(0, |end| end + 2);
        let whole: Vec<u8> = rest.drain(..end).collect();
        Ok::<_, std::io::Error>(Bytes::from(stamped(&String::from_utf8_lossy(&whole))))
    });
    let response = Response::builder().header("content-type", "text/event-stream");
    response.body(Body::from_stream(events)).unwrap_or_default()
}

/// The events, each piece of text with the time of now beside it.
fn stamped(events: &str) -> String {
    let stamp = |event: &str| {
        let mut chunk: Value = serde_json::from_str(event.strip_prefix("data: ")?).ok()?;
        let delta = chunk["choices"].get_mut(0)?.get_mut("delta")?;
        delta["content"].as_str().filter(|text| !text.is_empty())?;
        delta["stamp"] = json!(now_us().to_string());
        Some(format!("data: {chunk}\n\n"))
    };
    let events = events.split_terminator("\n\n");
    events.map(|event| stamp(event).unwrap_or_else(|| format!("{event}\n\n"))).collect()
}
