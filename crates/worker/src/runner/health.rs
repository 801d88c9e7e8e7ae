//! Whether this worker is fit to take jobs, as its own port tells it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use overshot_common::ids::{Shard, WorkerId};
use overshot_common::metrics;

use super::station::Station;

/// The state that [`crate::http`] shows.
#[derive(Debug)]
pub(crate) struct Health {
    worker: WorkerId,
    stations: OnceLock<Vec<Arc<Station>>>,
    draining: AtomicBool,
    /// The shards of which Redis did not acknowledge the last beat.
    away: Mutex<HashSet<Shard>>,
}

impl Health {
    pub(crate) fn new(worker: WorkerId) -> Self {
        Self { worker, stations: OnceLock::new(), draining: AtomicBool::new(false), away: Mutex::default() }
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

    /// Notes how a call of a shard ended; logs only where that is news.
    pub(crate) fn heard_from_redis(&self, shard: &Shard, answer: Result<(), &overshot_common::queue::Error>) {
        let mut away = self.away();
        let were_away = !away.is_empty();
        match answer {
            Err(error) => {
                away.insert(shard.clone());
                if !were_away {
                    tracing::warn!(%error, %shard, "redis is away");
                }
            }
            Ok(()) => {
                away.remove(shard);
                if were_away && away.is_empty() {
                    tracing::info!("redis is back");
                }
            }
        }
    }

    fn away(&self) -> MutexGuard<'_, HashSet<Shard>> {
        self.away.lock().expect("no holder of this lock can panic")
    }

    /// Whether the worker takes jobs, of some shard at least; else why not.
    pub(crate) fn ready(&self) -> Result<(), &'static str> {
        if self.draining() {
            return Err("draining");
        }
        let stations = self.stations.get().ok_or("redis is away or unfit")?;
        let away = self.away();
        let serves = |station: &Arc<Station>| station.in_touch.borrow().is_some() && !away.contains(&station.shard);
        if stations.iter().any(serves) { Ok(()) } else { Err("redis is away") }
    }

    /// Sets the gauges.
    pub(crate) fn measure(&self) {
        metrics::draining(self.draining());
        let stations = self.stations.get().map_or(&[][..], Vec::as_slice);
        metrics::redis_up(!stations.is_empty() && self.away().is_empty());
        for shards in stations.chunk_by(|one, next| one.shard.pool == next.shard.pool) {
            let busy: usize = shards.iter().map(|station| station.registry.len()).sum();
            let pool = &shards[0].pool;
            metrics::worker_slots(&pool.name, u64::from(pool.settings.concurrency), busy as u64);
        }
    }
}
