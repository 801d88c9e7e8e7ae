//! What this worker knows of how a provider is, in its own time. Pure: no I/O, no clock.

use std::collections::HashMap;
use std::time::Duration;

use overshot_common::config::WakeConfig;
use overshot_common::queue::{Circuit, ITSELF, Standing, Trial};
use tokio::time::Instant;

/// How long a provider that somebody else wakes or checks is left alone, unless there is news.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How soon a check follows the end of the time open.
const CHECK_SOON: Duration = Duration::from_millis(500);

/// The last standing.
#[derive(Debug, Default)]
pub(super) struct View {
    circuits: HashMap<String, Local>,
    answered: Option<Instant>,
    waking: Option<Instant>,
}

/// A circuit in this process' time.
#[derive(Debug, Clone, Copy)]
struct Local {
    failing: bool,
    opened: bool,
    until: Instant,
    paused: Instant,
    trial: Instant,
}

/// Whether a call may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability<'a> {
    /// Yes.
    Free,
    /// Not before that time is over.
    In(Duration),
    /// One call of all, through this circuit.
    Trial(&'a str, Trial),
}

impl View {
    /// The view of a standing that was read now.
    pub(super) fn of(standing: &Standing, now: Instant) -> Self {
        let time = |at: u64| now + Duration::from_millis(at.saturating_sub(standing.now));
        let circuit = |circuit: &Circuit| Local {
            failing: circuit.consecutive > 0,
            opened: circuit.opened > 0,
            until: time(circuit.until),
            paused: time(circuit.paused),
            trial: time(circuit.trial),
        };
        let ago = Duration::from_millis(standing.now.saturating_sub(standing.answered));
        Self {
            circuits: standing.circuits.iter().map(|(model, stored)| (model.clone(), circuit(stored))).collect(),
            answered: (standing.answered > 0).then(|| now.checked_sub(ago)).flatten(),
            waking: (standing.waking > standing.now).then(|| time(standing.waking)),
        }
    }

    /// Whether nothing speaks against any call.
    pub(super) fn is_at_rest(&self) -> bool {
        self.circuits.is_empty()
    }

    /// Whether an answer of that model would be news to all.
    pub(super) fn awaits_an_answer(&self, model: &str) -> bool {
        self.circuits.get(model).is_some_and(|circuit| circuit.failing || circuit.opened)
    }

    /// When the provider itself may be checked, where it is open.
    pub(super) fn check_due(&self) -> Option<Instant> {
        let itself = self.circuits.get(ITSELF).filter(|circuit| circuit.opened)?;
        Some(itself.until.max(itself.trial))
    }

