//! The rows as a table: aligned for the terminal, and in Markdown.

use super::{In, Row};

const HEAD: [&str; 7] = ["Redis", "Figure", "Overshot", "Beside it", "Ratio", "Aim", ""];

pub(super) fn terminal(rows: &[In<Row>]) -> String {
    let lines: Vec<[String; 7]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in &lines {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += padded.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

pub(super) fn markdown(rows: &[In<Row>]) -> String {
    let mut text = format!("| {} |\n| --- | --- | ---: | ---: | ---: | ---: | --- |\n", HEAD.join(" | "));
    for row in rows {
        text += &format!("| {} |\n", cells(row).join(" | "));
    }
    text
}

fn cells(In { mode, what: row }: &In<Row>) -> [String; 7] {
    let beside = row.beside.as_ref();
    [
        mode.to_string(),
        format!("{}, {}", row.figure, row.unit),
        number(row.value),
        beside.map(|beside| format!("{} ({})", number(beside.value), beside.name)).unwrap_or_default(),
        beside.map(|beside| format!("{:.2}", beside.ratio)).unwrap_or_default(),
        row.aim.map(|aim| aim.to_string()).unwrap_or_default(),
        row.met().map(|met| if met { "met" } else { "**missed**" }.to_owned()).unwrap_or_default(),
    ]
}

/// Three significant digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Aim, Mode, Report};
    use super::*;

    fn rows() -> Report {
        let mut report = Report::new(true);
        let missed = Row::paired("drain", "jobs/s", "bare client", &[(1.0, 4.0), (50.0, 100.0), (300.0, 1000.0)]);
        let met = Row::new("time to the result", "ms", 0.7).aim(Aim::AtMost(1.5));
        report.add(Mode::AofOff, vec![missed.aim(Aim::AtLeast(0.6)), met]).unwrap();
        report
    }

    #[test]
    fn a_ratio_is_the_median_of_the_pairs_and_is_held_against_the_aim() {
        let text = markdown(&rows().rows);
        assert!(
            text.contains("| AOF off | drain, jobs/s | 50.0 | 100 (bare client) | 0.30 | ≥ 0.6 | **missed** |"),
            "{text}"
        );
        assert!(text.contains("| AOF off | time to the result, ms | 0.70 |  |  | ≤ 1.5 | met |"), "{text}");
    }

    #[test]
    fn a_figure_that_is_no_number_fails_the_run() {
        let mut report = Report::new(true);
        for row in
            [Row::new("x", "s", f64::NAN), Row::paired("x", "s", "y", &[]), Row::paired("x", "s", "y", &[(1.0, 0.0)])]
        {
            assert!(report.add(Mode::AofOff, vec![row]).is_err());
        }
        assert!(report.add(Mode::AofOff, Vec::new()).is_err(), "a part that brings nothing");
    }
}
