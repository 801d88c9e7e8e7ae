//! What this worker has taken of a limited provider: what is in use, what waits for a job, what is to be given back.
//!
//! A job in flight holds one lot to its end; each of its requests in turn is paid out of it.

use std::time::Duration;

use overshot_common::queue::{Drawn, Refund};
use tokio::time::Instant;

/// How long a permit waits for the job that it was taken for.
const WAITS: Duration = Duration::from_secs(1);
/// Most refunds of one call; what is older has left the window anyway.
const REFUNDS_MAX: usize = 1000;
/// Tokens that a first job is expected to use.
const FIRST_ESTIMATE: u64 = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    banked: Vec<Lot>,
    banked_at: Option<Instant>,
    in_use: u64,
    refunds: Vec<Refund>,
    /// Whether Redis knows of more in flight than there is.
    owes: bool,
    /// Tokens that the next job is expected to use.
    pub(super) estimate: u64,
    /// Until when nobody needs to ask whether there is room.
    pub(super) full_until: Option<Instant>,
}

/// One permit: a request, and the tokens that were taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lot {
    pub(super) quarter: u64,
    /// 1; 0 once the request is paid for.
    pub(super) requests: u64,
    pub(super) tokens: u64,
    /// Tokens that were taken later, and when.
    pub(super) more: Option<(u64, u64)>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (banked, refunds) = (Vec::new(), Vec::new());
        Self { banked, banked_at: None, in_use: 0, refunds, owes: false, estimate: FIRST_ESTIMATE, full_until: None }
    }
}

impl Ledger {
    pub(super) fn held(&self) -> u64 {
        self.banked.len() as u64 + self.in_use
    }

    /// There may be room again.
    pub(super) fn may_have_room(&mut self) {
        self.full_until = None;
    }

    /// How long there is no room, as far as is known.
    pub(super) fn is_full_for(&self, now: Instant) -> Option<Duration> {
        self.full_until.filter(|until| *until > now).map(|until| until.duration_since(now))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held() == 0
    }

    /// Whether something is to be given back.
    pub(super) fn owes(&self) -> bool {
        self.owes || !self.refunds.is_empty()
    }

    pub(super) fn bank(&mut self, drawn: &Drawn, tokens: u64) {
        let lot = Lot { quarter: drawn.quarter, requests: 1, tokens, more: None };
        self.banked.extend((0..drawn.granted).map(|_| lot));
        self.banked_at = Some(Instant::now());
    }

    pub(super) fn take(&mut self) -> Option<Lot> {
        let lot = self.banked.pop()?;
        self.in_use += 1;
        Some(lot)
    }

    /// Gives back permits that no job came for; whether there were any.
    pub(super) fn unbank(&mut self, count: u64) -> bool {
        let mut any = false;
        for _ in 0..count {
            let Some(lot) = self.banked.pop() else { break };
            self.refund(lot.quarter, lot.requests, signed(lot.tokens));
            any = true;
        }
        any
    }

    /// The same with those that have waited for too long.
    pub(super) fn unbank_old(&mut self, now: Instant) {
        if self.banked_at.is_some_and(|at| now.duration_since(at) >= WAITS) {
            self.unbank(u64::MAX);
            self.banked_at = None;
        }
    }

    /// What there is to tell Redis: how much is in flight, and what is given back. From now on that is told.
    pub(super) fn tell(&mut self) -> (u64, Vec<Refund>) {
        self.owes = false;
        (self.held(), std::mem::take(&mut self.refunds))
    }

    /// Ends a permit: `used` tokens of it, where that is known; not at all where the call was never made.
    pub(super) fn end(&mut self, lot: Lot, used: Option<u64>, called: bool) {
        self.in_use = self.in_use.saturating_sub(1);
        self.owes = true;
        self.pay(lot, used, called);
    }

    /// Pays for the request of a permit, as [`Ledger::end`]; what is left of the permit is the job in flight.
    pub(super) fn pay(&mut self, lot: Lot, used: Option<u64>, called: bool) -> Lot {
        let taken = lot.tokens + lot.more.map_or(0, |(_, tokens)| tokens);
        let used = if called { used.unwrap_or(taken) } else { 0 };
        let rest = signed(taken) - signed(used);
        let requests = if called { 0 } else { lot.requests };
        // From what was taken last: it stays in the window for longest.
        match lot.more {
            Some((quarter, more)) => {
                let of_more = rest.min(signed(more));
                self.refund(quarter, 0, of_more);
                self.refund(lot.quarter, requests, rest - of_more);
            }
            None => self.refund(lot.quarter, requests, rest),
        }
        Lot { requests: 0, tokens: 0, more: None, ..lot }
    }

    pub(super) fn refund(&mut self, quarter: u64, requests: u64, tokens: i64) {
        if requests > 0 || tokens != 0 {
            self.owes = true;
            let known = self.refunds.iter_mut().find(|refund| refund.quarter == quarter);
            if let Some(refund) = known {
                refund.requests += requests;
                refund.tokens += tokens;
            } else if self.refunds.len() < REFUNDS_MAX {
                self.refunds.push(Refund { quarter, requests, tokens });
            }
        }
    }
}

pub(super) fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
