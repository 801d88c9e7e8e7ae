//! The tools themselves: a tool that cannot fail proves nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::{ChaosProxy, OpenAiStub, RedisServer, Reply, assert_eventually};
use tokio::sync::Semaphore;

#[tokio::test]
async fn a_killed_redis_comes_back_with_what_it_was_told() {
    let mut redis = RedisServer::options().durable().start().await;
    redis.cli(&["SET", "k", "v"]).await;
    redis.kill();
    assert!(redis.command(&["PING"]).await.is_err());
    redis.restart().await;
    assert_eq!(redis.cli(&["GET", "k"]).await, redis::Value::BulkString(b"v".to_vec()));
}

#[tokio::test]
async fn a_redis_without_persistence_forgets() {
    let mut redis = RedisServer::options().without_persistence().policy("allkeys-lru").start().await;
    redis.cli(&["SET", "k", "v"]).await;
    redis.restart().await;
    assert_eq!(redis.cli(&["GET", "k"]).await, redis::Value::Nil);
}

#[tokio::test]
async fn the_clock_of_a_redis_steps_and_steps_back() {
    let redis = RedisServer::options().steps_clock().start().await;
    let time = async || {
        let time = redis::from_redis_value::<(i64, i64)>(redis.cli(&["TIME"]).await).unwrap();
        Duration::from_secs(time.0.unsigned_abs())
    };
    let began = time().await;
    for hours in [1, -2] {
        redis.step_clock(hours * 3_600_000);
        // Valkey 9 tells the time of its last round of events, which may be before the step.
        let off = async || time().await.as_secs().cast_signed() - began.as_secs().cast_signed();
        assert_eventually!((0..60).contains(&(off().await - hours * 3600)));
    }
    redis.step_clock(0);
    assert_eventually!(time().await.abs_diff(began) < Duration::from_secs(60));
}

#[tokio::test]
async fn the_proxy_swallows_old_connections_and_passes_new_ones() {
    let redis = RedisServer::options().tcp().start().await;
    let proxy = ChaosProxy::start(&redis).await;
    let client = redis::Client::open(proxy.url()).unwrap();
    let mut old = client.get_multiplexed_async_connection().await.unwrap();
    proxy.black_hole();
    let set = redis::cmd("SET").arg("k").arg("v").query_async::<()>(&mut old).await;
    assert!(set.is_err(), "swallowed");
    let mut new = client.get_multiplexed_async_connection().await.unwrap();
    let value: Option<String> = redis::cmd("GET").arg("k").query_async(&mut new).await.unwrap();
    assert_eq!(value, None);
    proxy.cut();
    proxy.refuse();
    assert!(client.get_multiplexed_async_connection().await.is_err(), "refused");
}

#[tokio::test]
async fn the_proxy_loses_an_answer_whose_request_arrived() {
    let redis = RedisServer::options().tcp().start().await;
    let proxy = ChaosProxy::start(&redis).await;
    let client = redis::Client::open(proxy.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    proxy.lose_answer_to(b"needle");
    assert!(redis::cmd("SET").arg("k").arg("needle").query_async::<()>(&mut connection).await.is_err());
    proxy.wait_for_lost(1).await;
    assert_eq!(redis.cli(&["GET", "k"]).await, redis::Value::BulkString(b"needle".to_vec()));
}

#[tokio::test]
async fn the_stub_holds_a_stream_at_its_gate_and_sees_who_leaves() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(1, &gate));
    let ask = || {
        let request = reqwest::Client::new().post(format!("{}/chat/completions", stub.base_url()));
        request.json(&json!({ "messages": [{ "role": "user", "content": "one two" }] })).send()
    };
    let mut held = ask().await.unwrap();
    assert!(String::from_utf8_lossy(&held.chunk().await.unwrap().unwrap()).contains("one "));
    gate.add_permits(1);
    let rest = held.text().await.unwrap();
    assert!(rest.contains("two") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
    stub.always(Reply::texts(&["a"]).then_hang());
    let left = ask().await.unwrap();
    drop(left);
    stub.wait_disconnected(1, Duration::from_secs(5)).await;
    assert_eq!(stub.wait_for(2).await.body["messages"][0]["content"], "one two");
    assert_eventually!(stub.requests() == 2);
}
