//! What the services of one shard share: its pool, its attempts, and the ways to settler, publisher and claimer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use overshot_common::config::{Config, PoolConfig};
use overshot_common::ids::{PoolName, Shard, WorkerId};
use overshot_common::queue::Queue;
use overshot_common::upkeep::UpkeepHandle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::providers::PoolProviders;
use super::publisher::Outlet;
use super::registry::Registry;
use super::settler::Ended;

/// One pool as this worker serves it.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: PoolName,
    pub(crate) settings: PoolConfig,
    pub(crate) providers: PoolProviders,
    /// A permit per job that may be in flight, over all shards of the pool.
    pub(crate) slots: Arc<Semaphore>,
}

impl Pool {
    /// Jobs in flight now.
    pub(crate) fn busy(&self) -> usize {
        (self.settings.concurrency as usize).saturating_sub(self.slots.available_permits())
    }
}

/// One shard of a pool as this worker serves it.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) worker: WorkerId,
    pub(crate) shard: Shard,
    pub(crate) config: Arc<Config>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) queue: Queue,
    pub(crate) upkeep: UpkeepHandle,
    pub(crate) registry: Registry,
    /// To the settler.
    pub(crate) endings: mpsc::UnboundedSender<Ended>,
    /// To the publisher: outlets that have something to send.
    pub(crate) outlets: mpsc::UnboundedSender<Arc<Outlet>>,
    /// Rings when a job may be waiting.
    pub(crate) bell: Notify,
    /// Whether the claimer has free slots, found nothing and waits for the bell.
    pub(crate) parked: AtomicBool,
    /// Since when beats and renewals have been acknowledged; `None`: they are not, and nothing may run.
    pub(crate) in_touch: watch::Sender<Option<Instant>>,
}
