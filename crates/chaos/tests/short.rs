//! Short runs with real processes: a seed that once failed stays here.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::time::Duration;

use chaos::report;
use chaos::run::{Options, allowance, run};

async fn seed(seed: u64) {
    let options = Options { seed, time: Duration::from_secs(12), clients: 2, ..Options::default() };
    let outcome = run(&options).await.unwrap();
    assert!(outcome.verdict.violations.is_empty(), "{}", report::text(&options, &outcome, allowance()));
    assert!(outcome.verdict.accepted > 20, "{}", report::text(&options, &outcome, allowance()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_fleet_loses_nothing_seed_1() {
    seed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_fleet_loses_nothing_seed_2() {
    seed(2).await;
}
