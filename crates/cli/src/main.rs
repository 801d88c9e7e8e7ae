//! The program `overshot`: a whole fleet on one machine.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to people")]

mod dev;
mod redis;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// The programs live on many small, short-lived allocations, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A durable fleet of workers for AI-inference jobs.
#[derive(Debug, Parser)]
#[command(name = "overshot", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a redis-server, the API and a worker until Ctrl-C; started again, it goes on where it was.
    Dev(dev::Options),
}

/// Exit code of a wrong configuration.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    let Command::Dev(options) = Arguments::parse().command;
    let config = match dev::configuration(&options) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(MISCONFIGURED);
        }
    };
    match dev::run(&options, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overshot: {error:#}");
            ExitCode::FAILURE
        }
    }
}
