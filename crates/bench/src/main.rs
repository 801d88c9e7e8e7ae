//! The figures: what Overshot costs beside the physical limit, as ratios taken in one run.
//!
//! Absolute numbers drift from machine to machine and from minute to minute; a ratio is the median of pairs taken in turn.
#![allow(clippy::print_stdout, reason = "the table goes to the terminal")]

mod affinity;
mod backlog;
mod bare;
mod batches;
mod calls;
mod curves;
mod drain;
mod embeddings;
mod engine;
mod http;
mod idle;
mod lanes;
mod lone;
mod programs;
mod real;
mod recovery;
mod relay;
mod report;
mod scale;
mod server;
mod size;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use report::{Mode, Report};
use size::Size;

/// Measures Overshot on private redis-servers of its own.
#[derive(Debug, Parser)]
struct Options {
    /// Fewer jobs and pairs: for every day.
    #[arg(long)]
    fast: bool,
    /// Only the parts of these names.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Where the tables and the plots go.
    #[arg(long, default_value = "bench-results")]
    out: PathBuf,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves what single POSTs are held against.
    #[command(hide = true)]
    BareApi {
        /// The server that it writes to.
        redis: String,
    },
    /// Runs batches of jobs through the library alone, for a count of instructions.
    #[command(hide = true)]
    Batches {
        /// How many.
        count: usize,
        /// Jobs of one call.
        #[arg(long, default_value_t = 100)]
        size: usize,
        /// The last move that is made.
        #[arg(long, value_enum, default_value_t)]
        until: batches::Move,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match options.role {
        Some(Role::BareApi { redis }) => return http::bare_api::serve(&redis).await,
        // A thread of its own, which has no runtime yet.
        Some(Role::Batches { count, size, until }) => {
            return tokio::task::spawn_blocking(move || batches::run(count, size, until)).await?;
        }
        None => {}
    }
    let size = if options.fast { Size::fast() } else { Size::full() };
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let mut report = Report::new(options.fast);
    for mode in [Mode::AofOff, Mode::AofEverysec] {
        macro_rules! part {
            ($part:ident) => {
                if wanted(stringify!($part)) {
                    println!("{mode}: {} …", stringify!($part));
                    let rows = $part::run(mode, &size).await;
                    report.add(mode, rows.with_context(|| format!("{}, {mode}", stringify!($part)))?)?;
                }
            };
        }
        part!(drain);
        part!(http);
        part!(lone);
        part!(idle);
        part!(relay);
        part!(embeddings);
    }
    // How Redis keeps what it holds makes no difference to these.
    let mode = Mode::AofOff;
    if wanted("real") {
        println!("{mode}: real …");
        report.add(mode, real::run(mode, &size).await.context("real")?)?;
    }
    if wanted("curves") {
        println!("{mode}: curves …");
        let (rows, curves) = curves::run(mode, &size).await.context("curves")?;
        report.add(mode, rows)?;
        report.add_curves(mode, curves)?;
    }
    if wanted("scale") {
        println!("{mode}: scale …");
        let (rows, curves) = Box::pin(scale::run(mode, &size)).await.context("scale")?;
        report.add(mode, rows)?;
        report.add_curves(mode, curves)?;
    }
    if wanted("affinity") {
        println!("{mode}: affinity …");
        report.add(mode, Box::pin(affinity::run(mode, &size)).await.context("affinity")?)?;
    }
    if wanted("recovery") {
        println!("{mode}: recovery …");
        report.add(mode, Box::pin(recovery::run(mode, &size)).await.context("recovery")?)?;
    }
    println!("\n{report}");
    report.write(&options.out)?;
    println!("written to {}", options.out.display());
    Ok(())
}
