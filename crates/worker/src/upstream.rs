//! A provider as this process sees it: whether it may be called, what calls to it came to, what it is allowed.
//!
//! All workers agree on that in Redis ([`overshot_common::queue`], `providers`); here is what this one knows of it. A provider at
//! rest and without limits costs a job nothing but a count: [`Upstream::enter`] asks nobody, and answers are reported together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use overshot_common::config::{Config, ProviderConfig};
use overshot_common::ids::WorkerId;
use overshot_common::queue::{CallReport, ITSELF, MayTry, Queue, Trial};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::providers::Provider;

mod draws;
mod ledger;
mod loaded;
mod pass;
mod tally;
mod tend;
mod turns;
mod view;
mod wake;

use ledger::Ledger;
use loaded::Loaded;
pub(crate) use pass::{Pass, Trying};
use tally::Tally;
pub(crate) use tend::tend_all;
pub(crate) use turns::{Hold, Turns, Want};
use view::{Availability, View};

/// How long the right to try a provider lasts at most; whoever goes on asks again in time.
const TRIAL_LASTS: Duration = Duration::from_secs(15);
/// How long to wait for a standing that should be there soon.
const SOON: Duration = Duration::from_millis(250);
/// The circuit of jobs that name no model, where the provider lists none.
const UNNAMED: &str = "default";

/// What all upstreams of a process share.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) queue: Queue,
    pub(crate) worker: WorkerId,
    /// How long permits last without a word from this worker.
    pub(crate) liveness: Duration,
    /// Moves on whenever some provider may be called again.
    pub(crate) changed: watch::Sender<u64>,
}

impl Common {
    pub(crate) fn new(queue: &Queue, worker: &WorkerId, config: &Config) -> Self {
        let (queue, worker) = (queue.within(Duration::from_secs(1)), worker.clone());
        Self { queue, worker, liveness: config.worker.liveness, changed: watch::Sender::new(0) }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) provider: Arc<Provider>,
    pub(crate) config: ProviderConfig,
    common: Common,
    view: Mutex<View>,
    /// Whether everybody may call without asking: nothing in the view speaks against it, and nothing is limited.
    at_rest: AtomicBool,
    /// Whether a call found nobody there, so that a check is worth its while.
    check_wanted: AtomicBool,
    /// Whether a call failed in a way that may mean that nobody is there any more.
    suspected: AtomicBool,
    /// Whether a check is under way.
    checking: AtomicBool,
    /// When the last one began.
    checked: Mutex<Option<Instant>>,
    /// Calls under way.
    calling: AtomicU64,
    /// Numbers what this worker asks of all.
    last: AtomicU64,
    tally: Mutex<Tally>,
    ledger: Mutex<Ledger>,
    /// Held while the limits are drawn on: one call at a time.
    drawing: tokio::sync::Mutex<()>,
    /// A trial that a claimer got for the job that it hopes to claim.
    trial: Mutex<Option<HeldTrial>>,
    /// Something is to be told, given back or asked at once.
    at_once: Arc<Notify>,
    /// Where it runs one model at a time.
    turns: Option<Arc<Turns>>,
    loaded: Loaded,
}

/// The right to try a circuit.
#[derive(Debug, Clone)]
struct HeldTrial {
    model: String,
    holder: String,
    wakes: bool,
    until: Instant,
}

/// Whether a call may begin.
pub(crate) enum Entry<'a> {
    /// It may.
    Go(Pass<'a>),
    /// Not now; look again after that time, or when something changed.
    Later(Duration),
}

