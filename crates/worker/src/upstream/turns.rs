//! The turns of a server that runs one model at a time, as this process has them.
//!
//! All workers agree in Redis on the model that may run. Here is who uses it in this process: as long as anybody holds it, this
//! worker keeps it; the last one to let go gives it back. Providers of one server share its turns.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use overshot_common::queue::{Turn, TurnCall, Wish};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Common, Upstream};
use crate::providers::Turnstile;

/// So long after its last job a model keeps its turn: the next one may be on its way.
const LINGER: Duration = Duration::from_millis(200);
/// The `max_wait` of what may wait for ever.
const PATIENT: Duration = Duration::from_secs(24 * 3600);
/// When to ask again for a turn that was refused, where there is no news before.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Under which name Redis has them.
    server: String,
    common: Common,
    shared: Arc<Shared>,
    /// Held while Redis is asked: what it says and what is noted here go together.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    used: Mutex<Used>,
    /// Notified when nobody uses the turn any more.
    over: Arc<Notify>,
}

/// Who uses the turn in this process.
#[derive(Debug)]
struct Used {
    model: String,
    holds: usize,
    asked: Instant,
    /// Until when Redis has it that this worker uses the turn; `None`: it has not.
    until: Option<Instant>,
}

/// A use of the turn; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Shared>);

/// A job that wants a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    /// How long it has waited.
    pub(crate) waited: Duration,
    /// How long it should at most.
    pub(crate) max_wait: Duration,
}

impl Turns {
    /// `over` is told when nobody uses the turn any more.
    pub(crate) fn new(server: String, common: &Common, over: Arc<Notify>) -> Self {
        let used = Used { model: String::new(), holds: 0, asked: Instant::now(), until: None };
        let shared = Arc::new(Shared { used: Mutex::new(used), over });
        Self { server, common: common.clone(), shared, asking: tokio::sync::Mutex::default() }
    }

    /// Whether news under that name are news of these.
    pub(super) fn are_of(&self, name: &str) -> bool {
        self.server == name
    }

    /// The model that this process may begin jobs of without asking.
    fn runs(&self, model: &str) -> bool {
        self.used().runs(model)
    }

    fn join(&self, model: &str) -> Option<Hold> {
        let mut used = self.used();
        used.runs(model).then(|| {
            used.holds += 1;
            Hold(self.shared.clone())
        })
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.shared.used()
    }

    /// Says what is wished, as things are once nobody else speaks, and notes the answer; `None`: nothing, or not heard.
    async fn say<'a>(&self, wish: impl FnOnce(&Used) -> Option<Wish<'a>>) -> Option<(Turn, Option<Hold>)> {
        let _alone = self.asking.lock().await;
        let sent = Instant::now();
        let lasts = self.common.liveness;
        let (wish, in_flight) = {
            let mut used = self.used();
            let wish = wish(&used)?;
            if matches!(wish, Wish::Begin { .. }) {
                // Should the answer be lost, or nobody wait for it any more, what it grants is given back.
                used.until.get_or_insert(sent + lasts);
            }
            (wish, (used.holds > 0).then(|| used.model.clone()))
        };
        let (begins, leaves) = (matches!(wish, Wish::Begin { .. }), matches!(wish, Wish::Leave));
        let call = TurnCall { worker: &self.common.worker, in_flight: in_flight.as_deref(), lasts, wish };
        let turn = self.common.queue.take_turn(&self.server, &call).await;
        let turn = turn.inspect_err(|error| tracing::debug!(%error, server = self.server, "turn not heard of")).ok()?;
        let mut used = self.used();
        used.asked = sent;
        match &turn {
            Turn::Granted(model) => {
                (used.model, used.until) = (model.clone(), Some(sent + lasts));
                used.holds += usize::from(begins);
            }
            // Refused, this worker stays on the list of those with jobs in flight.
            Turn::Refused(_) if begins && in_flight.is_some() => {}
            Turn::Refused(_) => {
                used.until = None;
                if !begins && !leaves {
                    tracing::warn!(server = self.server, model = used.model, "a turn was lost that jobs still use");
                }
            }
        }
        drop(used);
        let hold = (begins && matches!(turn, Turn::Granted(_))).then(|| Hold(self.shared.clone()));
        Some((turn, hold))
    }
}

