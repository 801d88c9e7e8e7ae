//! `[providers.NAME]` of kind `ollama`: what it has beyond any provider behind HTTP.

use serde::Serialize;

use super::HttpProvider;
use crate::config::mistakes::Mistakes;
use crate::config::reader::Section;

/// A provider that speaks Ollama's own HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OllamaProvider {
    /// Where it is.
    pub http: HttpProvider,
    /// How long a chat model stays loaded after a call; wins over what a caller asks for. `None`: as the caller asks, else
    /// for ever. Embedding models are always kept.
    pub keep_alive: Option<KeepAlive>,
    /// Models that are loaded when a worker starts, and again after the provider was restarted.
    pub preload: Vec<String>,
}

/// A time that a model stays loaded, in the two forms that Ollama takes: it reads a number as seconds and refuses a text
/// without a unit. (`api/types.go`, `Duration.UnmarshalJSON`.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum KeepAlive {
    /// Seconds; below 0: for ever; 0: not at all.
    Seconds(i64),
    /// A duration as Go writes it: `15m`, `1h30m`.
    Text(String),
}

impl KeepAlive {
    /// For ever.
    pub const FOREVER: Self = Self::Seconds(-1);

    /// Reads `-1`, `0`, `3600` or a duration such as `15m`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let number = text.parse().ok().map(Self::Seconds);
        number.or_else(|| is_go_duration(text).then(|| Self::Text(text.to_owned())))
    }

    /// Whether a model that was loaded with it stays until another one needs its room.
    pub fn is_forever(&self) -> bool {
        match self {
            Self::Seconds(seconds) => *seconds < 0,
            Self::Text(text) => text.starts_with('-'),
        }
    }
}

/// Whether Go's `time.ParseDuration` takes it.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let digits = &rest[..rest.len() - number.len()];
        let unit = number.trim_start_matches(|c: char| c.is_alphabetic());
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        if digits.parse::<f64>().is_err() || !units.contains(&&number[..number.len() - unit.len()]) {
            return false;
        }
        rest = unit;
    }
    true
}

impl OllamaProvider {
    pub(super) fn read(from: &mut Section, mistakes: &mut Mistakes) -> Option<Self> {
        let keep_alive = from.number_or_text(mistakes, "keep_alive").and_then(|text| {
            let read = KeepAlive::parse(&text);
            if read.is_none() {
                let problem = format!("`{}` is neither seconds nor a duration such as \"15m\"", text.escape_debug());
                mistakes.add(&from.key("keep_alive"), problem);
            }
            read
        });
        let preload = from.texts(mistakes, "preload").unwrap_or_default();
        Some(Self { http: HttpProvider::read(from, mistakes)?, keep_alive, preload })
    }
}

#[cfg(test)]
mod tests {
    use super::KeepAlive;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let json = KeepAlive::parse(text).map(|read| serde_json::to_string(&read).unwrap());
        assert_eq!(json.as_deref(), expected, "{text}");
    }

    #[test]
    fn seconds_are_sent_as_a_number_and_durations_as_a_text() {
        check("-1", Some("-1"));
        check("0", Some("0"));
        check("3600", Some("3600"));
        check("15m", Some("\"15m\""));
        check("1h30m", Some("\"1h30m\""));
        check("-1m", Some("\"-1m\""));
        check("1.5h", Some("\"1.5h\""));
    }

    #[test]
    fn what_ollama_would_refuse_is_a_mistake() {
        for text in ["", "soon", "15", "1d", "m", "15m ago", "1 h", "-"] {
            let number = text.parse::<i64>().is_ok();
            assert_eq!(KeepAlive::parse(text).is_some(), number, "{text}");
        }
    }
}
