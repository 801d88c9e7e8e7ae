//! The run can fail: the same run, of programs that lack one guard, reports what the guard is for.
//!
//! The programs are those of `examples/`: the same sources, built with the feature `sabotage`.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::time::Duration;

use chaos::checker::Rule;
use chaos::log::Fault;
use chaos::run::{Options, run};

/// A fleet without this guard breaks that rule, in these words, under these faults. Where jobs and faults lie is chance, so
/// that it is given three runs to do so.
async fn breaks(guard: &'static str, faults: &[Fault], rule: Rule, words: &str) {
    let mut found = Vec::new();
    for seed in 1..=3 {
        let options = Options {
            seed,
            time: Duration::from_secs(20),
            drain: Duration::from_secs(5),
            faults: faults.to_vec(),
            without: Some(guard),
            ..Options::default()
        };
        let verdict = run(&options).await.unwrap().verdict;
        if verdict.violations.iter().any(|breach| breach.rule == rule && breach.detail.contains(words)) {
            return;
        }
        found.extend(verdict.violations);
    }
    panic!("{rule:?} ({words}) is not among {found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fencing_readers_get_the_words_of_a_worker_that_was_stopped_and_woke() {
    breaks("NoFencing", &[Fault::StopWorker], Rule::Chunks, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_cap_on_the_streams_jobs_have_to_be_mended() {
    breaks("TrimmedStreams", &[Fault::ProviderDown], Rule::Leftover, "the audit had to mend").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_promotion_in_two_steps_a_running_job_runs_again() {
    breaks("SplitPromotion", &[Fault::SlowProvider], Rule::Overlap, "went on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_watermark_an_outage_takes_jobs_from_workers_that_live() {
    breaks("NoWatermark", &[Fault::KillRedis, Fault::FreezeRedis], Rule::SpuriousReclaim, "crashes were charged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_check_of_the_owner_a_zombie_goes_on_beside_the_job_that_was_taken_from_it() {
    breaks("RenewalByAnyone", &[Fault::StopWorker], Rule::Overlap, "long after the fault").await;
}
