//! What people read: tables, ages, bars.

use std::io::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table};
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::Value;

use crate::failure::Failure;

/// Where there is no terminal, nobody needs lines to be short.
const WIDE: u16 = 250;

/// Writes a line to the standard output.
///
/// # Errors
/// When nobody reads any more: the end of `overshot … | head`.
pub(crate) fn say(text: impl AsRef<str>) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{}", text.as_ref())?)
}

/// Writes a piece of text as it came, at once.
pub(crate) fn stream(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a line beside the output: what happens, not what comes of it.
pub(crate) fn note(text: impl AsRef<str>) {
    // Nobody there to read it is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// A table without lines, as wide as the terminal at most. Columns whose head ends in a space are numbers.
pub(crate) fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(Term::stdout().size_checked().map_or(WIDE, |(_, width)| width));
    table.set_header(heads.iter().map(|head| head.trim_end()));
    for row in rows {
        table.add_row(row);
    }
    for (place, head) in heads.iter().enumerate() {
        if let Some(column) = table.column_mut(place) {
            column.set_padding((0, 2));
            if head.ends_with(' ') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

/// A member as text: empty where it is absent.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A text of a caller's, fit for a terminal: control characters could command it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// So many things, by the name of one.
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// How long ago a time was, or how long it is until then: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn ago(time: &Value) -> String {
    let Some(time) = time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else { return String::new() };
    let seconds = (Timestamp::now().as_millisecond() - time.as_millisecond()) as f64 / 1000.0;
    if seconds < -0.5 { format!("in {}", short(-seconds)) } else { short(seconds.max(0.0)) }
}

/// A number of seconds in its largest unit.
pub(crate) fn short(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "m")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= 2.0 * unit).unwrap_or((1.0, "s"));
    format!("{:.0}{name}", (seconds / unit).floor())
}

/// An object as indented lines, one per member, absent ones left out.
pub(crate) fn tree(value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let mut member = |name: &str, value: &Value| match value {
        Value::Null => {}
        Value::Object(inner) if inner.is_empty() => {}
        Value::Array(inner) if inner.is_empty() => {}
        Value::Object(_) => {
            lines.push(format!("{indent}{name}:"));
            tree(value, depth + 1, lines);
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            lines.push(format!("{indent}{name}:"));
            tree(value, depth + 1, lines);
        }
        plain => lines.push(format!("{indent}{name}: {}", text(plain))),
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| member(name, value)),
        Value::Array(items) => items.iter().for_each(|item| member("-", item)),
        plain => lines.push(format!("{indent}{}", text(plain))),
    }
}

/// A spinner with a message; shows only on a terminal.
pub(crate) fn spinner(message: impl Into<String>) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(message.into());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// A bar over `length` things; shows only on a terminal.
pub(crate) fn bar(length: u64, things: &str) -> ProgressBar {
    let template = format!("{{bar:40}} {{pos}}/{{len}} {things} {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        assert_eq!(
            ["0s", "119s", "2m", "119m", "2h", "2d"],
            [0.4, 119.0, 120.0, 7_199.0, 7_200.0, 172_800.0].map(short).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn a_tree_leaves_out_what_is_absent() {
        let mut lines = Vec::new();
        tree(&json!({ "a": 1, "b": null, "c": { "d": ["x", "y"] }, "e": [], "f": [{ "g": true }] }), 0, &mut lines);
        assert_eq!(lines, ["a: 1", "c:", "  d: x,y", "f:", "  -:", "    g: true"]);
    }

    #[test]
    fn what_a_caller_wrote_cannot_command_the_terminal() {
        assert_eq!(text(&json!("a\u{1b}[2Jb\n")), "a [2Jb ");
    }

    #[test]
    fn a_table_has_its_numbers_on_the_right() {
        let table = table(&["NAME", "N "], [vec!["a".into(), "5".into()], vec!["b".into(), "500".into()]]);
        assert_eq!(table, "NAME    N\na       5\nb     500");
    }
}
