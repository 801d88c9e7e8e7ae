//! From what an attempt came to, to what becomes of the job. Pure but for the metrics.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::RetryPolicy;
use overshot_common::ids::PoolName;
use overshot_common::job::JobError;
use overshot_common::metrics;
use overshot_common::queue::{Held, Settlement, Verdict};
use serde_json::value::RawValue;

use crate::outcome::Outcome;
use crate::runner::settler::Ending;

/// The ending of an attempt with that outcome, under its pool's policy.
pub(super) fn of(outcome: Outcome, held: &Held, partial: Option<Box<RawValue>>, policy: &RetryPolicy) -> Ending {
    let verdict = match outcome {
        Outcome::Done(result) => Verdict::Completed(result),
        Outcome::Fail { error } => Verdict::Failed(error),
        Outcome::Retry { after, error } => match policy.delay(error.code) {
            // Who asked to be left alone longer than the policy waits is left alone.
            Some(delay) => Verdict::Retry(error, after.map_or(delay, |after| after.max(delay))),
            None => Verdict::Failed(error),
        },
        Outcome::Snooze { after, error } => return Ending::Snooze(after, error),
    };
    Ending::Settle(Settlement { partial, ..Settlement::new(held.clone(), verdict) })
}

/// The ending of an attempt that a caller cancelled.
pub(super) fn cancelled(held: &Held, partial: Option<Box<RawValue>>) -> Ending {
    let error = JobError { code: ErrorCode::Cancelled, message: "cancelled while it ran".to_owned() };
    Ending::Settle(Settlement { partial, ..Settlement::new(held.clone(), Verdict::Cancelled(error)) })
}

/// Counts the attempt, unless it does not count.
pub(super) fn measure(pool: &PoolName, task: &str, ending: &Ending, duration: Duration) {
    let Ending::Settle(settlement) = ending else { return };
    let code = match &settlement.verdict {
        Verdict::Completed(_) => None,
        Verdict::Failed(error) | Verdict::Retry(error, _) | Verdict::Cancelled(error) => Some(error.code),
    };
    if let Some(code) = code {
        tracing::debug!(code = %code, "attempt failed");
    }
    metrics::attempt_ended(pool, task, code, duration);
}

#[cfg(test)]
mod tests {
    use overshot_common::ids::JobId;

    use super::*;

    fn verdict(outcome: Outcome) -> Verdict {
        let shard = "chat".parse::<PoolName>().unwrap().place();
        let held = Held { id: JobId::new(shard), grant: "1.a".parse().unwrap() };
        match of(outcome, &held, None, &RetryPolicy::default()) {
            Ending::Settle(settlement) => settlement.verdict,
            other => panic!("{other:?}"),
        }
    }

    fn retry(code: ErrorCode, after: Option<Duration>) -> Outcome {
        Outcome::Retry { after, error: JobError { code, message: String::new() } }
    }

    #[test]
    fn the_policy_of_the_pool_says_how_long_a_failed_job_waits() {
        let outcome = retry(ErrorCode::ProviderError, None);
        assert!(matches!(verdict(outcome), Verdict::Retry(_, delay) if delay == Duration::from_secs(30)));
    }

    #[test]
    fn a_provider_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() {
        for (asked, waits) in [(300, 300), (1, 30)] {
            let outcome = retry(ErrorCode::ProviderError, Some(Duration::from_secs(asked)));
            assert!(matches!(verdict(outcome), Verdict::Retry(_, delay) if delay == Duration::from_secs(waits)));
        }
    }

    #[test]
    fn a_code_that_is_never_retried_fails_the_job() {
        assert!(matches!(verdict(retry(ErrorCode::BadInput, None)), Verdict::Failed(_)));
    }
}
