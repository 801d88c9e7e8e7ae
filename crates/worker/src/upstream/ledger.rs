//! What this worker has taken of a limited provider: what is in use, what waits for a job, what is to be given back.

use std::time::Duration;

use overshot_common::queue::{Draw, Drawn, Error, Refund};
use tokio::time::Instant;

use super::{SOON, Upstream};

/// How long a permit waits for the job that it was taken for.
const WAITS: Duration = Duration::from_secs(1);
/// Most refunds of one call; what is older has left the window anyway.
const REFUNDS_MAX: usize = 1000;
/// How long a provider without room is not asked again, unless there is news.
const FULL_FOR: Duration = Duration::from_secs(1);
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
    estimate: u64,
    /// Until when nobody needs to ask whether there is room.
    full_until: Option<Instant>,
}

/// One permit: a request, and the tokens that were taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lot {
    quarter: u64,
    tokens: u64,
    /// Tokens that were taken later, and when.
    more: Option<(u64, u64)>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (banked, refunds) = (Vec::new(), Vec::new());
        Self { banked, banked_at: None, in_use: 0, refunds, owes: false, estimate: FIRST_ESTIMATE, full_until: None }
    }
}

impl Ledger {
    fn held(&self) -> u64 {
        self.banked.len() as u64 + self.in_use
    }

    /// There may be room again.
    pub(super) fn may_have_room(&mut self) {
        self.full_until = None;
    }

    /// How long there is no room, as far as is known.
    fn is_full_for(&self, now: Instant) -> Option<Duration> {
        self.full_until.filter(|until| *until > now).map(|until| until.duration_since(now))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held() == 0
    }

    /// Whether something is to be given back.
    pub(super) fn owes(&self) -> bool {
        self.owes || !self.refunds.is_empty()
    }

    fn bank(&mut self, drawn: &Drawn, tokens: u64) {
        let lot = Lot { quarter: drawn.quarter, tokens, more: None };
        self.banked.extend((0..drawn.granted).map(|_| lot));
        self.banked_at = Some(Instant::now());
    }

    fn take(&mut self) -> Option<Lot> {
        let lot = self.banked.pop()?;
        self.in_use += 1;
        Some(lot)
    }

