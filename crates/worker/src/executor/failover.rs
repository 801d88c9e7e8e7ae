//! One attempt over several providers: who fails before anything was put out gives the job to the next.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::JobError;
use overshot_common::queue::ClaimedJob;
use tokio::time::Instant;

use super::reporter::Reporter;
use super::usage;
use crate::outcome::{Outcome, Try, with_attempts};
use crate::runner::providers::{PoolProviders, Tried};
use crate::tasks::{self, Kind};
use crate::upstream::{Entry, Pass, Upstream, Want};

/// The shortest and longest time after which a job looks again whether a provider may be called.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// Room may come sooner than the limits tell: what others do not use is given back. A job looks after half its age, but a
/// young one not before that time is over.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// Runs the attempt on the providers that serve the job, one after the other, until one answers, the fault is not the
/// provider's, or readers have seen output: theirs must not begin anew without an attempt of its own.
pub(super) async fn run<'a>(
    kind: Kind,
    attempt: &tasks::Attempt<'_>,
    providers: &'a PoolProviders,
    claimed: &'a ClaimedJob,
    reporter: &mut Reporter<'a>,
) -> Outcome {
    let (mut tried, mut tries, mut failed) = (Tried::default(), Vec::new(), None::<Outcome>);
    let (mut soonest, mut lacks_call) = (None::<Duration>, false);
    let job = &claimed.spec;
    // Other kinds' models have room of their own.
    let wants_turn = (kind == Kind::Chat).then_some(Want { waited: claimed.waited, max_wait: providers.max_wait });
    while let Some((place, candidate)) = providers.next(job, tried) {
        tried.add(place);
        let upstream = &candidate.upstream;
        if kind == Kind::Transcription && !upstream.provider.transcribes() {
            lacks_call = true;
            continue;
        }
        let tokens = |limit| usage::estimate(kind, attempt.input, limit);
        let pass = match upstream.enter(job.model.as_deref(), tokens, wants_turn).await {
            Entry::Go(pass) => pass,
            Entry::Later(wait) => {
                soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
                continue;
            }
        };
        reporter.on_provider(upstream.provider.name());
        let begun = Instant::now();
        let outcome = turn(kind, attempt, upstream, pass, reporter).await;
        let turn = |error| Try {
            provider: upstream.name().to_owned(),
            model: attempt.model.map(str::to_owned),
            error,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        match outcome {
            Outcome::Done(result) if !tries.is_empty() && !kind.tells_attempts() => {
                tries.push(turn(None));
                return Outcome::Done(with_attempts(&result, &tries));
            }
            outcome if outcome.is_for_the_next_provider() && !reporter.streamed() => {
                tries.push(turn(outcome.error().cloned()));
                failed = Some(match failed {
                    Some(before) => before.or_better(outcome),
                    None => outcome,
                });
            }
            outcome => return outcome,
        }
    }
    failed.unwrap_or_else(|| match lacks_call && soonest.is_none() {
        true => Outcome::fail(ErrorCode::BadInput, "no provider that may serve the job has a call for transcriptions"),
        false => nobody(soonest, reporter.age()),
    })
}

/// One provider's turn.
async fn turn<'a>(
    kind: Kind,
    attempt: &tasks::Attempt<'_>,
    upstream: &'a Upstream,
    mut pass: Pass<'a>,
    reporter: &mut Reporter<'a>,
) -> Outcome {
    if let Err(outcome) = upstream.wake_first(&mut pass, reporter).await {
        return outcome;
    }
    pass.calls();
    reporter.on_trial(pass.trial());
    let outcome = {
        let attempt = tasks::Attempt { meter: &pass, ..*attempt };
        tasks::run(kind, &attempt, &upstream.provider, reporter).await
    };
    let limited = upstream.config.limits.tokens_per_minute.is_some();
    let tokens = match &outcome {
        // That of an embedding tells of all its requests; each was told by itself.
        Outcome::Done(result) if limited && kind != Kind::Embedding => usage::total(result),
        _ => None,
    };
    pass.end(&outcome, tokens);
    outcome
}

/// The outcome where no provider was called: none may be now, or none serves the job.
fn nobody(soonest: Option<Duration>, age: Duration) -> Outcome {
    match soonest {
        Some(wait) => {
            let message = "no provider of the job may be called now: down, at its limit, waking, or at another model";
            let error = JobError { code: ErrorCode::ProviderUnavailable, message: message.to_owned() };
            let after = wait.min((age / 2).max(LOOK_SOON)).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1);
            Outcome::Snooze { after, error }
        }
        None => Outcome::retry(ErrorCode::ModelUnavailable, "no provider of this worker's pool serves the model"),
    }
}
