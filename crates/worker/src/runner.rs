//! The runner: owns the services of one worker and their order of start and drain.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use overshot_common::config::Config;
use overshot_common::ids::WorkerId;
use overshot_common::metrics;
use overshot_common::queue::{Doorbell, Queue};
use overshot_common::upkeep::{Role, Upkeep};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod about;
pub(crate) mod backoff;
mod claimer;
mod greeting;
pub(crate) mod health;
mod keeper;
mod porter;
pub(crate) mod providers;
pub(crate) mod publisher;
pub(crate) mod registry;
pub(crate) mod settler;
pub(crate) mod station;
mod turns;

use about::About;
use health::Health;
use keeper::Keeper;
use providers::PoolProviders;
use registry::{Registry, Stop};
use station::{Pool, Station};

use crate::fetch::Fetcher;
use crate::tasks::Kind;
use crate::upstream::{Common, Upstream, tend_all};

/// How long one call to Redis may take, tries included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long handing back may take: after the grace, and when the worker ends now.
const HAND_BACK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));

/// A worker that is ready to run.
#[derive(Debug)]
pub(crate) struct Runner {
    config: Arc<Config>,
    queue: Queue,
    worker: WorkerId,
    host: String,
    pools: Vec<Arc<Pool>>,
    upstreams: Vec<Arc<Upstream>>,
}

impl Runner {
    /// Makes everything ready that needs no Redis.
    ///
    /// # Errors
    /// A provider that cannot be made ready, a URL that names no Redis.
    pub(crate) fn new(config: Config) -> anyhow::Result<Self> {
        let ready = providers::ready(&config).map_err(|mistakes| anyhow::anyhow!(mistakes.join("\n")))?;
        let queue = Queue::of(&config, PATIENCE).context("OVERSHOT_REDIS_URL")?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
        let host = host.map_or_else(|_| "worker".to_owned(), |host| host.trim().to_owned());
        let (config, worker) = (Arc::new(config), WorkerId::unique(&host));
        let common = Common::new(&queue, &worker, &config);
        let upstreams = providers::upstreams(&config, &ready, &common);
        let pools = config.served_pools().into_iter().filter_map(|name| {
            let settings = config.pool(&name)?.clone();
            let providers = PoolProviders::of(&name, &config, &upstreams, &common);
            let slots = Arc::new(Semaphore::new(settings.concurrency as usize));
            Some(Arc::new(Pool { name, settings, providers, slots }))
        });
        let pools = pools.collect();
        Ok(Self { pools, upstreams: upstreams.into_values().collect(), queue, worker, host, config })
    }

    /// See [`crate::run`].
    pub(crate) async fn run(
        self,
        shutdown: CancellationToken,
        kill: CancellationToken,
        listener: TcpListener,
    ) -> anyhow::Result<()> {
        metrics::start(&self.config);
        tracing::info!(addr = %listener.local_addr()?, worker.id = %self.worker, "overshot-worker listening");
        let health = Arc::new(Health::new(self.worker.clone()));
        // A child: whoever tells this worker to drain tells no other of the same process.
        let shutdown = shutdown.child_token();
        let ended = CancellationToken::new();
        let _end_with_us = ended.clone().drop_guard();
        tokio::spawn(crate::http::serve(listener, health.clone(), ended.clone()));
        tokio::spawn(metrics::tend(ended.clone()));
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = kill.cancelled() => return Ok(()),
            fit = greeting::greet(&self.queue, &self.config) => fit?,
        }
        let services = Services::start(&self, &health, &shutdown, &ended)?;
        health.started(services.stations.clone());
        tracing::info!(worker.id = %self.worker, pools = self.pools.len(), "worker started");
        let broken = services.broken.clone();
        let broke = tokio::select! {
            () = shutdown.cancelled() => false,
            () = kill.cancelled() => false,
            () = broken.cancelled() => true,
        };
        health.drain();
        // Without one of its services a worker cannot be trusted with the jobs that it has.
        services.drain(&self, if broke { &broken } else { &kill }).await;
        services.leave(&self, &ended).await;
        anyhow::ensure!(!broke, "a service of the worker panicked");
        tracing::info!(worker.id = %self.worker, "worker stopped");
        Ok(())
    }
}

/// Everything that runs.
struct Services {
    stations: Vec<Arc<Station>>,
    /// Claimers and porter.
    takers: TaskTracker,
    stop_taking: CancellationToken,
    keeper: std::thread::JoinHandle<()>,
    stop_keeping: CancellationToken,
    /// Cancelled when a service ends before its time: it panicked.
    broken: CancellationToken,
}

