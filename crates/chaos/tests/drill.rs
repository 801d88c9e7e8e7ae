//! The checker's own test: one scripted history, with every guard in place and with each one taken out.
//!
//! Workers are played in this process on the queue itself, over a real Redis and a clock that the test owns, so that each
//! stall lies where it hurts.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::time::Duration;

use chaos::checker::{Rule, Verdict};
use chaos::log::Fault;
use overshot_common::queue::{Clock, Sabotage};

use stage::Stage;

#[path = "drill/stage.rs"]
mod stage;

const SECOND: Duration = Duration::from_secs(1);

/// A worker stalls under its job, another gets it; then the first one wakes up and goes on as if nothing had been.
async fn a_zombie(stage: &mut Stage) {
    stage.submit("zombie", Duration::ZERO).await;
    let first = stage.claim("w1").await.pop().unwrap();
    stage.publish(first, 1).await;
    let stall = stage.begin(Fault::StopWorker);
    let mut second = Vec::new();
    while second.is_empty() {
        stage.pass(SECOND, &[]).await;
        second = stage.claim("w2").await;
    }
    let second = second[0];
    stage.publish(second, 1).await;
    stage.end(stall);
    stage.renew("w1", &[first]).await;
    stage.publish(first, 2).await;
    stage.publish(second, 2).await;
    stage.settle(first).await;
    stage.settle(second).await;
    stage.read("zombie").await;
}

/// The primary dies after a claim that its replica has not seen.
async fn a_failover(stage: &mut Stage) {
    stage.submit("forgotten", Duration::ZERO).await;
    let replica = stage.dump().await;
    let first = stage.claim("w1").await.pop().unwrap();
    let failover = stage.begin(Fault::Failover);
    stage.restore(&replica).await;
    stage.end(failover);
    let second = stage.claim("w2").await.pop().unwrap();
    stage.settle(first).await;
    stage.settle(second).await;
}

/// More jobs wait than any cap would hold.
async fn a_burst(stage: &mut Stage) {
    for number in 0..40 {
        stage.submit(&format!("burst{number}"), Duration::ZERO).await;
    }
    for _ in 0..40 {
        for run in stage.claim("w1").await {
            stage.settle(run).await;
        }
        stage.pass(SECOND, &[]).await;
    }
}

/// A delayed job comes due, runs for a while, and ends, while promoters look again and again.
async fn a_delay(stage: &mut Stage) {
    stage.submit("delayed", 5 * SECOND).await;
    let mut runs = Vec::new();
    for _ in 0..20 {
        stage.pass(SECOND, &runs).await;
        runs.extend(stage.claim("w1").await);
    }
    for run in runs {
        stage.settle(run).await;
    }
}

/// Redis is away for longer than the lease, then its clock steps, an hour on and back: the worker lives all the while.
async fn an_outage(stage: &mut Stage) {
    for (name, kind) in [("outage", Fault::FreezeRedis), ("step", Fault::ClockStep)] {
        stage.submit(name, Duration::ZERO).await;
        let mut run = stage.claim("w1").await;
        stage.pass(3 * SECOND, &run).await;
        let fault = stage.begin(kind);
        if kind == Fault::FreezeRedis {
            stage.jump(120).await;
        } else {
            stage.jump(3600).await;
            stage.pass(5 * SECOND, &run).await;
            stage.jump(-7200).await;
        }
        stage.end(fault);
        // Whoever reaps comes first.
        stage.upkeep().await;
        for _ in 0..10 {
            stage.pass(SECOND, &run).await;
            run.extend(stage.claim("w2").await);
        }
        for run in run {
            stage.settle(run).await;
        }
    }
}

async fn drill(clock: Clock) -> Verdict {
    let mut stage = Stage::open(clock).await;
    a_zombie(&mut stage).await;
    stage.pass(60 * SECOND, &[]).await;
    a_failover(&mut stage).await;
    stage.pass(60 * SECOND, &[]).await;
    a_burst(&mut stage).await;
    a_delay(&mut stage).await;
    an_outage(&mut stage).await;
    stage.pass(60 * SECOND, &[]).await;
    stage.verdict().await
}

#[tokio::test]
async fn the_drill_finds_nothing_with_every_guard_in_place() {
    let verdict = drill(Clock::Test).await;
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.accepted, verdict.lost, verdict.duplicated), (45, 0, 0));
    assert_eq!(verdict.explained, 2, "the zombie's run, and the one that the failover forgot");
}

/// The drill without that guard breaks these rules among others.
async fn breaks(sabotage: Sabotage, rules: &[Rule]) {
    let verdict = drill(Clock::Sabotaged(sabotage)).await;
    for rule in rules {
        assert!(verdict.broken().contains(rule), "{rule:?} is not among {:#?}", verdict.violations);
    }
}

#[tokio::test]
async fn without_fencing_two_runs_are_accepted_and_a_zombies_words_are_read() {
    breaks(Sabotage::NoFencing, &[Rule::OneEnd, Rule::Overlap, Rule::Chunks]).await;
}

#[tokio::test]
async fn with_grants_that_only_count_a_failover_lets_two_runs_be_accepted() {
    breaks(Sabotage::CountedGrants, &[Rule::OneEnd, Rule::Overlap]).await;
}

#[tokio::test]
async fn with_a_cap_on_the_streams_jobs_have_to_be_mended() {
    breaks(Sabotage::TrimmedStreams, &[Rule::Leftover]).await;
}

#[tokio::test]
async fn with_a_promotion_in_two_steps_a_running_job_runs_again() {
    breaks(Sabotage::SplitPromotion, &[Rule::Overlap]).await;
}

#[tokio::test]
async fn without_the_watermark_an_outage_takes_jobs_from_workers_that_live() {
    breaks(Sabotage::NoWatermark, &[Rule::SpuriousReclaim]).await;
}

#[tokio::test]
async fn without_a_check_of_the_owner_a_zombie_renews_what_is_not_its_own() {
    breaks(Sabotage::RenewalByAnyone, &[Rule::Overlap]).await;
}
