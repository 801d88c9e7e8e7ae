//! The report: rows and curves, as a table on the terminal, as JSON, as Markdown and as SVG.

mod plot;
mod table;

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

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

/// What a figure is meant to reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    /// The ratio, or the value where there is none.
    AtLeast(f64),
    /// The ratio, or the value where there is none.
    AtMost(f64),
}

impl Aim {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

/// What a figure is held against, taken in the same run.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    name: &'static str,
    value: f64,
    /// The median of the pairs' ratios, ours by theirs.
    ratio: f64,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    figure: String,
    unit: &'static str,
    value: f64,
    beside: Option<Beside>,
    aim: Option<Aim>,
}

impl Row {
    pub(crate) fn new(figure: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { figure: figure.into(), unit, value, beside: None, aim: None }
    }

    /// A figure taken in pairs, `(ours, theirs)`: medians, and the median of the ratios.
    pub(crate) fn paired(
        figure: impl Into<String>,
        unit: &'static str,
        name: &'static str,
        pairs: &[(f64, f64)],
    ) -> Self {
        let ours = median(pairs.iter().map(|(ours, _)| *ours));
        let theirs = median(pairs.iter().map(|(_, theirs)| *theirs));
        Self::new(figure, unit, ours).beside(name, theirs, median(pairs.iter().map(|(ours, theirs)| ours / theirs)))
    }

    /// Holds the figure against another of the same run.
    pub(crate) fn beside(mut self, name: &'static str, value: f64, ratio: f64) -> Self {
        self.beside = Some(Beside { name, value, ratio });
        self
    }

    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }

    /// Whether the aim is met, where there is one.
    fn met(&self) -> Option<bool> {
        self.aim.map(|aim| aim.met(self.beside.as_ref().map_or(self.value, |beside| beside.ratio)))
    }

    /// A figure that is no number was not measured.
    fn check(&self) -> anyhow::Result<()> {
        let mut values = vec![self.value];
        values.extend(self.beside.iter().flat_map(|beside| [beside.value, beside.ratio]));
        anyhow::ensure!(values.iter().all(|value| value.is_finite()), "no figure for: {}", self.figure);
        Ok(())
    }
}

/// One picture: lines over a common axis.
#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    /// The file's name without `.svg`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// A line's name and its points.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Curve {
    fn check(&self) -> anyhow::Result<()> {
        let mut points = self.lines.iter().flat_map(|(_, points)| points);
        anyhow::ensure!(points.all(|(x, y)| x.is_finite() && y.is_finite()), "{}: a point is no number", self.name);
        let drawn = !self.lines.is_empty() && self.lines.iter().all(|(_, points)| !points.is_empty());
        anyhow::ensure!(drawn, "{}: a line without points", self.name);
        Ok(())
    }
}

/// A row or a curve, and how Redis kept what it held.
#[derive(Debug, Serialize)]
struct In<T> {
    mode: Mode,
    #[serde(flatten)]
    what: T,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether it was the fast form.
    fast: bool,
    rows: Vec<In<Row>>,
    curves: Vec<In<Curve>>,
}

impl Report {
    pub(crate) fn new(fast: bool) -> Self {
        Self { fast, rows: Vec::new(), curves: Vec::new() }
    }

    /// # Errors
    /// A figure that is no number, or a part that brought none.
    pub(crate) fn add(&mut self, mode: Mode, rows: Vec<Row>) -> anyhow::Result<()> {
        anyhow::ensure!(!rows.is_empty(), "it brought no figure");
        rows.iter().try_for_each(Row::check)?;
        self.rows.extend(rows.into_iter().map(|what| In { mode, what }));
        Ok(())
    }

    /// # Errors
    /// A point that is no number, or a line without points.
    pub(crate) fn add_curves(&mut self, mode: Mode, curves: Vec<Curve>) -> anyhow::Result<()> {
        curves.iter().try_for_each(Curve::check)?;
        self.curves.extend(curves.into_iter().map(|what| In { mode, what }));
        Ok(())
    }

    /// Writes `bench.json`, `bench.md`, and a plot for each name that a curve has.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        std::fs::write(directory.join("bench.md"), table::markdown(&self.rows))?;
        std::fs::write(directory.join("bench.json"), serde_json::to_string_pretty(self)? + "\n")?;
        plot::write(&self.curves, directory)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table::terminal(&self.rows))
    }
}

/// The middle one of some values; NaN of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
