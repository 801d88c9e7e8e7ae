//! Embeddings: many texts through the fleet, beside the same batches sent straight to the provider.
//!
//! The provider takes a set time per text, as a small model on one GPU does, so that what is added shows.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::Size;
use crate::programs::Program;
use crate::report::{Aim, Mode, Row};
use crate::server::Server;

/// Texts of one job, and of one call to the provider.
const TEXTS: usize = 1_000;
const BATCH: usize = 32;
/// What a text takes.
const PER_TEXT: Duration = Duration::from_millis(1);
/// A vector of 384 numbers as base64: which ones makes no difference.
const VECTOR_CHARS: usize = 384 * 4 / 3 * 4;

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    let provider = provide().await?;
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let config = format!(
        "[pools.vectors]\nproviders = [\"e\"]\n[providers.e]\nkind = \"openai\"\nbase_url = \"{provider}\"\nmodels = [\"m\"]\n\
         batch_size = {BATCH}\n"
    );
    let api = Program::start_with("overshot-api", &server, &config).await?;
    let _worker = Program::start_with("overshot-worker", &server, &config).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut pairs = Vec::new();
    for round in 0..=size.pairs {
        let texts: Vec<String> = (0..TEXTS).map(|number| format!("text {number} of round {round}")).collect();
        let direct = direct(&http, &provider, &texts).await?;
        let fleet = fleet(&http, &api.address, &texts).await?;
        // The first round makes the connections.
        if round > 0 {
            pairs.push((fleet, direct));
        }
    }
    Ok(vec![Row::paired("1000 texts embedded, 1 ms each", "s", "direct calls", &pairs).aim(Aim::AtMost(1.05))])
}

/// One call after the other, each answer read.
async fn direct(http: &reqwest::Client, provider: &str, texts: &[String]) -> anyhow::Result<f64> {
    let (began, mut vectors) = (Instant::now(), 0);
    for batch in texts.chunks(BATCH) {
        let body = json!({ "model": "m", "input": batch, "encoding_format": "base64" });
        let answer: Value = http.post(format!("{provider}/embeddings")).json(&body).send().await?.json().await?;
        vectors += answer["data"].as_array().map_or(0, Vec::len);
    }
    anyhow::ensure!(vectors == texts.len(), "{vectors} vectors came");
    Ok(began.elapsed().as_secs_f64())
}

/// One job: submitted, waited for, its result fetched and read.
async fn fleet(http: &reqwest::Client, api: &str, texts: &[String]) -> anyhow::Result<f64> {
    let began = Instant::now();
    let body = json!({ "task": "embedding", "input": { "input": texts, "encoding_format": "base64" } });
    let job: Value = http.post(format!("http://{api}/api/v1/jobs?wait=60s")).json(&body).send().await?.json().await?;
    let url = job["result_url"].as_str().with_context(|| format!("the job is {}", job["status"]))?;
    let result: Value = http.get(format!("http://{api}{url}")).send().await?.json().await?;
    let vectors = result["data"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(vectors == texts.len(), "{vectors} vectors came");
    Ok(began.elapsed().as_secs_f64())
}

/// Starts the provider; returns its base URL.
async fn provide() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let vector = "A".repeat(VECTOR_CHARS);
    let answer = move |Json(request): Json<Value>| async move {
        let texts = request["input"].as_array().map_or(0, Vec::len);
        tokio::time::sleep(PER_TEXT * u32::try_from(texts).unwrap_or(u32::MAX)).await;
        let datum = |index| json!({ "object": "embedding", "index": index, "embedding": vector });
        let data: Vec<Value> = (0..texts).map(datum).collect();
        let usage = json!({ "prompt_tokens": texts, "total_tokens": texts });
        Json(json!({ "object": "list", "model": "m", "data": data, "usage": usage }))
    };
    let router = Router::new().route("/v1/embeddings", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
