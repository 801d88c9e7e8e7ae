//! The samples of a page in the Prometheus text format.
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>)

use std::collections::BTreeMap;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Reads a page; on failure tells the line, from 1.
pub(super) fn parse(page: &str) -> Result<Vec<Sample>, usize> {
    let lines = page.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    let samples = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    samples.map(|(number, line)| sample(line).ok_or(number)).collect()
}

/// `name{label="value",…} value [timestamp]`
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).filter(|end| *end > 0)?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // Rust reads what Go writes: NaN, +Inf, 1e+09.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once('=')?;
        let (mut value, mut chars) = (String::new(), after.trim_start().strip_prefix('"')?.chars());
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        labels.insert(name.trim().to_owned(), value);
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_colons_in_names_and_braces_in_labels() {
        let page = "# HELP x y\n# TYPE x gauge\n\nvllm:num_requests_running{model_name=\"a}\\\"b\\\\\",engine=\"0\"} 3.0 1700000000000\nup 1e+09\n";
        let samples = parse(page).unwrap();
        assert_eq!(samples.len(), 2);
        assert_eq!((samples[0].name.as_str(), samples[0].value), ("vllm:num_requests_running", 3.0));
        assert_eq!(samples[0].labels["model_name"], "a}\"b\\");
        assert_eq!((samples[1].value, samples[1].labels.len()), (1e9, 0));
        assert!(parse("x NaN").unwrap()[0].value.is_nan());
    }

    #[test]
    fn a_broken_line_is_named() {
        for broken in ["x", "x{a=\"b} 1", "x{a} 1", "x one", "{a=\"b\"} 1", "<html>"] {
            assert_eq!(parse(&format!("ok 1\n{broken}\n")), Err(2), "{broken}");
        }
    }
}
