//! Whose turn it is: the models of which a claim may bring jobs, in a pool that drains by model.

use std::sync::Arc;
use std::time::Duration;

use overshot_common::ids::Shard;
use overshot_common::queue::{Error, Queue, Waiting};
use tokio::sync::watch;
use tokio::time::sleep;

use super::providers::{Admission, PoolProviders};
use crate::upstream::Hold;

/// What a claim may bring beside jobs that wait for no model.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Labels under which jobs wait, each with the model that is to run.
    pub(super) models: Vec<(String, String)>,
    /// The uses of the turns, for as long as the jobs run; none in any other pool.
    pub(super) holds: Option<Arc<Vec<Hold>>>,
    /// When to ask again, where jobs wait that no provider may run now.
    again: Option<Duration>,
}

impl Turns {
    /// Waits until it may be worth asking again; for ever where nothing was refused.
    pub(super) async fn again(&self, news: &mut watch::Receiver<u64>) {
        match self.again {
            Some(wait) => tokio::select! {
                // The sender lives as long as the providers.
                _ = news.changed() => {}
                () = sleep(wait) => {}
            },
            None => std::future::pending().await,
        }
    }
}

impl PoolProviders {
    /// Takes turns for the jobs that wait in a shard, on the providers that a claim is admitted to.
    ///
    /// # Errors
    ///
    /// Redis does not tell what waits.
    pub(super) async fn take_turns(&self, queue: &Queue, shard: &Shard, admission: &Admission) -> Result<Turns, Error> {
        if !self.by_model || admission.jobs == 0 {
            return Ok(Turns::default());
        }
        let mut waiting = queue.turns(shard).await?;
        // Of several that run, the one that waits longest is claimed first: each has its providers, but all share the slots.
        waiting.sort_by_key(|one| std::cmp::Reverse(one.waited));
        let (mut running, mut holds, mut again) = (Vec::<String>::new(), Vec::new(), None::<Duration>);
        for (place, candidate) in self.list.iter().enumerate() {
            if !admission.lets_in(place, candidate) {
                continue;
            }
            let may = |one: &&Waiting| candidate.has(&one.model) && candidate.upstream.is_open_for(&one.model);
            let could: Vec<&Waiting> = waiting.iter().filter(may).collect();
            // What runs before is left to those; providers that share by weight share a model, too.
            let new = |one: &&&Waiting| !running.contains(&one.model);
            let mut wanted: Vec<&Waiting> = could.iter().filter(new).copied().collect();
            if wanted.is_empty() && candidate.weight.is_some() {
                wanted = could;
            }
            let wanted: Vec<_> = wanted.iter().map(|one| (one.model.as_str(), one.waited)).collect();
            if wanted.is_empty() {
                continue;
            }
            match candidate.upstream.take_turn(&wanted, self.max_wait).await {
                Ok((model, hold)) => {
                    running.push(model);
                    holds.extend(hold);
                }
                Err(wait) => again = Some(again.map_or(wait, |again| again.min(wait))),
            }
        }
        // What no provider has runs into the error that tells so.
        let nobodys = |one: &Waiting| !self.list.iter().any(|candidate| candidate.has(&one.model));
        let models = waiting.into_iter().filter(|one| running.contains(&one.model) || nobodys(one));
        let models = models.map(|one| (one.label, one.model)).collect();
        Ok(Turns { models, holds: Some(Arc::new(holds)), again })
    }
}
