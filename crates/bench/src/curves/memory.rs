//! Bytes of Redis memory per queued job, and what each thing that a job may ask for adds.

use std::time::Duration;

use anyhow::Context as _;
use overshot_common::ids::Shard;
use overshot_common::job::Owner;
use overshot_common::queue::{NewJob, Queue, Reservation};

use crate::backlog::fill;
use crate::engine::{job, open, shard};
use crate::report::{Aim, Row};
use crate::server::Server;

/// The bytes of every job's input, which are not Overshot's.
const PAYLOAD: f64 = 240.0;
const DAY: Duration = Duration::from_secs(86_400);

/// Something that a job may ask for.
struct Feature {
    name: &'static str,
    /// How many indexes it stands in for it.
    indexes: f64,
    ask: fn(&mut NewJob, usize),
}

const FEATURES: [Feature; 5] = [
    Feature {
        name: "owner (service and ref), the same for all",
        indexes: 2.0,
        ask: |job, _| job.spec.owner = Some(owner("invoices".to_owned())),
    },
    Feature {
        name: "owner (service and ref), a ref for each",
        indexes: 2.0,
        ask: |job, number| job.spec.owner = Some(owner(format!("{number:08}"))),
    },
    Feature {
        name: "concurrency key (its holder and its listing), one for each",
        indexes: 2.0,
        ask: |job, number| job.concurrency_key = Some(format!("{number:08}")),
    },
    Feature { name: "deadline of its own", indexes: 1.0, ask: |job, _| job.own_deadline = true },
    Feature { name: "due later", indexes: 1.0, ask: |job, _| job.delay = DAY },
];

fn owner(reference: String) -> Owner {
    Owner { service: "billing".to_owned(), reference, agent: None }
}

pub(super) async fn run(append_only: bool, jobs: usize) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(append_only).await?;
    let (queue, shard) = (open(&server)?, shard()?);
    // Loads the script, which stays in memory.
    fill(&queue, &shard, 1, plain(&shard)).await?;
    let of_plain = bytes_per_job(&server, &queue, &shard, jobs, |_, _| {}).await?;
    let figure = "Redis memory per queued job beyond its payload";
    let mut rows = vec![Row::new(figure, "B", of_plain - PAYLOAD).aim(Aim::AtMost(700.0))];
    let added = |name: &str, bytes: f64| {
        Row::new(format!("Redis memory per index: {name}"), "B", bytes).aim(Aim::AtMost(140.0))
    };
    for Feature { name, indexes, ask } in FEATURES {
        let bytes = bytes_per_job(&server, &queue, &shard, jobs, ask).await?;
        rows.push(added(name, (bytes - of_plain) / indexes));
    }
    // No index: a key of its own, which expires by itself.
    let per_key = bytes_per_key(&server, &queue, &shard, jobs).await?;
    rows.push(Row::new("Redis memory per idempotency key", "B", per_key));
    Ok(rows)
}

fn plain(shard: &Shard) -> impl Fn(usize) -> NewJob + Clone + Send + 'static {
    let shard = shard.clone();
    move |_| job(&shard)
}

/// Fills an empty server with such jobs.
async fn bytes_per_job(
    server: &Server,
    queue: &Queue,
    shard: &Shard,
    jobs: usize,
    ask: fn(&mut NewJob, usize),
) -> anyhow::Result<f64> {
    let before = emptied(server).await?;
    let plain = plain(shard);
    let asking = move |number| {
        let mut job = plain(number);
        ask(&mut job, number);
        job
    };
    fill(queue, shard, jobs, asking).await?;
    Ok((used(server).await? - before) / jobs as f64)
}

/// An idempotency key lives outside of its job's shard.
async fn bytes_per_key(server: &Server, queue: &Queue, shard: &Shard, keys: usize) -> anyhow::Result<f64> {
    let reserve = async |number: usize| {
        let wanted = Reservation { id: job(shard).id, body_hash: *b"0123456789abcdef" };
        queue.reserve(&format!("{number:08}"), &wanted, DAY).await
    };
    // Loads the script, which stays in memory.
    reserve(0).await?;
    let before = emptied(server).await?;
    for first in (0..keys).step_by(100) {
        futures_util::future::try_join_all((first..keys.min(first + 100)).map(&reserve)).await?;
    }
    Ok((used(server).await? - before) / keys as f64)
}

async fn emptied(server: &Server) -> anyhow::Result<f64> {
    let (): () = redis::cmd("FLUSHALL").arg("SYNC").query_async(&mut server.connect().await?).await?;
    used(server).await
}

/// The bytes that the server uses, but for its buffers, which come and go.
async fn used(server: &Server) -> anyhow::Result<f64> {
    let info = server.info("memory").await?;
    let field = |name: &str| anyhow::Ok(info.get(name).with_context(|| format!("INFO lacks {name}"))?.parse::<f64>()?);
    Ok(field("used_memory")? - field("mem_clients_normal")? - field("mem_aof_buffer")?)
}
