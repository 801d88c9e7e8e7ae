//! What a thousand workers without work cost one Redis.
//!
//! Simulated: each has a real worker's connections and sends its calls at their pace, by the library and its upkeep, but
//! all live in this process.

use std::path::Path;
use std::time::{Duration, Instant};

use overshot_common::config::Config;
use overshot_common::ids::{Shard, WorkerId};
use overshot_common::queue::{Doorbell, Events, Queue};
use overshot_common::upkeep::{Role, Upkeep};
use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::calls;
use crate::engine::{LIVENESS, shard};
use crate::report::{Aim, Row};
use crate::server::Server;

const WORKERS: usize = 1_000;
/// Between the starts of two: a server takes only so many connections at once.
const STAGGER: Duration = Duration::from_millis(2);
/// Until what a start does is done, and the timers are spread.
const SETTLING: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(5);

// As the worker has them: claimer, porter and keeper.
const SAFETY_POLL: Duration = Duration::from_millis(2500);
const DOORBELL: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(30);
const AUDIT_EVERY: u64 = 3;
const SLOTS: usize = 8;
/// What a worker says of itself in each beat.
const ABOUT: &str = r#"{"pools":["chat"],"slots":8,"in_flight":0,"started_at":"2026-01-01T00:00:00.000Z","version":"0.0.0","draining":false,"host":"worker-host-0","providers":["sim"]}"#;
const CONFIG: &str = "[pools.chat]\nproviders = ['sim']\n[providers.sim]\nkind = 'simulated'\n";

pub(super) async fn run(append_only: bool, window: Duration) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(append_only).await?;
    let (shard, config) = (shard()?, Config::load(Some((Path::new("idlers"), CONFIG)), [])?);
    let (bytes, clients) = (server.used_bytes().await?, server.number("clients", "connected_clients").await?);
    let mut idlers = JoinSet::new();
    for number in 0..WORKERS {
        let queue = Queue::open(&server.url(), PATIENCE)?;
        let (upkeep, _) = Upkeep::new(queue.clone(), &config, std::slice::from_ref(&shard.pool), Role::Worker);
        let worker: WorkerId = format!("worker-host-{number:016}").parse()?;
        idlers.spawn(idle(queue, upkeep, shard.clone(), worker));
        tokio::time::sleep(STAGGER).await;
    }
    tokio::time::sleep(SETTLING).await;
    let (began, cpu, sent) = (Instant::now(), server.cpu_s().await?, calls::so_far(&server).await?);
    tokio::time::sleep(window).await;
    let (cpu, sent) = (server.cpu_s().await? - cpu, calls::so_far(&server).await? - sent);
    let seconds = began.elapsed().as_secs_f64();
    let bytes = (server.used_bytes().await? - bytes) / WORKERS as f64;
    let clients = (server.number("clients", "connected_clients").await? - clients) / WORKERS as f64;
    if let Some(ended) = idlers.try_join_next() {
        ended??;
    }
    let row = |what: &str, unit, value| Row::new(format!("{WORKERS} idle workers on one Redis: {what}"), unit, value);
    Ok(vec![
        row("their calls", "calls/s", sent as f64 / seconds).aim(Aim::AtMost(3.0 * WORKERS as f64)),
        row("its CPU", "% of a core", cpu / seconds * 100.0),
        row("its CPU for one call", "µs", cpu * 1e6 / sent as f64),
        row("its memory for each", "KiB", bytes / 1024.0),
        row("connections of each", "", clients),
    ])
}

/// One worker without work. Ends only with an error.
async fn idle(queue: Queue, upkeep: Upkeep, shard: Shard, worker: WorkerId) -> anyhow::Result<()> {
    // The keeper's connections are its own.
    let keeper = queue.separate(PATIENCE)?;
    tokio::select! {
        failed = claim(&queue, &shard, &worker) => failed,
        failed = listen(&queue, &shard) => failed,
        failed = beat(&keeper, &shard, &worker) => failed,
        () = heed(&keeper, &worker) => Ok(()),
        () = upkeep.run(CancellationToken::new()) => Ok(()),
    }
}

async fn claim(queue: &Queue, shard: &Shard, worker: &WorkerId) -> anyhow::Result<()> {
    for nonce in 0_u64.. {
        let claim = queue.claim(shard, worker, &format!("{nonce:012}"), SLOTS, LEASE).await?;
        anyhow::ensure!(claim.jobs.is_empty(), "an idle worker got work");
        tokio::time::sleep(jittered(SAFETY_POLL)).await;
    }
    Ok(())
}

async fn listen(queue: &Queue, shard: &Shard) -> anyhow::Result<()> {
    let mut doorbell = Doorbell::new(queue);
    loop {
        doorbell.wait(std::slice::from_ref(shard), jittered(DOORBELL)).await?;
    }
}

/// The beats; every third of a lease one that renews, of which every third audits.
async fn beat(keeper: &Queue, shard: &Shard, worker: &WorkerId) -> anyhow::Result<()> {
    let renew_every = LEASE / 3;
    let (mut renewed, mut renewals): (Option<Instant>, u64) = (None, 0);
    loop {
        let sent = Instant::now();
        let next = sent + jittered(LIVENESS / 3);
        let renew = renewed.is_none_or(|renewed| renewed + renew_every <= next);
        keeper.renew(shard, worker, LEASE, ABOUT, &[], renew && renewals.is_multiple_of(AUDIT_EVERY)).await?;
        if renew {
            (renewed, renewals) = (Some(sent), renewals + 1);
        }
        tokio::time::sleep_until(next.into()).await;
    }
}

/// Listens for cancels.
async fn heed(keeper: &Queue, worker: &WorkerId) {
    let events = Events::new(keeper);
    let mut wishes = events.wishes_for(worker).await;
    loop {
        wishes.next().await;
    }
}

/// Between 80 and 100 % of a time.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.8..1.0))
}