    /// Gives back permits that no job came for; whether there were any.
    pub(super) fn unbank(&mut self, count: u64) -> bool {
        let mut any = false;
        for _ in 0..count {
            let Some(lot) = self.banked.pop() else { break };
            self.refund(lot.quarter, 1, signed(lot.tokens));
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

    /// Ends a permit: `used` tokens of it, where that is known; not at all where the call was never made.
    pub(super) fn end(&mut self, lot: Lot, used: Option<u64>, called: bool) {
        self.in_use = self.in_use.saturating_sub(1);
        self.owes = true;
        let taken = lot.tokens + lot.more.map_or(0, |(_, tokens)| tokens);
        let used = if called { used.unwrap_or(taken) } else { 0 };
        let rest = signed(taken) - signed(used);
        // From what was taken last: it stays in the window for longest.
        match lot.more {
            Some((quarter, more)) => {
                let of_more = rest.min(signed(more));
                self.refund(quarter, 0, of_more);
                self.refund(lot.quarter, u64::from(!called), rest - of_more);
            }
            None => self.refund(lot.quarter, u64::from(!called), rest),
        }
    }

    fn refund(&mut self, quarter: u64, requests: u64, tokens: i64) {
        self.owes = true;
        if requests > 0 || tokens != 0 {
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

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

impl Upstream {
    /// Takes permits for jobs that are to be claimed.
    pub(super) async fn draw_ahead(&self, wanted: u64) -> Result<u64, Duration> {
        let each = self.clamp(self.ledger().estimate);
        let drawn = self.draw(wanted, each, 0).await.map_err(|_| SOON * 4)?;
        if drawn.granted > 0 { Ok(drawn.granted) } else { Err(drawn.wait.unwrap_or(SOON)) }
    }

    /// Takes a permit for a job at hand, one that was taken ahead if there is one.
    pub(super) async fn draw_for_one(&self, tokens: u64) -> Result<Lot, Duration> {
        let tokens = self.clamp(tokens);
        let banked = self.ledger().take();
        let lot = match banked {
            Some(lot) => lot,
            None => {
                if let Some(wait) = self.ledger().is_full_for(Instant::now()) {
                    return Err(wait);
                }
                let drawn = self.draw(1, tokens, 0).await.map_err(|_| SOON * 4)?;
                let mut ledger = self.ledger();
                let wait = drawn.wait.unwrap_or(SOON);
                match ledger.take() {
                    Some(lot) => lot,
                    None => {
                        ledger.full_until = Some(Instant::now() + wait.min(FULL_FOR));
                        return Err(wait);
                    }
                }
            }
        };
        let lot = Held { upstream: self, lot: Some(lot) };
        lot.fit(tokens).await
    }

    /// Tells Redis what is in flight and given back, and takes more where some is wanted.
    pub(super) async fn draw(&self, wanted: u64, tokens_each: u64, extra_tokens: u64) -> Result<Drawn, Error> {
        let _turn = self.drawing.lock().await;
        let number = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (held, refunds) = {
            let mut ledger = self.ledger();
            ledger.owes = false;
            (ledger.held(), std::mem::take(&mut ledger.refunds))
        };
        let (worker, lease) = (&self.common.worker, self.common.liveness);
        let draw = Draw { worker, number, lease, held, wanted, tokens_each, extra_tokens, refunds: &refunds };
        let drawn = self.common.queue.draw_on_provider(self.name(), &self.config.limits, &draw).await;
        let mut ledger = self.ledger();
        match &drawn {
            Ok(drawn) => ledger.bank(drawn, tokens_each),
            Err(_) => refunds.iter().for_each(|refund| ledger.refund(refund.quarter, refund.requests, refund.tokens)),
        }
        drawn
    }

    /// A job larger than a whole minute's tokens takes all of them.
    fn clamp(&self, tokens: u64) -> u64 {
        self.config.limits.tokens_per_minute.map_or(0, |limit| tokens.min(limit))
    }
}

/// A permit whose tokens are being fitted to its job; dropped before that, it is given back.
struct Held<'a> {
    upstream: &'a Upstream,
    lot: Option<Lot>,
}

impl Held<'_> {
    async fn fit(mut self, tokens: u64) -> Result<Lot, Duration> {
        let lot = self.lot.as_mut().expect("it was put there");
        if self.upstream.config.limits.tokens_per_minute.is_some() {
            // Of many small and a few large jobs the next is likely a small one.
            let mut ledger = self.upstream.ledger();
            ledger.estimate = (ledger.estimate * 7 + tokens) / 8;
        }
        if lot.tokens > tokens {
            self.upstream.ledger().refund(lot.quarter, 0, signed(lot.tokens - tokens));
            lot.tokens = tokens;
        } else if lot.tokens < tokens {
            let extra = tokens - lot.tokens;
            let drawn = self.upstream.draw(0, 0, extra).await.map_err(|_| SOON * 4)?;
            if !drawn.has_extra {
                // This job comes first when it comes again: no other is claimed before there is room for it.
                let mut ledger = self.upstream.ledger();
                ledger.estimate = ledger.estimate.max(tokens);
                return Err(drawn.wait.unwrap_or(SOON));
            }
            lot.more = Some((drawn.quarter, extra));
        }
        Ok(self.lot.take().expect("it was put there"))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(lot) = self.lot.take() {
            self.upstream.ledger().end(lot, None, false);
            self.upstream.at_once.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(granted: u64, quarter: u64) -> Drawn {
        Drawn { granted, has_extra: true, quarter, wait: None }
    }

    fn refund(quarter: u64, requests: u64, tokens: i64) -> Refund {
        Refund { quarter, requests, tokens }
    }

    #[tokio::test]
    async fn what_no_job_came_for_is_given_back_whole() {
        let mut ledger = Ledger::default();
        ledger.bank(&drawn(3, 7), 100);
        let lot = ledger.take().unwrap();
        assert_eq!(ledger.held(), 3);
        assert!(ledger.unbank(9));
        ledger.end(lot, None, false);
        assert_eq!((ledger.held(), ledger.refunds.as_slice()), (0, &[refund(7, 3, 300)][..]));
    }

    #[tokio::test]
    async fn a_call_gives_back_the_tokens_that_it_did_not_use_and_pays_for_those_beyond() {
        for (used, rest) in [(Some(30), 70), (Some(130), -30), (None, 0)] {
            let mut ledger = Ledger::default();
            ledger.bank(&drawn(1, 7), 100);
            let lot = ledger.take().unwrap();
            ledger.end(lot, used, true);
            let expected: Vec<Refund> = (rest != 0).then(|| refund(7, 0, rest)).into_iter().collect();
            assert_eq!(ledger.refunds, expected);
            assert!(ledger.owes() && ledger.is_empty());
        }
    }

    #[tokio::test]
    async fn tokens_taken_later_are_given_back_first() {
        let mut ledger = Ledger::default();
        ledger.bank(&drawn(1, 7), 100);
        let lot = Lot { more: Some((9, 50)), ..ledger.take().unwrap() };
        ledger.end(lot, Some(80), true);
        assert_eq!(ledger.refunds, [refund(9, 0, 50), refund(7, 0, 20)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_waits_for_its_job_only_so_long() {
        let mut ledger = Ledger::default();
        ledger.bank(&drawn(2, 7), 0);
        ledger.unbank_old(Instant::now());
        assert_eq!(ledger.held(), 2);
        tokio::time::advance(WAITS).await;
        ledger.unbank_old(Instant::now());
        assert_eq!(ledger.held(), 0);
    }
}
