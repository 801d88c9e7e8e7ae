//! `overshot submit`: one job that is followed to its end, or a file of them.

use std::io::Read as _;

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::failure::{Exit, Failure};
use crate::follow;
use crate::output::{bar, note, say};

/// Jobs and bytes of one call; the API takes up to 1000 and `max_body_bytes`.
const BATCH_JOBS: usize = 500;
const BATCH_BYTES: usize = 8 << 20;

/// A job, or a file of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to say to the model; for more than a text there is --input.
    #[arg(conflicts_with_all = ["input", "file"])]
    prompt: Option<String>,
    /// What the model is told before it.
    #[arg(long, requires = "prompt")]
    system: Option<String>,
    /// The input as JSON; `@FILE` reads it from a file, `-` from the standard input.
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    input: Option<String>,
    /// Submits each line of a file (`-`: the standard input) as a job, prints their ids, and waits for none.
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// Prints the job's id and ends; else the job is followed to its end.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    fields: Fields,
}

/// The fields of a job beside its input.
#[derive(Debug, clap::Args)]
struct Fields {
    /// The task.
    #[arg(long, default_value = "chat")]
    task: String,
    /// The pool; else the task's, else the only one.
    #[arg(long)]
    pool: Option<String>,
    /// The model; else the provider's first.
    #[arg(long)]
    model: Option<String>,
    /// Pins one provider of the pool.
    #[arg(long)]
    provider: Option<String>,
    /// high, normal or low.
    #[arg(long)]
    priority: Option<String>,
    /// How many failures end it, 1 to 100.
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Time before the first attempt, such as 10m.
    #[arg(long, value_name = "DURATION", conflicts_with = "run_at")]
    delay: Option<String>,
    /// Not before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    run_at: Option<String>,
    /// Limit of one attempt.
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// How long it may wait.
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    /// How long it is kept after its end.
    #[arg(long, value_name = "DURATION")]
    result_ttl: Option<String>,
    /// Sent again, the same job.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// At most one active job per key and pool.
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// reject, queue or replace, when the key is held.
    #[arg(long, value_name = "WHAT", requires = "concurrency_key")]
    on_conflict: Option<String>,
    /// On whose behalf, as SERVICE/REF.
    #[arg(long, value_name = "SERVICE/REF", value_parser = owner)]
    owner: Option<Value>,
    /// A pair of your own, as NAME=VALUE; may be repeated.
    #[arg(long = "metadata", value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Refused at once when no live worker serves the pool.
    #[arg(long)]
    fail_fast: bool,
}

fn owner(text: &str) -> Result<Value, String> {
    let (service, reference) = text.split_once('/').ok_or("must be SERVICE/REF")?;
    Ok(json!({ "service": service, "ref": reference }))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Fields {
    /// The job without its input; what was not given is left to the API.
    fn job(&self) -> Map<String, Value> {
        let texts = [
            ("task", Some(&self.task)),
            ("pool", self.pool.as_ref()),
            ("model", self.model.as_ref()),
            ("provider", self.provider.as_ref()),
            ("priority", self.priority.as_ref()),
            ("delay", self.delay.as_ref()),
            ("run_at", self.run_at.as_ref()),
            ("timeout", self.timeout.as_ref()),
            ("expires_in", self.expires_in.as_ref()),
            ("result_ttl", self.result_ttl.as_ref()),
            ("idempotency_key", self.idempotency_key.as_ref()),
            ("concurrency_key", self.concurrency_key.as_ref()),
            ("on_conflict", self.on_conflict.as_ref()),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?.as_str()))));
        let mut job: Map<String, Value> = texts.collect();
        let mut set = |name: &str, value: Value| job.insert(name.to_owned(), value);
        if let Some(attempts) = self.max_attempts {
            set("max_attempts", attempts.into());
        }
        if let Some(owner) = &self.owner {
            set("owner", owner.clone());
        }
        if !self.metadata.is_empty() {
            let pairs = self.metadata.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
            set("metadata", Value::Object(pairs.collect()));
        }
        if self.fail_fast {
            set("fail_fast", true.into());
        }
        job
    }
}

