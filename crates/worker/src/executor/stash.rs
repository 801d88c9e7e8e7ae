//! What attempts of one job leave to each other, kept in Redis under the grant; results too large for their job; and the
//! collections that outlive it.

use overshot_common::code::ErrorCode;
use overshot_common::job::Progress;
use overshot_common::queue::{Completed, Error, Pass, Put, Settlement, Shelved, StoredResult, Verdict};
use overshot_common::task::embedding::Key;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use super::reporter::Reporter;
use crate::outcome::Outcome;
use crate::runner::backoff::Backoff;
use crate::runner::registry::{Attempt, Stop};
use crate::runner::settler::Ending;
use crate::runner::station::Station;
use crate::tasks::{Shelf, Stash};

impl Stash for Reporter<'_> {
    async fn names(&mut self) -> Result<Vec<Vec<u8>>, Outcome> {
        let (station, id) = (self.station(), &self.attempt().held.id);
        insist(station, || station.queue.stashed_names(id)).await.map_err(|error| unreadable(&error))
    }

    async fn get(&mut self, names: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Outcome> {
        let (station, id) = (self.station(), &self.attempt().held.id);
        insist(station, || station.queue.stashed(id, names)).await.map_err(|error| unreadable(&error))
    }

    async fn put(&mut self, values: &[(&[u8], &[u8])], progress: Option<Progress>) -> Result<(), Outcome> {
        put(self.station(), self.attempt(), values, progress.as_ref()).await
    }

    fn inline_max(&self) -> usize {
        inline_max(self.station())
    }
}

impl Shelf for Reporter<'_> {
    async fn begin(&mut self, name: &str, space: &Key, model: Option<&str>) -> Result<Pass, Outcome> {
        let station = self.station();
        insist(station, || station.queue.begin_pass(name, space, model)).await.map_err(|error| unwritten(&error))
    }

    async fn shelve(&mut self, name: &str, pass: &Pass, items: &[Put<'_>]) -> Result<Shelved, Outcome> {
        let station = self.station();
        insist(station, || station.queue.put(name, pass, items)).await.map_err(|error| unwritten(&error))
    }

    async fn complete(
        &mut self,
        name: &str,
        pass: &Pass,
        count: usize,
        model: Option<&str>,
    ) -> Result<Completed, Outcome> {
        let station = self.station();
        insist(station, || station.queue.complete_pass(name, pass, count, model))
            .await
            .map_err(|error| unwritten(&error))
    }

    async fn look(&mut self, name: &str, items: &[(&str, &Key)]) -> Result<Vec<Option<Vec<u8>>>, Outcome> {
        let station = self.station();
        insist(station, || station.queue.look(name, items)).await.map_err(|error| unreadable(&error))
    }
}

/// Writes, as long as Redis is away and the lease is not over.
async fn put(
    station: &Station,
    attempt: &Attempt,
    values: &[(&[u8], &[u8])],
    progress: Option<&Progress>,
) -> Result<(), Outcome> {
    match insist(station, || station.queue.stash(&attempt.held, progress, values)).await {
        Ok(true) => {
            attempt.progressed();
            Ok(())
        }
        Ok(false) => {
            attempt.stop(Stop::Lost);
            Err(Outcome::retry(ErrorCode::StorageError, "the grant is lost"))
        }
        Err(error) => Err(unwritten(&error)),
    }
}

/// Calls again as long as Redis is away and the lease is not over. A Redis that is full is left to the retry.
async fn insist<T, F>(station: &Station, call: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let (begun, mut backoff) = (Instant::now(), Backoff::new());
    loop {
        match call().await {
            Err(Error::Unavailable(_)) if !station.lease_is_over(begun) => backoff.wait().await,
            answer => return answer,
        }
    }
}

fn unwritten(error: &Error) -> Outcome {
    tracing::warn!(%error, "checkpoint, collection or result not written");
    Outcome::retry(ErrorCode::StorageError, "a checkpoint, a collection or a result could not be written")
}

fn unreadable(error: &Error) -> Outcome {
    tracing::warn!(%error, "checkpoint or collection not read");
    Outcome::retry(ErrorCode::StorageError, "a checkpoint or a collection could not be read")
}

fn inline_max(station: &Station) -> usize {
    usize::try_from(station.config.max_inline_result).unwrap_or(usize::MAX)
}

/// Whether an attempt's result, whole or partial, is too large for its job.
pub(super) fn is_large(station: &Station, ending: &Ending) -> bool {
    let Ending::Settle(settlement) = ending else { return false };
    result_of(settlement).is_some_and(|result| result.get().len() > inline_max(station))
}

fn result_of(settlement: &Settlement) -> Option<&RawValue> {
    match &settlement.verdict {
        Verdict::Completed(result) => Some(result),
        Verdict::Failed(_) | Verdict::Retry(..) | Verdict::Cancelled(_) => settlement.partial.as_deref(),
    }
}

/// Puts a large result beside its job. One that cannot be put there is as good as none: the job is tried again.
pub(super) async fn set_aside(station: &Station, attempt: &Attempt, ending: Ending) -> Ending {
    let Ending::Settle(mut settlement) = ending else { return ending };
    let Some(result) = result_of(&settlement) else { return Ending::Settle(settlement) };
    let (stored, parts) = StoredResult::of_json(result);
    let values: Vec<(&[u8], &[u8])> = parts.iter().map(|(name, part)| (name.as_bytes(), *part)).collect();
    let outcome = put(station, attempt, &values, None).await;
    let stored = to_raw_value(&stored).expect("JSON always serializes");
    match (outcome, &settlement.verdict) {
        (Ok(()), Verdict::Completed(_)) => settlement.verdict = Verdict::Completed(stored),
        (Ok(()), _) => settlement.partial = Some(stored),
        (Err(outcome), Verdict::Completed(_)) => {
            let mut ending = super::verdict::of(outcome, &attempt.held, None, &station.pool.settings.retry);
            if let Ending::Settle(retry) = &mut ending {
                retry.provider = settlement.provider;
            }
            return ending;
        }
        (Err(_), _) => settlement.partial = None,
    }
    Ending::Settle(settlement)
}
