//! The life of one job in this process, top to bottom: begun, watched, judged, settled.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use opentelemetry::trace::FutureExt as _;
use overshot_common::code::ErrorCode;
use overshot_common::metrics;
use overshot_common::queue::ClaimedJob;
use overshot_common::telemetry::span;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use crate::outcome::Outcome;
use crate::providers::Unmetered;
use crate::runner::publisher::Outlet;
use crate::runner::registry::{Attempt, Stop};
use crate::runner::settler::{Ended, Ending};
use crate::runner::station::Station;
use crate::tasks::{self, Kind};
use crate::trace::Run;

mod failover;
mod own_task;
mod reporter;
mod sound;
mod stash;
#[cfg(test)]
mod tests;
mod usage;
mod verdict;

use reporter::Reporter;

/// After so long without output readers are told that the attempt is at work: short jobs do not pay a call for it.
const TOLD_AFTER: Duration = Duration::from_millis(100);
/// How long a cancelled attempt waits for its last chunks: the caller was promised a second.
const CANCEL_FLUSH: Duration = Duration::from_millis(300);
/// Pause between two tries to read a large input.
const INPUT_RETRY: Duration = Duration::from_millis(500);

/// How an attempt's work ended.
enum End {
    /// By itself, or because its time was up.
    Outcome(Outcome),
    /// From outside; its work was dropped, and with it the provider's connection.
    Stopped(Stop),
}

/// Runs one claimed job to its end and hands the outcome to the settler.
pub(crate) fn execute(
    station: Arc<Station>,
    attempt: Arc<Attempt>,
    job: ClaimedJob,
    slot: OwnedSemaphorePermit,
) -> impl Future<Output = ()> {
    let span = match &job.spec.trace {
        None => tracing::info_span!(span::JOB, job.id = %job.id, attempt = job.attempt),
        Some(trace) => {
            tracing::info_span!(span::JOB, job.id = %job.id, attempt = job.attempt, trace_id = trace.trace_id())
        }
    };
    let life = async move {
        let run = Run::begin(&station, &job);
        let outlet = Outlet::new(attempt.clone());
        let mut reporter = Reporter::new(&station, &outlet, &attempt, &job);
        let work = AssertUnwindSafe(work(&station, &job, &mut reporter, run.as_ref())).catch_unwind();
        let end = watch(work, &station, &attempt, &outlet, job.timeout).await;
        let ending = judge(end, &station, &attempt, &outlet, &mut reporter, &job).await;
        let provider = reporter.provider();
        if let Some(run) = run {
            run.end(ending.as_ref(), provider.map(|name| &**name));
        }
        let dropped = outlet.close();
        if dropped > 0 {
            metrics::chunks_dropped(&station.pool.name, dropped);
        }
        match ending {
            Some(mut ending) => {
                if let Ending::Settle(settlement) = &mut ending {
                    settlement.provider = provider.cloned();
                    settlement.chunks = outlet.last_acknowledged();
                }
                if stash::is_large(&station, &ending) {
                    ending = Box::pin(stash::set_aside(&station, &attempt, ending)).await;
                }
                let (task, age) = (job.spec.task, job.age);
                // The settler is gone only with the process.
                let _ = station.endings.send(Ended { attempt, ending, task, age, outlet: Some(outlet), slot });
            }
            None => {
                metrics::lease_lost(&station.pool.name);
                tracing::warn!("grant lost; the attempt settles nothing");
                station.registry.leave(&attempt);
            }
        }
    };
    life.instrument(span)
}

/// The attempt itself.
async fn work<'a>(
    station: &'a Station,
    job: &'a ClaimedJob,
    reporter: &mut Reporter<'a>,
    run: Option<&Run>,
) -> Outcome {
    let spec = &job.spec;
    let Some(kind) = Kind::of(&spec.task, &station.config) else {
        return Box::pin(own_task::unknown(station, job)).await;
    };
    let own = station.config.tasks.get(&spec.task);
    let large;
    let input = match &job.input {
        Some(input) => &**input,
        // On the heap, as below: most jobs have their input at hand.
        None => match Box::pin(large_input(station, job)).await {
            Ok(input) => {
                large = input;
                &*large
            }
            Err(outcome) => return outcome,
        },
    };
    let input = match own_task::input(own, input) {
        Ok(input) => input,
        Err(outcome) => return outcome,
    };
    let model = spec.model.as_deref();
    let seed = job.grant.number();
    let sound = if kind == Kind::Transcription {
        Some(Box::pin(sound::of(station, job, &input, reporter)).await)
    } else {
        None
    };
    let sound = match sound.transpose() {
        Ok(sound) => sound,
        Err(outcome) => return outcome,
    };
    let (audio, earlier) = sound.as_ref().map_or((None, None), |sound| (Some(&sound.audio), sound.earlier.as_deref()));
    let (stream, meter) = (spec.stream, &Unmetered);
    let attempt = tasks::Attempt { task: &spec.task, model, input: &input, audio, earlier, stream, seed, meter };
    // On the heap: the future of a call to a provider is large, and this one is moved when it is spawned.
    let turns = Box::pin(failover::run(kind, &attempt, &station.pool.providers, job, reporter));
    let outcome = match run {
        None => turns.await,
        Some(run) => Box::pin(turns.with_context(run.context())).await,
    };
    if let (Some(sound), Outcome::Retry { .. } | Outcome::Snooze { .. }) = (&sound, &outcome) {
        Box::pin(sound.keep(reporter)).await;
    }
    own_task::judged(own, outcome)
}

