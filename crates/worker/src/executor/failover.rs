//! One attempt over several providers: who fails before anything was put out gives the job to the next.

use overshot_common::code::ErrorCode;
use overshot_common::job::JobSpec;
use tokio::time::Instant;

use super::reporter::Reporter;
use crate::outcome::{Outcome, Try, with_attempts};
use crate::runner::providers::{PoolProviders, Tried};
use crate::tasks::{self, Kind};

/// Runs the attempt on the providers that serve the job, one after the other, until one answers, the fault is not the
/// provider's, or readers have seen output: theirs must not begin anew without an attempt of its own.
pub(super) async fn run<'a>(
    kind: Kind,
    attempt: &tasks::Attempt<'_>,
    providers: &'a PoolProviders,
    job: &JobSpec,
    reporter: &mut Reporter<'a>,
) -> Outcome {
    let (mut tried, mut tries, mut failed) = (Tried::default(), Vec::new(), None::<Outcome>);
    while let Some((place, candidate)) = providers.next(job, tried) {
        let begun = Instant::now();
        reporter.on_provider(candidate.provider.name());
        let outcome = tasks::run(kind, attempt, &candidate.provider, reporter).await;
        let turn = |error| Try {
            provider: candidate.provider.name().to_owned(),
            model: attempt.model.map(str::to_owned),
            error,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        match outcome {
            Outcome::Done(result) if !tries.is_empty() => {
                tries.push(turn(None));
                return Outcome::Done(with_attempts(&result, &tries));
            }
            outcome if outcome.is_the_providers_fault() && !reporter.streamed() => {
                tries.push(turn(outcome.error().cloned()));
                tried.add(place);
                failed = Some(match failed {
                    Some(before) => before.or_better(outcome),
                    None => outcome,
                });
            }
            outcome => return outcome,
        }
    }
    failed.unwrap_or_else(|| {
        Outcome::retry(ErrorCode::ModelUnavailable, "no provider of this worker's pool serves the model")
    })
}
