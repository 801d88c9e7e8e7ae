//! The providers of the served pools, made ready once, and which of them runs a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use overshot_common::code::ErrorCode;
use overshot_common::config::Config;
use overshot_common::ids::PoolName;
use overshot_common::job::JobSpec;

use crate::outcome::Outcome;
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
    list: Vec<(Arc<Provider>, Vec<String>)>,
}

impl PoolProviders {
    pub(super) fn of(pool: &PoolName, config: &Config, ready: &BTreeMap<String, Arc<Provider>>) -> Self {
        let list = config
            .providers_of_pool(pool)
            .filter_map(|(name, settings)| Some((ready.get(name)?.clone(), settings.models.clone())));
        Self { list: list.collect() }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(provider, _)| provider.name())
    }

    /// The provider that runs a job: the pinned one, else the first that serves its model.
    pub(crate) fn choose(&self, job: &JobSpec) -> Result<&Provider, Outcome> {
        let pinned = |provider: &Provider| job.provider.as_deref().is_none_or(|name| name == provider.name());
        let serves = |models: &[String]| {
            models.is_empty() || job.model.as_ref().is_none_or(|model| models.iter().any(|name| name == model))
        };
        let found = self.list.iter().find(|(provider, models)| pinned(provider) && serves(models));
        found.map(|(provider, _)| &**provider).ok_or_else(|| {
            Outcome::retry(ErrorCode::ModelUnavailable, "no provider of this worker's pool serves the model")
        })
    }
}
