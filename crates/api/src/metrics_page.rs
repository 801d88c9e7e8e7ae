//! The page of `/metrics`: this process' counters, and the queue's gauges as of the scrape.

use std::time::Duration;

use overshot_common::job::{Priority, Status};
use overshot_common::metrics;
use overshot_common::queue::PoolNumbers;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::handlers::pools::numbers;

/// How long the queue's numbers are good for.
const FRESH: Duration = Duration::from_secs(1);
/// How long a scrape waits for them.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the recorder is tidied; without it histograms grow until the next scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// The page and when its gauges were last read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    read: Mutex<Option<Instant>>,
}

impl Page {
    /// Makes this process record, unless it does already.
    pub(crate) fn install() -> Self {
        if metrics::recorder().is_none() {
            tracing::warn!("metrics are recorded elsewhere in this process");
        }
        Self::default()
    }
}

/// Tidies the recorder until `stopping`.
pub(crate) async fn upkeep(stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => {}
        }
        if let Some(recorder) = metrics::recorder() {
            recorder.run_upkeep();
        }
    }
}

/// The page, with gauges at most a second old unless Redis does not answer.
pub(crate) async fn render(app: &App) -> String {
    let refreshed = tokio::time::timeout(PATIENCE, refresh(app)).await;
    if refreshed.is_err() {
        tracing::debug!("gauges not refreshed in time");
    }
    metrics::recorder().map_or_else(String::new, |recorder| recorder.render())
}

async fn refresh(app: &App) {
    let mut read = app.page.read.lock().await;
    if read.is_some_and(|at| at.elapsed() < FRESH) {
        return;
    }
    let numbers = futures_util::future::join_all(
        app.config
            .shards()
            .map(|pool| async move { (pool.0, numbers(&app.probe, pool, app.config.worker.liveness).await) }),
    );
    for (pool, numbers) in numbers.await {
        let Ok(numbers) = numbers else { continue };
        set(pool, &numbers);
    }
    *read = Some(Instant::now());
}

fn set(pool: &overshot_common::ids::PoolName, numbers: &PoolNumbers) {
    for (status, count) in Status::ALL.iter().zip(numbers.by_status) {
        metrics::jobs(pool, *status, count);
    }
    for (priority, count) in Priority::ALL.iter().zip(numbers.by_priority) {
        metrics::queued_jobs(pool, *priority, count);
    }
    metrics::oldest_queued(pool, numbers.oldest_queued);
    metrics::demand(pool, numbers.demand());
}
