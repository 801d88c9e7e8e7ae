//! The service of each upstream: reports, learns, gives back, checks whether a provider that was down is there again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use overshot_common::queue::{CallReport, Events, ITSELF, ProviderReport, Standing, Trial};
use rand::RngExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Upstream;
use super::draws::Wish;
use super::tally::Batch;
use super::view::View;

/// How long a provider may take to say that it is there.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer so old, in ms, does not say any more that a provider is there.
const ANSWER_IS_OLD: u64 = 60_000;
/// A provider that answers with errors is asked no more often whether it is there.
const SUSPECT_EVERY: Duration = Duration::from_secs(1);
/// Every so many ticks a worker reports though there is nothing new.
const IDLE_TICKS: u32 = 9;
/// Pause after a report that Redis did not take.
const RETRY: Duration = Duration::from_secs(1);

/// Tends all upstreams of a process until `shutdown`.
pub(crate) async fn tend_all(upstreams: Vec<Arc<Upstream>>, shutdown: CancellationToken) {
    let Some(first) = upstreams.first() else { return };
    let events = Events::new(&first.common.queue);
    let news: Vec<Arc<Notify>> = upstreams.iter().map(|_| Arc::default()).collect();
    let tend = upstreams.iter().zip(&news).map(|(upstream, news)| upstream.clone().tend(news.clone()));
    let listen = async {
        let mut changes = events.provider_news().await;
        loop {
            let name = changes.next().await;
            let concerned = upstreams.iter().zip(&news).filter(|(upstream, _)| {
                // A gap: any of them may have changed.
                name.as_deref().is_none_or(|name| upstream.goes_by(name))
            });
            concerned.for_each(|(_, news)| news.notify_one());
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = futures_util::future::join_all(tend) => {}
        () = listen => {}
    }
}

/// A report that is under way until Redis has taken it, under its number.
#[derive(Debug)]
struct Unsent {
    number: u64,
    batch: Batch,
}

impl Upstream {
    async fn tend(self: Arc<Self>, news: Arc<Notify>) {
        let tick = self.common.liveness / 3;
        let (mut unsent, mut reported, mut ticks) = (None, None::<Instant>, 0);
        let mut due = true;
        loop {
            let now = Instant::now();
            self.ledger().unbank_old(now);
            if self.ledger().owes() || (!self.ledger().is_empty() && due) {
                // What fails is owed on, and told with the next.
                let _ = self.draw(Wish::default()).await;
            }
            self.tend_turn().await;
            let mut next = now + tick;
            if due
                || self.loaded.has_news()
                || unsent.is_some()
                || self.lock_tally().is_urgent()
                || self.answer_is_awaited()
            {
                match self.report(&mut unsent).await {
                    Some(standing) => {
                        if reported.is_none() && self.is_worth_a_look(&standing) {
                            self.check_wanted.store(true, Ordering::Release);
                        }
                        (reported, ticks) = (Some(now), 0);
                    }
                    None => next = now + RETRY,
                }
            }
            self.check_if_due();
            if due {
                self.look_if_awake();
            }
            // What is over already lies before now in the view, and after the time at which this round began.
            let changes = self.lock_view().next_change(Instant::now());
            next = changes.map_or(next, |change| next.min(change));
            due = tokio::select! {
                () = sleep_until(next) => {
                    ticks += 1;
                    let rests = self.is_at_rest() && !self.lock_tally().has_news();
                    !rests || ticks >= IDLE_TICKS
                }
                () = news.notified() => {
                    self.ledger().may_have_room();
                    self.changed();
                    true
                }
                () = self.at_once.notified() => false,
            };
        }
    }

    /// Reports what waits, and learns how the provider is. What Redis does not take is sent again as it is.
    async fn report(&self, unsent: &mut Option<Unsent>) -> Option<Standing> {
        let number = || self.last.fetch_add(1, Ordering::Relaxed);
        let Unsent { number, batch } = unsent.get_or_insert_with(|| Unsent { number: number(), batch: self.batch() });
        let loaded = self.loaded.report();
        let report = ProviderReport {
            worker: &self.common.worker,
            number: *number,
            breaker: self.config.breaker,
            spread: rand::rng().random_range(0.0..1.0),
            latency: batch.latency,
            loaded: loaded.as_deref(),
            calls: &batch.calls,
        };
        let standing = self.common.queue.report_provider(self.name(), &report).await;
        let standing = standing.inspect_err(|error| tracing::debug!(%error, provider = self.name(), "not reported"));
        let standing = standing.ok()?;
        *unsent = None;
        self.learn(&standing);
        Some(standing)
    }

    fn batch(&self) -> Batch {
        let mut batch = self.lock_tally().take();
        if self.config.wake.is_some() && batch.calls.is_empty() && self.calling.load(Ordering::Relaxed) > 0 {
            // A long answer keeps it awake, too.
            batch.calls.push(CallReport::Answered { model: ITSELF.to_owned(), calls: 0 });
        }
        batch
    }

    fn learn(&self, standing: &Standing) {
        let view = View::of(standing, Instant::now());
        let at_rest = view.is_at_rest() && self.config.wake.is_none() && self.config.limits.is_empty();
        let was_down = self.lock_view().check_due().is_some();
        if was_down != view.check_due().is_some() {
            let (provider, down) = (self.name(), !was_down);
            tracing::warn!(provider, down, "a provider changed");
        }
        *self.lock_view() = view;
        let rested = self.at_rest.swap(at_rest, Ordering::AcqRel);
        if !(at_rest && rested) {
            self.changed();
        }
    }

    /// Whether an answer has come that all wait for.
    fn answer_is_awaited(&self) -> bool {
        !self.is_at_rest() && self.lock_tally().waiting().any(|model| self.lock_view().awaits_an_answer(model))
    }

    /// At start: nobody knows whether a provider is there that has not answered lately. One that may sleep is left to.
    fn is_worth_a_look(&self, standing: &Standing) -> bool {
        self.config.wake.is_none() && standing.now.saturating_sub(standing.answered) > ANSWER_IS_OLD
    }

    /// Looks what it has loaded, unless it is down or sleeps.
    fn look_if_awake(self: &Arc<Self>) {
        if self.lock_view().check_due().is_none() && !self.is_asleep() {
            self.look_what_is_loaded();
        }
    }

    fn is_asleep(&self) -> bool {
        let calling = self.calling.load(Ordering::Relaxed) > 0;
        let asleep = |wake| self.lock_view().is_asleep(wake, calling, Instant::now());
        self.config.wake.as_ref().is_some_and(asleep)
    }

    /// Checks the provider beside all else, where it is down and its time has come, or a call found nobody.
    fn check_if_due(self: &Arc<Self>) {
        let due = self.lock_view().check_due().is_some_and(|due| due <= Instant::now());
        let rested = self.checked().is_none_or(|checked| checked.elapsed() >= SUSPECT_EVERY);
        let wanted =
            self.check_wanted.swap(false, Ordering::AcqRel) || (rested && self.suspected.swap(false, Ordering::AcqRel));
        if (due || wanted) && !self.is_asleep() && !self.checking.swap(true, Ordering::AcqRel) {
            *self.checked() = Some(Instant::now());
            let upstream = self.clone();
            tokio::spawn(async move {
                upstream.check().await;
                upstream.checking.store(false, Ordering::Release);
            });
        }
    }

    /// Checks the provider, unless somebody else does.
    async fn check(&self) {
        if let Ok(Some(trial)) = self.ask_to_try(ITSELF, Trial::Check).await {
            let model = trial.model;
            match timeout(CHECK_TIMEOUT, self.provider.check()).await {
                Ok(Ok(())) => self.tell(CallReport::TrialAnswered { model }),
                Ok(Err(failure)) => self.tell(CallReport::TrialFailed { model, code: failure.error.code.as_str() }),
                Err(_) => self.tell(CallReport::TrialFailed { model, code: "timeout" }),
            }
        }
    }
}
