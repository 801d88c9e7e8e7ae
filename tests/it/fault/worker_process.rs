//! Workers that die or fall asleep.

use std::sync::Arc;

use serde_json::{Value, json};
use support::{Fleet, FleetOptions, OpenAiStub, PATIENCE, Reply};
use tokio::sync::Semaphore;

use super::load::{RECOVERY, all_complete, nothing_is_left_over, submit_surely};
use crate::settings::{chat, chat_with, stubbed};

/// Which worker holds the job: its place in the fleet.
fn holder(fleet: &Fleet, job: &Value) -> usize {
    let id = job["worker_id"].as_str().unwrap();
    fleet.workers.iter().position(|worker| worker.has_logged(id)).unwrap_or_else(|| panic!("nobody is {id}"))
}

#[tokio::test]
async fn a_killed_workers_job_runs_again_with_one_result() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["lost"]).then_hang());
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    let id = fleet.client.submit(&chat("kept")).await;
    let mut events = fleet.client.events(&id, None).await;
    assert_eq!(events.next_chunk().await.text(), "lost");
    fleet.workers[0].kill();
    fleet.add_worker();
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!(job["result"]["content"], "kept", "{job}");
    assert_eq!((&job["attempts"], &job["crashes"]), (&json!(2), &json!(1)), "{job}");
    let events = events.rest().await;
    assert_eq!(events.iter().filter(|event| event.event == "done").count(), 1);
    assert_eq!(stub.requests(), 2);
}

// Guarded three times over: by the worker's own clock (`stop_when_silent` in keeper.rs), by the answer to its renewal, and
// by the grant in settle.lua and publish.lua. With the first and the last broken it fails in some runs; the grant alone
// is tested at the queue.
#[tokio::test]
async fn a_worker_that_wakes_up_late_changes_nothing() {
    let stub = OpenAiStub::start().await;
    let (late, good) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    stub.push(Reply::texts(&["zombie "]).then_gate(&late).then_texts(&["words"]).then_end("stop"));
    stub.push(Reply::echo_gated(1, &good));
    let fleet = FleetOptions::new(stubbed(&stub, "")).workers(2).start().await;
    let id = fleet.client.submit(&chat("good words")).await;
    let mut events = fleet.client.events(&id, None).await;
    events.next_chunk().await;
    let zombie = holder(&fleet, &fleet.client.job(&id).await);
    fleet.workers[zombie].stop();
    assert_eq!(events.next_chunk().await.text(), "good ");
    let second = fleet.client.job(&id).await["worker_id"].clone();
    assert_ne!(holder(&fleet, &json!({ "worker_id": second })), zombie);
    // The whole answer waits in the zombie's socket when it wakes up, and the second run is under way.
    late.add_permits(1);
    fleet.workers[zombie].cont();
    fleet.wait_for_workers(2).await;
    good.add_permits(1);
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!((&job["result"]["content"], &job["worker_id"]), (&json!("good words"), &second), "{job}");
    assert_eq!((&job["attempts"], &job["crashes"]), (&json!(2), &json!(1)), "{job}");
    let rest: String = events.rest().await.iter().filter(|e| e.event == "chunk").map(support::Event::text).collect();
    assert_eq!(rest, "words", "the zombie's words are in nobody's stream");
    let other = fleet.client.submit(&chat("next")).await;
    fleet.client.wait_status(&other, "completed").await;
    assert_eq!(fleet.client.job(&id).await, job, "nothing was overwritten");
}

#[tokio::test]
async fn a_job_that_kills_its_workers_ends() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::hang());
    let mut fleet = FleetOptions::new(stubbed(&stub, "max_crashes = 1")).workers(0).start().await;
    let id = fleet.client.submit(&chat("poison")).await;
    for crash in 1..=2 {
        fleet.add_worker();
        stub.wait_for(crash).await;
        fleet.workers.last_mut().unwrap().kill();
    }
    let job = fleet.client.wait_status(&id, "failed").await;
    assert_eq!((&job["error"]["code"], &job["crashes"]), (&json!("stale_worker"), &json!(2)), "{job}");
}

#[tokio::test]
async fn killing_one_worker_after_another_loses_and_doubles_nothing() {
    let stub = OpenAiStub::start().await;
    let mut fleet = FleetOptions::new(stubbed(&stub, "max_crashes = 100")).workers(2).start().await;
    let gate = Arc::new(Semaphore::new(0));
    let mut jobs = Vec::new();
    for round in 0..5 {
        let before = stub.requests();
        stub.push(Reply::echo_gated(1, &gate));
        for n in 0..30 {
            let key = format!("round {round} job {n}");
            jobs.push((key.clone(), submit_surely(&fleet.client, &key).await));
        }
        stub.wait_for(before + 1).await;
        // The oldest goes, be it in the middle of its work.
        fleet.workers.remove(0).kill();
        fleet.add_worker();
    }
    gate.add_permits(5);
    all_complete(&fleet.client, &jobs).await;
    nothing_is_left_over(&fleet.client, &jobs).await;
}

#[tokio::test]
async fn the_holder_of_a_key_that_dies_frees_it_by_running_again() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::hang());
    let mut fleet = Fleet::start(stubbed(&stub, "")).await;
    let keyed = |text: &str| chat_with(text, &json!({ "concurrency_key": "k", "on_conflict": "queue" }));
    let first = fleet.client.submit(&keyed("first")).await;
    stub.wait_for(1).await;
    let second = fleet.client.submit(&keyed("second")).await;
    fleet.workers[0].kill();
    fleet.add_worker();
    let job = fleet.client.wait_until(&second, RECOVERY, |job| job["completed_at"].is_string()).await;
    assert_eq!(job["status"], "completed", "{job}");
    let first = fleet.client.job(&first).await;
    assert!(first["completed_at"].as_str() <= job["started_at"].as_str(), "one at a time: {first} {job}");
    assert_eq!(stub.requests(), 3);
    stub.wait_disconnected(1, PATIENCE).await;
}
