//! The settler of one shard: writes what attempts came to, and frees their slots.
//!
//! A lone outcome goes at once. While a call is in flight others gather; only a full call goes beside it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use overshot_common::code::ErrorCode;
use overshot_common::ids::PoolName;
use overshot_common::job::JobError;
use overshot_common::metrics;
use overshot_common::queue::{Error, Held, Settled, Settlement, Verdict};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::publisher::Outlet;
use super::registry::Attempt;
use super::station::Station;

mod batch;
#[cfg(test)]
mod tests;

use batch::{Batch, Gathered};

/// Most calls in flight.
const CALLS: usize = 4;

/// An attempt that is over, on its way to Redis.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) ending: Ending,
    /// For the metrics: the job's task, and how long before this attempt it was accepted.
    pub(crate) task: String,
    pub(crate) age: Duration,
    /// What readers were sent last, should Redis forget it; none, of an attempt that never began.
    pub(crate) outlet: Option<Arc<Outlet>>,
    /// Freed when the outcome is written, or given up.
    pub(crate) slot: OwnedSemaphorePermit,
}

/// What becomes of the job.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The attempt came to something.
    Settle(Settlement),
    /// It goes back to the head of the queue, the attempt not counted.
    HandBack,
    /// It is put off, the attempt not counted.
    Snooze(Duration, JobError),
}

/// Settles until all who may send something are gone and everything is written or given up.
pub(crate) async fn run(station: Arc<Station>, mut inbox: mpsc::UnboundedReceiver<Ended>) {
    let (mut gathered, mut calls) = (Gathered::default(), FuturesUnordered::new());
    let mut resent = FuturesUnordered::new();
    loop {
        tokio::select! {
            ended = inbox.recv() => match ended {
                Some(ended) => {
                    gathered.push(ended);
                    // Attempts that are about to end come along: a lone one loses a microsecond by it.
                    tokio::task::yield_now().await;
                    while let Ok(ended) = inbox.try_recv() {
                        gathered.push(ended);
                    }
                }
                None if gathered.is_empty() && calls.is_empty() && resent.is_empty() => return,
                None => tokio::select! {
                    Some(behind) = calls.next() => resent.extend(resend_all(&station, behind)),
                    Some(ended) = resent.next() => gathered.push(ended),
                    else => {}
                },
            },
            Some(behind) = calls.next() => resent.extend(resend_all(&station, behind)),
            Some(ended) = resent.next() => gathered.push(ended),
        }
        while !gathered.is_empty() && (calls.is_empty() || (calls.len() < CALLS && gathered.is_full())) {
            calls.push(settle(&station, gathered.take()));
        }
    }
}

/// Sends again what readers were sent last, for attempts whose outcome cannot be written without.
fn resend_all(station: &Station, behind: Vec<(Ended, u64)>) -> impl Iterator<Item = impl Future<Output = Ended>> {
    behind.into_iter().map(move |(ended, last)| resend(station, ended, last))
}

async fn resend(station: &Station, mut ended: Ended, last: u64) -> Ended {
    let outlet = ended.outlet.map(|outlet| outlet.resend(station, last));
    if let (Some(outlet), Ending::Settle(settlement)) = (&outlet, &mut ended.ending) {
        // Longer than this the outcome itself would not be tried to be written. What is not sent by then is dropped.
        tokio::select! {
            () = outlet.flushed() => {}
            () = station.end_of_lease(Instant::now()) => {}
        }
        let dropped = outlet.close();
        if dropped > 0 {
            metrics::chunks_dropped(&station.pool.name, dropped);
        }
        settlement.chunks = outlet.last_acknowledged();
    }
    Ended { outlet, ..ended }
}

/// Writes one batch, again until it is acknowledged or the lease is over; tells of what was not written because the log of
/// its chunks ends with that one.
async fn settle(station: &Station, batch: Batch) -> Vec<(Ended, u64)> {
    let (mut backoff, begun) = (Backoff::new(), Instant::now());
    let (mut batches, mut behind) = (VecDeque::from([batch]), Vec::new());
    while let Some(batch) = batches.pop_front() {
        match call(station, &batch).await {
            Ok(answers) => behind.extend(acknowledged(station, batch, &answers)),
            // One of them may be what Redis refuses: each is judged alone then.
            Err(error) if batch.len() > 1 && !error.is_transient() => batches.extend(batch.split()),
            Err(error) if station.lease_is_over(begun) => abandoned(station, batch, &error),
            Err(_) => {
                batches.push_front(batch);
                backoff.wait().await;
            }
        }
    }
    behind
}

async fn call(station: &Station, batch: &Batch) -> Result<Vec<Settled>, Error> {
    let (answers, due) = match batch {
        Batch::Settle(settlements, _) => station.queue.settle(&station.shard, settlements).await?,
        Batch::HandBack(held, _) => (station.queue.hand_back(&station.shard, held).await?, None),
        Batch::Snooze(held, after, error, _) => {
            let (answer, due) = station.queue.snooze(held, *after, Some(error)).await?;
            (vec![answer], due)
        }
    };
    if due.is_some() {
        station.upkeep.nudge(&station.shard);
    }
    Ok(answers)
}

fn acknowledged(station: &Station, batch: Batch, answers: &[Settled]) -> Vec<(Ended, u64)> {
    let (pool, now) = (&station.pool.name, Instant::now());
    for (place, ended) in batch.receipts().iter().enumerate() {
        metrics::settled(pool, now - ended.since);
        match answers.get(place) {
            Some(Settled::Now(status)) if status.is_terminal() => {
                let duration = ended.age + (now - ended.attempt.begun);
                metrics::job_finished(pool, &ended.task, *status, batch.code(place), duration);
            }
            Some(Settled::Now(_)) => runs_again(pool, &batch, place),
            Some(Settled::Lost) => metrics::lease_lost(pool),
            Some(Settled::Before(_) | Settled::Behind(_)) | None => {}
        }
    }
    let (batch, behind) = batch.without_behind(answers);
    release(station, batch);
    behind
}

fn runs_again(pool: &PoolName, batch: &Batch, place: usize) {
    match batch {
        Batch::Settle(..) => metrics::retried(pool, batch.code(place)),
        Batch::HandBack(..) => metrics::handed_back(pool),
        Batch::Snooze(..) => metrics::snoozed(pool),
    }
}

fn abandoned(station: &Station, batch: Batch, error: &Error) {
    let jobs = batch.len();
    if matches!(batch, Batch::Settle(..)) {
        tracing::error!(%error, shard = %station.shard, jobs, "settle_abandoned");
        batch.receipts().iter().for_each(|_| metrics::settle_abandoned(&station.pool.name));
    } else {
        tracing::warn!(%error, shard = %station.shard, jobs, "jobs could not be handed back; the reaper has them");
    }
    release(station, batch);
}

/// Lets the attempts go and frees their slots, all at once, so that the next claim takes as many.
fn release(station: &Station, batch: Batch) {
    let mut freed: Option<OwnedSemaphorePermit> = None;
    for receipt in batch.into_receipts() {
        station.registry.leave(&receipt.attempt);
        match &mut freed {
            Some(freed) => freed.merge(receipt.slot),
            None => freed = Some(receipt.slot),
        }
    }
}
