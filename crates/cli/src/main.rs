//! The program `overshot`: a whole fleet on one machine, and the operator's verbs for fleets anywhere.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to people")]

mod api;
mod dead;
mod dev;
mod failure;
mod follow;
mod jobs;
mod output;
mod pools;
mod probe;
mod redis;
mod submit;
mod top;
mod workers;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use api::{Api, Connection};
use failure::{Exit, Failure};

// The programs live on many small, short-lived allocations, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  no answer from the API, or a failure on its side
  2  wrong use or configuration
  3  the job that was waited for did not complete
  4  no such job, pool or worker
  5  the token does not open this
  6  the state does not allow it: ended, not ended, key held, queue full";

/// A durable fleet of workers for AI-inference jobs.
#[derive(Debug, Parser)]
#[command(name = "overshot", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a redis-server, the API and a worker until Ctrl-C; started again, it goes on where it was.
    Dev(dev::Options),
    /// Submits a job and prints its output as it comes.
    Submit(Box<submit::Options>),
    /// Lists, shows, follows, explains, cancels and retries jobs.
    #[command(subcommand)]
    Jobs(jobs::Verb),
    /// Lists and retries jobs that failed or expired.
    #[command(subcommand)]
    Dead(dead::Verb),
    /// Lists, pauses and resumes pools.
    #[command(subcommand)]
    Pools(pools::Verb),
    /// Lists and drains workers.
    #[command(subcommand)]
    Workers(workers::Verb),
    /// Shows the fleet at a glance, again and again.
    Top(top::Options),
    /// Prints what a shell needs to complete these commands.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Asks an address, and ends with 0 when it answers 200: a health check for where there is no curl.
    Probe(probe::Options),
}

fn main() -> ExitCode {
    let Arguments { connection, command } = Arguments::parse();
    match command {
        Command::Dev(options) => dev(&options),
        Command::Completions { shell } => ended(completions(shell)),
        verb => ended(operate(&connection, verb)),
    }
}

fn ended(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if failure.exit() != Exit::ReaderLeft {
        eprintln!("overshot: {failure}");
    }
    failure.exit().into()
}

/// Written by us, at once: the generator panics where nobody reads any more.
fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "overshot", &mut script);
    output::stream(&String::from_utf8_lossy(&script))
}

fn dev(options: &dev::Options) -> ExitCode {
    let config = match dev::configuration(options) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Exit::Usage.into();
        }
    };
    match dev::run(options, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overshot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn operate(connection: &Connection, command: Command) -> Result<(), Failure> {
    if let Command::Probe(options) = &command {
        return probe::run(options).await;
    }
    let (api, json) = (Api::new(connection)?, connection.json);
    match command {
        Command::Submit(options) => submit::run(&api, &options, json).await,
        Command::Jobs(verb) => jobs::run(&api, verb, json).await,
        Command::Dead(verb) => dead::run(&api, verb, json).await,
        Command::Pools(verb) => pools::run(&api, verb, json).await,
        Command::Workers(verb) => workers::run(&api, verb, json).await,
        Command::Top(options) => top::run(&api, &options, json).await,
        Command::Probe(_) | Command::Dev(_) | Command::Completions { .. } => Ok(()),
    }
}
