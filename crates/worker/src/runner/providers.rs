//! The providers of the served pools, made ready once, and which of them runs a job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use overshot_common::config::{Affinity, Config};
use overshot_common::ids::PoolName;
use overshot_common::job::JobSpec;
use rand::RngExt as _;
use tokio::sync::watch;

use crate::providers::Provider;
use crate::upstream::{Common, Turns, Upstream};

/// How long a claimer waits for providers without news of them.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Tells every mistake in the providers that this worker would use, each with its key; calls none of them.
///
/// # Errors
/// One line per mistake.
pub fn check(config: &Config) -> Result<(), Vec<String>> {
    ready(config).map(drop)
}

/// Makes the providers of the served pools ready.
pub(super) fn ready(config: &Config) -> Result<BTreeMap<String, Arc<Provider>>, Vec<String>> {
    let (mut ready, mut mistakes) = (BTreeMap::new(), Vec::new());
    for pool in config.served_pools() {
        for (name, settings) in config.providers_of_pool(&pool) {
            if ready.contains_key(name) {
                continue;
            }
            match Provider::new(name, settings, |variable| std::env::var(variable).ok()) {
                Ok(provider) => drop(ready.insert(name.to_owned(), Arc::new(provider))),
                Err(mistake) if !mistakes.contains(&mistake) => mistakes.push(mistake),
                Err(_) => {}
            }
        }
    }
    if mistakes.is_empty() { Ok(ready) } else { Err(mistakes) }
}

/// What this process knows of each of its providers.
pub(super) fn upstreams(
    config: &Config,
    ready: &BTreeMap<String, Arc<Provider>>,
    common: &Common,
) -> BTreeMap<String, Arc<Upstream>> {
    let mut servers = BTreeMap::new();
    let upstream = |(name, provider): (&String, &Arc<Provider>)| {
        let settings = config.providers.get(name)?;
        let turns = |over| {
            let server = config.turns_of(name)?;
            let turns = || Arc::new(Turns::new(server.clone(), common, over));
            Some(servers.entry(server.clone()).or_insert_with(turns).clone())
        };
        Some((name.clone(), Arc::new(Upstream::new(provider.clone(), settings, common, turns))))
    };
    ready.iter().filter_map(upstream).collect()
}

/// The providers of one pool, in order of preference.
#[derive(Debug)]
pub(crate) struct PoolProviders {
    pub(super) list: Vec<Candidate>,
    changed: watch::Sender<u64>,
    /// Whether jobs wait for their model's turn.
    pub(super) by_model: bool,
    /// How long they should at most.
    pub(crate) max_wait: Duration,
}

/// A provider as one pool has it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) upstream: Arc<Upstream>,
    pub(super) weight: Option<u32>,
}

/// Leave to claim jobs.
#[derive(Debug)]
pub(crate) struct Admission {
    /// How many.
    pub(crate) jobs: usize,
    /// Which providers, by their places, keep room for how many of them.
    kept: Vec<(usize, u64)>,
}

impl Admission {
    /// Whether a claim may bring jobs for that provider.
    pub(super) fn lets_in(&self, place: usize, candidate: &Candidate) -> bool {
        candidate.upstream.is_at_rest() || self.kept.iter().any(|(kept, _)| *kept == place)
    }
}

/// Which of a pool's providers, by their places, have had their turn in an attempt.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tried(u64);

impl Tried {
    pub(crate) fn add(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }
}

impl PoolProviders {
    pub(super) fn of(
        pool: &PoolName,
        config: &Config,
        upstreams: &BTreeMap<String, Arc<Upstream>>,
        common: &Common,
    ) -> Self {
        let list = config.providers_of_pool(pool).filter_map(|(name, settings)| {
            Some(Candidate { upstream: upstreams.get(name)?.clone(), weight: settings.weight })
        });
        let settings = config.pool(pool).cloned().unwrap_or_default();
        Self {
            list: list.collect(),
            changed: common.changed.clone(),
            by_model: settings.affinity == Affinity::Model,
            max_wait: settings.affinity_max_wait,
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|candidate| candidate.upstream.name())
    }

    /// Tells when a provider of this process may be called again.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Leave to claim up to `wanted` jobs: as many as the providers take now.
    ///
    /// # Errors
    ///
    /// None takes one before that time is over, or something changes.
    pub(super) async fn admit(&self, wanted: usize) -> Result<Admission, Duration> {
        let mut admission = Admission { jobs: wanted, kept: Vec::new() };
        let rests = |candidate: &Candidate| candidate.upstream.is_at_rest();
        if wanted == 0 || (!self.by_model && self.list.iter().any(rests)) {
            return Ok(admission);
        }
        let (mut missing, mut soonest) = (wanted as u64, LOOK_AGAIN);
        for (place, candidate) in self.list.iter().enumerate() {
            // Which of them a job goes to is not known before it is known whose turn it is: each is asked for all.
            let wanted = if self.by_model { wanted as u64 } else { missing };
            match candidate.upstream.admit(wanted).await {
                Ok(_) if rests(candidate) => missing = 0,
                Ok(kept) => {
                    admission.kept.push((place, kept));
                    missing -= kept.min(missing);
                }
                Err(wait) => soonest = soonest.min(wait),
            }
            if missing == 0 && !self.by_model {
                break;
            }
        }
        admission.jobs = wanted - usize::try_from(missing).unwrap_or(wanted);
        if admission.jobs > 0 { Ok(admission) } else { Err(soonest) }
    }

