//! Whether this worker is fit to take jobs, as its own port tells it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use overshot_common::ids::WorkerId;
use overshot_common::metrics;

use super::station::Station;

/// The state that [`crate::http`] shows.
#[derive(Debug)]
pub(crate) struct Health {
    worker: WorkerId,
    stations: OnceLock<Vec<Arc<Station>>>,
    draining: AtomicBool,
    redis_away: AtomicBool,
}

impl Health {
    pub(crate) fn new(worker: WorkerId) -> Self {
        Self { worker, stations: OnceLock::new(), draining: AtomicBool::new(false), redis_away: AtomicBool::new(false) }
    }

    pub(crate) fn worker(&self) -> &str {
        self.worker.as_str()
    }

    /// Redis is there and fit, and the services run.
    pub(crate) fn started(&self, stations: Vec<Arc<Station>>) {
        // A second start would be a defect of ours, and the first one's stations the ones that count.
        let _ = self.stations.set(stations);
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Notes how a call ended; logs only where that is news.
    pub(crate) fn heard_from_redis(&self, answer: Result<(), &overshot_common::queue::Error>) {
        let was_away = self.redis_away.swap(answer.is_err(), Ordering::Relaxed);
        match answer {
            Err(error) if !was_away => tracing::warn!(%error, "redis is away"),
            Ok(()) if was_away => tracing::info!("redis is back"),
            _ => {}
        }
    }

    /// Whether the worker takes jobs; else why not.
    pub(crate) fn ready(&self) -> Result<(), &'static str> {
        if self.draining() {
            return Err("draining");
        }
        let stations = self.stations.get().ok_or("redis is away or unfit")?;
        let away = self.redis_away.load(Ordering::Relaxed);
        if away || stations.iter().any(|station| station.in_touch.borrow().is_none()) {
            return Err("redis is away");
        }
        Ok(())
    }

    /// Sets the gauges.
    pub(crate) fn measure(&self) {
        let stations = self.stations.get().map_or(&[][..], Vec::as_slice);
        for shards in stations.chunk_by(|one, next| one.shard.pool == next.shard.pool) {
            let busy: usize = shards.iter().map(|station| station.registry.len()).sum();
            let pool = &shards[0].pool;
            metrics::worker_slots(&pool.name, u64::from(pool.settings.concurrency), busy as u64);
        }
    }
}