/// Reads an input that claim did not copy; as long as Redis is away, again.
async fn large_input(station: &Station, job: &ClaimedJob) -> Result<Box<RawValue>, Outcome> {
    loop {
        match station.queue.input(&job.id).await {
            Ok(Some(input)) => return Ok(input),
            Ok(None) => return Err(Outcome::retry(ErrorCode::StorageError, "the job's input is not in Redis")),
            Err(error) if error.is_transient() => tokio::time::sleep(INPUT_RETRY).await,
            Err(_) => return Err(Outcome::retry(ErrorCode::StorageError, "the job's input cannot be read")),
        }
    }
}

/// Waits for the end of the work: by itself, by a stop from outside, or because a limit of its time is reached.
async fn watch<P>(
    work: impl Future<Output = Result<Outcome, P>>,
    station: &Station,
    attempt: &Attempt,
    outlet: &Arc<Outlet>,
    timeout: Duration,
) -> End {
    let stall = station.pool.settings.stall_timeout;
    let deadline = attempt.begun + timeout;
    let alarm = sleep_until(deadline.min(attempt.begun + TOLD_AFTER));
    tokio::pin!(work, alarm);
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => {
                let panicked = |_| Outcome::retry(ErrorCode::InternalError, "the attempt panicked: a defect of Overshot");
                return End::Outcome(outcome.unwrap_or_else(panicked));
            }
            stop = attempt.stopped() => return End::Stopped(stop),
            () = &mut alarm => {
                let (now, stalled) = (Instant::now(), attempt.last_progress() + stall);
                if now >= deadline {
                    return End::Outcome(out_of_time(format!("the attempt took longer than its timeout of {timeout:?}")));
                } else if now >= stalled {
                    return End::Outcome(out_of_time(format!("no progress for the stall_timeout of {stall:?}")));
                }
                if !outlet.told() {
                    outlet.note_phase(station, overshot_common::job::Phase::Working);
                }
                alarm.as_mut().reset(deadline.min(stalled));
            }
        }
    }
}

fn out_of_time(message: String) -> Outcome {
    Outcome::retry(ErrorCode::Timeout, message)
}

/// What becomes of the job; `None`: that is no longer ours to say.
async fn judge(
    end: End,
    station: &Station,
    attempt: &Attempt,
    outlet: &Outlet,
    reporter: &mut Reporter<'_>,
    job: &ClaimedJob,
) -> Option<Ending> {
    let (outcome, patience) = match end {
        End::Outcome(outcome) => {
            outlet.finish();
            (Some(outcome), None)
        }
        End::Stopped(Stop::Cancelled) => (None, Some(CANCEL_FLUSH)),
        End::Stopped(Stop::HandBack) => return Some(Ending::HandBack),
        End::Stopped(Stop::Lost) => return None,
    };
    if reporter.streamed() && !flush(station, attempt, outlet, patience).await {
        return None;
    }
    if outcome.is_some() && reporter.streamed() && outlet.is_cut() {
        // It came to its end though it was stopped, and readers would miss what came before.
        return Some(Ending::HandBack);
    }
    let model = job.spec.model.as_deref();
    let ending = match outcome {
        Some(outcome) => {
            if let Outcome::Done(result) = &outcome {
                usage::count(station, model, result);
            }
            let partial = reporter.take_partial_of(model, &outcome);
            verdict::of(outcome, &attempt.held, partial, &station.pool.settings.retry)
        }
        None => verdict::cancelled(&attempt.held, reporter.take_partial(model)),
    };
    verdict::measure(&station.pool.name, &job.spec.task, &ending, attempt.begun.elapsed());
    Some(ending)
}

/// Waits until readers have all that the attempt put out, as long as the outcome itself would be tried to be written where
/// there is no other `patience`; `false`: the grant is lost.
async fn flush(station: &Station, attempt: &Attempt, outlet: &Outlet, patience: Option<Duration>) -> bool {
    let begun = Instant::now();
    let lost = async {
        // Any other reason to stop comes too late: the work is done.
        if attempt.stopped().await != Stop::Lost {
            std::future::pending::<()>().await;
        }
    };
    let over = async {
        match patience {
            Some(patience) => sleep_until(begun + patience).await,
            None => station.end_of_lease(begun).await,
        }
    };
    tokio::select! {
        biased;
        () = outlet.flushed() => attempt.asked_to_stop() != Some(Stop::Lost),
        () = lost => false,
        () = over => true,
    }
}
