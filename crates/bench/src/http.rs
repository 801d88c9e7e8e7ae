//! What a service sees over HTTP: single and bulk POSTs per second, and POST → result on an idle fleet.

pub(crate) mod bare_api;
pub(crate) mod client;

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::bare::{BATCH, LANES, input};
use crate::engine;
use crate::lanes::{Calls, rate};
use crate::programs::Program;
use crate::report::{Aim, Mode, Row};
use crate::server::Server;
use crate::size::Size;
use client::Client;

const CONNECTIONS: usize = 64;
const BARE: &str = "bare handler";
/// Round trips before the first that counts.
pub(crate) const WARM_UP: usize = 50;

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    let (mut singles, mut bulks) = (Vec::new(), Vec::new());
    let (mut api_cpu, mut redis_cpu) = (Vec::new(), Vec::new());
    for number in 1..=size.pairs {
        let server = Server::start(mode == Mode::AofEverysec).await?;
        let bare = Program::start_bare_api(&server).await?;
        let theirs = single_posts(&bare, &server, size.posts).await?;
        drop((bare, server));
        let server = Server::start(mode == Mode::AofEverysec).await?;
        let api = Program::start("overshot-api", &server).await?;
        let ours = single_posts(&api, &server, size.posts).await?;
        drop((api, server));
        let server = Server::start(mode == Mode::AofEverysec).await?;
        let by_library = engine::enqueue(&engine::open(&server)?, size.bulk_posts, BATCH, LANES).await?;
        drop(server);
        let server = Server::start(mode == Mode::AofEverysec).await?;
        let api = Program::start("overshot-api", &server).await?;
        let by_http = bulk_posts(&api, size.bulk_posts).await?;
        println!(
            "  pair {number}: single POSTs/s {:.0} of {:.0}, bulk jobs/s {by_http:.0} of {by_library:.0}",
            ours.per_s, theirs.per_s
        );
        singles.push((ours.per_s, theirs.per_s));
        api_cpu.push((ours.api_cpu_us, theirs.api_cpu_us));
        redis_cpu.push((ours.redis_cpu_us, theirs.redis_cpu_us));
        bulks.push((by_http, by_library));
    }
    let times = round_trips(mode, size.round_trips).await?;
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(vec![
        Row::paired("single POSTs at 64 connections", "jobs/s", BARE, &singles).aim(Aim::AtLeast(0.8)),
        Row::paired("CPU of the API per single POST", "µs/job", BARE, &api_cpu),
        Row::paired("CPU of Redis per single POST", "µs/job", BARE, &redis_cpu),
        Row::paired("bulk POSTs of 100 jobs", "jobs/s", "library in bulk", &bulks).aim(Aim::AtLeast(0.5)),
        Row::new("POST to result on an idle fleet, p50", "ms", ms(0.5)).aim(Aim::AtMost(1.5)),
        Row::new("POST to result on an idle fleet, p99", "ms", ms(0.99)).aim(Aim::AtMost(5.0)),
    ])
}

/// What a round of single POSTs brought, and what it cost per job.
struct Singles {
    per_s: f64,
    api_cpu_us: f64,
    redis_cpu_us: f64,
}

async fn single_posts(api: &Program, server: &Server, posts: usize) -> anyhow::Result<Singles> {
    let (api_before, redis_before) = (api.cpu_s()?, server.cpu_s().await?);
    let per_s = posting(api, "/api/v1/jobs", body(), (posts, CONNECTIONS), 202).await?;
    let per_job = |seconds: f64| seconds * 1e6 / posts as f64;
    Ok(Singles {
        per_s,
        api_cpu_us: per_job(api.cpu_s()? - api_before),
        redis_cpu_us: per_job(server.cpu_s().await? - redis_before),
    })
}

async fn bulk_posts(api: &Program, jobs: usize) -> anyhow::Result<f64> {
    let body = format!(r#"{{"jobs":[{}]}}"#, vec![body(); BATCH].join(","));
    Ok(posting(api, "/api/v1/jobs/batch", body, (jobs / BATCH, LANES), 200).await? * BATCH as f64)
}

async fn posting(
    api: &Program,
    path: &'static str,
    body: String,
    (posts, connections): (usize, usize),
    expected: u16,
) -> anyhow::Result<f64> {
    rate(posts, connections, |_, calls: Calls| {
        let (address, body) = (api.address.clone(), body.clone());
        async move {
            let mut client = Client::connect(&address).await?;
            let request = client.post(path, &body);
            while calls.take().is_some() {
                client.send(&request, expected).await?;
            }
            Ok(())
        }
    })
    .await
}

/// The times from the POST to the result in its answer, in µs, one after the other.
async fn round_trips(mode: Mode, round_trips: usize) -> anyhow::Result<Histogram<u64>> {
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let api = Program::start("overshot-api", &server).await?;
    let _worker = Program::start("overshot-worker", &server).await?;
    let mut client = Client::connect(&api.address).await?;
    let request = client.post("/api/v1/jobs?wait=30s", &body());
    let mut times = Histogram::new(3)?;
    for number in 0..round_trips + WARM_UP {
        let began = Instant::now();
        client.send(&request, 200).await?;
        if number >= WARM_UP {
            times.record(u64::try_from(began.elapsed().as_micros())?)?;
        }
    }
    Ok(times)
}

pub(crate) fn body() -> String {
    format!(r#"{{"task":"chat","input":{}}}"#, input())
}
