//! `[pools.NAME]`: one queue, who serves it and its limits.

use std::time::Duration;

use super::mistakes::Mistakes;
use super::reader::{POSITIVE, Section};
use super::retry::RetryPolicy;

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Names of providers, in order of preference; at least one.
    pub providers: Vec<String>,
    /// Parts that the pool's jobs are spread over, each on one node of a cluster, 1 to 64; default 1. Fixed at first start.
    pub shards: u16,
    /// Jobs in flight per worker, 1 to 1024; default 8.
    pub concurrency: u32,
    /// Idle time after which a job may be reclaimed, 1 s to 1 h; renewed every third of it; default 30 s.
    pub lease: Duration,
    /// An attempt without any progress for this long ends as `timeout`; default 10 min.
    pub stall_timeout: Duration,
    /// Wall-clock backstop of one attempt; default 1 h.
    pub job_timeout: Duration,
    /// Waiting longer than this ends a job as expired; default 1 h.
    pub queue_timeout: Duration,
    /// How many jobs may wait; above it a submit gets `queue_full`; default 100 000.
    pub max_queued: u64,
    /// How many bytes the inputs of waiting jobs may hold; default 1 GiB.
    pub max_queued_bytes: u64,
    /// Workers lost under one job before it ends as `stale_worker`, 0 to 100; default 3.
    pub max_crashes: u32,
    /// How long an ended job is kept, in every terminal status; default 24 h.
    pub result_ttl: Duration,
    /// Chunks kept per job, 1 to 1 000 000; older ones go; default 10 000.
    pub max_chunks: u32,
    /// Whether jobs of one model are drained together; default: where all providers are Ollamas.
    pub affinity: Affinity,
    /// With affinity: how long a model waits for its turn before it gets it next; default 30 s.
    pub affinity_max_wait: Duration,
    /// What a submit waits for before it is answered as accepted; default memory.
    pub durability: Durability,
    /// Delays per error code: `[retry]` with this pool's own over it.
    pub retry: RetryPolicy,
}

/// Which jobs of a pool a worker takes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Affinity {
    /// Any.
    #[default]
    None,
    /// Those of the model that is loaded, first.
    Model,
}

/// What an accepted job survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// What Redis itself gives: with AOF every second, a crash of the process, and of the machine but for the last second.
    #[default]
    Memory,
    /// A crash of the machine: the job is on the primary's disk.
    Disk,
    /// The loss of the primary: the job is on a replica.
    Replica,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            providers: Vec::new(),
            shards: 1,
            concurrency: 8,
            lease: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(600),
            job_timeout: Duration::from_secs(3600),
            queue_timeout: Duration::from_secs(3600),
            max_queued: 100_000,
            max_queued_bytes: 1 << 30,
            max_crashes: 3,
            result_ttl: Duration::from_secs(24 * 3600),
            max_chunks: 10_000,
            affinity: Affinity::None,
            affinity_max_wait: Duration::from_secs(30),
            durability: Durability::Memory,
            retry: RetryPolicy::default(),
        }
    }
}

