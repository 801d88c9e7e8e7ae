//! The model: callers, workers that may die or sleep, a reaper that may be early, a Redis whose failover may forget.

use std::collections::BTreeSet;

use overshot_common::job::Status;
use overshot_common::job::state::{Move, Outcome};
use stateright::{Model, Property};

use super::server::{Grant, Guards, Reply, Server};

/// How much may happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) guards: Guards,
    /// How many jobs there are, all with one concurrency key.
    pub(crate) jobs: usize,
    /// How often a job is claimed, all together.
    pub(crate) claims: u8,
    /// How many moves the one failover may forget; 0: there is none.
    pub(crate) forgets: usize,
    /// How many jobs a caller cancels, and how many it runs again after their end.
    pub(crate) cancels: u8,
    pub(crate) retries: u8,
}

/// A worker's belief that it may run a job. A worker that died has forgotten it, a frozen one has not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hold {
    job: usize,
    grant: Grant,
    claim: u8,
}

/// Redis, those who talk to it, and what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    server: Server,
    /// What Redis was before its last moves, oldest first; emptied by the failover.
    past: Vec<Server>,
    failed_over: bool,
    holds: BTreeSet<Hold>,
    claims: u8,
    cancels: u8,
    retries: u8,
    /// A call under another grant than the current one took effect.
    zombie_heard: bool,
    /// A job whose cancel was asked for while it ran waits for another run.
    cancel_lost: bool,
}

/// What may happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Submit {
        job: usize,
        delayed: bool,
    },
    Claim(usize),
    /// `heard`: the worker gets the answer. Else it sends the same again, or another holder's end comes first.
    PutDown {
        hold: Hold,
        how: Move,
        heard: bool,
    },
    Forget(Hold),
    Reclaim(usize),
    Promote(usize),
    Expire(usize),
    Cancel(usize),
    ForceCancel(usize),
    Retry(usize),
    FailOver {
        forgets: usize,
    },
}

impl Fleet {
    fn put_down(self, state: &mut State, hold: &Hold, how: Move, heard: bool) {
        let asked = |state: &State| {
            let record = state.server.jobs[hold.job].as_ref();
            record.is_some_and(|record| record.life.cancel_requested)
        };
        let cancelling = asked(state);
        let reply = state.server.put_down(hold.job, hold.grant, how, self.guards);
        if let Reply::Now { claim } = reply {
            state.zombie_heard |= claim != hold.claim;
            let ended = state.server.status(hold.job).is_some_and(Status::is_terminal);
            state.cancel_lost |= cancelling && !ended;
        }
        if heard {
            state.holds.remove(hold);
        }
    }

    /// Applies an action; whether it changed anything is seen by comparing.
    fn apply(self, state: &mut State, action: Action) {
        let (server, guards) = (&mut state.server, self.guards);
        match action {
            Action::Submit { job, delayed } => server.submit(job, delayed, guards),
            Action::Claim(job) => {
                state.claims += 1;
                let claim = state.claims;
                if let Some(grant) = server.claim(job, claim, guards) {
                    state.holds.insert(Hold { job, grant, claim });
                }
            }
            Action::PutDown { hold, how, heard } => self.put_down(state, &hold, how, heard),
            Action::Forget(hold) => drop(state.holds.remove(&hold)),
            Action::Reclaim(job) => drop(server.reclaim(job, guards)),
            Action::Promote(job) => drop(server.promote(job, guards)),
            Action::Expire(job) => drop(server.expire(job, guards)),
            Action::ForceCancel(job) => drop(server.force_cancel(job, guards)),
            Action::Cancel(job) => state.cancels += u8::from(server.cancel(job, guards)),
            Action::Retry(job) => state.retries += u8::from(server.retry(job, guards)),
            Action::FailOver { forgets } => {
                let at = state.past.len() - forgets;
                state.server = state.past.swap_remove(at);
                state.past.clear();
                state.failed_over = true;
            }
        }
    }
}

impl Model for Fleet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            server: Server::new(self.jobs),
            past: Vec::new(),
            failed_over: false,
            holds: BTreeSet::new(),
            claims: 0,
            cancels: 0,
            retries: 0,
            zombie_heard: false,
            cancel_lost: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for job in 0..self.jobs {
            if state.server.status(job).is_none() {
                // One that comes due later, beside those that are due at once.
                actions.push(Action::Submit { job, delayed: job == 1 });
            }
            if state.server.claimable(job) && state.claims < self.claims {
                actions.push(Action::Claim(job));
            }
            actions.extend([Action::Reclaim(job), Action::Promote(job), Action::Expire(job), Action::ForceCancel(job)]);
            if state.cancels < self.cancels {
                actions.push(Action::Cancel(job));
            }
            if state.retries < self.retries {
                actions.push(Action::Retry(job));
            }
        }
        for hold in &state.holds {
            actions.push(Action::Forget(hold.clone()));
            let outcomes = [Outcome::Completed, Outcome::Retry(0)].map(Move::Settle);
            for how in outcomes.into_iter().chain([Move::HandBack, Move::Snooze(0)]) {
                actions.extend([true, false].map(|heard| Action::PutDown { hold: hold.clone(), how, heard }));
            }
        }
        actions.extend((1..=state.past.len()).map(|forgets| Action::FailOver { forgets }));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.apply(&mut next, action);
        if next == *last {
            return None;
        }
        if !next.failed_over && self.forgets > 0 && next.server != last.server {
            next.past.push(last.server.clone());
            let old = next.past.len().saturating_sub(self.forgets);
            next.past.drain(..old);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(ONE_END, |_, state| {
                state.server.jobs.iter().flatten().all(|record| record.ends <= 1)
            }),
            Property::<Self>::always(FENCED, |_, state| !state.zombie_heard),
            Property::<Self>::always(ONE_HOLDER, |fleet, state| {
                (0..fleet.jobs).filter(|job| state.server.active(*job)).count() <= 1
            }),
            Property::<Self>::always(CANCEL_WINS, |_, state| !state.cancel_lost),
            Property::<Self>::always(CAN_END, |fleet, state| state.server.can_end(fleet.guards)),
            Property::<Self>::sometimes(COMPLETES, |_, state| {
                state.failed_over && state.server.jobs.iter().flatten().any(|record| record.ends == 1)
            }),
        ]
    }
}

/// A job comes to one end. What a failover forgot did not happen.
pub(crate) const ONE_END: &str = "a job ends once";
/// A worker whose grant was revoked, or given out anew after a failover, changes nothing.
pub(crate) const FENCED: &str = "nothing takes effect under a revoked grant";
/// Of the jobs with one key, one runs or may be claimed.
pub(crate) const ONE_HOLDER: &str = "one job at a time has the key";
/// A job that a caller wanted gone gets no further run.
pub(crate) const CANCEL_WINS: &str = "a cancel wins over another run";
/// From everywhere, one healthy worker brings all to an end.
pub(crate) const CAN_END: &str = "every accepted job can end";
/// The model reaches what it is about.
pub(crate) const COMPLETES: &str = "a job ends after a failover";
