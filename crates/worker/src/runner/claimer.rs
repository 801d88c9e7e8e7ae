//! The claimer of one shard: takes as many jobs as there are free slots, one call at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use overshot_common::metrics;
use overshot_common::queue::{Error, Held, Taken};
use rand::distr::{Alphanumeric, SampleString as _};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, jittered};
use super::settler::{Ended, Ending};
use super::station::Station;
use crate::executor;
use crate::upstream::Hold;

/// How long one claim may take, tries included: it holds the free slots of all shards meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most jobs that one claim asks for.
const MOST_PER_CLAIM: usize = 100;
/// A look without a ring, in case one was lost.
const SAFETY_POLL: Duration = Duration::from_millis(2500);
/// How long a claimer that found its pool paused heeds no ring.
const PAUSED_PAUSE: Duration = Duration::from_millis(50);
/// How often a claimer looks that leaves the bell to others.
const GIVING_WAY: Duration = Duration::from_millis(100);
/// Characters of a nonce.
const NONCE: usize = 12;

/// Claims until `shutdown`, but leaves no claim without its answer while Redis gives one: that could hold jobs that nobody
/// runs.
pub(crate) async fn run(station: Arc<Station>, porter: Arc<Notify>, shutdown: CancellationToken) {
    let (queue, mut backoff, mut nonce) = (station.queue.within(PATIENCE), Backoff::new(), new_nonce());
    let (mut unanswered, mut providers) = (false, station.pool.providers.changes());
    loop {
        let slots = tokio::select! {
            () = shutdown.cancelled() => match station.pool.slots.clone().try_acquire_many_owned(0) {
                // One more word, to learn what the last claim brought; it takes nothing new.
                Ok(none) if unanswered => none,
                _ => return,
            },
            slots = free_slots(&station) => slots,
        };
        providers.borrow_and_update();
        let admission = match station.pool.providers.admit(slots.num_permits()).await {
            Ok(admission) => admission,
            Err(wait) => {
                // Nothing is claimed that nobody would run.
                drop(slots);
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    _ = providers.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
                continue;
            }
        };
        let lease = station.pool.settings.lease;
        let turns = station.pool.providers.take_turns(&queue, &station.shard, &admission).await;
        // Where nobody tells whose turn it is, the claim finds out why.
        let turns = turns.unwrap_or_default();
        let (shard, worker, jobs) = (&station.shard, &station.worker, admission.jobs);
        let claim = queue.take(shard, worker, &nonce, jobs, lease, &turns.models).await;
        station.pool.providers.claimed(&admission, claim.as_ref().map_or(0, Taken::count));
        unanswered = matches!(&claim, Err(error) if error.is_transient());
        if !unanswered {
            // What a refused nonce claimed, the keeper's audit hands back: its answer would be the same again.
            nonce = new_nonce();
        }
        match claim {
            Ok(taken) => {
                backoff = Backoff::new();
                let (more, paused) = (taken.more, taken.paused);
                // By itself, so that the next claim is on its way first: Redis would wait for us else.
                tokio::spawn(start(station.clone(), taken, slots, turns.holds.clone(), shutdown.clone()));
                if !more {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = idle(&station, &porter, paused, turns.again(&mut providers)) => {}
                    }
                }
            }
            Err(Error::Unavailable(_)) if shutdown.is_cancelled() => return,
            Err(error) => {
                // The slots are for the other shards meanwhile.
                drop(slots);
                if !unanswered {
                    tracing::error!(%error, shard = %station.shard, "claim refused");
                }
                backoff.wait().await;
                while queue.ping_shard(&station.shard).await.is_err() && !shutdown.is_cancelled() {
                    backoff.wait().await;
                }
            }
        }
    }
}