impl PoolConfig {
    /// Reads a section; `retry` is the policy of all pools, `swaps` tells of a provider whether it has to unload one model to
    /// load another.
    pub(super) fn read(
        mut from: Section,
        mistakes: &mut Mistakes,
        retry: &RetryPolicy,
        swaps: impl Fn(&String) -> bool,
    ) -> Self {
        let default = Self::default();
        let lease = Duration::from_secs(1)..=Duration::from_secs(3600);
        let sizes = 1..=1 << 40;
        let affinities = [("none", Affinity::None), ("model", Affinity::Model)];
        let levels = [("memory", Durability::Memory), ("disk", Durability::Disk), ("replica", Durability::Replica)];
        let providers = read_providers(&mut from, mistakes);
        let affinity = match !providers.is_empty() && providers.iter().all(swaps) {
            true => Affinity::Model,
            false => default.affinity,
        };
        let pool = Self {
            providers,
            shards: from.integer(mistakes, "shards", &(1..=64), default.shards),
            concurrency: from.integer(mistakes, "concurrency", &(1..=1024), default.concurrency),
            lease: from.duration(mistakes, "lease", &lease, default.lease),
            stall_timeout: from.duration(mistakes, "stall_timeout", &POSITIVE, default.stall_timeout),
            job_timeout: from.duration(mistakes, "job_timeout", &POSITIVE, default.job_timeout),
            queue_timeout: from.duration(mistakes, "queue_timeout", &POSITIVE, default.queue_timeout),
            max_queued: from.integer(mistakes, "max_queued", &(1..=1_000_000_000), default.max_queued),
            max_queued_bytes: from.bytes(mistakes, "max_queued_bytes", &sizes).unwrap_or(default.max_queued_bytes),
            max_crashes: from.integer(mistakes, "max_crashes", &(0..=100), default.max_crashes),
            result_ttl: from.duration(mistakes, "result_ttl", &POSITIVE, default.result_ttl),
            max_chunks: from.integer(mistakes, "max_chunks", &(1..=1_000_000), default.max_chunks),
            affinity: from.choice(mistakes, "affinity", &affinities).unwrap_or(affinity),
            affinity_max_wait: from.duration(mistakes, "affinity_max_wait", &POSITIVE, default.affinity_max_wait),
            durability: from.choice(mistakes, "durability", &levels).unwrap_or(default.durability),
            retry: RetryPolicy::read(from.section(mistakes, "retry"), mistakes, retry),
        };
        from.finish(mistakes);
        pool
    }
}

/// Most providers of one pool.
const PROVIDERS_MAX: usize = 64;

fn read_providers(from: &mut Section, mistakes: &mut Mistakes) -> Vec<String> {
    let key = from.key("providers");
    let absent = !from.names().iter().any(|name| name == "providers");
    let providers = from.texts(mistakes, "providers");
    match &providers {
        None if absent => mistakes.add(&key, "is missing: name at least one provider"),
        Some(list) if list.is_empty() => mistakes.add(&key, "name at least one provider"),
        Some(list) if list.len() > PROVIDERS_MAX => {
            mistakes.add(&key, format!("names more than {PROVIDERS_MAX} providers"));
        }
        Some(list) => {
            for (place, name) in list.iter().enumerate() {
                if list[..place].contains(name) {
                    mistakes.add(&key, format!("names `{}` twice", name.escape_debug()));
                }
            }
        }
        None => {}
    }
    providers.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::ids::PoolName;

    /// The label that jobs of a model get in a pool with these lines, on providers of these kinds that name these models.
    fn label(pool: &str, providers: &[(&str, &[&str])], model: &str) -> Option<String> {
        let names: Vec<String> = (0..providers.len()).map(|place| format!("p{place}")).collect();
        let mut file = format!("[pools.chat]\nproviders = {names:?}\n{pool}\n");
        for (name, (kind, models)) in names.iter().zip(providers) {
            file += &format!("[providers.{name}]\nkind = \"{kind}\"\nmodels = {models:?}\n");
            if *kind != "simulated" {
                file += "base_url = \"http://127.0.0.1:1\"\n";
            }
        }
        let config = Config::load(Some((std::path::Path::new("t.toml"), &file)), []).unwrap();
        let pool: PoolName = "chat".parse().unwrap();
        let label = config.turn_label(&pool, model).map(str::to_owned);
        assert!(names.iter().all(|name| config.turns_of(name).is_some() == label.is_some()));
        label
    }

    #[test]
    fn a_pool_on_ollamas_alone_drains_by_model_unless_it_says_otherwise() {
        let (one, two): (&[&str], &[&str]) = (&["a"], &["b"]);
        assert_eq!(label("", &[("ollama", one), ("ollama", two)], "b").as_deref(), Some("b"));
        assert_eq!(label("", &[("ollama", one), ("openai", two)], "b"), None);
        assert_eq!(label("affinity = \"none\"", &[("ollama", one)], "a"), None);
        assert_eq!(label("affinity = \"model\"", &[("openai", one)], "a").as_deref(), Some("a"));
    }

    #[test]
    fn models_past_the_first_64_and_those_that_none_names_share_a_label() {
        let names: Vec<String> = (0..65).map(|number| format!("m{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let of = |model| label("", &[("ollama", &names)], model);
        assert_eq!((of("m63").as_deref(), of("m64").as_deref()), (Some("m63"), Some("other")));
        assert_eq!(label("", &[("ollama", &[])], "any").as_deref(), Some("other"));
    }
}
