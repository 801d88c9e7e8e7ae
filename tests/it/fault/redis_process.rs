//! A Redis that dies, stops, or forgets its scripts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Fleet, FleetOptions, OpenAiStub, RedisServer, Reply};
use tokio::sync::Semaphore;

use super::load::{RECOVERY, all_complete, nothing_is_left_over, submit_surely};
use crate::settings::{chat, stubbed};

/// Submits under load until told to stop, and gives what was accepted.
fn keep_submitting(
    fleet: &Fleet,
    stop: &tokio_util::sync::CancellationToken,
) -> tokio::task::JoinHandle<Vec<(String, String)>> {
    let (client, stop) = (fleet.client.clone(), stop.clone());
    tokio::spawn(async move {
        let mut jobs = Vec::new();
        while !stop.is_cancelled() {
            let key = format!("job {}", jobs.len());
            jobs.push((key.clone(), submit_surely(&client, &key).await));
        }
        jobs
    })
}

#[tokio::test]
async fn a_redis_killed_under_load_loses_no_accepted_job() {
    let stub = OpenAiStub::start().await;
    let redis = RedisServer::options().durable();
    let mut fleet = FleetOptions::new(stubbed(&stub, "max_crashes = 100")).workers(2).redis(redis).start().await;
    // Losing Redis is what this test does.
    fleet.allow_error("");
    let stop = tokio_util::sync::CancellationToken::new();
    let submitting = keep_submitting(&fleet, &stop);
    for _ in 0..3 {
        stub.wait_for(stub.requests() + 20).await;
        fleet.redis.kill();
        fleet.redis.restart().await;
    }
    stub.wait_for(stub.requests() + 20).await;
    stop.cancel();
    let jobs = submitting.await.unwrap();
    all_complete(&fleet.client, &jobs).await;
    nothing_is_left_over(&fleet.client, &jobs).await;
}

#[tokio::test]
async fn scripts_flushed_under_load_trouble_no_caller() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let flushing = {
        let mut connection = fleet.redis.connection().await;
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut flushes = 0;
            while !stop.is_cancelled() {
                redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut connection).await.unwrap();
                flushes += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            flushes
        })
    };
    let mut jobs = Vec::new();
    for n in 0..100 {
        let text = format!("job {n}");
        // Not surely: every one must be accepted at the first try.
        jobs.push((text.clone(), fleet.client.submit(&chat(&text)).await));
    }
    all_complete(&fleet.client, &jobs).await;
    stop.cancel();
    assert!(flushing.await.unwrap() > 10);
    nothing_is_left_over(&fleet.client, &jobs).await;
    for (_, id) in &jobs {
        assert_eq!(fleet.client.job(id).await["attempts"], 1);
    }
}

#[tokio::test]
async fn a_redis_that_stands_still_for_five_seconds_costs_no_job() {
    let stub = OpenAiStub::start().await;
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    fleet.allow_error("");
    let before = fleet.client.submit(&chat("before")).await;
    fleet.redis.freeze();
    let frozen = Instant::now();
    let during = {
        let client = fleet.client.clone();
        tokio::spawn(async move { submit_surely(&client, "during").await })
    };
    // The length of the outage is what this test is about.
    tokio::time::sleep(Duration::from_secs(5)).await;
    fleet.redis.thaw();
    let jobs = vec![("before".to_owned(), before), ("during".to_owned(), during.await.unwrap())];
    all_complete(&fleet.client, &jobs).await;
    assert!(frozen.elapsed() < RECOVERY);
    nothing_is_left_over(&fleet.client, &jobs).await;
}

#[tokio::test]
async fn an_outage_shorter_than_the_lease_interrupts_no_running_job() {
    let stub = OpenAiStub::start().await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    stub.push(support::Reply::echo_gated(1, &gate));
    let config = stubbed(&stub, "").replace("\"3s\"", "\"20s\"");
    let mut fleet = FleetOptions::new(config).redis(RedisServer::options().durable()).start().await;
    fleet.allow_error("");
    let id = fleet.client.submit(&chat("one two")).await;
    fleet.client.events(&id, None).await.next_chunk().await;
    fleet.redis.kill();
    support::assert_eventually!(fleet.client.get("/readyz").await.status == 503);
    // The rest of the answer and its settle meet a Redis that is away.
    gate.add_permits(1);
    fleet.redis.restart().await;
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!((&job["attempts"], &job["crashes"]), (&serde_json::json!(1), &serde_json::json!(0)), "{job}");
    assert_eq!(job["result"]["content"], "one two");
    assert_eq!(stub.requests(), 1);
}

