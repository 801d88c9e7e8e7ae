//! A cluster: all that one server does, and what only a cluster can suffer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overshot_common::ids::PoolName;
use support::{Fleet, FleetOptions, OpenAiStub, RedisCluster, Reply};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::load::{RECOVERY, all_complete, nothing_is_left_over, submit_surely};
use crate::api::shards::tour;
use crate::settings::{chat_with, stubbed};

/// Over a cluster that keeps nothing on disk but its AOF, which is what the fleet asks for.
async fn fleet(cluster: &RedisCluster, stub: &OpenAiStub, pool: &str) -> Fleet {
    let mut fleet =
        FleetOptions::new(stubbed(stub, &format!("shards = 3\n{pool}"))).workers(2).start_at(&cluster.url()).await;
    // Losing nodes is what these tests do.
    fleet.allow_error("");
    fleet
}

/// A job that goes to that shard of three.
fn keyed(shard: u16, text: &str) -> serde_json::Value {
    let pool: PoolName = "chat".parse().unwrap();
    let key = (0..).map(|n| format!("key {n}")).find(|key| pool.shard_of_key(key, 3).number == shard).unwrap();
    chat_with(text, &serde_json::json!({ "concurrency_key": key, "on_conflict": "queue" }))
}

/// Submits under load until told to stop, and gives what was accepted.
fn keep_submitting(fleet: &Fleet, stop: &CancellationToken) -> tokio::task::JoinHandle<Vec<(String, String)>> {
    let (client, stop) = (fleet.client.clone(), stop.clone());
    tokio::spawn(async move {
        let mut jobs = Vec::new();
        while !stop.is_cancelled() {
            let keys: Vec<String> = (0..8).map(|lane| format!("job {} {lane}", jobs.len())).collect();
            let ids = futures_util::future::join_all(keys.iter().map(|key| submit_surely(&client, key))).await;
            jobs.extend(keys.into_iter().zip(ids));
        }
        jobs
    })
}

#[tokio::test]
async fn a_cluster_of_three_nodes_does_all_that_one_server_does() {
    let cluster = RedisCluster::start(3, false).await;
    let stub = OpenAiStub::start().await;
    let fleet = FleetOptions::new(stubbed(&stub, "shards = 3")).workers(2).start_at(&cluster.url()).await;
    tour(&fleet, &stub).await;
    let homes = ["{chat.0}", "{chat.1}", "{chat.2}"].map(|key| cluster.primary_of(key));
    let mut homes = futures_util::future::join_all(homes).await;
    homes.sort_unstable();
    assert_eq!(homes, [0, 1, 2], "each shard on a node of its own");
}

#[tokio::test]
async fn a_slot_moved_under_load_loses_and_doubles_nothing() {
    let cluster = RedisCluster::start(3, false).await;
    let stub = OpenAiStub::start().await;
    let fleet = fleet(&cluster, &stub, "").await;
    let stop = CancellationToken::new();
    let submitting = keep_submitting(&fleet, &stop);
    let (slot, home) = (cluster.slot("{chat.0}").await, cluster.primary_of("{chat.0}").await);
    for step in 0..4 {
        stub.wait_for(stub.requests() + 20).await;
        cluster.move_slot(slot, (home + step) % 3, (home + step + 1) % 3).await;
    }
    let last = (home + 4) % 3;
    let before = cluster.keys_in_slot(last, slot).await;
    stub.wait_for(stub.requests() + 20).await;
    stop.cancel();
    let jobs = submitting.await.unwrap();
    all_complete(&fleet.client, &jobs).await;
    nothing_is_left_over(&fleet.client, &jobs).await;
    assert!(cluster.keys_in_slot(last, slot).await > before, "the shard lives on where it moved to");
}

