//! What keeps a provider from harm, and the fleet from a provider: breaker, limits, sleep.

use std::time::Duration;

use super::super::mistakes::Mistakes;
use super::super::reader::{POSITIVE, Section};

/// When calls to a provider stop for a while, per model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// So many failures in a row, or in one window where they are half of the calls, 1 to 1000; default 5.
    pub failures: u32,
    /// How long failures and answers are counted together; default 30 s.
    pub window: Duration,
    /// How long calls stop at first; twice as long after each trial that fails, up to a minute; default 10 s.
    pub open_for: Duration,
}

/// What a provider takes, over all workers; `None`: as much as comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitsConfig {
    /// Jobs at the same time.
    pub max_in_flight: Option<u32>,
    /// Requests in any 60 s.
    pub requests_per_minute: Option<u32>,
    /// Tokens in any 60 s: estimated before a call, corrected by what the provider reports.
    pub tokens_per_minute: Option<u64>,
}

/// How a provider that sleeps is woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeConfig {
    /// What is done.
    pub by: Wake,
    /// How long it may take until the provider answers; default 5 min.
    pub timeout: Duration,
    /// Without an answer for so long it is taken to be asleep; default 5 min.
    pub idle_after: Duration,
}

/// What wakes a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// A POST to this URL.
    Url(String),
    /// A program and its arguments.
    Command(Vec<String>),
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, window: Duration::from_secs(30), open_for: Duration::from_secs(10) }
    }
}

impl BreakerConfig {
    /// Reads `breaker`, which is a table or `"off"`; `None`: off. Absent it is `default`.
    pub(super) fn read(from: &mut Section, mistakes: &mut Mistakes, default: Option<Self>) -> Option<Self> {
        if !from.names().iter().any(|name| name == "breaker") {
            return default;
        }
        let mut from = from.section_or(mistakes, "breaker", "off")?;
        let default = Self::default();
        let breaker = Self {
            failures: from.integer(mistakes, "failures", &(1..=1000), default.failures),
            window: from.duration(mistakes, "window", &POSITIVE, default.window),
            open_for: from.duration(mistakes, "open_for", &POSITIVE, default.open_for),
        };
        from.finish(mistakes);
        Some(breaker)
    }
}

impl LimitsConfig {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn read(from: &mut Section, mistakes: &mut Mistakes) -> Self {
        let names = from.names();
        let set = |name: &str| names.iter().any(|known| known == name);
        let millions = 1..=1_000_000;
        let max_in_flight = from.integer(mistakes, "max_in_flight", &millions, 1);
        let requests = from.integer(mistakes, "requests_per_minute", &millions, 1);
        let tokens = from.integer(mistakes, "tokens_per_minute", &(1..=1_000_000_000_000), 1);
        Self {
            max_in_flight: set("max_in_flight").then_some(max_in_flight),
            requests_per_minute: set("requests_per_minute").then_some(requests),
            tokens_per_minute: set("tokens_per_minute").then_some(tokens),
        }
    }
}

impl WakeConfig {
    const TIMEOUT: Duration = Duration::from_secs(300);
    const IDLE_AFTER: Duration = Duration::from_secs(300);

    /// `None`: the provider does not sleep.
    pub(super) fn read(from: &mut Section, mistakes: &mut Mistakes) -> Option<Self> {
        let names = from.names();
        let set = |name: &&str| names.iter().any(|known| known == name);
        let url = from.text(mistakes, "wake_url");
        let command = from.texts(mistakes, "wake_command");
        let timeout = from.duration(mistakes, "wake_timeout", &POSITIVE, Self::TIMEOUT);
        let idle_after = from.duration(mistakes, "idle_after", &POSITIVE, Self::IDLE_AFTER);
        let by = match (url, command) {
            (Some(_), Some(_)) => {
                mistakes.add(&from.key("wake_command"), "is set beside wake_url: one of them wakes it");
                return None;
            }
            (Some(url), None) => {
                if let Err(problem) = super::check_url(&url) {
                    mistakes.add(&from.key("wake_url"), problem);
                }
                Wake::Url(url)
            }
            (None, Some(command)) => {
                if command.is_empty() {
                    mistakes.add(&from.key("wake_command"), "names no program");
                }
                Wake::Command(command)
            }
            (None, None) => {
                for name in ["wake_timeout", "idle_after"].into_iter().filter(|name| set(name)) {
                    mistakes.add(&from.key(name), "has no effect without wake_url or wake_command");
                }
                return None;
            }
        };
        Some(Self { by, timeout, idle_after })
    }
}
