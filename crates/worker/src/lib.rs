//! Takes jobs, calls model servers, settles.
//!
//! [`run`] is the whole worker: `runner` owns its services and its slots, `executor` is the life of one job,
//! [`tasks`] and [`providers`] do the work itself.

use overshot_common::config::Config;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod audio;
mod executor;
pub mod fetch;
mod http;
pub mod outcome;
pub mod providers;
mod runner;
pub mod tasks;
mod trace;
mod upstream;

pub use runner::providers::check;

/// Runs a worker over the pools that `config` tells it to serve, with health and metrics on `listener`.
///
/// `shutdown` drains: no more claims, what fits `worker.drain` is finished, the rest is handed back. `kill` ends it
/// now: everything is handed back, for at most a second. Returns when the worker has left the queue.
///
/// # Errors
/// What no waiting mends: a provider that cannot be made ready, a Redis that may lose jobs, another number of shards
/// than the pool was started with. A Redis that is away is waited for.
///
/// # Cancel safety
/// None: a dropped worker leaves its jobs to the reaper.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    kill: CancellationToken,
    listener: TcpListener,
) -> anyhow::Result<()> {
    runner::Runner::new(config)?.run(shutdown, kill, listener).await
}
