//! What this worker says of itself in every beat; `GET /api/v1/workers` shows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use overshot_common::job::times;
use serde::Serialize;

use super::station::{Pool, Station};

/// What does not change while it runs, and where to find what does.
#[derive(Debug)]
pub(crate) struct About {
    pools: Vec<Arc<Pool>>,
    host: String,
    tasks: Vec<String>,
    started_at: String,
}

#[derive(Serialize)]
struct Beat<'a> {
    pools: Vec<&'a str>,
    slots: u32,
    in_flight: usize,
    started_at: &'a str,
    version: &'static str,
    draining: bool,
    host: &'a str,
    providers: BTreeSet<&'a str>,
    /// What it can run: by this, workers that know less leave a job to those that know it.
    tasks: &'a [String],
}

impl About {
    pub(super) fn new(pools: Vec<Arc<Pool>>, host: String, tasks: Vec<String>) -> Self {
        Self { pools, host, tasks, started_at: times::text(jiff::Timestamp::now()) }
    }

    /// The object for a beat: the same in every shard, over all pools of the worker.
    pub(super) fn to_json(&self, stations: &[Arc<Station>], draining: bool) -> String {
        let providers: BTreeSet<&str> = self.pools.iter().flat_map(|pool| pool.providers.names()).collect();
        let beat = Beat {
            pools: self.pools.iter().map(|pool| pool.name.as_str()).collect(),
            slots: self.pools.iter().map(|pool| pool.settings.concurrency).sum(),
            in_flight: stations.iter().map(|station| station.registry.len()).sum(),
            started_at: &self.started_at,
            version: env!("CARGO_PKG_VERSION"),
            draining,
            host: &self.host,
            providers,
            tasks: &self.tasks,
        };
        serde_json::to_string(&beat).expect("texts and numbers always serialize")
    }
}