#[tokio::test]
async fn a_redis_emptied_under_load_is_noted_in_a_few_lines_and_takes_new_jobs() {
    let stub = OpenAiStub::start().await;
    let mut fleet = FleetOptions::new(stubbed(&stub, "")).workers(2).start().await;
    fleet.allow_error("");
    let stop = tokio_util::sync::CancellationToken::new();
    let submitting = keep_submitting(&fleet, &stop);
    stub.wait_for(stub.requests() + 20).await;
    fleet.redis.cli(&["FLUSHALL"]).await;
    stub.wait_for(stub.requests() + 20).await;
    stop.cancel();
    submitting.await.unwrap();
    let id = submit_surely(&fleet.client, "after").await;
    assert_eq!(fleet.client.wait_status(&id, "completed").await["result"]["content"], "after");
    for process in fleet.workers.iter().chain([&fleet.api]) {
        let lines = process.log();
        let troubles = lines.iter().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count();
        assert!(troubles < 50, "{troubles} lines of trouble: {:?}", lines.last());
    }
}

#[tokio::test]
async fn chunks_that_find_no_memory_are_dropped_and_counted_and_the_result_is_whole() {
    let stub = OpenAiStub::start().await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    stub.push(support::Reply::echo_gated(1, &gate));
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    fleet.allow_error("");
    let text = "one two three four five six";
    let id = fleet.client.submit(&chat(text)).await;
    fleet.client.events(&id, None).await.next_chunk().await;
    fleet.redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    gate.add_permits(1);
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!(
        (&job["attempts"], &job["result"]["content"]),
        (&serde_json::json!(1), &serde_json::json!(text)),
        "{job}"
    );
    let worker = support::Client::new(&fleet.workers[0].address().await, None);
    let page = worker.get("/metrics").await.text;
    let dropped = page.lines().find(|line| line.starts_with("overshot_chunks_dropped_total")).unwrap();
    let count: u64 = dropped.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..6).contains(&count), "{dropped}");
    let events = fleet.client.events(&id, None).await.rest().await;
    assert_eq!(events.last().unwrap().data["result"]["content"], text, "a reader gets the whole result");
}

#[tokio::test]
async fn a_redis_out_of_memory_refuses_submits_and_finishes_what_it_has() {
    let stub = OpenAiStub::start().await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    stub.push(support::Reply::echo_gated(1, &gate));
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    fleet.allow_error("");
    let running = fleet.client.submit(&chat("one two three")).await;
    fleet.client.events(&running, None).await.next_chunk().await;
    let waiting =
        fleet.client.submit(&crate::settings::chat_with("later", &serde_json::json!({ "delay": "1s" }))).await;
    fleet.redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = fleet.client.post_job(&chat("x")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"), "{}", refused.text);
    gate.add_permits(1);
    let jobs = vec![("one two three".to_owned(), running), ("later".to_owned(), waiting)];
    all_complete(&fleet.client, &jobs).await;
    fleet.redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let after = submit_surely(&fleet.client, "after").await;
    let jobs = [jobs, vec![("after".to_owned(), after)]].concat();
    all_complete(&fleet.client, &jobs).await;
    nothing_is_left_over(&fleet.client, &jobs).await;
}

// Found by chaos, seeds 12 and 13.
#[tokio::test]
async fn an_outage_longer_than_the_lease_at_the_end_of_a_job_costs_its_readers_no_chunk() {
    let stub = OpenAiStub::start().await;
    let (second, third) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let reply = Reply::texts(&["one "]).then_gate(&second).then_texts(&["two "]).then_gate(&third);
    stub.push(reply.then_texts(&["three ", "four"]).then_end("stop"));
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    fleet.allow_error("");
    let id = fleet.client.submit(&chat("count")).await;
    let mut events = fleet.client.events(&id, None).await;
    assert_eq!(events.next_chunk().await.text(), "one ");
    fleet.redis.freeze();
    // The second word is on its way to Redis when the others come. How long that and the outage last is what this test is
    // about: a lease is three seconds.
    second.add_permits(1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    third.add_permits(1);
    tokio::time::sleep(Duration::from_millis(4500)).await;
    fleet.redis.thaw();
    let rest = events.rest().await;
    let text: String = rest.iter().filter(|event| event.event == "chunk").map(support::Event::text).collect();
    assert_eq!(text, "two three four");
    let job = fleet.client.job(&id).await;
    assert_eq!((&job["result"]["content"], &job["attempts"]), (&"one two three four".into(), &1.into()), "{job}");
}
