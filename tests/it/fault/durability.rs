//! What an accepted job survives, by the `durability` of its pool.

use serde_json::json;
use support::{ChaosProxy, Client, Fleet, FleetOptions, PATIENCE, Process, Program, RedisServer, assert_eventually};

use super::load::submit_surely;
use crate::settings::{chat, chat_with, quick};

/// A pool `chat` as it is by default, and a pool `safe` that asks for `durability`.
fn with_safe_pool(durability: &str) -> String {
    format!("{}\n[pools.safe]\nproviders = [\"sim\"]\ndurability = \"{durability}\"\n", quick())
}

fn safe(key: &str) -> serde_json::Value {
    chat_with(key, &json!({ "pool": "safe", "idempotency_key": key }))
}

fn plain(text: &str) -> serde_json::Value {
    chat_with(text, &json!({ "pool": "chat" }))
}

async fn tcp() -> RedisServer {
    RedisServer::options().standalone().tcp().start().await
}

/// Makes `replica` follow the server at `port`.
async fn follow(replica: &RedisServer, port: u16) {
    replica.cli(&["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
    assert_eventually!(info(replica, "master_link_status").await == "up");
}

/// A field of INFO.
async fn info(redis: &RedisServer, name: &str) -> String {
    let redis::Value::BulkString(info) = redis.cli(&["INFO"]).await else { panic!("INFO is a text") };
    let info = String::from_utf8(info).unwrap();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_default().trim().to_owned()
}

async fn status_of(client: &Client, id: &str) -> u16 {
    client.get(&format!("/api/v1/jobs/{id}")).await.status
}

// Fails where the wait goes over another connection than the enqueue.
#[tokio::test]
async fn a_job_that_a_replica_confirmed_survives_the_loss_of_the_primary() {
    let mut primary = tcp().await;
    let (replica, another) = (tcp().await, tcp().await);
    let (front, link) = (ChaosProxy::start(&primary).await, ChaosProxy::start(&primary).await);
    follow(&replica, link.port()).await;
    let options = FleetOptions::new(with_safe_pool("replica")).workers(0);
    // The fleet holds a Redis of its own to the end: the one that will be left.
    let mut fleet = options.start_over(another, &front.url()).await;
    fleet.allow_error("");
    let confirmed = fleet.client.submit(&safe("before")).await;
    // The primary still takes the replica for connected.
    link.black_hole();
    let only_here = fleet.client.submit(&plain("the primary alone has it")).await;
    let unknown = fleet.client.post_job(&safe("cut off")).await;
    assert_eq!((unknown.status, unknown.code()), (503, "durability_unknown"), "{}", unknown.text);
    assert!(unknown.headers.contains_key("retry-after"), "{}", unknown.text);
    let named = unknown.json["job_id"].as_str().unwrap().to_owned();
    assert_eq!(status_of(&fleet.client, &named).await, 200, "accepted all the same");

    primary.kill();
    replica.cli(&["REPLICAOF", "NO", "ONE"]).await;
    front.point_at(&replica);
    assert_eventually!(fleet.client.get("/readyz").await.status == 200);
    assert_eq!(status_of(&fleet.client, &confirmed).await, 200, "lost, although a replica had confirmed it");
    assert_eq!(status_of(&fleet.client, &only_here).await, 404, "the default promises less: docs/RELIABILITY.md");
    assert_eq!(status_of(&fleet.client, &named).await, 404, "503 promised nothing");

    follow(&fleet.redis, replica.port()).await;
    let again = fleet.client.post_job(&safe("cut off")).await;
    assert_eq!(again.status, 202, "{}", again.text);
    assert_eq!(fleet.client.post_job(&safe("cut off")).await.id(), again.id());
    assert_eq!(fleet.client.post_job(&safe("before")).await.id(), confirmed, "its key came over with it");
    fleet.add_worker();
    for id in [again.id(), confirmed] {
        fleet.client.wait_status(&id, "completed").await;
    }
}

#[tokio::test]
async fn a_submit_that_no_replica_confirms_is_unknown_and_its_key_finds_the_job_later() {
    let primary = tcp().await;
    let url = primary.url();
    let fleet = FleetOptions::new(with_safe_pool("replica")).start_over(primary, &url).await;
    let unknown = fleet.client.post_job(&safe("one")).await;
    assert_eq!((unknown.status, unknown.code()), (503, "durability_unknown"), "{}", unknown.text);
    let id = unknown.json["job_id"].as_str().unwrap().to_owned();
    assert_eq!(fleet.client.wait_status(&id, "completed").await["attempts"], 1, "accepted, and run");
    let again = fleet.client.post_job(&safe("one")).await;
    assert_eq!((again.status, again.json["job_id"].as_str()), (503, Some(id.as_str())), "{}", again.text);
    let batch = fleet.client.post("/api/v1/jobs/batch", &json!({ "jobs": [safe("two"), plain("three")] })).await;
    let statuses: Vec<_> = (0..2).map(|place| batch.json["results"][place]["status"].clone()).collect();
    assert_eq!(statuses, [503, 202], "{}", batch.text);

    let replica = tcp().await;
    follow(&replica, fleet.redis.port()).await;
    let known = fleet.client.post_job(&safe("one")).await;
    assert_eq!((known.status, known.id()), (200, id), "{}", known.text);
    assert_eq!(fleet.client.post_job(&safe("two")).await.status, 200);
    assert_eq!(fleet.client.post_job(&safe("new")).await.status, 202);
    let pool = fleet.client.get("/api/v1/pools/safe").await;
    let held: u64 = pool.json["by_status"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(held, 3, "one job per key: {}", pool.text);
}

#[tokio::test]
async fn waits_for_a_replica_do_not_queue_up_behind_each_other() {
    let primary = tcp().await;
    let url = primary.url();
    let fleet = FleetOptions::new(with_safe_pool("replica")).workers(0).start_over(primary, &url).await;
    // Nobody confirms: each takes the whole wait.
    let keys: Vec<String> = (0..40).map(|n| format!("{n}")).collect();
    let began = std::time::Instant::now();
    let answers = futures_util::future::join_all(keys.iter().map(|key| async {
        let body = safe(key);
        fleet.client.post_job(&body).await.status
    }));
    assert!(answers.await.iter().all(|status| *status == 503));
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    let began = std::time::Instant::now();
    fleet.client.submit(&plain("not held up")).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn disk_is_taken_where_redis_can_tell_and_refused_by_name_where_it_cannot() {
    let always = FleetOptions::new(with_safe_pool("disk")).redis(RedisServer::options().durable()).start().await;
    let id = always.client.submit(&safe("one")).await;
    assert_eq!(always.client.post_job(&safe("one")).await.id(), id);
    let mut redis = always.redis;
    drop((always.api, always.workers));
    redis.kill();
    redis.restart().await;
    let url = redis.url();
    let fleet: Fleet = FleetOptions::new(with_safe_pool("disk")).start_over(redis, &url).await;
    fleet.client.wait_status(&id, "completed").await;

    // With a sync every second it depends on the server.
    let redis = RedisServer::start().await;
    let version: Vec<u32> =
        info(&redis, "redis_version").await.split('.').map_while(|part| part.parse().ok()).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), with_safe_pool("disk")).unwrap();
    if version >= vec![7, 2] && info(&redis, "server_name").await != "valkey" {
        let fleet = FleetOptions::new(with_safe_pool("disk")).redis(RedisServer::options()).start().await;
        fleet.client.submit(&safe("waits for the sync")).await;
    } else {
        let env = [
            ("OVERSHOT_REDIS_URL", redis.url()),
            ("OVERSHOT_CONFIG", file.path().to_string_lossy().into_owned()),
            ("OVERSHOT_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ];
        let mut api = Process::start(Program::Api, &[], &env.map(|(name, value)| (name.to_owned(), value)));
        api.allow_error("pools.safe.durability");
        assert!(!api.wait(PATIENCE).await.success());
        assert!(api.has_logged("pools.safe.durability") && api.has_logged("appendfsync"), "{:?}", api.log());
    }
}

#[tokio::test]
async fn a_primary_that_must_not_write_alone_refuses_submits_with_a_503_and_then_takes_them() {
    let primary = tcp().await;
    let url = primary.url();
    let mut fleet = FleetOptions::new(quick()).start_over(primary, &url).await;
    fleet.allow_error("");
    fleet.redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let refused = fleet.client.post_job(&chat("x")).await;
    assert_eq!((refused.status, refused.code()), (503, "redis_unavailable"), "{}", refused.text);
    let replica = tcp().await;
    follow(&replica, fleet.redis.port()).await;
    let id = submit_surely(&fleet.client, "x").await;
    fleet.client.wait_status(&id, "completed").await;
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_within_five_seconds() {
    let primary = tcp().await;
    let (next, front) = (tcp().await, ChaosProxy::start(&primary).await);
    follow(&next, primary.port()).await;
    let mut fleet = FleetOptions::new(quick()).start_over(primary, &front.url()).await;
    fleet.allow_error("");
    fleet.client.wait_status(&submit_surely(&fleet.client, "before").await, "completed").await;
    // Its connections stay, and answer READONLY from now on.
    next.cli(&["REPLICAOF", "NO", "ONE"]).await;
    front.point_at(&next);
    follow(&fleet.redis, next.port()).await;
    let began = std::time::Instant::now();
    let id = submit_surely(&fleet.client, "after").await;
    fleet.client.wait_status(&id, "completed").await;
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}
