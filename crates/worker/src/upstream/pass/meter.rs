//! The requests of one call, counted against the provider's limits one by one.

use std::future::ready;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::Pass;
use crate::providers::{Meter, ProviderFailure};

/// How long a call waits where it is for the next of its requests. Longer, and its job gives its slot to others.
const WAITS: Duration = Duration::from_secs(2);
/// A job that is to come again does so no sooner.
const AGAIN: Duration = Duration::from_millis(100);

impl Meter for Pass<'_> {
    fn first(&self, tokens: u64) -> BoxFuture<'_, Result<(), ProviderFailure>> {
        if self.is_counted() { Box::pin(self.fit_first(tokens)) } else { Box::pin(ready(Ok(()))) }
    }

    fn another(&self, tokens: u64) -> BoxFuture<'_, Result<(), ProviderFailure>> {
        if self.is_counted() { Box::pin(self.take_another(tokens)) } else { Box::pin(ready(Ok(()))) }
    }

    fn used(&self, tokens: u64) {
        if let Some(account) = &mut *self.account() {
            account.used = Some(tokens);
        }
    }
}

impl Pass<'_> {
    fn is_counted(&self) -> bool {
        let limits = &self.upstream.config.limits;
        (limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some()) && self.account().is_some()
    }

    async fn fit_first(&self, tokens: u64) -> Result<(), ProviderFailure> {
        let Some(mut account) = *self.account() else { return Ok(()) };
        let (upstream, lot) = (self.upstream, account.lot);
        let fitted = patiently(|| upstream.fit(lot, tokens)).await;
        match &fitted {
            Ok(lot) => account.lot = *lot,
            Err(_) => {
                account.lot = self.upstream.pay(account.lot, None, false);
                (account.requests, account.refused) = (0, true);
            }
        }
        *self.account() = Some(account);
        fitted.map(drop).map_err(|wait| ProviderFailure::at_its_limit(wait.max(AGAIN)))
    }

    async fn take_another(&self, tokens: u64) -> Result<(), ProviderFailure> {
        let Some(mut account) = *self.account() else { return Ok(()) };
        account.lot = self.upstream.pay(account.lot, account.used.take(), true);
        // At once: whatever becomes of the next one, this one is paid for.
        *self.account() = Some(account);
        let (upstream, lot) = (self.upstream, account.lot);
        let taken = patiently(|| upstream.draw_another(lot, tokens)).await;
        match &taken {
            Ok(lot) => (account.lot, account.requests) = (*lot, account.requests + 1),
            Err(_) => account.refused = true,
        }
        *self.account() = Some(account);
        taken.map(drop).map_err(|wait| ProviderFailure::at_its_limit(wait.max(AGAIN)))
    }
}

/// Asks again as long as there may be room soon.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, Duration>
where
    F: Future<Output = Result<T, Duration>>,
{
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(wait) if begun.elapsed() + wait <= WAITS => sleep(wait).await,
            answer => return answer,
        }
    }
}