    /// When something changes by itself.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let times = self.circuits.values().flat_map(|circuit| [circuit.until, circuit.paused, circuit.trial]);
        times.filter(|time| *time > now).min()
    }

    pub(super) fn models(&self) -> impl Iterator<Item = String> {
        self.circuits.keys().cloned()
    }

    /// This worker got an answer.
    pub(super) fn answered(&mut self, now: Instant) {
        self.answered = Some(now);
    }

    pub(super) fn somebody_tries(&mut self, circuit: &str, now: Instant, until: Instant) {
        let rest = Local { failing: false, opened: false, until: now, paused: now, trial: now };
        self.circuits.entry(circuit.to_owned()).or_insert(rest).trial = until;
    }

    /// A circuit that is at rest, as others know.
    pub(super) fn forget(&mut self, circuit: &str) {
        self.circuits.remove(circuit);
    }

    /// Whether it sleeps, as far as is known: it has not answered for too long, and answers nobody now.
    pub(super) fn is_asleep(&self, wake: &WakeConfig, calling: bool, now: Instant) -> bool {
        let idle = |answered: Instant| now.duration_since(answered) >= wake.idle_after;
        !calling && self.answered.is_none_or(idle)
    }

    pub(super) fn availability<'a>(
        &self,
        model: &'a str,
        wake: Option<&WakeConfig>,
        calling: bool,
        now: Instant,
    ) -> Availability<'a> {
        let wait = |until: Instant| until.duration_since(now);
        let itself = self.circuits.get(ITSELF);
        if let Some(until) = itself.map(|itself| itself.paused).filter(|paused| *paused > now) {
            return Availability::In(wait(until));
        }
        if let Some(wake) = wake.filter(|wake| self.is_asleep(wake, calling, now)) {
            let tried = itself.map(|itself| itself.trial).filter(|trial| *trial > now);
            return match tried.or(self.waking.filter(|waking| *waking > now)) {
                Some(until) => Availability::In(wait(until).min(LOOK_AGAIN)),
                None => Availability::Trial(ITSELF, Trial::Wake(wake.idle_after)),
            };
        }
        if let Some(itself) = itself.filter(|itself| itself.opened) {
            // Checks find out, not jobs.
            return Availability::In(wait(itself.until.max(itself.trial)).max(CHECK_SOON));
        }
        match self.circuits.get(model) {
            Some(circuit) if circuit.paused > now => Availability::In(wait(circuit.paused)),
            Some(circuit) if !circuit.opened => Availability::Free,
            Some(circuit) if circuit.until.max(circuit.trial) > now => {
                Availability::In(wait(circuit.until.max(circuit.trial)))
            }
            Some(_) => Availability::Trial(model, Trial::Call),
            None => Availability::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use overshot_common::config::Wake;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn circuit(model: &str, circuit: Circuit) -> Standing {
        Standing { now: NOW, answered: NOW, waking: 0, circuits: [(model.to_owned(), circuit)].into() }
    }

    fn of<'a>(standing: &Standing, model: &'a str, after: u64) -> Availability<'a> {
        let now = Instant::now();
        View::of(standing, now).availability(model, None, false, now + Duration::from_millis(after))
    }

    fn ms(ms: u64) -> Availability<'static> {
        Availability::In(Duration::from_millis(ms))
    }

    #[tokio::test]
    async fn an_open_circuit_waits_and_a_half_open_one_is_tried_by_one() {
        let open = circuit("m", Circuit { opened: 1, until: NOW + 5000, ..Circuit::default() });
        assert_eq!(of(&open, "m", 0), ms(5000));
        assert_eq!(of(&open, "m", 4999), ms(1));
        assert_eq!(of(&open, "m", 5000), Availability::Trial("m", Trial::Call));
        assert_eq!(of(&open, "other", 0), Availability::Free);
        let tried = circuit("m", Circuit { opened: 1, until: NOW, trial: NOW + 900, ..Circuit::default() });
        assert_eq!(of(&tried, "m", 0), ms(900));
    }

    #[tokio::test]
    async fn a_provider_that_is_open_itself_takes_no_call_before_a_check_found_it_back() {
        let open = circuit(ITSELF, Circuit { opened: 1, until: NOW + 5000, ..Circuit::default() });
        assert_eq!(of(&open, "m", 0), ms(5000));
        assert_eq!(of(&open, "m", 9000), ms(500));
    }

    #[tokio::test]
    async fn failures_that_do_not_suffice_and_a_pause_that_is_over_stop_no_call() {
        let failing = circuit("m", Circuit { consecutive: 2, paused: NOW + 700, ..Circuit::default() });
        assert_eq!((of(&failing, "m", 0), of(&failing, "m", 700)), (ms(700), Availability::Free));
        let view = View::of(&failing, Instant::now());
        assert!(view.awaits_an_answer("m") && !view.awaits_an_answer("other") && !view.is_at_rest());
    }

    #[tokio::test]
    async fn a_sleeper_is_woken_by_one_and_only_when_it_has_been_idle() {
        let wake = WakeConfig {
            by: Wake::Url(String::new()),
            timeout: Duration::from_secs(300),
            idle_after: Duration::from_secs(60),
        };
        let now = Instant::now() + Duration::from_secs(3600);
        let of = |standing: &Standing, calling| View::of(standing, now).availability("m", Some(&wake), calling, now);
        let asleep = Standing { now: NOW, answered: NOW - 60_000, ..Standing::default() };
        assert_eq!(of(&asleep, false), Availability::Trial(ITSELF, Trial::Wake(wake.idle_after)));
        assert_eq!(of(&asleep, true), Availability::Free, "it answers somebody now");
        assert_eq!(of(&Standing { answered: NOW - 59_999, ..asleep.clone() }, false), Availability::Free);
        assert_eq!(of(&Standing { waking: NOW + 200_000, ..asleep.clone() }, false), ms(5000));
        // Open: down, not asleep, as long as it has answered lately.
        let down = circuit(ITSELF, Circuit { opened: 1, until: NOW + 3000, ..Circuit::default() });
        assert_eq!(of(&down, false), ms(3000));
    }
}
