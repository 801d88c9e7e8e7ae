//! The audit: one log line for each call that changed something, with who called.
//!
//! While the API is open nobody can be named; submits then leave no line, as each would cost more than it tells.

use std::fmt;

use overshot_common::ids::JobId;

use crate::access::Caller;

/// Most ids that a line names.
const IDS_MAX: usize = 10;

/// Notes a call that changed what `what` names: ids, a filter, a pool, a worker.
pub(crate) fn note(caller: &Caller, verb: &'static str, what: impl fmt::Display, count: usize) {
    tracing::info!(token.name = caller.name(), verb, %what, count, "audit");
}

/// Notes accepted jobs.
pub(crate) fn submitted<'a>(caller: &Caller, jobs: impl Iterator<Item = &'a JobId> + Clone) {
    if !caller.is_anonymous() {
        note(caller, "submit", Ids(jobs.clone()), jobs.count());
    }
}

/// Ids, the first of them only where there are many.
struct Ids<I>(I);

impl<'a, I: Iterator<Item = &'a JobId> + Clone> fmt::Display for Ids<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids = self.0.clone();
        for (place, id) in ids.by_ref().take(IDS_MAX).enumerate() {
            write!(f, "{}{id}", if place > 0 { "," } else { "" })?;
        }
        if ids.next().is_some() { f.write_str(",…") } else { Ok(()) }
    }
}
