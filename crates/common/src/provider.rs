//! How a provider is, judged from what its workers have agreed on: pure, no I/O, no clock.

use std::time::Duration;

use serde::Serialize;

use crate::config::ProviderConfig;
use crate::queue::{ITSELF, ProviderStatus};

/// Reports older than so many times `liveness` are stale: a worker with nothing to tell reports every three or four of it.
const STALE_AFTER: u32 = 6;

/// How a provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = ProviderState))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It answers, as far as is known.
    Ok,
    /// It does not: it is open itself, or every model that it lists is.
    Down,
    /// It has not answered for its `idle_after`; a job will wake it.
    Asleep,
    /// A job wakes it now.
    Waking,
    /// No worker has told of it: none runs that serves it.
    Unconfigured,
}

/// How a provider is by what is known of it.
pub fn state(config: &ProviderConfig, status: &ProviderStatus) -> State {
    if status.fact("reported") == 0 {
        return State::Unconfigured;
    }
    let answered = status.fact("answered");
    if let Some(wake) = &config.wake {
        let idle = Duration::from_millis(status.now.saturating_sub(answered));
        if status.fact("waking") > status.now {
            return State::Waking;
        } else if idle >= wake.idle_after {
            return State::Asleep;
        }
    }
    let models = || config.models.iter().map(String::as_str);
    let down = is_open(status, ITSELF)
        || (models().next().is_some() && models().all(|model| is_open(status, model)))
        // Nothing opens without a breaker: then the last word counts.
        || (config.breaker.is_none() && status.fact("error_at") > answered);
    if down { State::Down } else { State::Ok }
}

/// Whether the last report on a provider is old: its workers are gone. Without any it is unconfigured, not stale.
pub fn is_stale(status: &ProviderStatus, liveness: Duration) -> bool {
    let reported = status.fact("reported");
    let age = Duration::from_millis(status.now.saturating_sub(reported));
    reported > 0 && age > liveness * STALE_AFTER
}

/// Whether a job of that model would wait now because the provider is down. What sleeps is not down.
pub fn is_down_for(config: &ProviderConfig, status: &ProviderStatus, model: Option<&str>) -> bool {
    match state(config, status) {
        State::Down => true,
        State::Ok => model.is_some_and(|model| is_open(status, model)),
        State::Asleep | State::Waking | State::Unconfigured => false,
    }
}

fn is_open(status: &ProviderStatus, model: &str) -> bool {
    status.circuits.get(model).is_some_and(|circuit| circuit.opened > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ProviderKind, SimulatedProvider, Wake, WakeConfig};
    use crate::queue::Circuit;

    const NOW: u64 = 1_000_000;

    fn config(models: &[&str]) -> ProviderConfig {
        let models = models.iter().map(|model| (*model).to_owned()).collect();
        let kind = ProviderKind::Simulated(SimulatedProvider::default());
        ProviderConfig { models, breaker: Some(Default::default()), ..ProviderConfig::plain(kind) }
    }

    fn status(answered: u64, open: &[&str]) -> ProviderStatus {
        let facts = [("reported", NOW), ("answered", answered), ("error_at", NOW - 5)];
        let circuit = Circuit { opened: 1, until: NOW - 1, ..Circuit::default() };
        ProviderStatus {
            now: NOW,
            facts: facts.map(|(name, time)| (name.to_owned(), time.to_string())).into(),
            circuits: open.iter().map(|model| ((*model).to_owned(), circuit)).collect(),
            ..ProviderStatus::default()
        }
    }

    #[test]
    fn a_provider_is_down_when_itself_or_all_of_its_models_are_open() {
        let two = config(&["a", "b"]);
        for (open, expected) in
            [(&[][..], State::Ok), (&["a"], State::Ok), (&["a", "b"], State::Down), (&[ITSELF], State::Down)]
        {
            assert_eq!(state(&two, &status(NOW, open)), expected, "{open:?}");
        }
        assert!(is_down_for(&two, &status(NOW, &["a"]), Some("a")));
        assert!(!is_down_for(&two, &status(NOW, &["a"]), Some("b")));
        assert_eq!(state(&two, &ProviderStatus::default()), State::Unconfigured);
    }

    #[test]
    fn a_report_is_stale_after_six_times_liveness() {
        let liveness = Duration::from_millis(100);
        let mut old = status(NOW, &[]);
        old.now = NOW + 600;
        assert!(!is_stale(&old, liveness));
        old.now += 1;
        assert!(is_stale(&old, liveness));
        assert!(!is_stale(&ProviderStatus { now: NOW, ..ProviderStatus::default() }, liveness));
    }

    #[test]
    fn without_a_breaker_the_last_word_counts() {
        let config = ProviderConfig { breaker: None, ..config(&[]) };
        assert_eq!(state(&config, &status(NOW - 9, &[])), State::Down);
        assert_eq!(state(&config, &status(NOW, &[])), State::Ok);
    }

    #[test]
    fn what_has_not_answered_for_long_sleeps_and_is_not_down() {
        let wake = WakeConfig {
            by: Wake::Url(String::new()),
            timeout: Duration::from_secs(1),
            idle_after: Duration::from_secs(60),
        };
        let config = ProviderConfig { wake: Some(wake), ..config(&[]) };
        assert_eq!(state(&config, &status(NOW - 60_000, &[ITSELF])), State::Asleep);
        assert_eq!(state(&config, &status(NOW - 59_999, &[ITSELF])), State::Down);
        let mut waking = status(NOW - 60_000, &[]);
        waking.facts.insert("waking".to_owned(), (NOW + 1).to_string());
        assert_eq!(state(&config, &waking), State::Waking);
        assert!(!is_down_for(&config, &waking, None));
    }
}
