//! How the Redis server itself is: its memory, and how much of its time the scripts take.

use std::time::Duration;

use redis::FromRedisValue as _;
use tokio::time::Instant;

use super::Queue;
use super::error::Error;

/// A look at the server, or at a cluster's primaries together.
#[derive(Debug, Clone, Copy)]
pub struct ServerLook {
    at: Instant,
    nodes: u32,
    used_memory: u64,
    max_memory: u64,
    script_calls: u64,
    script_micros: u64,
}

/// What two looks tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerLoad {
    /// Bytes in use; of a cluster, on the fullest node.
    pub used_memory: u64,
    /// Bytes that may be in use; 0 without a limit.
    pub max_memory: u64,
    /// What a script took on average between the looks.
    pub script_mean: Duration,
    /// Share of the time between the looks that scripts took, 0 to 1; of a cluster, the mean of the nodes.
    pub script_ratio: f64,
}

impl ServerLook {
    /// What this look tells beside an earlier one; without one there are no times yet.
    pub fn load_since(&self, before: Option<&Self>) -> ServerLoad {
        let (used_memory, max_memory) = (self.used_memory, self.max_memory);
        // A server that restarted counts from 0.
        let since = before.filter(|before| before.script_calls <= self.script_calls && before.nodes == self.nodes);
        let Some(before) = since else { return ServerLoad { used_memory, max_memory, ..ServerLoad::default() } };
        let (calls, micros) =
            (self.script_calls - before.script_calls, self.script_micros.saturating_sub(before.script_micros));
        let spent = Duration::from_micros(micros);
        let passed = self.at.duration_since(before.at) * self.nodes.max(1);
        ServerLoad {
            used_memory,
            max_memory,
            script_mean: Duration::from_micros(micros / calls.max(1)),
            script_ratio: if passed.is_zero() { 0.0 } else { spent.div_duration_f64(passed).min(1.0) },
        }
    }

    fn add(&mut self, info: &str) {
        let number = |name: &str| -> u64 {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        self.nodes += 1;
        self.used_memory = self.used_memory.max(number("used_memory"));
        self.max_memory = self.max_memory.max(number("maxmemory"));
        for command in ["cmdstat_evalsha:", "cmdstat_eval:"] {
            let Some(stats) = info.lines().find_map(|line| line.strip_prefix(command)) else { continue };
            let part = |name: &str| -> u64 {
                let value = stats.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
                value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
            };
            self.script_calls += part("calls");
            self.script_micros += part("usec");
        }
    }
}

impl Queue {
    /// Looks at the server; of a cluster, at all primaries.
    pub async fn look_at_server(&self) -> Result<ServerLook, Error> {
        let mut info = redis::cmd("INFO");
        info.arg("memory").arg("commandstats");
        let mut look = ServerLook {
            at: Instant::now(),
            nodes: 0,
            used_memory: 0,
            max_memory: 0,
            script_calls: 0,
            script_micros: 0,
        };
        for info in self.inner.link.call_all(&info).await? {
            look.add(&String::from_redis_value(info)?);
        }
        Ok(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, info: &str) -> ServerLook {
        let mut look = ServerLook { at, nodes: 0, used_memory: 0, max_memory: 0, script_calls: 0, script_micros: 0 };
        look.add(info);
        look
    }

    #[test]
    fn two_looks_tell_how_busy_scripts_keep_the_server() {
        let at = Instant::now();
        let before = look(at, "used_memory:10\r\ncmdstat_evalsha:calls=10,usec=1000,usec_per_call=100.00\r\n");
        let info = "used_memory:30\r\nmaxmemory:40\r\ncmdstat_evalsha:calls=20,usec=501000,usec_per_call=1.00\r\n";
        let load = look(at + Duration::from_secs(1), info).load_since(Some(&before));
        assert_eq!((load.used_memory, load.max_memory), (30, 40));
        assert_eq!(load.script_mean, Duration::from_millis(50));
        assert!((load.script_ratio - 0.5).abs() < 1e-9, "{load:?}");
    }

    #[test]
    fn a_server_that_restarted_tells_no_time() {
        let at = Instant::now();
        let before = look(at, "cmdstat_evalsha:calls=10,usec=1000,usec_per_call=100.00\r\n");
        let after =
            look(at + Duration::from_secs(1), "used_memory:30\r\ncmdstat_evalsha:calls=2,usec=9,usec_per_call=1\r\n");
        assert_eq!(after.load_since(Some(&before)).script_mean, Duration::ZERO);
        assert_eq!(after.load_since(None).used_memory, 30);
    }
}
