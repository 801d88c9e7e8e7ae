//! Whether a Redis may be trusted with jobs.

use redis::FromRedisValue as _;

use super::Queue;
use super::error::Error;

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
