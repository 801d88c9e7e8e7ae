//! Redis' own time per job by how many jobs wait, in turns with a short queue on a server beside it.

use std::time::Duration;

use anyhow::Context as _;
use overshot_common::ids::{Shard, WorkerId};
use overshot_common::queue::{ClaimedJob, Cursor, Filter, Held, NewJob, Queue, Settlement, Verdict};
use redis::aio::MultiplexedConnection;
use serde_json::value::RawValue;

use crate::backlog::{fill, put};
use crate::engine::{job, open, shard};
use crate::report::{Aim, Curve, Row, median};
use crate::server::Server;

/// The short queue that all others are held against.
const SHORT: usize = 1_000;
const DEPTHS: [usize; 4] = [10_000, 100_000, 500_000, 1_000_000];
/// Up to here a queue must cost what the short one does.
const AIMED: usize = 500_000;
/// Turns of which the median is taken.
const TURNS: usize = 25;
/// The jobs of one page of a listing.
const PAGE: usize = 50;
/// A script's time holds that of the commands in it.
const SCRIPTS: &[&str] = &["evalsha"];
/// A listing runs no script.
const LISTING: &[&str] = &["zrevrangebylex", "hmget"];
const LEASE: Duration = Duration::from_secs(30);
/// Jobs of one call.
const BATCH: usize = 100;
/// What is measured, in the order of [`Depth::turn`]'s figures.
const MOVES: [&str; 6] = ["enqueue", "promote", "claim", "settle", "list the newest", "list from the middle"];

pub(super) async fn run(append_only: bool, deepest: usize) -> anyhow::Result<(Vec<Row>, Vec<Curve>)> {
    let mut short = Depth::start(append_only).await?;
    short.fill_to(SHORT).await?;
    let mut long = Depth::start(append_only).await?;
    let mut lines = MOVES.map(|name| (name.to_owned(), Vec::new()));
    let mut rows = Vec::new();
    for depth in DEPTHS.into_iter().filter(|depth| *depth <= deepest) {
        long.fill_to(depth).await?;
        let mut turns = Vec::new();
        for turn in 0..=TURNS {
            let pair = (long.turn().await?, short.turn().await?);
            // The first one loads scripts and opens connections.
            if turn > 0 {
                turns.push(pair);
            }
        }
        if depth <= AIMED {
            rows.clear();
        }
        for (number, (name, points)) in lines.iter_mut().enumerate() {
            let pairs: Vec<(f64, f64)> = turns.iter().map(|(long, short)| (long[number], short[number])).collect();
            if points.is_empty() {
                points.push((SHORT as f64, median(pairs.iter().map(|(_, short)| *short))));
            }
            points.push((depth as f64, median(pairs.iter().map(|(long, _)| *long))));
            let figure = format!("Redis time per job with {depth} queued: {name}");
            let row = Row::paired(figure, "µs", "with 1000 queued", &pairs);
            rows.push(if depth <= AIMED { row.aim(Aim::AtMost(1.3)) } else { row });
        }
        if depth > AIMED {
            let bytes = long.server.used_bytes().await?;
            rows.push(Row::new(format!("Redis memory with {depth} queued, payload included"), "MB", bytes / 1e6));
        }
    }
    let curve = Curve {
        name: "depth",
        title: "Redis' time per job, by how many jobs wait",
        x: "queued jobs",
        y: "µs per job",
        lines: lines.into(),
    };
    Ok((rows, vec![curve]))
}

/// A queue of a certain depth on a server of its own.
struct Depth {
    server: Server,
    queue: Queue,
    shard: Shard,
    worker: WorkerId,
    connection: MultiplexedConnection,
    queued: usize,
    claims: usize,
}

impl Depth {
    async fn start(append_only: bool) -> anyhow::Result<Self> {
        let server = Server::start(append_only).await?;
        let (queue, shard) = (open(&server)?, shard()?);
        let connection = server.connect().await?;
        Ok(Self { server, queue, shard, worker: "bench".parse()?, connection, queued: 0, claims: 0 })
    }

