//! One key, one job.

use futures_util::future::join_all;
use serde_json::json;
use support::FleetOptions;

use crate::settings::{chat, chat_with, quick};

#[tokio::test]
async fn the_same_key_and_body_give_the_first_job_and_another_body_is_refused() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let job = chat_with("hello", &json!({ "idempotency_key": "order-1" }));
    let first = client.post_job(&job).await;
    assert_eq!(first.status, 202, "{}", first.text);
    assert_eq!(first.headers["location"], format!("/api/v1/jobs/{}", first.id()));
    let again = client.post_job(&job).await;
    assert_eq!((again.status, again.id()), (200, first.id()), "{}", again.text);
    let other = client.post_job(&chat_with("other", &json!({ "idempotency_key": "order-1" }))).await;
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"), "{}", other.text);
    let by_header = |text: &str| {
        let request = client.request(reqwest::Method::POST, "/api/v1/jobs").header("idempotency-key", "order-2");
        request.json(&chat(text))
    };
    let first = client.send(by_header("hello")).await;
    assert_eq!(first.status, 202, "{}", first.text);
    let again = client.send(by_header("hello")).await;
    assert_eq!((again.status, again.id()), (200, first.id()), "{}", again.text);
    assert_eq!(client.send(by_header("other")).await.code(), "idempotency_key_reused");
    assert_eq!(client.get("/api/v1/jobs").await.json["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn concurrent_posts_with_one_key_make_one_job() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let (_other_api, other) = fleet.another_api().await;
    for round in 0..10 {
        let job = chat_with("hello", &json!({ "idempotency_key": format!("key-{round}") }));
        let posts = (0..16).map(|n| if n % 2 == 0 { fleet.client.post_job(&job) } else { other.post_job(&job) });
        let answers = join_all(posts).await;
        // Who finishes the enqueue of another, whose key it met, may count as a first one too.
        assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 202)), "{answers:?}");
        assert!(answers.iter().all(|answer| answer.id() == answers[0].id()), "one job");
    }
    assert_eq!(fleet.client.get("/api/v1/jobs?limit=200").await.json["data"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_refused_submit_frees_its_key() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let job = chat_with("hello", &json!({ "idempotency_key": "k", "fail_fast": true }));
    let refused = client.post_job(&job).await;
    assert_eq!((refused.status, refused.code()), (503, "no_live_worker"), "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    let accepted = client.post_job(&chat_with("hello", &json!({ "idempotency_key": "k" }))).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
}

#[tokio::test]
async fn a_batch_answers_item_by_item_in_order() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let jobs = json!({ "jobs": [
        chat("one"),
        { "task": "no-such-task", "input": {} },
        chat_with("two", &json!({ "idempotency_key": "k" })),
        chat_with("two", &json!({ "idempotency_key": "k" })),
        chat_with("three", &json!({ "max_attempts": 0 })),
    ]});
    let answer = client.post("/api/v1/jobs/batch", &jobs).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let results = answer.json["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 422, 202, 200, 422], "{}", answer.text);
    assert_eq!(results[1]["error"]["param"], "task", "{}", answer.text);
    assert_eq!(results[2]["job"]["id"], results[3]["job"]["id"]);
    assert_eq!(results[4]["error"]["param"], "max_attempts", "{}", answer.text);
    assert_eq!(client.get("/api/v1/jobs").await.json["data"].as_array().unwrap().len(), 2);
    let too_many: Vec<_> = (0..1001).map(|_| chat("x")).collect();
    let answer = client.post("/api/v1/jobs/batch", &json!({ "jobs": too_many })).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let whole: Vec<_> = (0..1000).map(|_| chat("x")).collect();
    let answer = client.post("/api/v1/jobs/batch", &json!({ "jobs": whole })).await;
    assert_eq!(answer.json["results"].as_array().unwrap().len(), 1000, "{}", answer.status);
    assert!(answer.json["results"].as_array().unwrap().iter().all(|result| result["status"] == 202));
}
