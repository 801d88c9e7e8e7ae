//! Short runs with real processes: a seed that once failed stays here.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::time::Duration;

use chaos::log::Fault;
use chaos::report;
use chaos::run::{Options, allowance, run};

async fn seed(seed: u64) {
    holds(Options { seed, time: Duration::from_secs(12), clients: 2, ..Options::default() }).await;
}

async fn holds(options: Options) {
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

// What readers had, and what jobs are made of, is partly forgotten then: nothing may go on over the gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_redis_forgets_the_last_moment_loses_nothing_that_a_client_was_told() {
    let time = Duration::from_secs(12);
    holds(Options { seed: 4, time, clients: 2, faults: vec![Fault::Failover], ..Options::default() }).await;
}

// Of all faults the one that the clock of this machine may really have.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_redis_steps_its_clock_loses_nothing_and_takes_no_job_from_the_living() {
    let time = Duration::from_secs(12);
    holds(Options { seed: 3, time, clients: 2, faults: vec![Fault::ClockStep], ..Options::default() }).await;
}
