//! `overshot dead`: the jobs that failed or expired.

use crate::api::Api;
use crate::failure::Failure;
use crate::jobs::change::{self, Move, Which};
use crate::jobs::{self, List, nothing_named};

/// The statuses of jobs that nobody got anything from and nobody cancelled.
const DEAD: [&str; 2] = ["failed", "expired"];

/// What can be done with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Lists them, newest first.
    List(List),
    /// Runs them again, with a new budget: those named, those that match, or all.
    Retry {
        #[command(flatten)]
        which: Which,
        /// All that failed or expired.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

/// Runs a verb.
pub(crate) async fn run(api: &Api, verb: Verb, json: bool) -> Result<(), Failure> {
    match verb {
        Verb::List(mut listing) => {
            listing.filter = listing.filter.or_statuses(&DEAD);
            jobs::list(api, &listing, json).await
        }
        Verb::Retry { which, .. } if !which.ids.is_empty() => change::run(api, Move::Retry, &which, json).await,
        Verb::Retry { which, all } if all || !which.filter.is_empty() => {
            change::matching(api, Move::Retry, &which.filter.body(&DEAD), json).await
        }
        Verb::Retry { .. } => Err(nothing_named()),
    }
}
