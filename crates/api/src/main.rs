//! The program: reads the configuration, sets up logging, binds the listener and runs the API until a signal.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use overshot_common::{config, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

// The programs live on many small, short-lived allocations, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a mistake in the configuration ends with.
const EXIT_CONFIG: u8 = 2;

/// The HTTP API of Overshot.
#[derive(Debug, Parser)]
#[command(name = "overshot-api", version)]
struct Arguments {
    /// The configuration; else `OVERSHOT_CONFIG`, else one pool on a simulated provider.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Judges the configuration and ends.
    #[arg(long)]
    check_config: bool,
}

#[expect(clippy::print_stderr, clippy::print_stdout, reason = "a command's answer to who typed it")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match config::from_process(arguments.config) {
        Ok(config) => config,
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| eprintln!("{}: {}", mistake.key, mistake.problem));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if let Err(mistakes) = overshot_api::check(&config) {
        mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
        return ExitCode::from(EXIT_CONFIG);
    }
    if arguments.check_config {
        println!("{config}");
        return ExitCode::SUCCESS;
    }
    if let Err(error) = telemetry::init(&config.log_filter, config.log_format) {
        eprintln!("logging: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "runtime not started");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(serve(config));
    // What still runs is bounded by nobody else.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "overshot-api ended");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: config::Config) -> anyhow::Result<()> {
    config.warnings.iter().for_each(|warning| tracing::warn!(%warning, "configuration"));
    let listener = tokio::net::TcpListener::bind(config.http_addr)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {}: {error}", config.http_addr))?;
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone())?);
    let traces = overshot_traces::start(&config.traces, "overshot-api")?;
    let ended = overshot_api::run(config, listener, shutdown).await;
    traces.stop().await;
    Ok(ended?)
}

/// Begins the graceful stop at the first signal and ends at once at the second.
fn stop_on_signal(shutdown: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        for first in [true, false] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if first {
                tracing::info!("stopping");
                shutdown.cancel();
            }
        }
        #[expect(clippy::exit, reason = "a second signal means now")]
        std::process::exit(1);
    })
}
