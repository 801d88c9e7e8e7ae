//! The figures: what Overshot costs beside the physical limit, as ratios taken in one run.
//!
//! Absolute numbers drift from machine to machine and from minute to minute; a ratio is the median of pairs taken in turn.
#![allow(clippy::print_stdout, reason = "the table goes to the terminal")]

mod bare;
mod drain;
mod http;
mod programs;
mod report;
mod server;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use report::{Figures, Mode};
use server::Server;

/// Measures Overshot on private redis-servers of its own.
#[derive(Debug, Parser)]
struct Options {
    /// Fewer jobs and pairs: for every day.
    #[arg(long)]
    fast: bool,
    /// Where the tables go, as JSON and Markdown.
    #[arg(long, default_value = "bench-results")]
    out: PathBuf,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Jobs of one drain.
    jobs: usize,
    /// Pairs of which the median is taken.
    pairs: usize,
    /// Single POSTs of one round.
    posts: usize,
    /// Sequential POST → result round trips.
    round_trips: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let size = if options.fast {
        Size { jobs: 10_000, pairs: 3, posts: 5_000, round_trips: 500 }
    } else {
        Size { jobs: 50_000, pairs: 5, posts: 20_000, round_trips: 2_000 }
    };
    let mut figures = Figures::new(size.jobs);
    for mode in [Mode::AofOff, Mode::AofEverysec] {
        println!("measuring with {mode} …");
        measure(mode, size, &mut figures).await.with_context(|| format!("with {mode}"))?;
    }
    println!("\n{}", figures.markdown());
    figures.write(&options.out)?;
    println!("written to {}", options.out.display());
    Ok(())
}

async fn measure(mode: Mode, size: Size, figures: &mut Figures) -> anyhow::Result<()> {
    for pair in 0..size.pairs {
        // Each side has a server of its own, one after the other: neither inherits the other's memory.
        let server = Server::start(mode == Mode::AofEverysec).await?;
        let bare = bare::run(&server, size.jobs).await?;
        drop(server);
        let server = Server::start(mode == Mode::AofEverysec).await?;
        let ours = drain::run(&server, size.jobs).await?;
        drop(server);
        println!(
            "  pair {}: bare {:.0} enqueued/s, {:.0} drained/s; overshot {:.0} and {:.0}",
            pair + 1,
            bare.enqueued_per_s,
            bare.drained_per_s,
            ours.enqueued_per_s,
            ours.drained_per_s
        );
        figures.add_pair(mode, &bare, &ours);
    }
    let server = Server::start(mode == Mode::AofEverysec).await?;
    let http = http::run(&server, size.posts, size.round_trips).await?;
    println!("  http: {:.0} posts/s, {:.2} ms p50 to the result", http.posts_per_s, http.result_p50_ms);
    figures.add_http(mode, &http);
    Ok(())
}
