//! The right to one call, from its beginning to what it came to.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use overshot_common::code::ErrorCode;
use overshot_common::queue::{CallReport, ITSELF};
use tokio::time::Instant;

use super::ledger::Lot;
use super::{HeldTrial, Hold, Upstream};
use crate::outcome::Outcome;

mod meter;

/// One call; dropped without an end it came to nothing: the job was stopped from outside.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    upstream: &'a Upstream,
    model: Option<&'a str>,
    trial: Option<Arc<Trying<'a>>>,
    account: Mutex<Option<Account>>,
    turn: Option<Hold>,
    begun: Instant,
    /// Whether the provider was called.
    called: bool,
}

/// The trial that a call is, until it is known what came of it: that it is answered shows with the first piece of the answer.
/// The rest may take minutes, for which nobody else has to wait.
#[derive(Debug)]
pub(crate) struct Trying<'a> {
    upstream: &'a Upstream,
    held: Mutex<Option<HeldTrial>>,
}

impl Trying<'_> {
    /// The provider answers.
    pub(crate) fn answered(&self) {
        if let Some(trial) = self.take() {
            self.upstream.tell(CallReport::TrialAnswered { model: trial.model });
        }
    }

    fn take(&self) -> Option<HeldTrial> {
        self.held.lock().expect("no holder of this lock can panic").take()
    }
}

/// What a call has of a limited provider.
#[derive(Debug, Clone, Copy)]
struct Account {
    lot: Lot,
    /// Tokens of the last request, where the provider has said.
    used: Option<u64>,
    /// Requests that were made, or are about to be.
    requests: u64,
    /// Whether there was no room for the last one.
    refused: bool,
}

impl<'a> Pass<'a> {
    pub(super) fn begin(upstream: &'a Upstream, model: Option<&'a str>, trial: Option<HeldTrial>) -> Self {
        let account = Mutex::default();
        let trial = trial.map(|trial| Arc::new(Trying { upstream, held: Mutex::new(Some(trial)) }));
        Self { upstream, model, trial, account, turn: None, begun: Instant::now(), called: false }
    }

    /// It is its model's turn, as long as the pass lasts.
    pub(super) fn has_turn(&mut self, turn: Option<Hold>) {
        self.turn = turn;
    }

    pub(super) fn has_permit(&mut self, lot: Lot) {
        *self.account() = Some(Account { lot, used: None, requests: 1, refused: false });
    }

    /// The trial of one who has to wake the provider first.
    pub(super) fn waker(&self) -> Option<HeldTrial> {
        let held = self.trial.as_ref()?.held.lock().expect("no holder of this lock can panic").clone();
        held.filter(|trial| trial.wakes)
    }

    /// For whoever sees the answer begin, where the call is a trial.
    pub(crate) fn trial(&self) -> Option<Arc<Trying<'a>>> {
        self.trial.clone()
    }

    fn take_trial(&mut self) -> Option<HeldTrial> {
        self.trial.take()?.take()
    }

    /// The provider is awake.
    pub(super) fn woken(&mut self) {
        self.trial = None;
    }

    /// From now on the provider has work with it.
    pub(crate) fn calls(&mut self) {
        self.called = true;
        self.upstream.calling.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells what the call came to, and how many tokens it used where that is known.
    pub(crate) fn end(mut self, outcome: &Outcome, tokens: Option<u64>) {
        let account = self.account().take();
        if let Some(Account { lot, used, .. }) = account {
            self.upstream.ledger().end(lot, used.or(tokens), true);
            self.upstream.at_once.notify_one();
        }
        let model = self.upstream.circuit(self.model);
        if let Some(account) = account.filter(|account| account.refused) {
            // The limit's doing, not the provider's.
            if account.requests > 0 {
                self.answered(model);
            }
            return;
        }
        if !outcome.is_the_providers_fault() {
            return self.answered(model);
        }
        let Some(error) = outcome.error() else { return };
        let (code, tell) = (error.code.as_str(), |call| self.upstream.tell(call));
        let model = model.to_owned();
        match outcome {
            Outcome::Snooze { after, .. } => tell(CallReport::Paused { model, after: *after, code }),
            // Nobody is there, or nobody lets us in: that is no model's fault.
            _ if matches!(error.code, ErrorCode::ProviderUnavailable | ErrorCode::ProviderAuth) => {
                self.upstream.check_wanted.store(true, Ordering::Release);
                tell(CallReport::Failed { model: ITSELF.to_owned(), code });
            }
            _ => {
                if error.code == ErrorCode::ProviderError {
                    // An answer that broke off may be a server that died: a check finds that out, not the next attempt.
                    self.upstream.suspected.store(true, Ordering::Release);
                }
                match self.take_trial() {
                    Some(trial) => tell(CallReport::TrialFailed { model: trial.model, code }),
                    None => tell(CallReport::Failed { model, code }),
                }
            }
        }
    }

    fn answered(&mut self, model: &str) {
        let latency = self.begun.elapsed();
        if let Some(trial) = self.trial.take() {
            trial.answered();
        }
        self.upstream.lock_tally().answered(model, latency);
        if !self.upstream.is_at_rest() {
            let mut view = self.upstream.lock_view();
            view.answered(Instant::now());
            if view.awaits_an_answer(model) {
                self.upstream.at_once.notify_one();
            }
        }
    }

    fn account(&self) -> MutexGuard<'_, Option<Account>> {
        self.account.lock().expect("no holder of this lock can panic")
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.called {
            self.upstream.calling.fetch_sub(1, Ordering::Relaxed);
        }
        let trial = self.take_trial();
        self.upstream.give_back_trial(trial);
        if let Some(Account { lot, used, .. }) = self.account().take() {
            self.upstream.ledger().end(lot, used, self.called);
            self.upstream.at_once.notify_one();
        }
    }
}
