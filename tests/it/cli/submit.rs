//! `overshot submit` and `overshot jobs watch`: the output as it comes, the exit as the job ends.

use std::sync::Arc;

use serde_json::{Value, json};
use support::{Fleet, FleetOptions, OpenAiStub, Reply};
use tokio::sync::Semaphore;

use super::{overshot, overshot_with};
use crate::settings::{chat, quick, stubbed};

#[tokio::test]
async fn submit_prints_the_output_and_nothing_else_on_its_standard_output() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::echo());
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let said = overshot(&fleet.client, &["submit", "one two three"]).await.done();
    assert_eq!(said.out.trim_end(), "one two three");
    assert!(said.beside.contains("job_chat-") && said.beside.contains("completed"), "{said:?}");
    // What is not streamed is printed whole at the end.
    let input = r#"{"messages": [{"role": "user", "content": "from a file"}]}"#;
    let said = overshot_with(&fleet.client, &["submit", "--input", "-"], &[], input).await.done();
    assert_eq!(said.out.trim_end(), "from a file");
    assert_eq!(stub.wait_for(2).await.body["messages"][0]["content"], "from a file");
}

#[tokio::test]
async fn submit_sends_every_field_that_it_is_given() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let arguments = [
        "submit",
        "hello",
        "--system",
        "be brief",
        "--detach",
        "--pool",
        "chat",
        "--priority",
        "low",
        "--max-attempts",
        "2",
        "--delay",
        "1h",
        "--timeout",
        "5s",
        "--concurrency-key",
        "k",
        "--on-conflict",
        "queue",
        "--owner",
        "s/r",
        "--metadata",
        "a=b",
        "--metadata",
        "c=d=e",
        "--idempotency-key",
        "once",
    ];
    let id = overshot(&fleet.client, &arguments).await.done().out;
    let job = fleet.client.get(&format!("/api/v1/jobs/{}?include=input", id.trim())).await.json;
    assert_eq!(job["input"], json!({ "system": "be brief", "user": "hello" }));
    assert_eq!(
        (&job["status"], &job["priority"], &job["max_attempts"]),
        (&json!("scheduled"), &json!("low"), &json!(2))
    );
    assert_eq!(job["owner"], json!({ "service": "s", "ref": "r" }));
    assert_eq!(job["metadata"], json!({ "a": "b", "c": "d=e" }));
    assert_eq!(job["concurrency_key"], "k");
    assert_eq!(overshot(&fleet.client, &arguments).await.done().out, id, "the same job");
}

#[tokio::test]
async fn a_watcher_ends_as_the_job_does() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(1, &gate));
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let id = fleet.client.submit(&chat("one two")).await;
    let mut events = fleet.client.events(&id, None).await;
    events.next_chunk().await;
    let cancel = async {
        fleet.client.cancel(&id).await;
    };
    let watch = ["jobs", "watch", &id];
    let (said, ()) = tokio::join!(overshot(&fleet.client, &watch), cancel);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.beside.contains("the job is cancelled"), "{said:?}");
    let said = overshot(&fleet.client, &["jobs", "watch", &id, "--json"]).await;
    let lines = said.lines();
    let events: Vec<Value> = lines.into_iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["event"], "done", "{said:?}");
    assert!(events.iter().any(|event| event["event"] == "chunk" && event["data"]["text"] == "one "), "{said:?}");
}

#[tokio::test]
async fn a_file_of_jobs_is_submitted_line_by_line() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let file = "{\"input\": {\"user\": \"a\"}}\n\n{\"input\": {\"user\": \"b\"}, \"priority\": \"high\"}\n";
    let arguments = ["submit", "--file", "-", "--priority", "low"];
    let said = overshot_with(&fleet.client, &arguments, &[], file).await.done();
    let ids = said.lines();
    assert_eq!(ids.len(), 2, "{said:?}");
    assert_eq!(fleet.client.job(ids[0]).await["priority"], "low");
    assert_eq!(fleet.client.job(ids[1]).await["priority"], "high");
    let bad = format!("{file}{{\"input\": {{}}}}\n");
    let said = overshot_with(&fleet.client, &arguments, &[], &bad).await;
    assert_eq!((said.code, said.lines().len()), (2, 2), "the good ones are accepted: {said:?}");
    assert!(said.beside.contains("line 4: ") && said.beside.contains("input.messages"), "{said:?}");
    let said = overshot_with(&fleet.client, &arguments, &[], "{\"input\": 1}\nnot json\n").await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.beside.contains("line 2: "), "nothing is sent of a file that is no list of jobs: {said:?}");
    assert_eq!(fleet.client.get("/api/v1/pools/chat").await.json["by_status"]["queued"], 4);
}
