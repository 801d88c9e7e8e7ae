//! Every worker is replaced by a new one, as a deploy does it, while callers go on submitting and reading.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use support::{Client, Event, Fleet, FleetOptions, OpenAiStub, PATIENCE, Reply, assert_eventually};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::load::{all_complete, nothing_is_left_over, submit_surely};
use crate::settings::stubbed;

const WORKERS: usize = 3;
const SLOTS: usize = 4;
/// Between two submits: more than nobody, less than the fleet can run.
const PACE: Duration = Duration::from_millis(30);
/// Every so many jobs have a reader.
const READ: usize = 5;

/// Submits until it is told to stop; what was accepted, and what each reader saw.
struct Load {
    stop: CancellationToken,
    jobs: JoinHandle<Vec<(String, String)>>,
}

type Reader = JoinHandle<(String, Vec<Event>)>;

impl Load {
    fn start(client: Client, readers: tokio::sync::mpsc::UnboundedSender<Reader>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let jobs = tokio::spawn(async move {
            let mut jobs = Vec::new();
            while stopped.run_until_cancelled(tokio::time::sleep(PACE)).await.is_some() {
                let key = format!("job number {} of many", jobs.len());
                let id = submit_surely(&client, &key).await;
                if jobs.len().is_multiple_of(READ) {
                    let (client, key, id) = (client.clone(), key.clone(), id.clone());
                    let read = tokio::spawn(async move { (key, client.events(&id, None).await.rest().await) });
                    readers.send(read).expect("the test waits for them");
                }
                jobs.push((key, id));
            }
            jobs
        });
        Self { stop, jobs }
    }

    async fn end(self) -> Vec<(String, String)> {
        self.stop.cancel();
        self.jobs.await.expect("every submit is accepted")
    }
}

/// What the API tells of the worker that has logged its id.
async fn told_of(fleet: &Fleet, place: usize) -> Option<Value> {
    let listed = fleet.client.get("/api/v1/workers").await.json["data"].as_array().cloned().unwrap_or_default();
    listed.into_iter().find(|worker| fleet.workers[place].has_logged(worker["id"].as_str().unwrap()))
}

/// Every slot streams an answer that does not end while the next jobs wait; then the oldest worker is told to stop.
async fn replace_the_oldest(fleet: &mut Fleet, stub: &OpenAiStub) {
    let gate = Arc::new(Semaphore::new(0));
    (0..WORKERS * SLOTS).for_each(|_| stub.push(Reply::echo_gated(2, &gate)));
    assert_eventually!({
        let counts = fleet.client.get("/api/v1/pools/chat").await.json["by_status"].clone();
        counts["running"] == WORKERS * SLOTS && counts["queued"].as_u64() >= Some(10)
    });
    fleet.add_worker();
    fleet.wait_for_workers(WORKERS + 1).await;
    fleet.workers[0].term();
    fleet.workers[0].wait_for_line("draining").await;
    assert_eventually!(told_of(fleet, 0).await.is_some_and(|worker| worker["draining"] == true));
    let drains = told_of(fleet, 0).await.expect("it waits for its jobs");
    assert_eq!(drains["in_flight"], SLOTS, "a stop in the midst of work: {drains}");
    gate.add_permits(WORKERS * SLOTS);
    let status = fleet.workers[0].wait(PATIENCE).await;
    assert!(status.success(), "{status}");
    fleet.workers.remove(0);
    fleet.wait_for_workers(WORKERS).await;
}

// Fails where a worker that drains hands its jobs back at once: they run twice, though no attempt is counted.
#[tokio::test]
async fn a_rolling_restart_under_load_loses_no_job_and_runs_none_twice() {
    let stub = OpenAiStub::start().await;
    let mut fleet = FleetOptions::new(stubbed(&stub, "")).workers(WORKERS).start().await;
    let (readers, mut read) = tokio::sync::mpsc::unbounded_channel();
    let load = Load::start(fleet.client.clone(), readers);
    for _ in 0..WORKERS {
        replace_the_oldest(&mut fleet, &stub).await;
    }
    let jobs = load.end().await;
    assert!(jobs.len() > 3 * WORKERS * SLOTS, "{} jobs are no load", jobs.len());
    all_complete(&fleet.client, &jobs).await;
    nothing_is_left_over(&fleet.client, &jobs).await;
    let mut workers = BTreeSet::new();
    for (key, id) in &jobs {
        let job = fleet.client.job(id).await;
        assert_eq!((job["attempts"].as_u64(), job["crashes"].as_u64()), (Some(1), Some(0)), "{key}: {job}");
        workers.insert(job["worker_id"].as_str().unwrap().to_owned());
    }
    assert!(workers.len() > WORKERS, "the new ones have run some, too: {workers:?}");
    assert_eq!(stub.requests(), jobs.len(), "the provider was asked once for each");
    while let Some(reader) = read.recv().await {
        let (key, events) = reader.await.expect("a stream is not broken off");
        let text: String = events.iter().filter(|event| event.event == "chunk").map(Event::text).collect();
        let ends = events.iter().filter(|event| event.event == "done").count();
        assert_eq!((text, ends), (key, 1), "{events:?}");
    }
}