impl Shared {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().expect("no holder of this lock can panic")
    }
}

impl Used {
    fn runs(&self, model: &str) -> bool {
        self.holds > 0 && self.model == model && self.until.is_some_and(|until| until > Instant::now())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut used = self.0.used();
        used.holds -= 1;
        if used.holds == 0 {
            self.0.over.notify_one();
        }
    }
}

impl Upstream {
    /// Whether a job of that model may begin without a word to the others, as far as turns go.
    pub(crate) fn has_turn(&self, model: Option<&str>) -> bool {
        self.turns.as_ref().is_none_or(|turns| turns.runs(self.circuit(model)))
    }

    /// Asks for the turn for one of these models, whose jobs have waited so long: which one it is, and the use of it.
    ///
    /// # Errors
    ///
    /// None may run before that time is over, or something changes.
    pub(crate) async fn take_turn(
        &self,
        waiting: &[(&str, Duration)],
        max_wait: Duration,
    ) -> Result<(String, Option<Hold>), Duration> {
        let Some(turns) = &self.turns else { return Err(ASK_AGAIN) };
        let loaded = if waiting.len() > 1 { self.loaded_now().await } else { Vec::new() };
        let is_loaded = |model: &&str| loaded.iter().any(|name| self.provider.is_same_model(name, model));
        let loaded: Vec<&str> = waiting.iter().map(|(model, _)| *model).filter(is_loaded).collect();
        let wish = Wish::Begin { waiting, loaded: &loaded, max_wait, linger: LINGER };
        match turns.say(|_| Some(wish)).await {
            Some((Turn::Granted(model), hold)) => Ok((model, hold)),
            Some((Turn::Refused(wait), _)) => Err(wait.unwrap_or(ASK_AGAIN)),
            None => Err(ASK_AGAIN),
        }
    }

    /// The use of the turn for one job.
    ///
    /// # Errors
    ///
    /// As those of [`Upstream::take_turn`].
    pub(super) async fn join_turn(&self, model: &str, want: Want) -> Result<Option<Hold>, Duration> {
        let Some(turns) = &self.turns else { return Ok(None) };
        match turns.join(model) {
            Some(hold) => Ok(Some(hold)),
            None => self.take_turn(&[(model, want.waited)], want.max_wait).await.map(|(_, hold)| hold),
        }
    }

    /// Keeps the turn that is used, and gives back the one that is not.
    pub(super) async fn tend_turn(&self) {
        let Some(turns) = &self.turns else { return };
        let wish = |used: &Used| match (used.until, used.holds) {
            (None, _) => None,
            (Some(_), 0) => Some(Wish::Leave),
            // The loop comes by every third of `liveness`.
            (Some(_), _) => (used.asked.elapsed() >= self.common.liveness / 6).then_some(Wish::Keep),
        };
        turns.say(wish).await;
    }

    /// Gives back the turn, at the end of the process.
    pub(crate) async fn leave_turn(&self) {
        let Some(turns) = &self.turns else { return };
        turns.say(|used| used.until.map(|_| Wish::Leave)).await;
    }
}

/// A model that is loaded ahead of its jobs takes its turn like one of them, but never makes another one's wait.
impl Turnstile for Upstream {
    type Turn = Hold;

    fn turns(&self) -> bool {
        self.turns.is_some()
    }

    async fn enter(&self, model: &str) -> Option<Hold> {
        let want = Want { waited: Duration::ZERO, max_wait: PATIENT };
        self.join_turn(model, want).await.ok().flatten()
    }
}