    /// Gives back the leave for jobs that did not come.
    pub(super) fn claimed(&self, admission: &Admission, jobs: usize) {
        let kept: u64 = admission.kept.iter().map(|(_, kept)| kept).sum();
        let mut unused = kept.saturating_sub(jobs as u64);
        for (place, kept) in admission.kept.iter().rev() {
            self.list[*place].upstream.unused(unused.min(*kept));
            unused -= unused.min(*kept);
        }
    }

    /// The provider whose turn it is: of those that serve the job and were not tried, the first. Where it has a
    /// weight, it shares with those behind it that have one.
    pub(crate) fn next(&self, job: &JobSpec, tried: Tried) -> Option<(usize, &Candidate)> {
        let open = |place: &usize| !tried.has(*place) && self.list[*place].serves(job);
        let has_turn = |place: &usize| self.list[*place].upstream.has_turn(job.model.as_deref());
        let places = 0..self.list.len();
        // Those that run the job's model go before those that would have to be asked first.
        let some_have = places.clone().any(|place| open(&place) && has_turn(&place));
        let open = |place: &usize| open(place) && (!some_have || has_turn(place));
        let first = places.clone().find(open)?;
        let shared = self.list[first..].iter().take_while(|candidate| candidate.weight.is_some()).count();
        let group = (first..first + shared).filter(open);
        let weight = |place: usize| self.list[place].weight.unwrap_or(0);
        let sum: u32 = group.clone().map(weight).sum();
        let place = if sum == weight(first) {
            first
        } else {
            let mut draw = rand::rng().random_range(0..sum);
            let mut drawn = group.skip_while(|place| {
                let passed = draw >= weight(*place);
                draw = draw.saturating_sub(weight(*place));
                passed
            });
            drawn.next().unwrap_or(first)
        };
        Some((place, &self.list[place]))
    }
}

impl Candidate {
    /// Whether a job may run on it: it is the pinned one where one is, and has the model.
    fn serves(&self, job: &JobSpec) -> bool {
        let pinned = job.provider.as_deref().is_none_or(|name| name == self.upstream.name());
        pinned && job.model.as_ref().is_none_or(|model| self.has(model))
    }

    /// Whether it has the model.
    pub(super) fn has(&self, model: &str) -> bool {
        let models = &self.upstream.config.models;
        models.is_empty() || models.iter().any(|name| name == model)
    }
}

#[cfg(test)]
mod tests {
    use overshot_common::ids::WorkerId;
    use overshot_common::queue::Queue;

    use super::*;

    fn pool(providers: &str) -> PoolProviders {
        let names: Vec<&str> = providers.split_whitespace().filter(|word| !word.contains('=')).collect();
        let mut text = format!("[pools.chat]\nproviders = {names:?}\n");
        for word in providers.split_whitespace() {
            match word.split_once('=') {
                None => text += &format!("[providers.{word}]\nkind = \"simulated\"\n"),
                Some(("weight", weight)) => text += &format!("weight = {weight}\n"),
                Some((_, model)) => text += &format!("models = [\"{model}\"]\n"),
            }
        }
        let config = Config::load(Some((std::path::Path::new("test"), &text)), []).unwrap();
        let queue = Queue::open("unix:///nonexistent", Duration::from_millis(1)).unwrap();
        let common = Common::new(&queue, &WorkerId::unique("test"), &config);
        let upstreams = upstreams(&config, &ready(&config).unwrap(), &common);
        PoolProviders::of(&config.served_pools()[0], &config, &upstreams, &common)
    }

    fn job(provider: Option<&str>, model: Option<&str>) -> JobSpec {
        let (provider, model) = (provider.map(str::to_owned), model.map(str::to_owned));
        JobSpec { model, provider, ..JobSpec::new("chat") }
    }

    /// The order in which an attempt would try them.
    fn order(pool: &PoolProviders, job: &JobSpec) -> String {
        let (mut tried, mut names) = (Tried::default(), Vec::new());
        while let Some((place, candidate)) = pool.next(job, tried) {
            tried.add(place);
            names.push(candidate.upstream.name());
        }
        names.join(" ")
    }

    #[test]
    fn providers_are_tried_in_the_order_of_the_list() {
        assert_eq!(order(&pool("a b c"), &job(None, None)), "a b c");
    }

    #[test]
    fn only_those_that_serve_the_job_are_tried() {
        let pool = pool("a model=x b model=y c d model=y");
        assert_eq!(order(&pool, &job(None, Some("y"))), "b c d");
        assert_eq!(order(&pool, &job(Some("c"), Some("y"))), "c");
        assert_eq!(order(&pool, &job(Some("a"), Some("y"))), "");
    }

    #[test]
    fn neighbours_with_weights_share_and_the_rest_stands_by() {
        let pool = pool("a weight=3 b weight=1 c");
        let first = |letter: char| (0..4000).filter(|_| order(&pool, &job(None, None)).starts_with(letter)).count();
        let (a, b) = (first('a'), first('b'));
        assert!((2800..3200).contains(&a) && (800..1200).contains(&b), "{a} {b}");
        assert!((0..100).all(|_| order(&pool, &job(None, None)).ends_with('c')));
    }
}
