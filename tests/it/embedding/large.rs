//! Results that are too large for their job.

use serde_json::{Value, json};
use support::{Reply, assert_eventually, vector_of};

use super::{fleet, job, run, texts};
use crate::settings::chat;

const SMALL: &str = "max_inline_result = \"1KiB\"";

/// The result that a job without one inside names.
async fn fetched(fleet: &support::Fleet, done: &Value) -> Value {
    assert_eq!((&done["status"], &done["result"]), (&json!("completed"), &Value::Null), "{done}");
    let url = done["result_url"].as_str().unwrap();
    assert_eq!(url, format!("/api/v1/jobs/{}/result", done["id"].as_str().unwrap()));
    let answer = fleet.client.get(url).await;
    assert_eq!((answer.status, &answer.headers["content-type"]), (200, &"application/json".parse().unwrap()));
    answer.json
}

#[tokio::test]
async fn vectors_are_streamed_from_where_they_are_kept() {
    let (_stub, fleet) = fleet("batch_size = 100", SMALL).await;
    let texts = texts(600);
    let items: Vec<Value> = texts.iter().map(|text| json!({ "id": format!("id of {text}"), "text": text })).collect();
    for (encoding, size) in [("float", 100), ("base64", 700)] {
        let input = json!({ "input": items, "encoding_format": encoding, "batch_size": size });
        let done = run(&fleet, &input).await;
        assert_eq!(done["usage"]["total_tokens"], 600);
        let result = fetched(&fleet, &done).await;
        assert_eq!(result["schema_version"], "ai.embedding_result.v1", "{encoding}");
        assert_eq!((&result["model"], &result["usage"]), (&json!("stub-model"), &done["usage"]));
        assert!(result["duration_ms"].is_u64());
        let data = result["data"].as_array().unwrap();
        assert_eq!(data.len(), 600);
        for (index, (item, text)) in data.iter().zip(&texts).enumerate() {
            assert_eq!((&item["index"], &item["id"]), (&json!(index), &json!(format!("id of {text}"))));
            if encoding == "float" {
                assert_eq!(item["embedding"], json!(vector_of(text, support::DIMENSIONS)));
            } else {
                assert_eq!(item["embedding"].as_str().map(str::len), Some(24));
            }
        }
    }
}

#[tokio::test]
async fn any_tasks_large_result_stands_beside_its_job_and_goes_with_it() {
    let (stub, fleet) = fleet("", SMALL).await;
    let text = "word ".repeat(40_000);
    stub.push(Reply::texts(&[text.as_str(); 8]).then_end("stop"));
    let mut long = chat("a long one");
    long["result_ttl"] = json!("2s");
    let id = fleet.client.submit(&long).await;
    let events = fleet.client.events(&id, None).await;
    let done = fleet.client.wait_end(&id).await;
    let result = fetched(&fleet, &done).await;
    assert_eq!(result["content"], text.repeat(8));
    assert_eq!(done["usage"], result["usage"]);
    let last = events.rest().await.pop().unwrap();
    assert_eq!((last.event.as_str(), &last.data["result_url"]), ("done", &done["result_url"]));
    let beside = async || fleet.redis.command(&["KEYS", "overshot:*:v:*"]).await.unwrap();
    assert_ne!(beside().await, redis::Value::Array(Vec::new()));
    assert_eventually!(beside().await == redis::Value::Array(Vec::new()));
    assert_eq!(fleet.client.get(done["result_url"].as_str().unwrap()).await.code(), "job_not_found");
}

#[tokio::test]
async fn a_small_result_can_be_had_by_itself_too() {
    let (stub, fleet) = fleet("", "").await;
    let done = run(&fleet, &json!({ "input": "x" })).await;
    assert!(done.get("result_url").is_none());
    let answer = fleet.client.get(&format!("/api/v1/jobs/{}/result", done["id"].as_str().unwrap())).await;
    assert_eq!((answer.status, &answer.json), (200, &done["result"]));
    stub.push(Reply::hang());
    let id = fleet.client.submit(&job(&json!({ "input": "y" }))).await;
    let answer = fleet.client.get(&format!("/api/v1/jobs/{id}/result")).await;
    assert_eq!((answer.status, answer.code()), (409, "no_result"));
}