/// Submits.
pub(crate) async fn run(api: &Api, options: &Options, json: bool) -> Result<(), Failure> {
    if let Some(file) = &options.file {
        return many(api, &read(file)?, &options.fields, json).await;
    }
    let mut job = options.fields.job();
    job.insert("input".to_owned(), input(options)?);
    let answer = api.post(&["jobs"], Some(&Value::Object(job))).await?;
    let id = answer.json["id"].as_str().unwrap_or_default();
    if options.detach {
        return say(if json { answer.text.as_str() } else { id });
    }
    if !json {
        note(id);
    }
    follow::job(api, id, json).await
}

fn input(options: &Options) -> Result<Value, Failure> {
    match (&options.prompt, &options.input) {
        (Some(prompt), _) => Ok(match &options.system {
            Some(system) => json!({ "system": system, "user": prompt }),
            None => json!({ "user": prompt }),
        }),
        (None, Some(given)) => {
            let text = match given.strip_prefix('@') {
                Some(path) => read(path)?,
                None if given == "-" => read("-")?,
                None => given.clone(),
            };
            serde_json::from_str(&text)
                .map_err(|error| Failure::new(Exit::Usage, format!("--input is not JSON: {error}")))
        }
        (None, None) => Err(Failure::new(Exit::Usage, "nothing to submit: give a prompt, --input or --file")),
    }
}

/// A file, or the standard input.
fn read(path: &str) -> Result<String, Failure> {
    let text = match path {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        path => std::fs::read_to_string(path),
    };
    text.map_err(|error| Failure::new(Exit::Usage, format!("{path}: {error}")))
}

/// A line of a file as a job: a whole one (`{"task": …, "input": …}`), over what the options say of all.
fn line_to_job(line: &str, fields: &Map<String, Value>) -> Result<Value, String> {
    let Value::Object(own) = serde_json::from_str(line).map_err(|error| error.to_string())? else {
        return Err("is no JSON object".to_owned());
    };
    if !own.contains_key("input") {
        return Err("has no member `input`".to_owned());
    }
    let mut job = fields.clone();
    job.extend(own);
    Ok(Value::Object(job))
}

async fn many(api: &Api, text: &str, fields: &Fields, json: bool) -> Result<(), Failure> {
    let fields = fields.job();
    let mut jobs = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let job = line_to_job(line, &fields);
        let job = job.map_err(|problem| Failure::new(Exit::Usage, format!("line {}: {problem}", number + 1)))?;
        jobs.push((number + 1, line.len(), job));
    }
    let bar = bar(jobs.len() as u64, "jobs");
    let mut refused: Option<Failure> = None;
    let mut rest = jobs.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(BATCH_JOBS).take_while(|(_, length, _)| {
            bytes += length;
            bytes <= BATCH_BYTES
        });
        let (batch, others) = rest.split_at(fits.count().max(1));
        send(api, batch, json, &bar, &mut refused).await?;
        rest = others;
    }
    bar.finish_and_clear();
    refused.map_or(Ok(()), |first| Err(Failure::new(first.exit(), "not every job was accepted")))
}

/// One call; refused jobs are told by their line.
async fn send(
    api: &Api,
    batch: &[(usize, usize, Value)],
    json: bool,
    bar: &ProgressBar,
    refused: &mut Option<Failure>,
) -> Result<(), Failure> {
    let jobs: Vec<&Value> = batch.iter().map(|(_, _, job)| job).collect();
    let answer = api.post(&["jobs", "batch"], Some(&json!({ "jobs": jobs }))).await?;
    let results = answer.json["results"].as_array().map_or(&[][..], Vec::as_slice);
    for ((line, _, _), result) in batch.iter().zip(results) {
        bar.suspend(|| match result["job"]["id"].as_str() {
            Some(_) if json => say(result["job"].to_string()),
            Some(id) => say(id),
            None => {
                let status = result["status"].as_u64().and_then(|status| u16::try_from(status).ok());
                let failure = Failure::of_answer(status.unwrap_or_default(), result);
                note(format!("line {line}: {failure}"));
                refused.get_or_insert(failure);
                Ok(())
            }
        })?;
        bar.inc(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_file_goes_before_the_options() {
        let fields = json!({ "task": "chat", "pool": "a" }).as_object().unwrap().clone();
        let job = line_to_job(r#"{"input": {"user": "x"}, "pool": "b"}"#, &fields).unwrap();
        assert_eq!(job, json!({ "task": "chat", "pool": "b", "input": { "user": "x" } }));
        assert!(line_to_job("[]", &fields).is_err());
        assert!(line_to_job("{}", &fields).unwrap_err().contains("input"));
    }
}
