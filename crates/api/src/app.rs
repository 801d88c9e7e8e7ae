//! What all requests share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use overshot_common::config::{Config, PoolConfig};
use overshot_common::ids::{JobId, PoolName, Shard};
use overshot_common::job::Job;
use overshot_common::metrics;
use overshot_common::queue::{self, Events, Limits, Queue};
use overshot_common::upkeep::{Role, Upkeep, UpkeepHandle};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::error::ApiError;
use crate::handlers::health::Ping;
use crate::handlers::health_detail::Detail;
use crate::infra::Infra;
use crate::metrics_page::Page;
use crate::pace::Paces;
use crate::redis_watch::{RedisState, RedisWatch};
use crate::submit::groups::Groups;

/// How long one call on the queue may take, reconnects included.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same for calls whose answer is worthless late: probes and scrapes.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// Uploads that are read at the same time; further ones wait.
const UPLOADS_MAX: usize = 32;

/// Shared by all requests.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) queue: Queue,
    /// Single submits on their way to the queue.
    pub(crate) groups: Arc<Groups>,
    /// A permit per upload that may be on its way to Redis.
    pub(crate) uploads: Semaphore,
    /// The queue on a connection of its own, for probes and scrapes.
    pub(crate) probe: Queue,
    pub(crate) events: Events,
    pub(crate) upkeep: UpkeepHandle,
    pub(crate) access: Access,
    pub(crate) redis: watch::Receiver<RedisState>,
    /// Cancelled when the graceful stop begins.
    pub(crate) stopping: CancellationToken,
    pub(crate) ping: Ping,
    pub(crate) page: Page,
    pub(crate) detail: Detail,
    pub(crate) paces: Paces,
    pub(crate) infra: Infra,
    /// The API document, once the routes are put together.
    pub(crate) document: OnceLock<axum::body::Bytes>,
}

impl App {
    /// Opens the queue, without a connection yet; the second part is to be run beside the server.
    pub(crate) fn new(config: Config, stopping: CancellationToken) -> Result<(Self, RedisWatch), crate::RunError> {
        let access = Access::new(&config, |name| std::env::var(name).ok()).map_err(crate::RunError::Tokens)?;
        let page = Page::install();
        let infra = Infra::new(config.infra.url.as_deref());
        metrics::start(&config);
        let queue = Queue::of(&config, PATIENCE)?;
        let probe = queue.separate(PROBE_PATIENCE)?;
        let of_pool = |(name, shards): (&PoolName, u16)| (name.clone(), shards, config.pools[name].durability);
        let pools = config.shards().map(of_pool).collect();
        let names: Vec<PoolName> = config.pools.keys().cloned().collect();
        let (upkeep, handle) = Upkeep::new(queue.separate(PATIENCE)?, &config, &names, Role::Api);
        let (told, redis) = watch::channel(RedisState::Starting);
        let watch = RedisWatch {
            queue: probe.clone(),
            pools,
            allow_unsafe: config.allow_unsafe_redis,
            told,
            upkeep,
            stopping: stopping.clone(),
        };
        let app = Self {
            access,
            events: Events::new(&queue),
            config,
            groups: Groups::new(queue.clone()),
            uploads: Semaphore::new(UPLOADS_MAX),
            queue,
            probe,
            upkeep: handle,
            redis,
            stopping,
            ping: Ping::default(),
            page,
            detail: Detail::default(),
            paces: Paces::default(),
            infra,
            document: OnceLock::new(),
        };
        Ok((app, watch))
    }

    /// What a shard of `pool` may hold: its part of what the pool may.
    pub(crate) fn limits(&self, pool: &PoolConfig) -> Limits {
        let shards = u64::from(pool.shards);
        Limits {
            max_queued: pool.max_queued.div_ceil(shards),
            max_queued_bytes: pool.max_queued_bytes.div_ceil(shards),
            liveness: self.config.worker.liveness,
            durability: pool.durability,
        }
    }

    /// What a shard of the pool of that name may hold; a pool that is no longer configured has the defaults.
    pub(crate) fn limits_of(&self, pool: &PoolName) -> Limits {
        self.config.pool(pool).map_or_else(|| self.limits(&PoolConfig::default()), |pool| self.limits(pool))
    }

    /// The job of that id.
    pub(crate) async fn job(&self, id: &JobId, with_input: bool) -> Result<Job, ApiError> {
        self.queue.get(id, with_input).await?.ok_or_else(ApiError::job_not_found)
    }

    /// A pool that is configured, or was once, and its number of shards.
    pub(crate) async fn known_pool(&self, name: &str) -> Result<(PoolName, u16), ApiError> {
        let pool: PoolName = name.parse().map_err(|_| ApiError::pool_not_found())?;
        if let Some(configured) = self.config.pool(&pool) {
            return Ok((pool, configured.shards));
        }
        let registered = self.queue.registered_pools().await?;
        registered.into_iter().find(|(known, _)| *known == pool).ok_or_else(ApiError::pool_not_found)
    }

    /// Every pool that is configured, or was once, by name, and its number of shards.
    pub(crate) async fn all_pools(&self) -> Result<Vec<(PoolName, u16)>, ApiError> {
        Ok(self.all_pools_over(&self.queue).await?)
    }

    /// The same, asked over a handle of the caller's.
    pub(crate) async fn all_pools_over(&self, queue: &Queue) -> Result<Vec<(PoolName, u16)>, queue::Error> {
        let mut pools: BTreeMap<PoolName, u16> = queue.registered_pools().await?.into_iter().collect();
        pools.extend(self.config.shards().map(|(pool, shards)| (pool.clone(), shards)));
        Ok(pools.into_iter().collect())
    }

    /// The shards of the named pool, or of all.
    pub(crate) async fn shards(&self, pool: Option<&str>) -> Result<Vec<Shard>, ApiError> {
        let pools = match pool {
            Some(name) => vec![self.known_pool(name).await?],
            None => self.all_pools().await?,
        };
        Ok(pools.iter().flat_map(|(pool, shards)| pool.shards(*shards)).collect())
    }
}
