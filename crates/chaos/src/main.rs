//! `overshot-chaos`: breaks a fleet for a while, and tells what was lost, what came twice, and how fast it was back.
#![allow(clippy::print_stdout, reason = "the report goes to the terminal")]

use std::process::ExitCode;
use std::time::Duration;

use chaos::report;
use chaos::run::{Options, allowance, run};
use clap::Parser;

/// Breaks a fleet of its own, on a private redis-server. Ends with 1 when a rule was broken.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is broken and submitted follows from it; drawn and printed when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// For how long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// API processes.
    #[arg(long, default_value_t = 2)]
    apis: usize,
    /// Worker processes.
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// Clients, each of which submits some seven jobs a second.
    #[arg(long, default_value_t = 4)]
    clients: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("chaos: seed {seed}, {} s", arguments.seconds);
    let options = Options {
        seed,
        time: Duration::from_secs(arguments.seconds),
        apis: arguments.apis,
        workers: arguments.workers,
        clients: arguments.clients,
        ..Options::default()
    };
    let outcome = run(&options).await?;
    print!("{}", report::text(&options, &outcome, allowance()));
    Ok(if outcome.verdict.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