impl Upstream {
    /// `turns` makes those of its server, where that one runs one model at a time; what it is given is told when they are over.
    pub(crate) fn new(
        provider: Arc<Provider>,
        config: &ProviderConfig,
        common: &Common,
        turns: impl FnOnce(Arc<Notify>) -> Option<Arc<Turns>>,
    ) -> Self {
        let at_once = Arc::new(Notify::new());
        let at_rest = config.wake.is_none() && config.limits.is_empty();
        Self {
            provider,
            config: config.clone(),
            common: common.clone(),
            view: Mutex::default(),
            at_rest: AtomicBool::new(at_rest),
            check_wanted: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            checking: AtomicBool::new(false),
            checked: Mutex::default(),
            calling: AtomicU64::new(0),
            last: AtomicU64::new(0),
            tally: Mutex::default(),
            ledger: Mutex::default(),
            drawing: tokio::sync::Mutex::default(),
            trial: Mutex::default(),
            turns: turns(at_once.clone()),
            loaded: Loaded::default(),
            at_once,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.provider.name()
    }

    /// Whether news under that name concern it: its own, or that of its server's turns.
    fn goes_by(&self, name: &str) -> bool {
        self.name() == name || self.turns.as_ref().is_some_and(|turns| turns.are_of(name))
    }

    /// Whether everybody may call it without asking.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.at_rest.load(Ordering::Acquire)
    }

