//! Following a job to its end over its event stream, across lost connections.

use std::time::Duration;

use eventsource_stream::{Event, Eventsource as _};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::api::Api;
use crate::failure::{Exit, Failure};
use crate::output::{note, say, short, spinner, stream, text};

/// How long an API that is away is waited for, and the pause between two tries.
const TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_millis(500);

/// Follows a job, prints its output as it comes, and ends as the job does.
pub(crate) async fn job(api: &Api, id: &str, json: bool) -> Result<(), Failure> {
    let mut reader = Reader { json, last: String::new(), printed: false, seen: String::new(), bar: None };
    let mut failed = 0;
    loop {
        match read(api, id, &mut reader, &mut failed).await {
            Ok(Some(job)) => return end(&job),
            // The server ends the stream when it stops: another one has the rest.
            Ok(None) => failed += 1,
            Err(failure) if failure.exit() == Exit::Failed && failed < TRIES => failed += 1,
            Err(failure) => return Err(failure),
        }
        if failed > TRIES {
            return Err(Failure::new(Exit::Failed, "the event stream ends again and again"));
        }
        reader.tell(&format!("the connection is lost; the job goes on ({id})"), failed == 1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads until the job has ended, or the connection.
async fn read(api: &Api, id: &str, reader: &mut Reader, failed: &mut u32) -> Result<Option<Value>, Failure> {
    let mut events = api.events(id, &reader.last).await?.bytes_stream().eventsource();
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| Failure::new(Exit::Failed, format!("the event stream broke: {error}")))?;
        *failed = 0;
        if let Some(job) = reader.event(&event)? {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

/// The exit of who waited for a job.
fn end(job: &Value) -> Result<(), Failure> {
    if job["status"] == "completed" {
        return Ok(());
    }
    let error = &job["error"];
    let why = match (error["code"].as_str(), error["message"].as_str()) {
        (Some(code), Some(message)) => format!(": {message} ({code})"),
        _ => String::new(),
    };
    Err(Failure::new(Exit::NotCompleted, format!("the job is {}{why}", text(&job["status"]))))
}

struct Reader {
    json: bool,
    /// The last event's id: where the next connection goes on.
    last: String,
    /// Whether output has been printed.
    printed: bool,
    /// The status told last.
    seen: String,
    /// Shown until output comes, and for what counts its progress.
    bar: Option<ProgressBar>,
}

impl Reader {
    /// Takes one event; the job, once it has ended.
    fn event(&mut self, event: &Event) -> Result<Option<Value>, Failure> {
        if !event.id.is_empty() {
            self.last.clone_from(&event.id);
        }
        let data: Value = serde_json::from_str(&event.data)
            .map_err(|_| Failure::new(Exit::Failed, "an event whose data are no JSON"))?;
        if self.json {
            say(serde_json::json!({ "id": event.id, "event": event.event, "data": data }).to_string())?;
            return Ok((event.event == "done").then_some(data));
        }
        match event.event.as_str() {
            "status" => self.status(&data),
            "chunk" => self.chunk(&data)?,
            "attempt" if self.printed => {
                stream("\n")?;
                note(format!("— attempt {}: the output begins anew —", text(&data["attempt"])));
            }
            "truncated" => note("— the beginning of the output is gone —"),
            "done" => {
                self.done(&data)?;
                return Ok(Some(data));
            }
            _ => {}
        }
        Ok(None)
    }

    fn chunk(&mut self, data: &Value) -> Result<(), Failure> {
        let text = data["text"].as_str().unwrap_or_default();
        if text.is_empty() {
            return Ok(());
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.printed = true;
        stream(text)
    }

    fn status(&mut self, job: &Value) {
        let phase = job["phase"].as_str().map(|phase| format!(", {phase}")).unwrap_or_default();
        let error = job["error"]["code"].as_str().map(|code| format!(", after {code}")).unwrap_or_default();
        let told = format!("{}{phase}{error}", text(&job["status"]));
        self.progress(job, &told);
        let news = told != self.seen;
        self.tell(&told, news);
        self.seen = told;
    }

    /// A bar while there is no output: of the progress where it has an end, else a spinner.
    fn progress(&mut self, job: &Value, told: &str) {
        if self.printed {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| spinner(""));
        let progress = &job["progress"];
        if let (Some(done), Some(total)) = (progress["done"].as_u64(), progress["total"].as_u64()) {
            if bar.length().is_none()
                && let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}, {eta} left")
            {
                bar.set_style(style);
            }
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(text(&progress["unit"]));
        } else {
            bar.set_message(told.to_owned());
        }
    }

    /// Says something beside the output; on a terminal the spinner already shows it.
    fn tell(&self, message: &str, news: bool) {
        if news && !self.json && !self.printed && self.bar.as_ref().is_none_or(ProgressBar::is_hidden) {
            note(message);
        }
    }

    /// The end: what was not streamed is printed now.
    fn done(&mut self, job: &Value) -> Result<(), Failure> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.printed {
            stream("\n")?;
        } else if !job["result"].is_null() {
            match job["result"]["content"].as_str() {
                Some(content) => say(content)?,
                None => say(serde_json::to_string_pretty(&job["result"]).unwrap_or_default())?,
            }
        }
        let usage =
            job["usage"]["total_tokens"].as_u64().map(|tokens| format!(", {tokens} tokens")).unwrap_or_default();
        let ran = seconds(&job["started_at"], &job["completed_at"]).map(|ran| format!(" in {}", short(ran)));
        note(format!("{}{}{usage}", text(&job["status"]), ran.unwrap_or_default()));
        Ok(())
    }
}

/// The time between two times, in seconds.
fn seconds(from: &Value, to: &Value) -> Option<f64> {
    let ms = |time: &Value| time.as_str()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    Some((ms(to)? - ms(from)?) as f64 / 1000.0)
}
