//! Whether a Redis may be trusted with jobs.

use redis::FromRedisValue as _;

use super::Queue;
use super::durable::syncs_always;
use super::error::Error;
use crate::config::Durability;
use crate::ids::PoolName;

/// Why a Redis is not fit to hold jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// For people: what is wrong and what to set.
    pub reason: String,
    /// Whether it may lose accepted jobs, so that we refuse to start; else it is worth a warning.
    pub fatal: bool,
}

impl Queue {
    /// Asks Redis for its eviction policy, persistence and version, a cluster's primaries one by one; empty: fit.
    pub async fn fitness(&self) -> Result<Vec<Unfit>, Error> {
        let mut found = Vec::new();
        for info in self.inner.link.call_all(&redis::cmd("INFO")).await? {
            for unfit in self.judge(&String::from_redis_value(info)?).await {
                if !found.contains(&unfit) {
                    found.push(unfit);
                }
            }
        }
        Ok(found)
    }

    async fn judge(&self, info: &str) -> Vec<Unfit> {
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).unwrap_or_default()
        };
        let mut found = Vec::new();
        let policy = field("maxmemory_policy");
        if policy != "noeviction" {
            let reason = format!("maxmemory-policy is {policy}: Redis would evict jobs; set it to noeviction");
            found.push(Unfit { reason, fatal: true });
        }
        if field("aof_enabled") != "1" {
            found.push(self.persistence_without_aof().await);
        }
        let version = field("redis_version");
        if version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < 7) {
            found.push(Unfit { reason: format!("Redis {version} is too old; 7.0 or newer is needed"), fatal: true });
        }
        found
    }

    /// Asks Redis whether it can give what `pools.<pool>.durability` asks for; `None`: it can.
    pub async fn fitness_for(&self, pool: &PoolName, durability: Durability) -> Result<Option<Unfit>, Error> {
        let unfit = |reason: &str, fatal| Some(Unfit { reason: format!("pools.{pool}.durability: {reason}"), fatal });
        let info = String::from_redis_value(self.inner.link.call(&redis::cmd("INFO")).await?)?;
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).unwrap_or_default()
        };
        Ok(match durability {
            Durability::Memory => None,
            Durability::Replica if field("connected_slaves") == "0" => {
                unfit("no replica is connected; until one is, no submit of the pool is answered as accepted", false)
            }
            Durability::Replica => None,
            Durability::Disk if field("aof_enabled") != "1" => unfit("disk needs appendonly yes in Redis", true),
            Durability::Disk => {
                let mut get = redis::cmd("CONFIG");
                get.arg(&["GET", "appendonly", "appendfsync"]);
                let pairs = self.inner.link.call(&get).await.ok();
                let pairs = pairs.and_then(|pairs| Vec::<String>::from_redis_value(pairs).ok());
                let version: Vec<u32> = field("redis_version").split('.').map_while(|part| part.parse().ok()).collect();
                if pairs.is_some_and(|pairs| syncs_always(&pairs)) {
                    None
                } else if field("server_name") == "valkey" {
                    // Seen on 8.1 and 9.1: WAITAOF answers at once, long before the sync.
                    unfit("disk needs appendfsync always: Valkey's WAITAOF confirms what is not on the disk yet", true)
                } else if version < vec![7, 2] {
                    unfit("disk needs appendfsync always, or Redis 7.2 or newer", true)
                } else {
                    None
                }
            }
        })
    }

    async fn persistence_without_aof(&self) -> Unfit {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("save");
        // Managed servers forbid CONFIG; then only AOF is known.
        let answers = self.inner.link.call_all(&get).await.unwrap_or_default().into_iter();
        let pairs = answers.filter_map(|answer| Vec::<String>::from_redis_value(answer).ok());
        let forgets = pairs.filter_map(|pair| Some(pair.get(1)?.is_empty())).any(|none| none);
        if forgets {
            let reason =
                "appendonly is no and there are no save points: a restart of Redis loses every job; set appendonly yes";
            Unfit { reason: reason.into(), fatal: true }
        } else {
            let reason =
                "appendonly is no: a crash of Redis loses what came after the last snapshot; set appendonly yes";
            Unfit { reason: reason.into(), fatal: false }
        }
    }
}
