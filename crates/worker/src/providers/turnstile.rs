//! Who lets a provider load a model, where it runs one at a time.

/// Gives models their turns. A chat model that is loaded out of turn pushes out the one whose jobs are under way.
pub(crate) trait Turnstile: Sync {
    /// A turn; it ends when it is dropped.
    type Turn: Send;

    /// Whether models take turns at all.
    fn turns(&self) -> bool;

    /// A turn for that model, where nobody uses the server for another one or waits for it; `None`: not now.
    fn enter(&self, model: &str) -> impl Future<Output = Option<Self::Turn>> + Send;
}

/// Every model at any time.
#[cfg(test)]
pub(crate) struct Open;

#[cfg(test)]
impl Turnstile for Open {
    type Turn = ();

    fn turns(&self) -> bool {
        false
    }

    async fn enter(&self, _: &str) -> Option<()> {
        Some(())
    }
}
