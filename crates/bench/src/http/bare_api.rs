//! What single POSTs are held against: a bare handler that takes the body, runs one script and answers.
//!
//! Its arguments, replies and answers are of the size of ours; it judges nothing and keeps nothing else.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use overshot_common::ids::{JobId, Shard};
use redis::Script;
use redis::aio::MultiplexedConnection;

use crate::engine;

const ENQUEUE: &str = "
redis.call('HSET', 'j:' .. ARGV[1], 's', ARGV[2], 'm', ARGV[3], 'i', ARGV[4])
redis.call('XADD', 'q', '*', 'j', ARGV[1])
return { { 1, 0, ARGV[5], ARGV[5], ARGV[5] }, {} }";
/// What stands beside the input in a record of ours, in bytes.
const STATE: usize = 56;
const SPEC: &str = r#"{"task":"chat","model":null,"provider":null,"stream":true}"#;
/// What an answer of ours holds, in bytes.
const ANSWER: usize = 512;

struct Bare {
    connection: MultiplexedConnection,
    enqueue: Script,
    shard: Shard,
}

/// Serves until the process is ended; tells on standard error where it listens.
#[allow(clippy::print_stderr, reason = "that is where the caller reads the address")]
pub(crate) async fn serve(redis: &str) -> anyhow::Result<()> {
    let connection = redis::Client::open(redis)?.get_multiplexed_async_connection().await?;
    let state = Arc::new(Bare { connection, enqueue: Script::new(ENQUEUE), shard: engine::shard()? });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("listening addr={}", listener.local_addr()?);
    let listener = listener.tap_io(|connection| {
        connection.set_nodelay(true).ok();
    });
    Ok(axum::serve(listener, Router::new().route("/api/v1/jobs", post(submit)).with_state(state)).await?)
}

async fn submit(State(bare): State<Arc<Bare>>, body: Bytes) -> Result<impl IntoResponse, StatusCode> {
    let id = JobId::new(bare.shard.clone()).local;
    let now = 1_700_000_000_000_u64;
    let mut call = bare.enqueue.prepare_invoke();
    call.arg(id.as_str()).arg(&[b's'; STATE][..]).arg(SPEC).arg(&body[..]).arg(now);
    let _: redis::Value =
        call.invoke_async(&mut bare.connection.clone()).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let mut answer = format!(r#"{{"id":"{}","object":"job","status":"queued","filler":""#, id.as_str());
    answer.extend(std::iter::repeat_n('x', ANSWER - 2 - answer.len()));
    answer.push_str("\"}");
    Ok((StatusCode::ACCEPTED, [(CONTENT_TYPE, "application/json")], answer))
}
