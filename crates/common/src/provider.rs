//! How a provider is, judged from what its workers have agreed on: pure, no I/O, no clock.

use std::time::Duration;

use serde::Serialize;

use crate::config::ProviderConfig;
use crate::queue::{Circuit, ITSELF, ProviderStatus};

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

/// How a circuit is; the worst comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = CircuitState))]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Calls go through.
    Closed,
    /// One call at a time tries it.
    HalfOpen,
    /// No call goes through.
    Open,
}

impl Breaker {
    /// How a circuit is at `now`, Unix time in ms of Redis.
    pub fn of(circuit: &Circuit, now: u64) -> Self {
        match circuit.opened {
            0 => Self::Closed,
            _ if circuit.until > now => Self::Open,
            _ => Self::HalfOpen,
        }
    }
}

/// A limit of a provider, and how much of it all workers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = LimitUse))]
pub struct LimitUse {
    /// The setting that sets it.
    pub name: &'static str,
    /// What is used.
    pub value: u64,
    /// What may be used.
    pub threshold: u64,
}

impl LimitUse {
    /// Whether nothing more may begin.
    pub fn is_reached(&self) -> bool {
        self.value >= self.threshold
    }

    /// The share that is used; may pass 1, by tokens that were more than expected.
    pub fn ratio(&self) -> f64 {
        self.value as f64 / self.threshold.max(1) as f64
    }
}

/// The settings that limit how much all workers ask of a provider, in the order of [`limits`].
pub const LIMITS: [&str; 3] = ["max_in_flight", "requests_per_minute", "tokens_per_minute"];

/// The provider's limits and their use.
pub fn limits(config: &ProviderConfig, status: &ProviderStatus) -> impl Iterator<Item = LimitUse> {
    let [max_in_flight, requests_per_minute, tokens_per_minute] = LIMITS;
    let limits = [
        (max_in_flight, config.limits.max_in_flight.map(u64::from), status.in_flight),
        (requests_per_minute, config.limits.requests_per_minute.map(u64::from), status.requests),
        (tokens_per_minute, config.limits.tokens_per_minute, status.tokens),
    ];
    limits.into_iter().filter_map(|(name, threshold, value)| Some(LimitUse { name, value, threshold: threshold? }))
}

/// The limit of which most is used; `None` where the provider has none.
pub fn fullest_limit(config: &ProviderConfig, status: &ProviderStatus) -> Option<LimitUse> {
    limits(config, status).max_by(|a, b| a.ratio().total_cmp(&b.ratio()))
}

/// The circuit that a job of that model meets, the worse of the model's and the provider's own; `None` where the breaker is off.
pub fn breaker(config: &ProviderConfig, status: &ProviderStatus, model: Option<&str>) -> Option<Breaker> {
    config.breaker?;
    let met = [Some(ITSELF), model].into_iter().flatten().filter_map(|name| status.circuits.get(name));
    Some(met.map(|circuit| Breaker::of(circuit, status.now)).max().unwrap_or(Breaker::Closed))
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

/// Whether a job of that model would wait now because the provider is down. What sleeps is not down, and a model's half-open
/// circuit wants a job: nothing else closes it.
pub fn is_down_for(config: &ProviderConfig, status: &ProviderStatus, model: Option<&str>) -> bool {
    if config.breaker.is_none() || !matches!(state(config, status), State::Ok | State::Down) {
        return false;
    }
    let refuses =
        |model: &str| status.circuits.get(model).is_some_and(|met| Breaker::of(met, status.now) == Breaker::Open);
    let mut models = model.into_iter().chain(config.models.iter().map(String::as_str).filter(|_| model.is_none()));
    let first = models.next();
    is_open(status, ITSELF) || (first.is_some_and(refuses) && models.all(refuses))
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
        assert!(is_down_for(&two, &status(NOW, &[ITSELF]), Some("a")), "a check is to find it back, not a job");
        let mut open = status(NOW, &["a", "b"]);
        assert!(!is_down_for(&two, &open, Some("a")), "half-open, it takes a job");
        open.circuits.values_mut().for_each(|circuit| circuit.until = NOW + 1);
        assert!(is_down_for(&two, &open, Some("a")) && is_down_for(&two, &open, None));
        open.circuits.remove("b");
        assert!(!is_down_for(&two, &open, Some("b")) && !is_down_for(&two, &open, None));
        assert_eq!(state(&two, &ProviderStatus::default()), State::Unconfigured);
    }

    #[test]
    fn a_job_meets_the_worse_of_two_circuits_and_the_fullest_of_the_limits() {
        let mut provider = config(&["a"]);
        let mut status = status(NOW, &["a"]);
        assert_eq!(breaker(&provider, &status, Some("a")), Some(Breaker::HalfOpen));
        assert_eq!(breaker(&provider, &status, Some("b")), Some(Breaker::Closed));
        let open = Circuit { opened: 1, until: NOW + 1, ..Circuit::default() };
        status.circuits.insert(ITSELF.to_owned(), open);
        assert_eq!(breaker(&provider, &status, Some("a")), Some(Breaker::Open));
        assert_eq!(breaker(&ProviderConfig { breaker: None, ..config(&[]) }, &status, None), None);
        assert_eq!(fullest_limit(&provider, &status), None);
        (provider.limits.max_in_flight, provider.limits.tokens_per_minute) = (Some(4), Some(1000));
        (status.in_flight, status.tokens) = (3, 900);
        let tokens = LimitUse { name: "tokens_per_minute", value: 900, threshold: 1000 };
        assert_eq!(fullest_limit(&provider, &status), Some(tokens));
        status.in_flight = 4;
        assert!(fullest_limit(&provider, &status).unwrap().is_reached());
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
        assert!(!is_down_for(&config, &status(NOW - 9, &[]), None), "nothing stops a job");
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
