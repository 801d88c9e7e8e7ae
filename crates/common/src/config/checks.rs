//! What only the whole configuration tells: names across sections, and settings that defeat each other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::environment::{Environment, WORKER_POOLS};
use super::mistakes::Mistakes;
use super::{Config, PoolConfig};
use crate::ids::PoolName;

/// A worker told to serve a pool that nobody configured would wait for ever.
pub(super) fn worker_pools(environment: &Environment, names: &BTreeSet<String>, mistakes: &mut Mistakes) {
    for pool in environment.worker_pools.iter().flatten() {
        if !names.contains(pool.as_str()) {
            mistakes.add(WORKER_POOLS, format!("no pool is named `{pool}`"));
        }
    }
}

/// Settings that are allowed and yet likely not meant.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, pool) in &config.pools {
        pool_warnings(config, name, pool, &mut warnings);
    }
    for name in config.providers.keys() {
        if !config.pools.values().any(|pool| pool.providers.contains(name)) {
            warnings.push(format!("providers.{name}: no pool uses it"));
        }
    }
    warnings
}

fn pool_warnings(config: &Config, name: &PoolName, pool: &PoolConfig, warnings: &mut Vec<String>) {
    let shown = |time: Duration| humantime::format_duration(time);
    for (provider, settings) in config.providers_of_pool(name) {
        if settings.request_timeout >= pool.stall_timeout {
            warnings.push(format!(
                "providers.{provider}.request_timeout: {} is not below pools.{name}.stall_timeout = {}, which ends the \
                 attempt first",
                shown(settings.request_timeout),
                shown(pool.stall_timeout)
            ));
        }
    }
    if pool.stall_timeout > pool.job_timeout {
        warnings.push(format!(
            "pools.{name}.stall_timeout: {} is above job_timeout = {}, which ends the attempt first",
            shown(pool.stall_timeout),
            shown(pool.job_timeout)
        ));
    }
    if pool.max_queued_bytes < config.max_body_bytes {
        warnings.push(format!(
            "pools.{name}.max_queued_bytes: is below max_body_bytes, so that the largest requests never find room"
        ));
    }
}
