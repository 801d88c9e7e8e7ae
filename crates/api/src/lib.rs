//! The HTTP API of Overshot: accepts jobs, tells what became of them, and runs the promoter, the reaper and the pruner.
//!
//! Owns HTTP: routes, wire types, statuses, tokens, streams of events. Knows nothing of Redis commands and of
//! model providers. `docs/ARCHITECTURE.md` tells the rest.

use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use overshot_common::config::Config;
use overshot_common::queue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod access;
mod app;
mod audit;
mod body;
mod error;
mod handlers;
mod infra;
mod metrics_page;
mod middleware;
mod openapi;
mod overview;
mod pace;
mod params;
mod redis_watch;
mod router;
mod sse;
mod submit;
mod upload;
mod wait;
mod wire;

use app::App;

/// How long requests in flight may take once the stop has begun.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the API ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The Redis may lose accepted jobs.
    #[error("redis is not fit to hold jobs ({}); OVERSHOT_ALLOW_UNSAFE_REDIS=1 turns this into a warning", .0.join("; "))]
    Unfit(Vec<String>),
    /// The queue cannot be opened, or the configuration does not fit what it holds.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// Tokens of the configuration cannot be read.
    #[error("{}", .0.join("; "))]
    Tokens(Vec<String>),
    /// The listener failed.
    #[error("the listener failed")]
    Listener(#[from] std::io::Error),
}

/// Judges what only an API needs of the configuration: its tokens.
///
/// # Errors
/// Every mistake, `key: what is wrong`; a program prints them to stderr and ends with exit code 2.
pub fn check(config: &Config) -> Result<(), Vec<String>> {
    access::Access::new(config, |name| std::env::var(name).ok()).map(drop)
}

/// Serves the API on `listener` until `shutdown`, then finishes requests in flight, at most 10 s.
///
/// Redis may be away at the start: that is logged, tried again for ever, and `/readyz` says 503 meanwhile.
///
/// # Errors
/// A Redis that is unfit or holds what the configuration contradicts, found at any time until it was first good.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), RunError> {
    let address = listener.local_addr()?;
    let stopping = shutdown.child_token();
    let (app, startup) = App::new(config, stopping.clone())?;
    tracing::info!(addr = %address, "overshot-api listening");
    let serve = serve(listener, Arc::new(app), stopping.clone());
    tokio::pin!(serve);
    let failure = tokio::select! {
        ended = &mut serve => return ended,
        failure = startup.run() => failure,
    };
    stopping.cancel();
    serve.await?;
    Err(failure)
}

async fn serve(listener: TcpListener, app: Arc<App>, stopping: CancellationToken) -> Result<(), RunError> {
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
    });
    let upkeep = tokio::spawn(overshot_common::metrics::tend(stopping.clone()));
    // Made once: left to itself, the server puts the routes together again for each connection, and keeps them with it.
    let service = router::router(app).into_make_service();
    let server = axum::serve(listener, service).with_graceful_shutdown(stopping.clone().cancelled_owned());
    let too_long = async {
        stopping.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let ended = tokio::select! {
        ended = server => ended,
        () = too_long => {
            tracing::warn!("requests in flight cut off");
            Ok(())
        }
    };
    upkeep.abort();
    Ok(ended?)
}
