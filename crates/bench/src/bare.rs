//! The physical limit: a bare client with three minimal scripts, batches of 100 on 8 lanes over one connection.
//!
//! No grants, leases, limits, deadlines, indexes or retries: what any queue on Redis Streams has to pay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{Script, Value};

use crate::server::Server;

const LANES: usize = 8;
const BATCH: usize = 100;

const ENQUEUE: &str = "
for i = 1, #ARGV, 2 do
  redis.call('HSET', 'j:' .. ARGV[i], 's', 'queued', 'i', ARGV[i + 1])
  redis.call('XADD', 'q', '*', 'j', ARGV[i])
end";
const CLAIM: &str = "
local reply = redis.call('XREADGROUP', 'GROUP', 'g', ARGV[1], 'COUNT', ARGV[2], 'STREAMS', 'q', '>')
local jobs = {}
for _, entry in ipairs(reply and reply[1][2] or {}) do
  local id = entry[2][2]
  local job = redis.call('HMGET', 'j:' .. id, 's', 'i')
  redis.call('HINCRBY', 'j:' .. id, 'n', 1)
  redis.call('HSET', 'j:' .. id, 's', 'running', 'w', ARGV[1])
  jobs[#jobs + 1] = { id, entry[1], job[2] }
end
return jobs";
const SETTLE: &str = "
for i = 1, #ARGV, 3 do
  local name = 'j:' .. ARGV[i]
  if redis.call('HMGET', name, 's', 'w')[1] == 'running' then
    redis.call('HSET', name, 's', 'completed', 'r', ARGV[i + 2])
    redis.call('HDEL', name, 'w')
    redis.call('PEXPIRE', name, 86400000)
    redis.call('XACK', 'q', 'g', ARGV[i + 1])
    redis.call('XDEL', 'q', ARGV[i + 1])
    redis.call('PUBLISH', 'e:' .. ARGV[i], 'done')
  end
end";

/// What one round brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) enqueued_per_s: f64,
    pub(crate) drained_per_s: f64,
}

/// A job's input: 240 bytes of JSON.
pub(crate) fn input() -> String {
    let frame = r#"{"user":""}"#;
    format!(r#"{{"user":"{}"}}"#, "x".repeat(240 - frame.len()))
}

pub(crate) async fn run(server: &Server, jobs: usize) -> anyhow::Result<Rates> {
    let connection = server.connect().await?;
    let (): () =
        redis::cmd("XGROUP").arg(&["CREATE", "q", "g", "0", "MKSTREAM"]).query_async(&mut connection.clone()).await?;
    let began = Instant::now();
    lanes(jobs, |lane, next| enqueue(connection.clone(), lane, next)).await?;
    let enqueued_per_s = jobs as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    lanes(jobs, |lane, next| drain(connection.clone(), lane, next)).await?;
    Ok(Rates { enqueued_per_s, drained_per_s: jobs as f64 / began.elapsed().as_secs_f64() })
}

/// Runs one task per lane until the jobs are done.
async fn lanes<F>(jobs: usize, lane: impl Fn(usize, Arc<AtomicUsize>) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let left = Arc::new(AtomicUsize::new(jobs / BATCH));
    let tasks: Vec<_> = (0..LANES).map(|number| tokio::spawn(lane(number, left.clone()))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// Takes one batch off the count; `None` when there are no more.
fn take(left: &AtomicUsize) -> Option<usize> {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()
}

async fn enqueue(mut connection: MultiplexedConnection, _lane: usize, left: Arc<AtomicUsize>) -> anyhow::Result<()> {
    let (script, input) = (Script::new(ENQUEUE), input());
    while let Some(batch) = take(&left) {
        let mut call = script.prepare_invoke();
        for number in 0..BATCH {
            call.arg(format!("{:026}", batch * BATCH + number)).arg(&input);
        }
        let (): () = call.invoke_async(&mut connection).await?;
    }
    Ok(())
}

async fn drain(mut connection: MultiplexedConnection, lane: usize, left: Arc<AtomicUsize>) -> anyhow::Result<()> {
    let (claim, settle) = (Script::new(CLAIM), Script::new(SETTLE));
    while take(&left).is_some() {
        let mut call = claim.prepare_invoke();
        let jobs: Vec<(String, String, Value)> =
            call.arg(format!("worker-{lane}")).arg(BATCH).invoke_async(&mut connection).await?;
        anyhow::ensure!(jobs.len() == BATCH, "a claim brought {} jobs", jobs.len());
        let mut call = settle.prepare_invoke();
        for (id, entry, _input) in &jobs {
            call.arg(id).arg(entry).arg(r#"{"schema_version":"ai.chat_result.v1","content":""}"#);
        }
        let (): () = call.invoke_async(&mut connection).await?;
    }
    Ok(())
}