    async fn fill_to(&mut self, depth: usize) -> anyhow::Result<()> {
        let shard = self.shard.clone();
        fill(&self.queue, &self.shard, depth - self.queued, move |_| job(&shard)).await?;
        self.queued = depth;
        Ok(())
    }

    /// Each move once with a batch of jobs, after which as many wait as before. Tells Redis' µs per job of each.
    async fn turn(&mut self) -> anyhow::Result<[f64; MOVES.len()]> {
        let now: Vec<NewJob> = (0..BATCH).map(|_| job(&self.shard)).collect();
        let before = self.spent(SCRIPTS).await?;
        put(&self.queue, &self.shard, &now).await?;
        let enqueued = self.spent(SCRIPTS).await?;

        let soon = (0..BATCH).map(|_| NewJob { delay: Duration::from_millis(1), ..job(&self.shard) });
        put(&self.queue, &self.shard, &soon.collect::<Vec<_>>()).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let unpromoted = self.spent(SCRIPTS).await?;
        let count = self.queue.promote(&self.shard).await?.count;
        anyhow::ensure!(count == BATCH, "{count} jobs were due");
        let promoted = self.spent(SCRIPTS).await?;

        let first = self.claim().await?;
        let claimed = self.spent(SCRIPTS).await?;
        self.settle(&first).await?;
        let settled = self.spent(SCRIPTS).await?;
        let second = self.claim().await?;
        self.settle(&second).await?;

        let newest = self.list(None).await?;
        let middle = Some(self.middle().await?);
        let from_middle = self.list(middle).await?;

        let batch = BATCH as f64;
        Ok([
            (enqueued - before) / batch,
            (promoted - unpromoted) / batch,
            (claimed - promoted) / batch,
            (settled - claimed) / batch,
            newest,
            from_middle,
        ])
    }

    async fn claim(&mut self) -> anyhow::Result<Vec<ClaimedJob>> {
        self.claims += 1;
        let nonce = self.claims.to_string();
        let jobs = self.queue.claim(&self.shard, &self.worker, &nonce, BATCH, LEASE).await?.jobs;
        anyhow::ensure!(jobs.len() == BATCH, "a claim brought {} jobs", jobs.len());
        Ok(jobs)
    }

    async fn settle(&self, jobs: &[ClaimedJob]) -> anyhow::Result<()> {
        let result = RawValue::from_string(r#"{"content":""}"#.to_owned())?;
        let settlements = jobs.iter().map(|job| {
            Settlement::new(Held { id: job.id.clone(), grant: job.grant.clone() }, Verdict::Completed(result.clone()))
        });
        self.queue.settle(&self.shard, &settlements.collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// One page without a filter; tells Redis' µs per job of it.
    async fn list(&self, after: Option<Cursor>) -> anyhow::Result<f64> {
        let before = self.spent(LISTING).await?;
        let page = self.queue.list(std::slice::from_ref(&self.shard), &Filter::default(), after, PAGE).await?;
        anyhow::ensure!(page.jobs.len() == PAGE, "a page of {} jobs", page.jobs.len());
        Ok((self.spent(LISTING).await? - before) / PAGE as f64)
    }

    /// A place in the middle of the open jobs.
    async fn middle(&mut self) -> anyhow::Result<Cursor> {
        let (key, place) = (format!("overshot:{{{}}}:open", self.shard), self.queued / 2);
        let ids: Vec<String> =
            redis::cmd("ZRANGE").arg(key).arg(place).arg(place).query_async(&mut self.connection).await?;
        Ok(ids.first().context("no job waits")?.parse()?)
    }

    /// The µs that Redis has spent in these commands.
    async fn spent(&self, commands: &[&str]) -> anyhow::Result<f64> {
        let info = self.server.info("commandstats").await?;
        let of = |command: &&str| {
            let fields = info.get(&format!("cmdstat_{command}")).map(String::as_str).unwrap_or_default();
            let usec = fields.split(',').find_map(|field| field.strip_prefix("usec="));
            usec.map_or(Ok(0.0), |usec| Ok(usec.parse::<f64>()?))
        };
        commands.iter().map(of).sum()
    }
}
