//! The verbs that look and change: jobs, dead, pools, workers, top.

use serde_json::json;
use support::{Fleet, FleetOptions, OpenAiStub, Reply};

use super::overshot;
use crate::settings::{chat, chat_with, quick, stubbed};

#[tokio::test]
async fn jobs_are_listed_shown_cancelled_and_run_again() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let first = client.submit(&chat_with("a", &json!({ "owner": { "service": "s", "ref": "1" } }))).await;
    let second = client.submit(&chat("b")).await;
    let said = overshot(client, &["jobs", "list"]).await.done();
    assert!(said.lines()[0].starts_with("ID "), "{said:?}");
    assert!(said.lines()[1].starts_with(&second) && said.lines()[2].starts_with(&first), "newest first: {said:?}");
    let said = overshot(client, &["jobs", "list", "--owner-service", "s", "--json"]).await.done();
    assert_eq!(said.json()["data"][0]["id"], first.as_str());
    assert_eq!(said.json()["data"].as_array().unwrap().len(), 1);
    let said = overshot(client, &["jobs", "list", "--limit", "1"]).await.done();
    let after = said.lines()[2].rsplit(' ').next().unwrap().to_owned();
    let said = overshot(client, &["jobs", "list", "--after", &after]).await.done();
    assert!(said.lines().len() == 2 && said.lines()[1].starts_with(&first), "{said:?}");
    let said = overshot(client, &["jobs", "show", &first, "--input"]).await.done();
    assert!(said.out.contains("status: queued\n") && said.out.contains("service: s"), "{said:?}");
    let said = overshot(client, &["jobs", "cancel", &first, "job_chat-0-01arz3ndektsv4rrffq69g5fav", &second]).await;
    assert_eq!(said.code, 4, "one is not there, the others are cancelled all the same: {said:?}");
    assert_eq!(said.out, format!("{first}  cancelled\n{second}  cancelled\n"));
    let said = overshot(client, &["jobs", "retry", "--owner-service", "s", "--json"]).await.done();
    assert_eq!(said.json(), json!({ "matched": 1, "changed": 1, "more": false }));
    assert_eq!(client.job(&first).await["status"], "queued");
    let said = overshot(client, &["jobs", "cancel", "--status", "queued,scheduled"]).await.done();
    assert!(said.out.starts_with("1 matched, 1 cancelled"), "{said:?}");
}

#[tokio::test]
async fn what_a_caller_wrote_cannot_command_the_terminal() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let evil = json!({ "owner": { "service": "\u{1b}[2J", "ref": "r\u{7}" }, "concurrency_key": "\u{1b}]0;x" });
    let id = fleet.client.submit(&chat_with("a", &evil)).await;
    let said = overshot(&fleet.client, &["jobs", "show", &id]).await.done();
    assert!(said.out.contains("service:") && !said.out.contains(['\u{1b}', '\u{7}']), "{said:?}");
}

#[tokio::test]
async fn dead_jobs_are_listed_and_run_again() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::status(400, &[], r#"{"error": {"message": "no"}}"#));
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let id = fleet.client.submit(&chat("a")).await;
    fleet.client.wait_status(&id, "failed").await;
    let said = overshot(&fleet.client, &["dead", "list"]).await.done();
    assert!(said.lines()[1].starts_with(&id) && said.lines()[1].contains("bad_input"), "{said:?}");
    assert_eq!(overshot(&fleet.client, &["dead", "retry"]).await.code, 2, "all of them only when told so");
    stub.always(Reply::echo());
    let said = overshot(&fleet.client, &["dead", "retry", "--all"]).await.done();
    assert_eq!(said.out, "1 matched, 1 queued again\n");
    fleet.client.wait_status(&id, "completed").await;
    assert_eq!(overshot(&fleet.client, &["dead", "list"]).await.done().lines().len(), 1, "only the head");
}

#[tokio::test]
async fn pools_are_listed_paused_and_resumed() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    fleet.client.submit(&chat("a")).await;
    assert_eq!(overshot(&fleet.client, &["pools", "pause", "chat"]).await.done().out, "chat  paused\n");
    let said = overshot(&fleet.client, &["pools", "list"]).await.done();
    let row: Vec<_> = said.lines()[1].split_whitespace().collect();
    assert_eq!(row[..4], ["chat", "paused", "0", "1"], "{said:?}");
    let said = overshot(&fleet.client, &["pools", "resume", "chat", "--json"]).await.done();
    assert_eq!(said.json()["paused"], false);
}

#[tokio::test]
async fn top_shows_pools_workers_and_running_jobs_once_where_there_is_no_terminal() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::texts(&["a"]).then_hang());
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let id = fleet.client.submit(&chat("a")).await;
    fleet.client.wait_status(&id, "running").await;
    let said = overshot(&fleet.client, &["top"]).await.done();
    assert!(said.lines()[0].contains("  1 worker  ") && said.lines()[0].contains("1 running"), "{said:?}");
    assert!(said.out.contains("takes jobs") && said.out.contains(&id), "{said:?}");
    let look = overshot(&fleet.client, &["top", "--json"]).await.done().json();
    assert_eq!(look["pools"]["data"][0]["by_status"]["running"], 1);
}
