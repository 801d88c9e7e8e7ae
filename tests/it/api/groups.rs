//! Single submits that come together: they share calls, and each is judged alone.

use futures_util::future::join_all;
use serde_json::json;
use support::{Fleet, FleetOptions};

use crate::settings::{chat, chat_with, quick};

const TOGETHER: usize = 40;

/// Holds Redis' answers back, so that what comes meanwhile comes together.
async fn hold_back(fleet: &Fleet) {
    let mut pause = redis::cmd("CLIENT");
    let (): () = pause.arg(&["PAUSE", "400", "WRITE"]).query_async(&mut fleet.redis.connection().await).await.unwrap();
}

async fn scripts_run(fleet: &Fleet) -> u64 {
    let mut info = redis::cmd("INFO");
    let text: String = info.arg("commandstats").query_async(&mut fleet.redis.connection().await).await.unwrap();
    let (_, calls) = text.split_once("cmdstat_evalsha:calls=").unwrap();
    calls.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn submits_that_come_together_share_calls() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    fleet.client.submit(&chat("the first loads the script")).await;
    let before = scripts_run(&fleet).await;
    hold_back(&fleet).await;
    let job = chat("x");
    let answers = join_all((0..TOGETHER).map(|_| fleet.client.post_job(&job))).await;
    let calls = scripts_run(&fleet).await - before;
    assert!(answers.iter().all(|answer| answer.status == 202));
    let mut ids: Vec<String> = answers.iter().map(|answer| answer.id()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), TOGETHER);
    // Upkeep runs scripts of its own meanwhile.
    assert!(calls < TOGETHER as u64 / 2, "{calls} calls");
}

#[tokio::test]
async fn submits_that_come_together_are_judged_alone() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    fleet.client.submit(&chat("the first loads the script")).await;
    hold_back(&fleet).await;
    let jobs: Vec<_> = (0..TOGETHER)
        .map(|number| chat_with("x", &if number % 2 == 0 { json!({}) } else { json!({ "fail_fast": true }) }))
        .collect();
    let answers = join_all(jobs.iter().map(|job| fleet.client.post_job(job))).await;
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, if number % 2 == 0 { 202 } else { 503 }, "{number}: {}", answer.text);
    }
}
