//! What a fleet costs that has nothing to do.

use std::time::{Duration, Instant};

use crate::calls::Watch;
use crate::programs::Program;
use crate::report::{Aim, Mode, Row};
use crate::server::Server;
use crate::size::Size;

const WORKERS: usize = 10;
/// Until what a start does is done.
const SETTLING: Duration = Duration::from_secs(2);

/// What was used in a window of time, a second.
struct Idle {
    calls: f64,
    redis_cpu: f64,
    programs_cpu: f64,
}

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    let window = Duration::from_secs(size.idle_s);
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let mut fleet = vec![Program::start("overshot-worker", &server).await?];
    let alone = watch(&server, &fleet, window).await?;
    for _ in 1..WORKERS {
        fleet.push(Program::start("overshot-worker", &server).await?);
    }
    fleet.push(Program::start("overshot-api", &server).await?);
    let all = watch(&server, &fleet, window).await?;
    Ok(vec![
        Row::new("calls of one idle worker", "calls/s", alone.calls).aim(Aim::AtMost(3.0)),
        Row::new("calls of 1 API and 10 idle workers", "calls/s", all.calls),
        Row::new("CPU of 1 API and 10 idle workers", "% of a core", all.programs_cpu * 100.0),
        Row::new("CPU of Redis under them", "% of a core", all.redis_cpu * 100.0),
    ])
}

async fn watch(server: &Server, fleet: &[Program], window: Duration) -> anyhow::Result<Idle> {
    tokio::time::sleep(SETTLING).await;
    let used = || fleet.iter().map(Program::cpu_s).sum::<anyhow::Result<f64>>();
    let watch = Watch::start(server).await?;
    let (began, redis_before, programs_before) = (Instant::now(), server.cpu_s().await?, used()?);
    tokio::time::sleep(window).await;
    let (redis, programs) = (server.cpu_s().await?, used()?);
    let seconds = began.elapsed().as_secs_f64();
    let mut sent = watch.end(server).await?;
    // This program's own: the look at the CPU, and what the client says of itself on a new connection.
    for own in ["info", "client", "hello"] {
        sent.remove(own);
    }
    Ok(Idle {
        calls: sent.values().sum::<u64>() as f64 / seconds,
        redis_cpu: (redis - redis_before) / seconds,
        programs_cpu: (programs - programs_before) / seconds,
    })
}
