//! Drawing on the limits of a provider: for jobs that are to be claimed, for one at hand, for its further requests.

use std::time::Duration;

use overshot_common::queue::{Draw, Drawn, Error};
use tokio::time::Instant;

use super::ledger::{Lot, signed};
use super::{SOON, Upstream};

/// How long a provider without room is not asked again, unless there is news.
const FULL_FOR: Duration = Duration::from_secs(1);

/// What a worker wants of a limited provider.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    /// Jobs to begin, and the tokens of each.
    pub(super) jobs: u64,
    pub(super) tokens_each: u64,
    /// For jobs in flight.
    pub(super) requests: u64,
    pub(super) tokens: u64,
}

impl Upstream {
    /// Takes permits for jobs that are to be claimed.
    pub(super) async fn draw_ahead(&self, wanted: u64) -> Result<u64, Duration> {
        let tokens_each = self.clamp(self.ledger().estimate);
        let wish = Wish { jobs: wanted, tokens_each, ..Wish::default() };
        let drawn = self.draw(wish).await.map_err(|_| SOON * 4)?;
        if drawn.granted > 0 { Ok(drawn.granted) } else { Err(drawn.wait.unwrap_or(SOON)) }
    }

    /// Takes a permit for a job at hand, one that was taken ahead if there is one. Without a number of tokens it holds as many
    /// as others need.
    pub(super) async fn draw_for_one(&self, tokens: Option<u64>) -> Result<Lot, Duration> {
        let banked = self.ledger().take();
        let lot = match banked {
            Some(lot) => lot,
            None => {
                if let Some(wait) = self.ledger().is_full_for(Instant::now()) {
                    return Err(wait);
                }
                let tokens_each = self.clamp(tokens.unwrap_or(self.ledger().estimate));
                let drawn = self.draw(Wish { jobs: 1, tokens_each, ..Wish::default() }).await.map_err(|_| SOON * 4)?;
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
        let mut held = Held { upstream: self, lot: Some(lot) };
        let lot = match tokens {
            Some(tokens) => self.fit(lot, tokens).await?,
            None => lot,
        };
        held.lot = None;
        Ok(lot)
    }

    /// Makes a permit hold so many tokens, as its request may use.
    pub(super) async fn fit(&self, mut lot: Lot, tokens: u64) -> Result<Lot, Duration> {
        let tokens = self.clamp(tokens);
        if self.config.limits.tokens_per_minute.is_some() {
            // Of many small and a few large jobs the next is likely a small one.
            let mut ledger = self.ledger();
            ledger.estimate = (ledger.estimate * 7 + tokens) / 8;
        }
        if lot.tokens > tokens {
            self.ledger().refund(lot.quarter, 0, signed(lot.tokens - tokens));
            lot.tokens = tokens;
        } else if lot.tokens < tokens {
            let extra = tokens - lot.tokens;
            let drawn = self.draw(Wish { tokens: extra, ..Wish::default() }).await.map_err(|_| SOON * 4)?;
            if !drawn.has_extra {
                // This job comes first when it comes again: no other is claimed before there is room for it.
                let mut ledger = self.ledger();
                ledger.estimate = ledger.estimate.max(tokens);
                return Err(drawn.wait.unwrap_or(SOON));
            }
            lot.more = Some((drawn.quarter, extra));
        }
        Ok(lot)
    }

    /// Pays for the request of a permit as far as it was made, and takes no other.
    pub(super) fn pay(&self, lot: Lot, used: Option<u64>, called: bool) -> Lot {
        let paid = self.ledger().pay(lot, used, called);
        self.at_once.notify_one();
        paid
    }

    /// Takes one more request of so many tokens for a job whose last one is paid for.
    pub(super) async fn draw_another(&self, lot: Lot, tokens: u64) -> Result<Lot, Duration> {
        let tokens = self.clamp(tokens);
        let drawn = self.draw(Wish { requests: 1, tokens, ..Wish::default() }).await.map_err(|_| SOON * 4)?;
        if drawn.has_extra {
            Ok(Lot { quarter: drawn.quarter, requests: 1, tokens, ..lot })
        } else {
            Err(drawn.wait.unwrap_or(SOON))
        }
    }

    /// Tells Redis what is in flight and given back, and takes more where some is wanted.
    pub(super) async fn draw(&self, wish: Wish) -> Result<Drawn, Error> {
        let _turn = self.drawing.lock().await;
        let number = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (held, refunds) = self.ledger().tell();
        let (worker, lease) = (&self.common.worker, self.common.liveness);
        let draw = Draw {
            worker,
            number,
            lease,
            held,
            wanted: wish.jobs,
            tokens_each: wish.tokens_each,
            extra_requests: wish.requests,
            extra_tokens: wish.tokens,
            refunds: &refunds,
        };
        let drawn = self.common.queue.draw_on_provider(self.name(), &self.config.limits, &draw).await;
        let mut ledger = self.ledger();
        match &drawn {
            Ok(drawn) => ledger.bank(drawn, wish.tokens_each),
            Err(_) => refunds.iter().for_each(|refund| ledger.refund(refund.quarter, refund.requests, refund.tokens)),
        }
        drawn
    }

    /// A job larger than a whole minute's tokens takes all of them.
    fn clamp(&self, tokens: u64) -> u64 {
        self.config.limits.tokens_per_minute.map_or(0, |limit| tokens.min(limit))
    }
}

/// A permit that is being fitted to its job; dropped before that, it is given back.
struct Held<'a> {
    upstream: &'a Upstream,
    lot: Option<Lot>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(lot) = self.lot.take() {
            self.upstream.ledger().end(lot, None, false);
            self.upstream.at_once.notify_one();
        }
    }
}
