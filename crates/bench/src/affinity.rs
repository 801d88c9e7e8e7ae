//! Affinity: jobs of two models by turns on an Ollama with room for one, beside the same fleet without affinity; and what a turn
//! adds to a lone job.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use support::OllamaStub;

use crate::http::client::Client;
use crate::http::{WARM_UP, body};
use crate::programs::Program;
use crate::report::{Aim, Mode, Row};
use crate::server::Server;
use crate::size::Size;

/// What a model takes to load, and an answer to be given.
const LOAD: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_millis(50);
const JOBS: usize = 40;
const WORKERS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(300);

/// What one run came to.
struct Run {
    seconds: f64,
    loads: usize,
    conflicts: usize,
}

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    let [with_turn, without] = lone(mode, size.round_trips).await?;
    let (ours, theirs) = (fleet(mode, "model").await?, fleet(mode, "none").await?);
    let lone = |name: &str, quantile| {
        let ms = |times: &Histogram<u64>| times.value_at_quantile(quantile) as f64 / 1000.0;
        let figure = format!("POST to result with affinity, {name}");
        Row::paired(figure, "ms", "no affinity", &[(ms(&with_turn), ms(&without))])
    };
    let figure = |what| format!("{JOBS} jobs, 2 models by turns, {WORKERS} workers, 2 s a load: {what}");
    let row = |what, unit, ours: f64, theirs: f64| Row::paired(figure(what), unit, "no affinity", &[(ours, theirs)]);
    Ok(vec![
        row("all done", "s", ours.seconds, theirs.seconds).aim(Aim::AtMost(0.25)),
        row("loads", "loads", ours.loads as f64, theirs.loads as f64),
        row("chats that came while another model was at work", "chats", ours.conflicts as f64, theirs.conflicts as f64)
            .aim(Aim::AtMost(0.0)),
        lone("p50", 0.5),
        lone("p99", 0.99),
    ])
}

/// The times from the POST to the result of a no-op job, in µs, one after the other: with a turn and without, by turns.
async fn lone(mode: Mode, round_trips: usize) -> anyhow::Result<[Histogram<u64>; 2]> {
    let config = |affinity: &str| {
        let provider = "[providers.sim]\nkind = \"simulated\"\ntokens = 0\nmodels = [\"m\"]\n";
        format!("[pools.chat]\nproviders = [\"sim\"]\naffinity = \"{affinity}\"\n{provider}")
    };
    let (mut fleets, mut times) = (Vec::new(), [Histogram::new(3)?, Histogram::new(3)?]);
    for affinity in ["model", "none"] {
        let server = Server::start(mode == Mode::AofEverysec).await?;
        let api = Program::start_with("overshot-api", &server, &config(affinity)).await?;
        let worker = Program::start_with("overshot-worker", &server, &config(affinity)).await?;
        let client = Client::connect(&api.address).await?;
        fleets.push((client, api, worker, server));
    }
    for number in 0..round_trips + WARM_UP {
        for ((client, ..), times) in fleets.iter_mut().zip(&mut times) {
            let request = client.post("/api/v1/jobs?wait=30s", &body());
            let began = Instant::now();
            client.send(&request, 200).await?;
            if number >= WARM_UP {
                times.record(u64::try_from(began.elapsed().as_micros())?)?;
            }
        }
    }
    Ok(times)
}

async fn fleet(mode: Mode, affinity: &str) -> anyhow::Result<Run> {
    let stub = OllamaStub::start(LOAD, ANSWER).await;
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let config = format!(
        "[pools.chat]\nproviders = [\"ollama\"]\nconcurrency = 4\naffinity = \"{affinity}\"\n{}",
        stub.provider("models = [\"a\", \"b\"]")
    );
    let api = Program::start_with("overshot-api", &server, &config).await?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Program::start_with("overshot-worker", &server, &config).await?);
    }
    let http = reqwest::Client::builder().no_proxy().build()?;
    let job = |model| json!({ "task": "chat", "model": model, "input": { "user": "hello" } });
    let jobs: Vec<Value> = ["a", "b"].into_iter().cycle().take(JOBS).map(job).collect();
    let began = Instant::now();
    let sent = http.post(format!("http://{}/api/v1/jobs/batch", api.address)).json(&json!({ "jobs": jobs }));
    sent.send().await?.error_for_status()?;
    let pool = format!("http://{}/api/v1/pools/chat", api.address);
    let done = async {
        loop {
            let pool: Value = http.get(&pool).send().await?.json().await?;
            if pool["by_status"]["completed"] == JOBS {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.context("the jobs did not end")??;
    Ok(Run { seconds: began.elapsed().as_secs_f64(), loads: stub.loads(), conflicts: stub.conflicts() })
}
