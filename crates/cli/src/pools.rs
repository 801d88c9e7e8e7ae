//! `overshot pools`.

use serde_json::Value;

use crate::api::{Answer, Api};
use crate::failure::Failure;
use crate::output::{say, short, table, text};

/// What can be done with pools.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Lists the pools: their jobs, their workers, how long the oldest job waits.
    List,
    /// Stops claims: what runs goes on, nothing new begins.
    Pause {
        /// The pools' names.
        #[arg(required = true)]
        pools: Vec<String>,
    },
    /// Lets claims go on.
    Resume {
        /// The pools' names.
        #[arg(required = true)]
        pools: Vec<String>,
    },
}

/// Runs a verb.
pub(crate) async fn run(api: &Api, verb: Verb, json: bool) -> Result<(), Failure> {
    let (pools, to) = match verb {
        Verb::List => return list(api, json).await,
        Verb::Pause { pools } => (pools, "pause"),
        Verb::Resume { pools } => (pools, "resume"),
    };
    for pool in &pools {
        let answer = api.post(&["pools", pool, to], None).await?;
        if json {
            say(&answer.text)?;
        } else {
            let state = if answer.json["paused"] == true { "paused" } else { "claims go on" };
            say(format!("{pool}  {state}"))?;
        }
    }
    Ok(())
}

async fn list(api: &Api, json: bool) -> Result<(), Failure> {
    let answer = api.get(&["pools"]).await?;
    if json { say(&answer.text) } else { say(render(&answer)) }
}

/// The pools as a table.
pub(crate) fn render(answer: &Answer) -> String {
    let rows = answer.data().iter().map(|pool| {
        let count = |status: &str| pool["by_status"][status].as_u64().unwrap_or_default();
        let state = match (pool["orphaned"] == true, pool["paused"] == true) {
            (true, _) => "orphaned",
            (_, true) => "paused",
            _ => "open",
        };
        let oldest = pool["oldest_queued_seconds"].as_f64().filter(|seconds| *seconds > 0.0);
        let mut row = vec![text(&pool["pool"]), state.to_owned(), text(&pool["live_workers"])];
        row.extend(["queued", "running", "retrying", "scheduled", "blocked", "failed"].map(|s| count(s).to_string()));
        row.extend([text(&pool["demand"]), oldest.map(short).unwrap_or_default()]);
        row
    });
    let heads = [
        "POOL",
        "STATE",
        "WORKERS ",
        "QUEUED ",
        "RUNNING ",
        "RETRYING ",
        "SCHEDULED ",
        "BLOCKED ",
        "FAILED ",
        "DEMAND ",
        "OLDEST ",
    ];
    table(&heads, rows)
}

/// The sum of a status over all pools.
pub(crate) fn total(answer: &Answer, status: &str) -> u64 {
    answer.data().iter().filter_map(|pool: &Value| pool["by_status"][status].as_u64()).sum()
}
