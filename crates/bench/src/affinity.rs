//! Affinity: jobs of two models by turns on an Ollama with room for one, beside the same fleet without affinity.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use support::OllamaStub;

use crate::programs::Program;
use crate::report::{Aim, Mode, Row};
use crate::server::Server;

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

pub(crate) async fn run(mode: Mode) -> anyhow::Result<Vec<Row>> {
    let (ours, theirs) = (fleet(mode, "model").await?, fleet(mode, "none").await?);
    let figure = |what| format!("{JOBS} jobs, 2 models by turns, {WORKERS} workers, 2 s a load: {what}");
    let row = |what, unit, ours: f64, theirs: f64| Row::paired(figure(what), unit, "no affinity", &[(ours, theirs)]);
    Ok(vec![
        row("all done", "s", ours.seconds, theirs.seconds).aim(Aim::AtMost(0.25)),
        row("loads", "loads", ours.loads as f64, theirs.loads as f64),
        row("chats that came while another model was at work", "chats", ours.conflicts as f64, theirs.conflicts as f64)
            .aim(Aim::AtMost(0.0)),
    ])
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
