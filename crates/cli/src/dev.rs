//! `overshot dev`: one command, one machine. Starts everything, stops everything, keeps what was queued.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use overshot_common::config::{self, Config, ConfigErrors, RedisUrl};
use overshot_common::telemetry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::redis::PrivateRedis;

/// What `overshot dev` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration file; else that of `OVERSHOT_CONFIG`, else one pool `chat` with a simulated provider.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Validates the configuration and exits.
    #[arg(long)]
    check_config: bool,
    /// Uses this Redis instead of a private one.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Where the private Redis keeps its data.
    #[arg(long, value_name = "DIR", default_value = ".overshot")]
    data: PathBuf,
}

/// Reads the configuration. Unless told otherwise, a fleet on one machine listens to that machine only.
pub(crate) fn configuration(options: &Options) -> Result<Config, ConfigErrors> {
    let mut config = config::from_process(options.config.clone())?;
    for (name, address) in
        [("OVERSHOT_HTTP_ADDR", &mut config.http_addr), ("OVERSHOT_WORKER_HTTP_ADDR", &mut config.worker_http_addr)]
    {
        if std::env::var_os(name).is_none() {
            address.set_ip([127, 0, 0, 1].into());
        }
    }
    Ok(config)
}

/// Runs the fleet until a signal.
#[tokio::main]
pub(crate) async fn run(options: &Options, mut config: Config) -> anyhow::Result<()> {
    if options.check_config {
        println!("{config}");
        return Ok(());
    }
    telemetry::init(&config.log_filter, config.log_format)?;
    let traces = overshot_traces::start(&config.traces, "overshot")?;
    let api = listen(config.http_addr).await?;
    let worker = match TcpListener::bind(config.worker_http_addr).await {
        Ok(listener) => listener,
        // Nobody asks a developer's worker for its health by a fixed port.
        Err(_) => listen(SocketAddr::new(config.worker_http_addr.ip(), 0)).await?,
    };
    let private = match &options.redis_url {
        Some(url) => {
            config.redis_url = RedisUrl::new(url).map_err(anyhow::Error::msg).context("--redis-url")?;
            None
        }
        None => {
            let redis = PrivateRedis::start(&options.data).await?;
            config.redis_url = RedisUrl::new(&redis.url()).map_err(anyhow::Error::msg)?;
            Some(redis)
        }
    };
    greet(api.local_addr()?, &config);
    let ended = fleet(config, api, worker).await;
    traces.stop().await;
    if let Some(redis) = private {
        redis.stop().await?;
    }
    ended
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let hint = "OVERSHOT_HTTP_ADDR=127.0.0.1:0 takes any free port";
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}; {hint}"))
}

fn greet(address: SocketAddr, config: &Config) {
    let authorization =
        if config.api_tokens.is_empty() { "" } else { " -H \"Authorization: Bearer $OVERSHOT_API_TOKEN\"" };
    let pool = config.pools.keys().next().map_or("chat", |pool| pool.as_str());
    println!("overshot dev: API on http://{address}, Ctrl-C stops. Try:\n");
    println!("  curl -s 'http://{address}/api/v1/jobs?wait=30s'{authorization} \\");
    println!("    --json '{{\"task\":\"chat\",\"pool\":\"{pool}\",\"input\":{{\"user\":\"Say hello.\"}}}}'\n");
}

/// The API and a worker. The first signal drains the worker, the second ends it now; the API outlives it, so that
/// whoever waits for a job still gets its answer.
async fn fleet(config: Config, api: TcpListener, worker: TcpListener) -> anyhow::Result<()> {
    let (drain, kill, stop) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    tokio::spawn(heed_signals(drain.clone(), kill.clone())?);
    let mut api = tokio::spawn(overshot_api::run(config.clone(), api, stop.clone()));
    let mut worker = tokio::spawn(overshot_worker::run(config, drain.clone(), kill.clone(), worker));
    let (api_ended, worker_ended) = tokio::select! {
        ended = &mut worker => {
            stop.cancel();
            (api.await, ended)
        }
        ended = &mut api => {
            drain.cancel();
            kill.cancel();
            (ended, worker.await)
        }
    };
    api_ended.context("the API broke down")?.context("API")?;
    worker_ended.context("the worker broke down")?.context("worker")
}

fn heed_signals(drain: CancellationToken, kill: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        for (token, message) in [(drain, "draining; once more to end now"), (kill, "ending now")] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            println!("overshot dev: {message}");
            token.cancel();
        }
    })
}
