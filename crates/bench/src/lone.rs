//! The calls that a lone job costs on a fleet with nothing else to do.

use std::time::{Duration, Instant};

use crate::calls::Watch;
use crate::http::body;
use crate::http::client::Client;
use crate::programs::Program;
use crate::report::{Aim, Mode, Row};
use crate::server::Server;
use crate::size::Size;

/// The time that each job has for itself.
const APART: Duration = Duration::from_millis(40);

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let api = Program::start("overshot-api", &server).await?;
    let _worker = Program::start("overshot-worker", &server).await?;
    let mut client = Client::connect(&api.address).await?;
    // The first jobs load the scripts.
    let (plain, waiting) = (client.post("/api/v1/jobs", &body()), client.post("/api/v1/jobs?wait=30s", &body()));
    for _ in 0..5 {
        client.send(&waiting, 200).await?;
    }
    let idle = calls_per_s(&server, &mut client, None, size.lone_jobs).await?;
    let mut per_job = [0.0; 2];
    for (per_job, request) in per_job.iter_mut().zip([(&plain, 202), (&waiting, 200)]) {
        let busy = calls_per_s(&server, &mut client, Some(request), size.lone_jobs).await?;
        // To a tenth: what timers call differs by more from one time to the next.
        *per_job = ((busy - idle) * APART.as_secs_f64() * 10.0).round() / 10.0;
    }
    Ok(vec![
        Row::new("calls for a lone job", "calls/job", per_job[0]).aim(Aim::AtMost(4.0)),
        Row::new("calls for a lone job that is waited for", "calls/job", per_job[1]),
    ])
}

/// The calls of all clients a second, with a job at every turn or without.
async fn calls_per_s(
    server: &Server,
    client: &mut Client,
    request: Option<(&Vec<u8>, u16)>,
    turns: usize,
) -> anyhow::Result<f64> {
    let watch = Watch::start(server).await?;
    let (began, mut ticks) = (Instant::now(), tokio::time::interval(APART));
    ticks.tick().await;
    for _ in 0..turns {
        if let Some((request, status)) = request {
            client.send(request, status).await?;
        }
        ticks.tick().await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let sent = watch.end(server).await?;
    Ok(sent.values().sum::<u64>() as f64 / seconds)
}
