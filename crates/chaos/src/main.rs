//! `overshot-chaos`: breaks a fleet for a while, and tells what was lost, what came twice, and how fast it was back.
#![allow(clippy::print_stdout, reason = "the report goes to the terminal")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chaos::log::Fault;
use chaos::report::{self, Recoveries};
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
    /// As many runs, each with the next seed.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Waits at the end until the retention of all jobs is over, some two minutes, and looks what Redis still holds. No job
    /// has an idempotency key then, since those hold their jobs for a day.
    #[arg(long)]
    forget: bool,
    /// Only the faults whose name, as the report has it, holds this text; any case.
    #[arg(long)]
    only: Option<String>,
    /// Also writes the whole log of the last run into this file.
    #[arg(long)]
    log: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let first = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let faults = faults(arguments.only.as_deref())?;
    let (mut failed, mut recoveries) = (Vec::new(), Recoveries::default());
    for seed in first..first + arguments.runs {
        println!("chaos: seed {seed}, {} s", arguments.seconds);
        let options = Options {
            seed,
            time: Duration::from_secs(arguments.seconds),
            apis: arguments.apis,
            workers: arguments.workers,
            clients: arguments.clients,
            forget: arguments.forget,
            faults: faults.clone(),
            ..Options::default()
        };
        let outcome = run(&options).await?;
        println!("{}", report::text(&options, &outcome, allowance()));
        if let Some(path) = &arguments.log {
            let lines: String = outcome.history.events.iter().map(|event| format!("{event:?}\n")).collect();
            std::fs::write(path, lines)?;
        }
        recoveries.extend(&report::recovery(&outcome.history, allowance()));
        if !outcome.verdict.violations.is_empty() {
            failed.push(seed);
        }
    }
    if arguments.runs > 1 {
        println!("all {} runs; seeds with violations: {failed:?}\n{}", arguments.runs, recoveries.table());
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn faults(only: Option<&str>) -> anyhow::Result<Vec<Fault>> {
    let wanted = only.unwrap_or_default().to_lowercase();
    let holds = |fault: &&Fault| fault.name().to_lowercase().contains(&wanted);
    let found: Vec<Fault> = Fault::MADE.iter().filter(holds).copied().collect();
    let names = || Fault::MADE.iter().map(|fault| fault.name()).collect::<Vec<_>>().join("; ");
    anyhow::ensure!(!found.is_empty(), "no fault is called so: {}", names());
    Ok(found)
}
