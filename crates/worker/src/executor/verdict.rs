//! From what an attempt came to, to what becomes of the job. Pure but for the metrics.

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
    Ending::Settle(Settlement { held: held.clone(), verdict, partial })
}

/// The ending of an attempt that a caller cancelled.
pub(super) fn cancelled(held: &Held, partial: Option<Box<RawValue>>) -> Ending {
    let error = JobError { code: ErrorCode::Cancelled, message: "cancelled while it ran".to_owned() };
    Ending::Settle(Settlement { held: held.clone(), verdict: Verdict::Cancelled(error), partial })
}

/// Counts the attempt, unless it does not count.
pub(super) fn measure(pool: &PoolName, ending: &Ending) {
    let Ending::Settle(settlement) = ending else { return };
    let code = match &settlement.verdict {
        Verdict::Completed(_) => None,
        Verdict::Failed(error) | Verdict::Retry(error, _) | Verdict::Cancelled(error) => Some(error.code),
    };
    if let Some(code) = code {
        tracing::debug!(code = %code, "attempt failed");
    }
    metrics::attempt_ended(pool, code);
}
