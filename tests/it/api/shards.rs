//! A pool of several shards is one pool to its callers.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use support::{Fleet, FleetOptions, OpenAiStub, RedisServer, Reply, assert_eventually};
use tokio::sync::Semaphore;

use crate::fault::load::{all_complete, nothing_is_left_over};
use crate::settings::{chat, chat_with, quick, stubbed};

/// The number of the shard that an id of the pool `chat` names.
pub(crate) fn shard_of(id: &str) -> u16 {
    id.strip_prefix("job_chat-").and_then(|rest| rest.split('-').next()).and_then(|n| n.parse().ok()).unwrap()
}

async fn submit_many(fleet: &Fleet, count: usize) -> Vec<(String, String)> {
    let mut jobs = Vec::new();
    for n in 0..count {
        let text = format!("job {n}");
        jobs.push((text.clone(), fleet.client.submit(&chat(&text)).await));
    }
    jobs
}

/// Jobs of every shard complete, stream, are cancelled, booked once, wait for their key and are listed, in a pool of
/// three shards with `stub` as its provider.
pub(crate) async fn tour(fleet: &Fleet, stub: &OpenAiStub) {
    let client = &fleet.client;
    let mut jobs = submit_many(fleet, 30).await;
    let shards: BTreeSet<u16> = jobs.iter().map(|(_, id)| shard_of(id)).collect();
    assert_eq!(shards, BTreeSet::from([0, 1, 2]));
    all_complete(client, &jobs).await;

    // Live chunks come over pub/sub, in every shard.
    for _ in 0..3 {
        let gate = Arc::new(Semaphore::new(0));
        stub.push(Reply::echo_gated(1, &gate));
        let id = client.submit(&chat("one two three")).await;
        let mut events = client.events(&id, None).await;
        assert_eq!(events.next_chunk().await.text(), "one ");
        gate.add_permits(1);
        assert_eq!(events.next_chunk().await.text(), "two ");
        assert_eq!(events.rest().await.last().unwrap().event, "done");
        jobs.push(("one two three".to_owned(), id));
    }

    booked_once(client, &mut jobs).await;
    listed(client, &jobs).await;
    nothing_is_left_over(client, &jobs).await;
    keyed_and_cancelled(client, stub).await;
}

async fn booked_once(client: &support::Client, jobs: &mut Vec<(String, String)>) {
    for n in 0..6 {
        let text = format!("booked {n}");
        let job = chat_with(&text, &json!({ "idempotency_key": text }));
        let id = client.submit(&job).await;
        let again = client.post_job(&job).await;
        assert_eq!((again.status, again.id()), (200, id.clone()));
        jobs.push((text, id));
    }
    all_complete(client, jobs).await;
}