impl Services {
    fn start(
        runner: &Runner,
        health: &Arc<Health>,
        shutdown: &CancellationToken,
        ended: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let served = runner.config.served_pools();
        let (upkeep, upkeep_handle) = Upkeep::new(runner.queue.clone(), &runner.config, &served, Role::Worker);
        tokio::spawn(upkeep.run(ended.clone()));
        for upstream in &runner.upstreams {
            let upstream = upstream.clone();
            tokio::spawn(until(ended.clone(), async move { upstream.provider.tend(&*upstream).await }));
        }
        let broken = CancellationToken::new();
        let tend = tend_all(runner.upstreams.clone(), ended.clone());
        tokio::spawn(vital(broken.clone(), until(ended.clone(), tend)));
        let (takers, stop_taking) = (TaskTracker::new(), ended.child_token());
        let mut stations = Vec::new();
        let mut porters: Vec<(Arc<Notify>, Vec<Arc<Station>>)> = Vec::new();
        for (pool, shard) in runner.pools.iter().flat_map(Pool::shards) {
            let (endings, to_settle) = mpsc::unbounded_channel();
            let (outlets, to_publish) = mpsc::unbounded_channel();
            let station = Arc::new(Station {
                worker: runner.worker.clone(),
                shard,
                config: runner.config.clone(),
                pool: pool.clone(),
                queue: runner.queue.clone(),
                upkeep: upkeep_handle.clone(),
                fetcher: Fetcher::new(&runner.config.fetch, runner.config.max_audio_bytes),
                registry: Registry::default(),
                endings,
                outlets,
                bell: Notify::new(),
                parked: false.into(),
                gives_way: Mutex::default(),
                in_touch: watch::Sender::new(None),
            });
            tokio::spawn(vital(broken.clone(), until(ended.clone(), settler::run(station.clone(), to_settle))));
            tokio::spawn(vital(broken.clone(), until(ended.clone(), publisher::run(station.clone(), to_publish))));
            if porters.is_empty() || Doorbell::is_of_one_shard(&runner.queue) {
                porters.push(Default::default());
            }
            if let Some((parked, heard)) = porters.last_mut() {
                heard.push(station.clone());
                takers.spawn(vital(broken.clone(), claimer::run(station.clone(), parked.clone(), stop_taking.clone())));
            }
            stations.push(station);
        }
        for (parked, heard) in porters {
            let porter = porter::run(runner.queue.clone(), heard, parked, stop_taking.clone());
            takers.spawn(vital(broken.clone(), porter));
        }
        takers.close();
        let keeper = Keeper {
            stations: stations.clone(),
            worker: runner.worker.clone(),
            liveness: runner.config.worker.liveness,
            about: About::new(runner.pools.clone(), runner.host.clone(), Kind::names(&runner.config)),
            health: health.clone(),
            drain: shutdown.clone(),
        };
        let stop_keeping = ended.child_token();
        let keeper = keeper.start(&runner.queue, stop_keeping.clone(), broken.clone())?;
        Ok(Self { stations, takers, stop_taking, keeper, stop_keeping, broken })
    }

    /// Stops taking jobs, lets those that run finish within the grace, hands the rest back.
    async fn drain(&self, runner: &Runner, kill: &CancellationToken) {
        self.stop_taking.cancel();
        let idle = async {
            self.takers.wait().await;
            all_free(&runner.pools).await;
        };
        tokio::select! {
            () = idle => return,
            () = tokio::time::sleep(runner.config.worker.drain) => {}
            () = kill.cancelled() => {}
        }
        let busy: usize = self.stations.iter().map(|station| station.registry.len()).sum();
        tracing::info!(jobs = busy, "handing back");
        self.stations.iter().for_each(|station| station.registry.stop_all(Stop::HandBack));
        let patience = async {
            tokio::select! {
                () = tokio::time::sleep(HAND_BACK.0) => {}
                () = async { kill.cancelled().await; tokio::time::sleep(HAND_BACK.1).await } => {}
            }
        };
        tokio::select! {
            () = all_free(&runner.pools) => {}
            () = patience => tracing::warn!("not everything could be handed back; the reaper has the rest"),
        }
    }

    /// Takes the worker off the lists, the keeper first: its next beat would put it back.
    async fn leave(self, runner: &Runner, ended: &CancellationToken) {
        self.stop_keeping.cancel();
        let keeper = tokio::task::spawn_blocking(move || self.keeper.join());
        if keeper.await.is_ok_and(|joined| joined.is_err()) {
            tracing::error!("the keeper panicked");
        }
        let leave = join_all(self.stations.iter().map(async |station| {
            if let Err(error) = runner.queue.leave(&station.shard, &runner.worker).await {
                tracing::debug!(%error, shard = %station.shard, "not taken off the list; it ends by silence");
            }
        }));
        let leave_turns = join_all(runner.upstreams.iter().map(|upstream| upstream.leave_turn()));
        // An outage must not hold up the end: silence has the same effect.
        let _ = tokio::time::timeout(HAND_BACK.1, async { tokio::join!(leave, leave_turns) }).await;
        ended.cancel();
    }
}

/// A service that ends with the worker, not with its last sender: that one it keeps alive itself.
async fn until(ended: CancellationToken, service: impl Future<Output = ()>) {
    let _ = ended.run_until_cancelled_owned(service).await;
}

/// A service without which the worker cannot go on: its end, a panic too, cancels `broken`.
async fn vital(broken: CancellationToken, service: impl Future<Output = ()>) {
    let _alarm = broken.drop_guard();
    service.await;
}

/// Waits until no slot is taken.
async fn all_free(pools: &[Arc<Pool>]) {
    for pool in pools {
        let _ = pool.slots.acquire_many(pool.settings.concurrency).await;
    }
}
