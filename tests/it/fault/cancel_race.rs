//! A cancel that meets the end of its job.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use support::{Fleet, OpenAiStub, Reply};
use tokio::sync::Semaphore;

use crate::settings::{chat, stubbed};

#[tokio::test]
async fn a_cancel_racing_the_finish_gives_one_end_that_never_changes() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let client = &fleet.client;
    let mut ends = [0, 0];
    let mut jobs = Vec::new();
    for round in 0..60_u64 {
        let gate = Arc::new(Semaphore::new(0));
        stub.push(Reply::echo_gated(1, &gate));
        let id = client.submit(&chat("one two")).await;
        let mut events = client.events(&id, None).await;
        events.next_chunk().await;
        let finish = async {
            // From the finish well ahead to the cancel well ahead.
            tokio::time::sleep(Duration::from_micros(round * 150)).await;
            gate.add_permits(1);
        };
        let cancel = async {
            tokio::time::sleep(Duration::from_micros((60 - round) * 150)).await;
            client.cancel(&id).await
        };
        let (answer, ()) = tokio::join!(cancel, finish);
        assert!(matches!(answer.status, 200 | 202 | 409), "{} {}", answer.status, answer.text);
        let job = client.wait_end(&id).await;
        let cancelled = job["status"] == "cancelled";
        assert!(cancelled || job["status"] == "completed", "{job}");
        assert!(answer.status != 409 || !cancelled, "a refused cancel changes nothing: {job}");
        assert_eq!(job["result"].get("partial").is_some(), cancelled, "{job}");
        let rest = events.rest().await;
        let done: Vec<_> = rest.iter().filter(|event| event.event == "done").collect();
        assert_eq!(done.len(), 1, "{rest:?}");
        assert_eq!(done[0].data["status"], job["status"], "what a reader saw is what it is");
        ends[usize::from(cancelled)] += 1;
        jobs.push((id, job));
    }
    let looks = join_all(jobs.iter().map(|(id, _)| client.job(id))).await;
    for (now, (_, then)) in looks.iter().zip(&jobs) {
        assert_eq!(now, then, "an end never changes");
    }
    assert!(ends.iter().all(|count| *count > 0), "both must win sometimes: {ends:?}");
    assert_eq!(client.get("/api/v1/pools/chat/demand").await.json, json!({ "pool": "chat", "demand": 0 }));
}
