//! `OVERSHOT__<SECTION>__<NAME>__<KEY>`: variables laid over the file before it is read.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::mistakes::Mistakes;
use super::reader::join;

const PREFIX: &str = "OVERSHOT__";
/// Sections with keys, and sections with named sections in them.
const PLAIN: [&str; 3] = ["worker", "retry", "traces"];
const NAMED: [&str; 4] = ["pools", "providers", "tasks", "tokens"];

/// Puts every override of `env` into `table`, as text; what names nothing becomes a mistake.
///
/// A key that no section has is left for the reader of that section, which knows them.
pub(super) fn apply(table: &mut Table, env: &BTreeMap<String, String>, mistakes: &mut Mistakes) {
    for (variable, value) in env {
        let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
        let parts: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        let Some(path) = path_of(table, &parts) else {
            mistakes.add(variable, "names nothing in the configuration");
            continue;
        };
        let key = path.iter().fold(String::new(), |key, part| join(&key, part));
        if let Some(earlier) = mistakes.overridden(key, variable.clone()) {
            mistakes.add(variable, format!("sets what {earlier} sets"));
        }
        insert(table, &path, value);
    }
}

/// The keys down to the value, or `None` where no value can be.
fn path_of(table: &Table, parts: &[String]) -> Option<Vec<String>> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let is_section = |key: &str| PLAIN.contains(&key) || NAMED.contains(&key);
    match parts[..] {
        [key] if !is_section(key) => Some(vec![key.to_owned()]),
        [section, key] if PLAIN.contains(&section) => Some(vec![section.to_owned(), key.to_owned()]),
        ["pools", _, "retry"] | ["tasks", _, "input"] => None,
        [section, name, key] if NAMED.contains(&section) => {
            Some(vec![section.to_owned(), name_of(table, section, name), key.to_owned()])
        }
        ["pools", name, "retry", key] => {
            Some(vec!["pools".into(), name_of(table, "pools", name), "retry".into(), key.to_owned()])
        }
        ["tasks", name, "input", key] => {
            Some(vec!["tasks".into(), name_of(table, "tasks", name), "input".into(), key.to_owned()])
        }
        _ => None,
    }
}

/// The name in the file that a variable's part means; a variable cannot tell case, nor '-' from '_'.
fn name_of(table: &Table, section: &str, part: &str) -> String {
    let folded = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let named = table.get(section).and_then(Value::as_table);
    let exact = named.and_then(|named| named.contains_key(part).then(|| part.to_owned()));
    let close = || named?.keys().find(|name| folded(name) == folded(part)).cloned();
    exact.or_else(close).unwrap_or_else(|| match section {
        "pools" => part.replace('_', "-"),
        _ => part.to_owned(),
    })
}

/// Makes the sections on the way; what stands there and is no section is told by its reader.
fn insert(table: &mut Table, path: &[String], value: &str) {
    let Some((key, sections)) = path.split_last() else { return };
    let mut table = table;
    for section in sections {
        let inner = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        let Some(inner) = inner.as_table_mut() else { return };
        table = inner;
    }
    table.insert(key.clone(), Value::String(value.to_owned()));
}
