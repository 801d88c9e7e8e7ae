//! `overshot workers`.

use std::time::Duration;

use serde_json::Value;

use crate::api::{Answer, Api};
use crate::failure::Failure;
use crate::output::{ago, counted, say, spinner, table, text};

/// How often a worker that drains is looked after.
const LOOK: Duration = Duration::from_millis(500);

/// What can be done with workers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Lists the live workers.
    List,
    /// Tells workers to take no more jobs, to finish within their grace, to hand back the rest, and to end.
    Drain {
        /// The workers' ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Waits until they have left.
        #[arg(long)]
        wait: bool,
    },
}

/// Runs a verb.
pub(crate) async fn run(api: &Api, verb: Verb, json: bool) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            let answer = api.get(&["workers"]).await?;
            if json { say(&answer.text) } else { say(render(&answer)) }
        }
        Verb::Drain { ids, wait } => {
            for id in &ids {
                let answer = api.post(&["workers", id, "drain"], None).await?;
                if json {
                    say(&answer.text)?;
                } else {
                    let jobs = counted(answer.json["in_flight"].as_u64().unwrap_or(0), "job");
                    say(format!("{id}  draining, {jobs} in flight"))?;
                }
            }
            if wait { left(api, &ids).await } else { Ok(()) }
        }
    }
}

/// Waits until none of the workers is listed any more.
async fn left(api: &Api, ids: &[String]) -> Result<(), Failure> {
    let spinner = spinner("");
    loop {
        let answer = api.get(&["workers"]).await?;
        let there = |worker: &&Value| ids.iter().any(|id| worker["id"] == id.as_str());
        let (count, jobs) =
            answer.data().iter().filter(there).fold((0, 0), |(count, jobs), worker| {
                (count + 1, jobs + worker["in_flight"].as_u64().unwrap_or_default())
            });
        if count == 0 {
            spinner.finish_and_clear();
            return Ok(());
        }
        spinner.set_message(format!("{count} workers drain, {jobs} jobs in flight"));
        tokio::time::sleep(LOOK).await;
    }
}

/// The workers as a table.
pub(crate) fn render(answer: &Answer) -> String {
    let rows = answer.data().iter().map(|worker| {
        let state = if worker["draining"] == true { "draining" } else { "takes jobs" };
        let mut row = ["id", "host", "pools", "providers"].map(|name| text(&worker[name])).to_vec();
        row.insert(1, state.to_owned());
        row.extend([text(&worker["in_flight"]), text(&worker["slots"])]);
        row.extend([ago(&worker["started_at"]), ago(&worker["last_beat"])]);
        row
    });
    table(&["ID", "STATE", "HOST", "POOLS", "PROVIDERS", "JOBS ", "SLOTS ", "UP ", "LAST BEAT "], rows)
}