async fn listed(client: &support::Client, jobs: &[(String, String)]) {
    let expected: Vec<&str> = jobs.iter().rev().map(|(_, id)| id.as_str()).collect();
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/api/v1/jobs?limit=7&pool=chat{next}")).await.json;
        seen.extend(page["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        let Some(after) = page["next"].as_str() else { break };
        next = format!("&after={after}");
    }
    assert_eq!(seen, expected, "newest first, over all shards");
    let workers = client.get("/api/v1/workers").await.json;
    assert!(workers["data"].as_array().unwrap().iter().all(|worker| worker["pools"] == json!(["chat"])), "{workers}");
}

/// A key's jobs share a shard; the running one is cancelled through its worker, then the next one runs.
async fn keyed_and_cancelled(client: &support::Client, stub: &OpenAiStub) {
    for key in ["red", "green", "blue", "black"] {
        stub.push(Reply::texts(&["never "]).then_hang());
        let fields = json!({ "concurrency_key": key, "on_conflict": "queue" });
        let first = client.submit(&chat_with("first", &fields)).await;
        client.events(&first, None).await.next_chunk().await;
        let second = client.submit(&chat_with("second", &fields)).await;
        assert_eq!(shard_of(&first), shard_of(&second));
        let held = client.get(&format!("/api/v1/keys/{key}")).await.json;
        assert_eq!((&held["active"]["id"], &held["waiting"][0]["id"]), (&json!(first), &json!(second)), "{held}");
        assert_eq!(client.cancel(&first).await.status, 202);
        client.wait_status(&first, "cancelled").await;
        client.wait_status(&second, "completed").await;
    }
}

#[tokio::test]
async fn a_pool_of_three_shards_does_all_that_a_pool_does() {
    let stub = OpenAiStub::start().await;
    let fleet = FleetOptions::new(stubbed(&stub, "shards = 3")).workers(2).start().await;
    tour(&fleet, &stub).await;
}

#[tokio::test]
async fn one_slot_serves_every_shard_and_none_starves() {
    let config = quick().replace("concurrency = 4", "concurrency = 1\nshards = 3");
    let mut fleet = FleetOptions::new(config).workers(0).start().await;
    let ids: Vec<String> =
        futures_util::future::join_all((0..90).map(async |_| fleet.client.submit(&chat("x")).await)).await;
    fleet.add_worker();
    // Of every shard some are among the first to end: nobody waits until another shard is empty.
    let ended = async || {
        let page = fleet.client.get("/api/v1/jobs?status=completed&limit=100").await.json;
        page["data"].as_array().unwrap().iter().map(|job| shard_of(job["id"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eventually!(ended().await.len() >= 12);
    let first = ended().await;
    assert!((0..3).all(|shard| first.contains(&shard)), "{first:?}");
    for id in &ids {
        fleet.client.wait_status(id, "completed").await;
    }
}

#[tokio::test]
async fn numbers_limits_and_pause_are_the_pools_over_its_shards() {
    let config = quick().replace("concurrency = 4", "concurrency = 4\nshards = 3\nmax_queued = 9");
    let mut fleet = FleetOptions::new(config).workers(0).start().await;
    let mut ids = Vec::new();
    loop {
        let answer = fleet.client.post_job(&chat("x")).await;
        if answer.status == 429 {
            assert_eq!(answer.json["error"]["code"], "queue_full", "{}", answer.text);
            break;
        }
        assert_eq!(answer.status, 202, "{}", answer.text);
        ids.push(answer.id());
    }
    assert!((3..=9).contains(&ids.len()), "a third of the nine each: {}", ids.len());
    let pool = async |client: &support::Client| client.get("/api/v1/pools/chat").await.json;
    let numbers = pool(&fleet.client).await;
    assert_eq!((&numbers["by_status"]["queued"], &numbers["demand"]), (&json!(ids.len()), &json!(ids.len())));
    fleet.client.post_empty("/api/v1/pools/chat/pause").await;
    fleet.add_worker();
    fleet.wait_for_workers(1).await;
    assert_eq!(pool(&fleet.client).await["live_workers"], 1);
    assert_eq!(pool(&fleet.client).await["demand"], 0, "paused");
    fleet.client.post_empty("/api/v1/pools/chat/resume").await;
    for id in &ids {
        fleet.client.wait_status(id, "completed").await;
    }
}

#[tokio::test]
async fn what_is_due_late_or_orphaned_is_looked_after_in_every_shard() {
    let stub = OpenAiStub::start().await;
    let mut fleet = FleetOptions::new(stubbed(&stub, "shards = 3")).start().await;
    fleet.allow_error("");
    let delayed: Vec<String> = futures_util::future::join_all(
        (0..9).map(async |_| fleet.client.submit(&chat_with("x", &json!({ "delay": "500ms" }))).await),
    )
    .await;
    for id in &delayed {
        fleet.client.wait_status(id, "completed").await;
    }
    for _ in 0..4 {
        stub.push(Reply::texts(&["half "]).then_hang());
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        let id = fleet.client.submit(&chat("whole")).await;
        fleet.client.wait_status(&id, "running").await;
        held.push(id);
    }
    // Each has its hanging answer: one that was not asked for yet would be given to the attempt after the kill.
    stub.wait_for(delayed.len() + held.len()).await;
    fleet.workers[0].kill();
    let expiring: Vec<String> = futures_util::future::join_all(
        (0..6).map(async |_| fleet.client.submit(&chat_with("x", &json!({ "expires_in": "100ms" }))).await),
    )
    .await;
    for id in &expiring {
        fleet.client.wait_status(id, "expired").await;
    }
    fleet.add_worker();
    for id in &held {
        let job: Value = fleet.client.wait_status(id, "completed").await;
        assert_eq!(job["crashes"], 1, "{job}");
    }
}

#[tokio::test]
async fn another_number_of_shards_than_at_the_first_start_is_refused() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let fleet = FleetOptions::new(quick()).start_over(redis, &url).await;
    let queue = overshot_common::queue::Queue::open(&url, std::time::Duration::from_secs(5)).unwrap();
    let refused = queue.register_pool(&"chat".parse().unwrap(), 3).await.unwrap_err();
    assert!(refused.to_string().contains("pools.chat.shards is 3"), "{refused}");
    drop(fleet);
}
