//! `[health]` and `[infra]`: what `/health/detail` looks at, and from when on it is not content.

use std::time::Duration;

use super::mistakes::Mistakes;
use super::provider::check_base_url;
use super::reader::{POSITIVE, Section};

/// `[health]`: from when on a component is degraded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthConfig {
    /// Jobs that failed in the last 24 h, 1 to 1 000 000 000; default 1.
    pub failures_24h: u64,
    /// Running jobs whose lease is over, 1 to 1 000 000 000; default 1.
    pub stale_running: u64,
    /// Age of the job that waits longest; default 1 h.
    pub oldest_queued: Duration,
    /// Share of its `maxmemory` that Redis uses, 0 to 1; default 0.9.
    pub redis_memory: f64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { failures_24h: 1, stale_running: 1, oldest_queued: Duration::from_secs(3600), redis_memory: 0.9 }
    }
}

impl HealthConfig {
    pub(super) fn read(mut from: Section, mistakes: &mut Mistakes) -> Self {
        let (default, counts) = (Self::default(), 1..=1_000_000_000);
        let health = Self {
            failures_24h: from.integer(mistakes, "failures_24h", &counts, default.failures_24h),
            stale_running: from.integer(mistakes, "stale_running", &counts, default.stale_running),
            oldest_queued: from.duration(mistakes, "oldest_queued", &POSITIVE, default.oldest_queued),
            redis_memory: from.share(mistakes, "redis_memory", default.redis_memory),
        };
        from.finish(mistakes);
        health
    }
}

/// `[infra]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InfraConfig {
    /// Where a sidecar tells of GPUs, containers and vLLM: an `http` or `https` URL without credentials; `None`: nowhere.
    pub url: Option<String>,
}

impl InfraConfig {
    pub(super) fn read(mut from: Section, mistakes: &mut Mistakes) -> Self {
        let url = from.text(mistakes, "url");
        if let Some(Err(problem)) = url.as_deref().map(check_base_url) {
            mistakes.add(&from.key("url"), problem);
        }
        from.finish(mistakes);
        Self { url }
    }
}
