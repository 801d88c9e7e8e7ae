//! The providers of the served pools, made ready once, and which of them runs a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use overshot_common::config::Config;
use overshot_common::ids::PoolName;
use overshot_common::job::JobSpec;
use rand::RngExt as _;

use crate::providers::Provider;

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

/// The providers of one pool, in order of preference.
#[derive(Debug)]
pub(crate) struct PoolProviders {
    list: Vec<Candidate>,
}

/// A provider as one pool has it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) provider: Arc<Provider>,
    models: Vec<String>,
    weight: Option<u32>,
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
    pub(super) fn of(pool: &PoolName, config: &Config, ready: &BTreeMap<String, Arc<Provider>>) -> Self {
        let list = config.providers_of_pool(pool).filter_map(|(name, settings)| {
            let (provider, models) = (ready.get(name)?.clone(), settings.models.clone());
            Some(Candidate { provider, models, weight: settings.weight })
        });
        Self { list: list.collect() }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|candidate| candidate.provider.name())
    }

    /// The provider whose turn it is: of those that serve the job and were not tried, the first. Where it has a
    /// weight, it shares with those behind it that have one.
    pub(crate) fn next(&self, job: &JobSpec, tried: Tried) -> Option<(usize, &Candidate)> {
        let open = |place: &usize| !tried.has(*place) && self.list[*place].serves(job);
        let first = (0..self.list.len()).find(open)?;
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
        let pinned = job.provider.as_deref().is_none_or(|name| name == self.provider.name());
        let has = |model: &String| self.models.iter().any(|name| name == model);
        pinned && (self.models.is_empty() || job.model.as_ref().is_none_or(has))
    }
}

#[cfg(test)]
mod tests {
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
        PoolProviders::of(&config.served_pools()[0], &config, &ready(&config).unwrap())
    }

    fn job(provider: Option<&str>, model: Option<&str>) -> JobSpec {
        let (provider, model) = (provider.map(str::to_owned), model.map(str::to_owned));
        JobSpec { task: "chat".into(), model, provider, owner: None, stream: true }
    }

    /// The order in which an attempt would try them.
    fn order(pool: &PoolProviders, job: &JobSpec) -> String {
        let (mut tried, mut names) = (Tried::default(), Vec::new());
        while let Some((place, candidate)) = pool.next(job, tried) {
            tried.add(place);
            names.push(candidate.provider.name());
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
