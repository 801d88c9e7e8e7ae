//! The page of `/metrics`: this process' counters, and the queue's gauges as of the scrape.

use std::time::Duration;

use overshot_common::metrics;
use overshot_common::queue::ServerLook;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::app::App;
use crate::handlers::pools::numbers;

/// How long the queue's numbers are good for, however many scrape.
const FRESH: Duration = Duration::from_secs(1);
/// How long what Redis says of itself is good for: it averages over that time.
const LOOK_FRESH: Duration = Duration::from_secs(5);
/// How long a scrape waits for them.
const PATIENCE: Duration = Duration::from_secs(1);

/// When the gauges were last read, and what Redis said of itself then.
#[derive(Debug, Default)]
pub(crate) struct Page {
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    numbers: Option<Instant>,
    look: Option<(Instant, ServerLook)>,
}

impl Page {
    /// Makes this process record, unless it does already.
    pub(crate) fn install() -> Self {
        if !metrics::install() {
            tracing::warn!("metrics are recorded elsewhere in this process");
        }
        Self::default()
    }
}

/// The page, with gauges at most a second old unless Redis does not answer.
pub(crate) async fn render(app: &App) -> String {
    metrics::draining(app.stopping.is_cancelled());
    if tokio::time::timeout(PATIENCE, refresh(app)).await.is_err() {
        metrics::redis_up(false);
        tracing::debug!("gauges not refreshed in time");
    }
    metrics::page().unwrap_or_default()
}

async fn refresh(app: &App) {
    let mut read = app.page.read.lock().await;
    if read.numbers.is_some_and(|at| at.elapsed() < FRESH) {
        return;
    }
    let numbers = futures_util::future::join_all(
        app.config
            .shards()
            .map(|pool| async move { (pool.0, numbers(&app.probe, pool, app.config.worker.liveness).await) }),
    );
    let providers = futures_util::future::join_all(app.config.providers.iter().map(async |(name, config)| {
        let status = app.probe.provider_status(name).await;
        (name, config, status)
    }));
    let (numbers, providers) = tokio::join!(numbers, providers);
    let mut up = true;
    for (name, config, status) in providers {
        match status {
            Ok(status) => metrics::provider_status(name, config, &status),
            Err(_) => up = false,
        }
    }
    for (pool, numbers) in numbers {
        match numbers {
            Ok(numbers) => metrics::pool_numbers(pool, &numbers),
            Err(_) => up = false,
        }
    }
    metrics::redis_up(up);
    read.numbers = Some(Instant::now());
    if read.look.is_none_or(|(at, _)| at.elapsed() >= LOOK_FRESH)
        && let Ok(look) = app.probe.look_at_server().await
    {
        metrics::server_load(&look.load_since(read.look.as_ref().map(|(_, before)| before)));
        read.look = Some((Instant::now(), look));
    }
}
