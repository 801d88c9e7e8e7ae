//! The program `overshot-worker`: command line, telemetry and signals.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use overshot_common::config::{self, Config};
use overshot_common::telemetry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

// The programs live on many small, short-lived allocations, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes jobs from the pools, calls model servers, settles.
#[derive(Debug, Parser)]
#[command(name = "overshot-worker", version)]
struct Arguments {
    /// The configuration file; else that of `OVERSHOT_CONFIG`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Validates the configuration and exits.
    #[arg(long)]
    check_config: bool,
}

/// Exit code of a wrong configuration.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match config::from_process(arguments.config) {
        Ok(config) => config,
        Err(mistakes) => return misconfigured(&mistakes),
    };
    if let Err(mistakes) = overshot_worker::check(&config) {
        return misconfigured(&mistakes.join("\n"));
    }
    if arguments.check_config {
        // A closed pipe is the reader's business.
        let _ = writeln!(std::io::stdout(), "{config}");
        return ExitCode::SUCCESS;
    }
    if let Err(error) = telemetry::init(&config.log_filter, config.log_format) {
        let _ = writeln!(std::io::stderr(), "overshot-worker: {error}");
        return ExitCode::FAILURE;
    }
    match runtime().and_then(|runtime| runtime.block_on(serve(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "worker failed");
            ExitCode::FAILURE
        }
    }
}

fn misconfigured(mistakes: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{mistakes}");
    ExitCode::from(MISCONFIGURED)
}

/// One thread less than there are cores, unless `TOKIO_WORKER_THREADS` says otherwise: what runs beside a worker, its keeper and
/// often Redis or a model server, is slowed down more by a thread that competes than the worker gains by it.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        builder.worker_threads(cores.saturating_sub(1).max(1));
    }
    Ok(builder.enable_all().build()?)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    for warning in &config.warnings {
        tracing::warn!(warning, "configuration");
    }
    let listener = TcpListener::bind(config.worker_http_addr)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {}: {error}", config.worker_http_addr))?;
    let (shutdown, kill) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(heed_signals(shutdown.clone(), kill.clone())?);
    let traces = overshot_traces::start(&config.traces, "overshot-worker")?;
    let ended = overshot_worker::run(config, shutdown, kill.clone(), listener).await;
    // Whoever wants it to end now does not wait for a collector.
    let _ = kill.run_until_cancelled(traces.stop()).await;
    ended
}

/// The first SIGTERM or SIGINT drains, the second ends now.
fn heed_signals(shutdown: CancellationToken, kill: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        for (token, message) in [(shutdown, "draining"), (kill, "ending now")] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            tracing::info!(message);
            token.cancel();
        }
    })
}
