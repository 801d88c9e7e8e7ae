//! Who counts the requests that a provider is sent, where they are limited.

use std::fmt::Debug;
use std::future::ready;

use futures_util::future::BoxFuture;

use super::ProviderFailure;

/// Counts the requests of one attempt that ask a model for work. The first was allowed when the attempt was let in; what
/// comes after it asks before it is sent.
pub trait Meter: Debug + Send + Sync {
    /// Says how many tokens the first request may use, now that it is known.
    ///
    /// A failure: the provider is at its limit, and the job is to come again.
    fn first(&self, tokens: u64) -> BoxFuture<'_, Result<(), ProviderFailure>>;

    /// Asks for one more request, which may use so many tokens. Fails as [`Meter::first`].
    fn another(&self, tokens: u64) -> BoxFuture<'_, Result<(), ProviderFailure>>;

    /// Takes what the provider says that the last request used.
    fn used(&self, tokens: u64);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn first(&self, _: u64) -> BoxFuture<'_, Result<(), ProviderFailure>> {
        Box::pin(ready(Ok(())))
    }

    fn another(&self, _: u64) -> BoxFuture<'_, Result<(), ProviderFailure>> {
        Box::pin(ready(Ok(())))
    }

    fn used(&self, _: u64) {}
}
