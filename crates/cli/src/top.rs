//! `overshot top`: the fleet at a glance, again and again.

use std::time::Duration;

use console::Term;
use jiff::Timestamp;
use reqwest::Method;

use crate::api::{Answer, Api};
use crate::failure::{Exit, Failure};
use crate::output::{ago, counted, note, say, table, text};
use crate::{pools, workers};

/// How often, and how much.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Time between two looks.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    every: Duration,
    /// Looks once and ends; so it does where the output is no terminal.
    #[arg(long)]
    once: bool,
    /// How many running jobs to show.
    #[arg(long, default_value_t = 10)]
    jobs: u32,
}

/// Shows pools, workers and the newest running jobs until Ctrl-C.
pub(crate) async fn run(api: &Api, options: &Options, json: bool) -> Result<(), Failure> {
    let terminal = Term::stdout();
    if options.once || json || !terminal.is_term() {
        let look = Look::take(api, options.jobs).await?;
        return say(if json { look.json() } else { look.render() });
    }
    let _back = AlternateScreen::enter(&terminal)?;
    let mut ticks = tokio::time::interval(options.every.max(Duration::from_millis(100)));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let shown = match Look::take(api, options.jobs).await {
            Ok(look) => look.render(),
            // An API that is away for a moment is no reason to end.
            Err(failure) if failure.exit() == Exit::Failed => failure.to_string(),
            Err(failure) => return Err(failure),
        };
        terminal.move_cursor_to(0, 0)?;
        for line in shown.lines().take(usize::from(terminal.size().0).saturating_sub(1)) {
            terminal.clear_line()?;
            terminal.write_line(line)?;
        }
        terminal.clear_to_end_of_screen()?;
    }
}

/// What the API says at one time.
struct Look {
    pools: Answer,
    workers: Answer,
    running: Answer,
}

impl Look {
    async fn take(api: &Api, jobs: u32) -> Result<Self, Failure> {
        let running = api.request(Method::GET, &["jobs"]).query(&[("status", "running")]).query(&[("limit", jobs)]);
        let (pools, workers) = (["pools"], ["workers"]);
        let (pools, workers, running) = tokio::try_join!(api.get(&pools), api.get(&workers), Api::send(running))?;
        Ok(Self { pools, workers, running })
    }

    fn json(&self) -> String {
        format!(r#"{{"pools":{},"workers":{},"running":{}}}"#, self.pools.text, self.workers.text, self.running.text)
    }

    fn render(&self) -> String {
        let total = |status: &str| pools::total(&self.pools, status);
        let jobs = self.running.data().iter().map(|job| {
            let mut row = ["id", "phase", "task", "pool", "model", "provider"].map(|name| text(&job[name])).to_vec();
            row.extend([text(&job["progress"]["done"]), ago(&job["started_at"]), text(&job["worker_id"])]);
            row
        });
        format!(
            "{}  {}  {} queued  {} running  {} retrying  {} failed\n\n{}\n\n{}\n\n{}",
            Timestamp::now().strftime("%H:%M:%S UTC"),
            counted(self.workers.data().len() as u64, "worker"),
            total("queued"),
            total("running"),
            total("retrying"),
            total("failed"),
            pools::render(&self.pools),
            workers::render(&self.workers),
            table(&["RUNNING", "PHASE", "TASK", "POOL", "MODEL", "PROVIDER", "DONE ", "SINCE ", "WORKER"], jobs),
        )
    }
}

/// The terminal's second screen, so that what stood on the first is there again afterwards.
struct AlternateScreen<'a>(&'a Term);

impl<'a> AlternateScreen<'a> {
    fn enter(terminal: &'a Term) -> Result<Self, Failure> {
        terminal.write_str("\u{1b}[?1049h")?;
        terminal.hide_cursor()?;
        Ok(Self(terminal))
    }
}

impl Drop for AlternateScreen<'_> {
    fn drop(&mut self) {
        if self.0.show_cursor().and_then(|()| self.0.write_str("\u{1b}[?1049l")).is_err() {
            note("the terminal could not be restored: type `reset`");
        }
    }
}
