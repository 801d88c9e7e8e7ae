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
