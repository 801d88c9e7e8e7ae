//! Cancel and retry: of named jobs one by one, of those that match by the thousand.

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{Filter, nothing_named};
use crate::api::Api;
use crate::failure::{Exit, Failure};
use crate::output::{bar, note, say, spinner, text};

/// Named jobs, or a filter.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The jobs' ids.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Move {
    Cancel,
    Retry,
}

impl Move {
    fn path(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Cancel => "cancelled, or asked to stop",
            Self::Retry => "queued again",
        }
    }
}

/// Does it with the named jobs, or with all that match.
pub(crate) async fn run(api: &Api, to: Move, which: &Which, json: bool) -> Result<(), Failure> {
    match (which.ids.is_empty(), which.filter.is_empty()) {
        (false, false) => Err(Failure::new(Exit::Usage, "name jobs or give a filter, not both")),
        (false, true) => named(api, to, &which.ids, json).await,
        (true, false) => matching(api, to, &which.filter.body(&[]), json).await,
        (true, true) => Err(nothing_named()),
    }
}

/// One job after the other. A refused one does not keep the others from it; the first refusal is the exit code.
async fn named(api: &Api, to: Move, ids: &[String], json: bool) -> Result<(), Failure> {
    let bar = if ids.len() > 1 { bar(ids.len() as u64, "jobs") } else { ProgressBar::hidden() };
    let mut refused = None;
    for id in ids {
        match api.post(&["jobs", id, to.path()], None).await {
            Ok(job) => {
                bar.suspend(|| if json { say(&job.text) } else { say(format!("{id}  {}", text(&job.json["status"]))) })?
            }
            Err(failure) => {
                bar.suspend(|| note(format!("{id}: {failure}")));
                refused.get_or_insert(failure);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    match refused {
        None => Ok(()),
        Some(first) if ids.len() == 1 => Err(first),
        Some(first) => Err(Failure::new(first.exit(), "not done with every job")),
    }
}

/// Call after call, until nothing matches any more.
pub(crate) async fn matching(api: &Api, to: Move, filter: &Value, json: bool) -> Result<(), Failure> {
    let (mut matched, mut changed) = (0, 0);
    let spinner = spinner("");
    let more = loop {
        spinner.set_message(format!("{matched} matched, {changed} {}", to.done()));
        let answer = api.post(&["jobs", to.path()], Some(filter)).await?.json;
        let count = |name: &str| answer[name].as_u64().unwrap_or_default();
        matched += count("matched");
        changed += count("changed");
        let more = answer["more"] == true;
        // A call that changed nothing would be answered the same for ever.
        if !more || count("changed") == 0 {
            break more;
        }
    };
    spinner.finish_and_clear();
    if json {
        say(json!({ "matched": matched, "changed": changed, "more": more }).to_string())?;
    } else {
        say(format!("{matched} matched, {changed} {}", to.done()))?;
    }
    if more { Err(Failure::new(Exit::Conflict, "not all of them: the pool takes no more now")) } else { Ok(()) }
}
