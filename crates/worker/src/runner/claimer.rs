//! The claimer of one shard: takes as many jobs as there are free slots, one call at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use overshot_common::metrics;
use overshot_common::queue::{Claim, ClaimedJob, Error, Held};
use rand::distr::{Alphanumeric, SampleString as _};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, jittered};
use super::settler::{Ended, Ending};
use super::station::Station;
use crate::executor;

/// Most jobs that one claim asks for.
const MOST_PER_CLAIM: usize = 100;
/// A look without a ring, in case one was lost.
const SAFETY_POLL: Duration = Duration::from_millis(2500);
/// How long a claimer that found its pool paused heeds no ring.
const PAUSED_PAUSE: Duration = Duration::from_millis(50);
/// Characters of a nonce.
const NONCE: usize = 12;

/// Claims until `shutdown`, but never leaves a claim without its answer: that could hold jobs that nobody runs.
pub(crate) async fn run(station: Arc<Station>, porter: Arc<Notify>, shutdown: CancellationToken) {
    loop {
        let slots = tokio::select! {
            () = shutdown.cancelled() => return,
            slots = free_slots(&station) => slots,
        };
        let Some(claim) = claim(&station, slots.num_permits(), &shutdown).await else { return };
        let (more, paused) = (claim.more, claim.paused);
        start(&station, claim.jobs, slots, &shutdown);
        if !more {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = idle(&station, &porter, paused) => {}
            }
        }
    }
}

/// Waits until a job may run: there is a free slot and Redis knows that we live. Takes the free slots, up to a claim's.
async fn free_slots(station: &Station) -> OwnedSemaphorePermit {
    let slots = &station.pool.slots;
    let mut taken = slots.clone().acquire_owned().await.expect("the slots are never closed");
    let mut in_touch = station.in_touch.subscribe();
    // The sender lives in the station.
    let _ = in_touch.wait_for(Option::is_some).await;
    let others = slots.available_permits().min(MOST_PER_CLAIM - 1);
    if let Ok(others) = slots.clone().try_acquire_many_owned(u32::try_from(others).unwrap_or(0)) {
        taken.merge(others);
    }
    taken
}

/// One claim. Lost replies are asked for again under the same nonce; `None`: shut down before Redis answered.
async fn claim(station: &Station, most: usize, shutdown: &CancellationToken) -> Option<Claim> {
    let (mut backoff, mut nonce) = (Backoff::new(), new_nonce());
    loop {
        let lease = station.pool.settings.lease;
        let error = match station.queue.claim(&station.shard, &station.worker, &nonce, most, lease).await {
            Ok(claim) => return Some(claim),
            Err(error) => error,
        };
        if !error.is_transient() {
            // The answer to this nonce would be the same again; what it claimed, the keeper's audit hands back.
            tracing::error!(%error, shard = %station.shard, "claim refused");
            nonce = new_nonce();
        }
        if shutdown.is_cancelled() && matches!(error, Error::Unavailable(_)) {
            return None;
        }
        backoff.wait().await;
    }
}

fn new_nonce() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), NONCE)
}

/// Starts what was claimed. What came after the shutdown, or after Redis fell silent towards the keeper, goes back.
fn start(station: &Arc<Station>, jobs: Vec<ClaimedJob>, mut slots: OwnedSemaphorePermit, shutdown: &CancellationToken) {
    for job in jobs {
        let slot = slots.split(1).expect("a claim brings no more jobs than slots were asked for");
        metrics::queue_wait(&station.pool.name, job.waited);
        let attempt = station.registry.enter(Held { id: job.id.clone(), grant: job.grant.clone() });
        if shutdown.is_cancelled() || station.in_touch.borrow().is_none() {
            let (task, age) = (job.spec.task, job.age);
            // The settler is gone only with the process.
            let _ = station.endings.send(Ended { attempt, ending: Ending::HandBack, task, age, slot });
        } else {
            tokio::spawn(executor::execute(station.clone(), attempt, job, slot));
        }
    }
}

/// Waits for a reason to look again.
async fn idle(station: &Station, porter: &Notify, paused: bool) {
    if paused {
        // Submits ring for a paused pool too; only every so often one of them may be the resume.
        tokio::time::sleep(PAUSED_PAUSE).await;
    }
    station.parked.store(true, Ordering::Release);
    porter.notify_one();
    tokio::select! {
        () = station.bell.notified() => {}
        () = tokio::time::sleep(jittered(SAFETY_POLL)) => {}
    }
    station.parked.store(false, Ordering::Release);
}