    /// Begins a call for a job of that model, where the provider may be called, and in the model's turn, where the job `wants`
    /// one. `tokens` tells how many it may use, of a minute's; `None`: that is not known yet.
    ///
    /// # Cancel safety
    ///
    /// What a dropped call had got is given back.
    pub(crate) async fn enter<'a>(
        &'a self,
        model: Option<&'a str>,
        tokens: impl FnOnce(u64) -> Option<u64>,
        wants: Option<Want>,
    ) -> Entry<'a> {
        let wants = wants.filter(|_| self.turns.is_some());
        if self.is_at_rest() && wants.is_none() {
            return Entry::Go(Pass::begin(self, model, None));
        }
        let model = self.circuit(model);
        let banked = self.banked_trial(model);
        let trial = match self.availability(model) {
            _ if banked.is_some() => banked,
            Availability::Free => None,
            Availability::In(wait) => return Entry::Later(wait),
            Availability::Trial(circuit, kind) => match self.ask_to_try(circuit, kind).await {
                Ok(trial) => trial,
                Err(wait) => return Entry::Later(wait),
            },
        };
        // A pass from here on, so that a trial that comes to nothing is dropped.
        let mut pass = Pass::begin(self, Some(model), trial);
        if let Some(want) = wants {
            match self.join_turn(model, want).await {
                Ok(hold) => pass.has_turn(hold),
                Err(wait) => return Entry::Later(wait),
            }
        }
        if !self.config.limits.is_empty() {
            match self.draw_for_one(self.estimate(tokens)).await {
                Ok(lot) => pass.has_permit(lot),
                Err(wait) => return Entry::Later(wait),
            }
        }
        Entry::Go(pass)
    }

    /// Gets leave for up to `wanted` calls of whatever models this provider serves, before their jobs are claimed.
    ///
    /// # Errors
    ///
    /// None is allowed before that time is over, or something changed.
    pub(crate) async fn admit(&self, wanted: u64) -> Result<u64, Duration> {
        let (mut soonest, mut may_try) = (None, None);
        let models = self.known_models();
        let everything = models.iter().map(String::as_str).chain(models.is_empty().then_some(ITSELF));
        for model in everything {
            match self.availability(model) {
                Availability::Free if self.config.limits.is_empty() => return Ok(wanted),
                Availability::Free => return self.draw_ahead(wanted).await,
                Availability::In(wait) => soonest = Some(soonest.map_or(wait, |soonest: Duration| soonest.min(wait))),
                Availability::Trial(circuit, kind) => may_try = Some((circuit.to_owned(), kind)),
            }
        }
        let Some((circuit, kind)) = may_try else { return Err(soonest.unwrap_or(SOON)) };
        match self.ask_to_try(&circuit, kind).await? {
            None => Ok(1),
            Some(trial) => {
                let older = self.lock_trial().replace(trial);
                self.give_back_trial(older);
                Ok(1)
            }
        }
    }

    /// Whether a job of that model may be called for now, as far as this process knows.
    pub(crate) fn is_open_for(&self, model: &str) -> bool {
        self.is_at_rest() || !matches!(self.availability(model), Availability::In(_))
    }

    /// Gives back what [`Upstream::admit`] got and no job came for.
    pub(crate) fn unused(&self, calls: u64) {
        if calls == 0 {
            return;
        }
        let trial = self.lock_trial().take();
        self.give_back_trial(trial);
        if self.ledger().unbank(calls) {
            self.at_once.notify_one();
        }
    }

    /// Tokens count only where they are limited.
    fn estimate(&self, tokens: impl FnOnce(u64) -> Option<u64>) -> Option<u64> {
        self.config.limits.tokens_per_minute.map_or(Some(0), tokens)
    }

    /// The circuit of a model.
    fn circuit<'a>(&'a self, model: Option<&'a str>) -> &'a str {
        model.or(self.config.models.first().map(String::as_str)).unwrap_or(UNNAMED)
    }

    fn availability<'a>(&self, model: &'a str) -> Availability<'a> {
        let calling = self.calling.load(Ordering::Relaxed) > 0;
        self.lock_view().availability(model, self.config.wake.as_ref(), calling, Instant::now())
    }

    /// The models that jobs are known to want of it.
    fn known_models(&self) -> Vec<String> {
        if !self.config.models.is_empty() {
            return self.config.models.clone();
        }
        let mut models = self.lock_tally().models();
        models.extend(self.lock_view().models());
        models.retain(|model| model != ITSELF);
        models
    }

    /// Asks all for the right to try; nothing where there is no need any more.
    async fn ask_to_try(&self, circuit: &str, kind: Trial) -> Result<Option<HeldTrial>, Duration> {
        let holder = format!("{}/{}", self.common.worker, self.last.fetch_add(1, Ordering::Relaxed));
        let now = Instant::now();
        let answer = self.common.queue.try_provider(self.name(), &holder, circuit, TRIAL_LASTS, kind).await;
        match answer {
            Ok(MayTry::Yes(lasts)) => {
                let (wakes, until) = (matches!(kind, Trial::Wake(_)), now + lasts);
                self.lock_view().somebody_tries(circuit, now, until);
                Ok(Some(HeldTrial { model: circuit.to_owned(), holder, wakes, until }))
            }
            Ok(MayTry::NoNeed) => {
                // What this worker knows is old.
                self.at_once.notify_one();
                self.lock_view().forget(circuit);
                Ok(None)
            }
            Ok(MayTry::In(wait)) => {
                self.lock_view().somebody_tries(circuit, now, now + wait);
                Err(wait.max(SOON))
            }
            Err(_) => Err(SOON * 4),
        }
    }

    /// The trial that a claimer got for a job of that model, or for any.
    fn banked_trial(&self, model: &str) -> Option<HeldTrial> {
        let fits = |trial: &mut HeldTrial| trial.wakes || trial.model == model;
        self.lock_trial().take_if(|trial| fits(trial) && trial.until > Instant::now())
    }

    fn give_back_trial(&self, trial: Option<HeldTrial>) {
        if let Some(HeldTrial { model, holder, .. }) = trial {
            self.tell(CallReport::TrialDropped { model, holder });
        }
    }

    /// Has something told to all workers at once.
    fn tell(&self, call: CallReport) {
        self.lock_tally().add(call);
        self.at_once.notify_one();
    }

    fn changed(&self) {
        self.common.changed.send_modify(|version| *version += 1);
    }

    fn checked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.checked.lock().expect("no holder of this lock can panic")
    }

    fn lock_view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("no holder of this lock can panic")
    }

    fn lock_tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no holder of this lock can panic")
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder of this lock can panic")
    }

    fn lock_trial(&self) -> MutexGuard<'_, Option<HeldTrial>> {
        self.trial.lock().expect("no holder of this lock can panic")
    }
}
