//! What the services of one shard share: its pool, its attempts, and the ways to settler, publisher and claimer.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use overshot_common::config::{Config, PoolConfig};
use overshot_common::ids::{PoolName, Shard, WorkerId};
use overshot_common::queue::Queue;
use overshot_common::upkeep::UpkeepHandle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::providers::PoolProviders;
use super::publisher::Outlet;
use super::registry::Registry;
use super::settler::Ended;
use crate::fetch::Fetcher;

/// How often who waits for the end of a lease looks again, where an outage held it up.
const OVER_CHECK: Duration = Duration::from_millis(500);

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
    /// Its shards, each with the pool itself.
    pub(crate) fn shards(self: &Arc<Self>) -> impl Iterator<Item = (&Arc<Self>, Shard)> {
        self.name.shards(self.settings.shards).map(move |shard| (self, shard))
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
    pub(crate) fetcher: Fetcher,
    pub(crate) registry: Registry,
    /// To the settler.
    pub(crate) endings: mpsc::UnboundedSender<Ended>,
    /// To the publisher: outlets that have something to send.
    pub(crate) outlets: mpsc::UnboundedSender<Arc<Outlet>>,
    /// Rings when a job may be waiting.
    pub(crate) bell: Notify,
    /// Whether the claimer has free slots, found nothing and waits for the bell.
    pub(crate) parked: AtomicBool,
    /// Until when the bell is for others: they know the task of a job that this worker put off.
    pub(crate) gives_way: Mutex<Option<Instant>>,
    /// Since when beats and renewals have been acknowledged; `None`: they are not, and nothing may run.
    pub(crate) in_touch: watch::Sender<Option<Instant>>,
}

impl Station {
    /// Whether the lease of what began to be written then is over: its time is up, and of that Redis was there long enough
    /// for the reaper to judge. (After an outage the reaper waits one lease; until then the grant still holds.)
    pub(crate) fn lease_is_over(&self, begun: Instant) -> bool {
        let lease = self.pool.settings.lease;
        begun.elapsed() > lease && self.in_touch.borrow().is_some_and(|since| since.elapsed() > lease)
    }

    /// Leaves the bell to the others until then.
    pub(crate) fn give_way(&self, until: Instant) {
        let mut known = self.gives_way.lock().expect("no holder of this lock can panic");
        *known = known.max(Some(until));
    }

    /// Whether the others have the first look.
    pub(crate) fn gives_way(&self) -> bool {
        let known = *self.gives_way.lock().expect("no holder of this lock can panic");
        known.is_some_and(|until| Instant::now() < until)
    }

    /// Waits until the lease of what began to be written then is over. Cancel safe.
    pub(crate) async fn end_of_lease(&self, begun: Instant) {
        sleep_until(begun + self.pool.settings.lease).await;
        while !self.lease_is_over(begun) {
            sleep_until(Instant::now() + OVER_CHECK).await;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! A station without a Redis, for tests of what stands around it.

    use overshot_common::ids::JobId;
    use overshot_common::queue::Held;
    use overshot_common::upkeep::{Role, Upkeep};

    use super::*;
    use crate::upstream::Common;

    /// What a station's services would receive.
    #[derive(Debug)]
    pub(crate) struct Inboxes {
        pub(crate) endings: mpsc::UnboundedReceiver<Ended>,
        pub(crate) outlets: mpsc::UnboundedReceiver<Arc<Outlet>>,
    }

    /// The station of a pool with these settings on a simulated provider. Needs a runtime.
    pub(crate) fn unconnected(pool: &str, provider: &str) -> (Arc<Station>, Inboxes) {
        let text =
            format!("[pools.chat]\nproviders = [\"sim\"]\n{pool}\n[providers.sim]\nkind = \"simulated\"\n{provider}\n");
        let config = Config::load(Some((std::path::Path::new("test"), &text)), []).unwrap();
        let name = config.served_pools().remove(0);
        let ready = super::super::providers::ready(&config).unwrap();
        let settings = config.pool(&name).unwrap().clone();
        let slots = Arc::new(Semaphore::new(settings.concurrency as usize));
        let queue = Queue::open("unix:///nonexistent", Duration::from_millis(1)).unwrap();
        let worker = WorkerId::unique("test");
        let common = Common::new(&queue, &worker, &config);
        let upstreams = super::super::providers::upstreams(&config, &ready, &common);
        let providers = PoolProviders::of(&name, &config, &upstreams, &common);
        let (_, upkeep) = Upkeep::new(queue.clone(), &config, &[], Role::Worker);
        let (endings, to_settle) = mpsc::unbounded_channel();
        let (outlets, to_publish) = mpsc::unbounded_channel();
        let station = Station {
            worker,
            shard: name.place(),
            fetcher: Fetcher::new(&config.fetch, config.max_audio_bytes),
            config: Arc::new(config),
            pool: Arc::new(Pool { name, settings, providers, slots }),
            queue,
            upkeep,
            registry: Registry::default(),
            endings,
            outlets,
            bell: Notify::new(),
            parked: AtomicBool::new(false),
            gives_way: Mutex::default(),
            in_touch: watch::Sender::new(Some(Instant::now())),
        };
        (Arc::new(station), Inboxes { endings: to_settle, outlets: to_publish })
    }

    /// A new job's name and a grant for it.
    pub(crate) fn held(station: &Station) -> Held {
        Held { id: JobId::new(station.shard.clone()), grant: "1.nonce".parse().unwrap() }
    }
}
