//! The table: medians, and the ratios that they make.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::bare::Rates;
use crate::http::HttpFigures;

/// How Redis keeps what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Mode {
    #[serde(rename = "aof_off")]
    AofOff,
    #[serde(rename = "aof_everysec")]
    AofEverysec,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AofOff => "AOF off",
            Self::AofEverysec => "AOF everysec",
        })
    }
}

/// Picks a figure out of one round.
type Of = fn(&Rates) -> f64;

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    mode: Mode,
    figure: &'static str,
    value: f64,
    /// What it is held against, from the same run.
    beside: Option<f64>,
    /// The median of the pairs' ratios.
    ratio: Option<f64>,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    jobs_per_drain: usize,
    rows: Vec<Row>,
    #[serde(skip)]
    pairs: Vec<(Mode, Rates, Rates)>,
}

impl Figures {
    pub(crate) fn new(jobs_per_drain: usize) -> Self {
        Self { jobs_per_drain, rows: Vec::new(), pairs: Vec::new() }
    }

    pub(crate) fn add_pair(&mut self, mode: Mode, bare: &Rates, ours: &Rates) {
        self.pairs.push((mode, *bare, *ours));
    }

    /// Adds the figures over HTTP, and with them closes the mode's pairs.
    pub(crate) fn add_http(&mut self, mode: Mode, http: &HttpFigures) {
        let figures: [(&'static str, Of); 2] = [
            ("bulk enqueue by the library, jobs/s", |rates| rates.enqueued_per_s),
            ("drain through the whole worker, jobs/s", |rates| rates.drained_per_s),
        ];
        for (figure, of) in figures {
            let pairs = || self.pairs.iter().filter(|(of, ..)| *of == mode);
            let value = median(pairs().map(|(_, _, ours)| of(ours)));
            let beside = Some(median(pairs().map(|(_, bare, _)| of(bare))));
            let ratio = Some(median(pairs().map(|(_, bare, ours)| of(ours) / of(bare))));
            self.rows.push(Row { mode, figure, value, beside, ratio });
        }
        let alone = [
            ("single POSTs at 64 connections, jobs/s", http.posts_per_s),
            ("POST to result on an idle fleet, p50 ms", http.result_p50_ms),
            ("POST to result on an idle fleet, p99 ms", http.result_p99_ms),
        ];
        for (figure, value) in alone {
            self.rows.push(Row { mode, figure, value, beside: None, ratio: None });
        }
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("| Redis | Figure | Overshot | Bare client | Ratio |\n| --- | --- | ---: | ---: | ---: |\n");
        for row in &self.rows {
            let number = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
            let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
            text += &format!(
                "| {} | {} | {} | {} | {} |\n",
                row.mode,
                row.figure,
                number(row.value),
                optional(row.beside),
                optional(row.ratio)
            );
        }
        text
    }

    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("bench.md"), self.markdown())?;
        std::fs::write(directory.join("bench.json"), serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
