//! Calls on several lanes at once, and how many jobs a second they made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The calls that are left to make, shared by all lanes.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<AtomicUsize>);

impl Calls {
    /// Takes one call off; its number, or `None` when there are no more.
    pub(crate) fn take(&self) -> Option<usize> {
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        before.ok().map(|left| left - 1)
    }
}

/// Runs one task per lane until all calls are made; tells how many calls a second.
pub(crate) async fn rate<F>(calls: usize, lanes: usize, lane: impl Fn(usize, Calls) -> F) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let left = Calls(Arc::new(AtomicUsize::new(calls)));
    let began = Instant::now();
    let tasks: Vec<_> = (0..lanes).map(|number| tokio::spawn(lane(number, left.clone()))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(calls as f64 / began.elapsed().as_secs_f64())
}
