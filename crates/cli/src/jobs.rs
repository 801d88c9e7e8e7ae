//! `overshot jobs`: one job, or those that match.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::api::{Answer, Api};
use crate::failure::{Exit, Failure};
use crate::follow;
use crate::output::{ago, say, table, text, tree};

pub(crate) mod change;

/// What can be done with jobs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Lists jobs, newest first.
    List(List),
    /// Shows all of one job.
    Show {
        /// The job's id.
        id: String,
        /// Also its input.
        #[arg(long)]
        input: bool,
    },
    /// Follows a job to its end: its output on the standard output, what happens beside it.
    Watch {
        /// The job's id.
        id: String,
    },
    /// Tells why a job does not run, and what it waits for.
    Explain {
        /// The job's id.
        id: String,
    },
    /// Cancels jobs: those named, or all that match.
    Cancel(change::Which),
    /// Runs ended jobs again: those named, or all that match.
    Retry(change::Which),
}

/// Which jobs. Several filters must all match.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Filter {
    /// Any of these statuses; several by comma or by repetition.
    #[arg(long, value_delimiter = ',')]
    status: Vec<String>,
    /// In this pool.
    #[arg(long)]
    pool: Option<String>,
    /// Of this task.
    #[arg(long)]
    task: Option<String>,
    /// For this model.
    #[arg(long)]
    model: Option<String>,
    /// Of this owner's service.
    #[arg(long, value_name = "SERVICE")]
    owner_service: Option<String>,
    /// With this owner's reference.
    #[arg(long, value_name = "REF")]
    owner_ref: Option<String>,
    /// Of this owner's agent.
    #[arg(long, value_name = "AGENT")]
    owner_agent: Option<String>,
    /// With this concurrency key.
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
}

impl Filter {
    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fields = [
            ("pool", &self.pool),
            ("task", &self.task),
            ("model", &self.model),
            ("owner_service", &self.owner_service),
            ("owner_ref", &self.owner_ref),
            ("owner_agent", &self.owner_agent),
            ("concurrency_key", &self.concurrency_key),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.status.is_empty() && self.fields().next().is_none()
    }

    /// The filter as a query.
    pub(crate) fn query(&self) -> Vec<(&'static str, &str)> {
        let statuses = self.status.iter().map(|status| ("status", status.as_str()));
        statuses.chain(self.fields()).collect()
    }

    /// The filter as the body of a call; `statuses` where it names none itself.
    pub(crate) fn body(&self, statuses: &[&str]) -> Value {
        let mut body: Map<String, Value> =
            self.fields().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        if !self.status.is_empty() {
            body.insert("status".to_owned(), json!(self.status));
        } else if !statuses.is_empty() {
            body.insert("status".to_owned(), json!(statuses));
        }
        Value::Object(body)
    }

    /// With these statuses, unless it names some itself.
    pub(crate) fn or_statuses(mut self, statuses: &[&str]) -> Self {
        if self.status.is_empty() {
            self.status = statuses.iter().map(|&status| status.to_owned()).collect();
        }
        self
    }
}

/// A listing.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// How many at most, 1 to 200.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Goes on after this job, or after the `next` of the last page.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Goes on to the last page.
    #[arg(long)]
    all: bool,
}

/// Runs a verb.
pub(crate) async fn run(api: &Api, verb: Verb, json: bool) -> Result<(), Failure> {
    match verb {
        Verb::List(listing) => list(api, &listing, json).await,
        Verb::Show { id, input } => show(api, &id, input, json).await,
        Verb::Watch { id } => follow::job(api, &id, json).await,
        Verb::Explain { id } => explain(api, &id, json).await,
        Verb::Cancel(which) => change::run(api, change::Move::Cancel, &which, json).await,
        Verb::Retry(which) => change::run(api, change::Move::Retry, &which, json).await,
    }
}

/// Lists jobs, page by page where all are wanted.
pub(crate) async fn list(api: &Api, listing: &List, json: bool) -> Result<(), Failure> {
    let mut after = listing.after.clone();
    loop {
        let limit = if listing.all { 200 } else { listing.limit };
        let mut request = api.request(Method::GET, &["jobs"]).query(&listing.filter.query()).query(&[("limit", limit)]);
        if let Some(after) = &after {
            request = request.query(&[("after", after)]);
        }
        let page = Api::send(request).await?;
        print_page(&page, json)?;
        after = page.json["next"].as_str().map(str::to_owned);
        match &after {
            Some(_) if listing.all => {}
            Some(next) if !json => return say(format!("… more: --after {next}")),
            _ => return Ok(()),
        }
    }
}

fn print_page(page: &Answer, json: bool) -> Result<(), Failure> {
    if json {
        return say(&page.text);
    }
    let rows = page.data().iter().map(|job| {
        let error = &job["error"]["code"];
        let progress = match (job["progress"]["done"].as_u64(), job["progress"]["total"].as_u64()) {
            (Some(done), Some(total)) => format!("{done}/{total}"),
            (Some(done), None) => done.to_string(),
            _ => String::new(),
        };
        let status = match job["phase"].as_str().filter(|_| job["status"] == "running") {
            Some(phase) => format!("running/{phase}"),
            None => text(&job["status"]),
        };
        vec![
            text(&job["id"]),
            status,
            text(&job["task"]),
            text(&job["pool"]),
            text(&job["model"]),
            text(&job["priority"]),
            format!("{}/{}", job["attempts"], job["max_attempts"]),
            progress,
            ago(&job["created_at"]),
            text(error),
        ]
    });
    let heads = ["ID", "STATUS", "TASK", "POOL", "MODEL", "PRIORITY", "RUNS ", "DONE ", "AGE ", "ERROR"];
    say(table(&heads, rows))
}

async fn show(api: &Api, id: &str, input: bool, json: bool) -> Result<(), Failure> {
    let mut request = api.request(Method::GET, &["jobs", id]);
    if input {
        request = request.query(&[("include", "input")]);
    }
    let job = Api::send(request).await?;
    print_object(&job, json)
}

/// Prints the one object of an answer.
pub(crate) fn print_object(answer: &Answer, json: bool) -> Result<(), Failure> {
    if json {
        return say(&answer.text);
    }
    let mut lines = Vec::new();
    tree(&answer.json, 0, &mut lines);
    say(lines.join("\n"))
}

async fn explain(api: &Api, id: &str, json: bool) -> Result<(), Failure> {
    print_object(&api.get(&["jobs", id, "explain"]).await?, json)
}

/// What a command says that names neither jobs nor a filter.
pub(crate) fn nothing_named() -> Failure {
    Failure::new(Exit::Usage, "name jobs, or at least one filter (--help tells them)")
}