/// Waits until a job may run: there is a free slot and Redis knows that we live. Takes the free slots, up to a claim's.
async fn free_slots(station: &Station) -> OwnedSemaphorePermit {
    let slots = &station.pool.slots;
    let mut in_touch = station.in_touch.subscribe();
    let mut taken = loop {
        // The sender lives in the station. No slot is held meanwhile: other shards may have use for it.
        let _ = in_touch.wait_for(Option::is_some).await;
        let taken = slots.clone().acquire_owned().await.expect("the slots are never closed");
        if station.in_touch.borrow().is_some() {
            break taken;
        }
    };
    let others = slots.available_permits().min(MOST_PER_CLAIM - 1);
    if let Ok(others) = slots.clone().try_acquire_many_owned(u32::try_from(others).unwrap_or(0)) {
        taken.merge(others);
    }
    taken
}

fn new_nonce() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), NONCE)
}

/// Starts what was claimed. What has no slot, came after the shutdown, or after Redis fell silent towards the keeper, goes
/// back.
async fn start(
    station: Arc<Station>,
    taken: Taken,
    mut slots: OwnedSemaphorePermit,
    turns: Option<Arc<Vec<Hold>>>,
    shutdown: CancellationToken,
) {
    let jobs = taken.read().unwrap_or_else(|error| {
        // They are unlisted, and the keeper's audit hands them back.
        tracing::error!(%error, shard = %station.shard, "claim not understood");
        Vec::new()
    });
    for job in jobs {
        let free = slots.split(1);
        let has_slot = free.is_some();
        // A claim whose reply was lost brings as many jobs as there were free slots then.
        let slot = free.unwrap_or_else(|| slots.split(0).expect("none is always there"));
        metrics::queue_wait(&station.pool.name, job.waited);
        let attempt = station.registry.enter(Held { id: job.id.clone(), grant: job.grant.clone() });
        if !has_slot || shutdown.is_cancelled() || station.in_touch.borrow().is_none() {
            let (ending, task, age) = (Ending::HandBack, job.spec.task, job.age);
            // The settler is gone only with the process.
            let _ = station.endings.send(Ended { attempt, ending, task, age, outlet: None, slot });
        } else {
            let run = executor::execute(station.clone(), attempt, job, slot);
            match turns.clone() {
                None => tokio::spawn(run),
                Some(turns) => tokio::spawn(async move {
                    run.await;
                    drop(turns);
                }),
            };
        }
    }
}

/// Waits for a reason to look again: the bell, or `news`.
async fn idle(station: &Station, porter: &Notify, paused: bool, news: impl Future<Output = ()>) {
    if paused {
        // Submits ring for a paused pool too; only every so often one of them may be the resume.
        tokio::time::sleep(PAUSED_PAUSE).await;
    }
    if station.gives_way() {
        return tokio::time::sleep(jittered(GIVING_WAY)).await;
    }
    station.parked.store(true, Ordering::Release);
    porter.notify_one();
    tokio::select! {
        () = station.bell.notified() => {}
        () = news => {}
        () = tokio::time::sleep(jittered(SAFETY_POLL)) => {}
    }
    station.parked.store(false, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::station::tests::unconnected;
    use super::*;

    #[tokio::test]
    async fn a_shard_that_redis_does_not_answer_for_holds_no_slot() {
        let (station, _inboxes) = unconnected("concurrency = 2\nshards = 2", "");
        station.in_touch.send_replace(None);
        let mut waiting = std::pin::pin!(free_slots(&station));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(station.pool.slots.available_permits(), 2);
        station.in_touch.send_replace(Some(tokio::time::Instant::now()));
        assert_eq!(waiting.await.num_permits(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_gives_way_looks_by_itself_and_leaves_the_bell_to_others() {
        let (station, _inboxes) = unconnected("", "");
        let (porter, begun) = (Notify::new(), Instant::now());
        station.give_way(begun + Duration::from_secs(1));
        station.give_way(begun + Duration::from_millis(1));
        idle(&station, &porter, false, std::future::pending()).await;
        assert!((GIVING_WAY / 2..GIVING_WAY * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert!(!station.parked.load(Ordering::Acquire));
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut waiting = std::pin::pin!(idle(&station, &porter, false, std::future::pending()));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert!(station.parked.load(Ordering::Acquire));
    }
}
