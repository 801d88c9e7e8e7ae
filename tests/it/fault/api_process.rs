//! An API that dies between accepting and answering.

use std::collections::HashMap;

use futures_util::future::join_all;
use serde_json::json;
use support::{Fleet, OpenAiStub, assert_eventually};

use super::load::{all_complete, nothing_is_left_over, submit_surely};
use crate::settings::{chat, chat_with, stubbed};

#[tokio::test]
async fn an_api_killed_while_it_accepts_leaves_exactly_one_job_per_key() {
    let stub = OpenAiStub::start().await;
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    let mut answered = HashMap::new();
    let mut jobs = Vec::new();
    for round in 0..3 {
        let keys: Vec<String> = (0..60).map(|n| format!("round {round} key {n}")).collect();
        let posts: Vec<_> = keys
            .iter()
            .map(|key| {
                let job = chat_with(key, &json!({ "idempotency_key": key }));
                let (client, key) = (fleet.client.clone(), key.clone());
                tokio::spawn(async move {
                    let request = client.request(reqwest::Method::POST, "/api/v1/jobs").json(&job);
                    let answer = client.try_send(request).await.ok()?;
                    (answer.status == 202).then(|| (key, answer.id()))
                })
            })
            .collect();
        // In the middle: some are stored, the others are not.
        let goal = answered.len() + 5;
        assert_eventually!(stored(&fleet).await >= goal);
        fleet.api.kill();
        answered.extend(join_all(posts).await.into_iter().filter_map(Result::unwrap));
        fleet.restart_api().await;
        for key in keys {
            let id = submit_surely(&fleet.client, &key).await;
            assert_eq!(answered.get(&key).unwrap_or(&id), &id, "what was answered 202 is the job of {key}");
            answered.insert(key.clone(), id.clone());
            jobs.push((key, id));
        }
    }
    all_complete(&fleet.client, &jobs).await;
    nothing_is_left_over(&fleet.client, &jobs).await;
}

/// How many keys are booked, in Redis.
async fn stored(fleet: &Fleet) -> usize {
    match fleet.redis.cli(&["KEYS", "overshot:idem:*"]).await {
        redis::Value::Array(keys) => keys.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_fleet_whose_api_is_gone_goes_on_working() {
    let stub = OpenAiStub::start().await;
    stub.push(support::Reply::status(500, &[], "{}"));
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    // Needs the promoter, after its first attempt has failed.
    let id = fleet.client.submit(&chat("hello")).await;
    fleet.api.kill();
    stub.wait_for(2).await;
    fleet.restart_api().await;
    fleet.client.wait_status(&id, "completed").await;
}
