//! The physical limit: a bare client with three minimal scripts over one connection.
//!
//! No grants, leases, limits, deadlines, indexes or retries: what any queue on Redis Streams has to pay.

use redis::aio::MultiplexedConnection;
use redis::{Script, Value};

use crate::lanes::{Calls, rate};
use crate::server::Server;

/// How many calls are under way together: of a batch each, and of a job each.
pub(crate) const LANES: usize = 8;
pub(crate) const SINGLE_LANES: usize = 64;
/// Jobs of one call.
pub(crate) const BATCH: usize = 100;

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

/// A job's input: 240 bytes of JSON.
pub(crate) fn input() -> String {
    let frame = r#"{"user":""}"#;
    format!(r#"{{"user":"{}"}}"#, "x".repeat(240 - frame.len()))
}

/// Enqueues jobs, `batch` a call on `lanes` lanes; tells how many a second.
pub(crate) async fn enqueue(server: &Server, jobs: usize, batch: usize, lanes: usize) -> anyhow::Result<f64> {
    let connection = server.connect().await?;
    let calls = rate(jobs / batch, lanes, |_, calls: Calls| {
        let mut connection = connection.clone();
        async move {
            let (script, input) = (Script::new(ENQUEUE), input());
            while let Some(number) = calls.take() {
                let mut call = script.prepare_invoke();
                for number in number * batch..(number + 1) * batch {
                    call.arg(format!("{number:026}")).arg(&input);
                }
                let (): () = call.invoke_async(&mut connection).await?;
            }
            Ok(())
        }
    });
    Ok(calls.await? * batch as f64)
}

/// Claims and settles jobs that were enqueued, in batches; tells how many a second.
pub(crate) async fn drain(server: &Server, jobs: usize) -> anyhow::Result<f64> {
    let mut connection = server.connect().await?;
    let (): () = redis::cmd("XGROUP").arg(&["CREATE", "q", "g", "0", "MKSTREAM"]).query_async(&mut connection).await?;
    let calls = rate(jobs / BATCH, LANES, |lane, calls: Calls| {
        let mut connection = connection.clone();
        async move {
            let (claim, settle) = (Script::new(CLAIM), Script::new(SETTLE));
            while calls.take().is_some() {
                claim_and_settle(&mut connection, &claim, &settle, lane).await?;
            }
            Ok(())
        }
    });
    Ok(calls.await? * BATCH as f64)
}

async fn claim_and_settle(
    connection: &mut MultiplexedConnection,
    claim: &Script,
    settle: &Script,
    lane: usize,
) -> anyhow::Result<()> {
    let mut call = claim.prepare_invoke();
    let jobs: Vec<(String, String, Value)> =
        call.arg(format!("worker-{lane}")).arg(BATCH).invoke_async(connection).await?;
    anyhow::ensure!(jobs.len() == BATCH, "a claim brought {} jobs", jobs.len());
    let mut call = settle.prepare_invoke();
    for (id, entry, _input) in &jobs {
        call.arg(id).arg(entry).arg(r#"{"schema_version":"ai.chat_result.v1","content":""}"#);
    }
    let (): () = call.invoke_async(connection).await?;
    Ok(())
}