#[tokio::test]
async fn a_stream_goes_on_over_the_move_of_its_slot_and_others_hear_it_from_the_new_node() {
    let cluster = RedisCluster::start(3, false).await;
    let stub = OpenAiStub::start().await;
    let fleet = fleet(&cluster, &stub, "").await;
    let gate = Arc::new(Semaphore::new(0));
    stub.always(Reply::echo_gated(1, &gate));
    let id = fleet.client.submit(&keyed(0, "one two three")).await;
    let mut events = fleet.client.events(&id, None).await;
    assert_eq!(events.next_chunk().await.text(), "one ");
    let (slot, home) = (cluster.slot("{chat.0}").await, cluster.primary_of("{chat.0}").await);
    let target = (home + 1) % 3;
    cluster.move_slot(slot, home, target).await;
    // The API follows on the new node, where the scripts look for who listens.
    let channel = format!("overshot:{{chat.0}}:events:{id}");
    support::assert_eventually!(
        redis::from_redis_value::<(String, u64)>(cluster.nodes[target].cli(&["PUBSUB", "SHARDNUMSUB", &channel]).await)
            .is_ok_and(|(_, listeners)| listeners == 1)
    );
    gate.add_permits(1);
    let rest = events.rest().await;
    let text: String = rest.iter().filter(|event| event.event == "chunk").map(|event| event.text()).collect();
    assert_eq!(text, "two three");
    assert_eq!(rest.last().unwrap().data["attempts"], 1);
}

#[tokio::test]
async fn a_node_that_is_gone_takes_only_its_own_shard_with_it() {
    let mut cluster = RedisCluster::start(3, false).await;
    for node in &cluster.nodes {
        node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    let stub = OpenAiStub::start().await;
    let config = stubbed(&stub, "shards = 3").replace("concurrency = 4", "concurrency = 1");
    let mut fleet = FleetOptions::new(config).start_at(&cluster.url()).await;
    fleet.allow_error("");
    let dying = cluster.primary_of("{chat.0}").await;
    cluster.nodes[dying].kill();
    let start = Instant::now();
    let refused = fleet.client.post_job(&keyed(0, "x")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // The worker's one slot is not kept for the shard that cannot answer, not while its claimer tries nor while it waits: each
    // looks every two seconds.
    fleet.workers[0].wait_for_line("no word from redis").await;
    let (silent, mut shards) = (Instant::now(), [1, 2].into_iter().cycle());
    while silent.elapsed() < Duration::from_secs(4) {
        let start = Instant::now();
        let id = fleet.client.submit(&keyed(shards.next().unwrap(), "x")).await;
        fleet.client.wait_status(&id, "completed").await;
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
    cluster.nodes[dying].restart().await;
    let id = submit_surely(&fleet.client, "after").await;
    fleet.client.wait_until(&id, RECOVERY, |job| job["status"] == "completed").await;
    let mut fields = keyed(0, "x");
    fields["idempotency_key"] = "again".into();
    support::assert_eventually!(matches!(fleet.client.post_job(&fields).await.status, 200 | 202));
}

#[tokio::test]
async fn a_primary_killed_under_load_leaves_its_shards_to_its_replica() {
    let mut cluster = RedisCluster::start(3, true).await;
    let stub = OpenAiStub::start().await;
    let fleet = fleet(&cluster, &stub, "max_crashes = 100").await;
    let stop = CancellationToken::new();
    let submitting = keep_submitting(&fleet, &stop);
    stub.wait_for(stub.requests() + 40).await;
    let dying = cluster.primary_of("{chat.0}").await;
    cluster.nodes[dying].kill();
    let killed = Instant::now();
    let client = fleet.client.clone();
    // Somebody of the lost shard is accepted again.
    let mut n = 0;
    loop {
        n += 1;
        let id = submit_surely(&client, &format!("after {n}")).await;
        if crate::api::shards::shard_of(&id) == 0 {
            break;
        }
    }
    println!("the lost shard takes jobs again after {:?}", killed.elapsed());
    stop.cancel();
    let jobs = submitting.await.unwrap();
    assert!(jobs.len() > 40);
    let mut lost = 0;
    for (key, id) in &jobs {
        // A primary that dies takes with it what it had acknowledged but not yet sent to its replica.
        let answer = client.get(&format!("/api/v1/jobs/{id}")).await;
        if answer.status == 404 {
            lost += 1;
            continue;
        }
        let job = client.wait_until(id, RECOVERY, |job| job["completed_at"].is_string()).await;
        assert_eq!((&job["status"], &job["result"]["content"]), (&"completed".into(), &key.as_str().into()), "{job}");
    }
    assert!(lost <= 8, "{lost} of {} lost: more than were under way", jobs.len());
    support::assert_eventually!(
        client.get("/api/v1/pools/chat/demand").await.json["demand"] == 0,
        Duration::from_secs(20)
    );
}
