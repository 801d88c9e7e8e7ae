//! What reaches the provider, batch by batch, and what becomes of its answers.

use serde_json::json;
use support::{DIMENSIONS, Reply, vector_of};

use super::{fleet, job, run};

#[tokio::test]
async fn texts_become_vectors_in_their_order_and_in_batches() {
    let (stub, fleet) = fleet("batch_size = 2", "").await;
    let done = run(&fleet, &json!({ "input": ["one", "two", "three", "four", "five"] })).await;
    let result = &done["result"];
    assert_eq!(result["schema_version"], "ai.embedding_result.v1");
    assert_eq!((&result["model"], &result["dimensions"]), (&json!("stub-model"), &json!(DIMENSIONS)));
    let usage = json!({ "prompt_tokens": 5, "total_tokens": 5 });
    assert_eq!((&result["usage"], &done["usage"]), (&usage, &usage));
    assert!(result["duration_ms"].is_u64(), "{result}");
    for (index, text) in ["one", "two", "three", "four", "five"].iter().enumerate() {
        let expected = json!({ "object": "embedding", "index": index, "embedding": vector_of(text, DIMENSIONS) });
        assert_eq!(result["data"][index], expected);
    }
    assert_eq!(stub.batches(), [&["one", "two"][..], &["three", "four"], &["five"]]);
    assert_eq!((&done["model"], &done["stream"]), (&json!("small"), &json!(false)));
    assert_eq!(done["progress"], json!({ "done": 5, "total": 5, "unit": "texts" }));
}

#[tokio::test]
async fn a_job_of_one_batch_tells_that_all_of_it_is_done() {
    let (stub, fleet) = fleet("batch_size = 8", "").await;
    let done = run(&fleet, &json!({ "input": ["one", "two", "one"] })).await;
    assert_eq!((&done["progress"], stub.requests()), (&json!({ "done": 3, "total": 3, "unit": "texts" }), 1), "{done}");
}

#[tokio::test]
async fn the_caller_may_choose_form_length_and_batches() {
    let (stub, fleet) = fleet("", "").await;
    let input = json!({ "texts": [{ "id": "a", "text": "x" }, { "id": "b", "text": "y" }], "encoding_format": "base64",
        "dimensions": 1, "batch_size": 1, "extra_body": { "input_type": "query" }, "case_number": "A-17" });
    let result = run(&fleet, &input).await["result"].clone();
    let [x, y] = [120.0_f32, 121.0].map(|byte| 7.0 * 31.0 + byte);
    assert_eq!(vector_of("x", 1), [x]);
    assert_eq!((vector_of("y", 1), &result["data"][1]["id"]), (vec![y], &json!("b")));
    assert_eq!(result["data"][0]["embedding"].as_str().map(str::len), Some(8), "four bytes in base64: {result}");
    let seen = stub.seen();
    assert_eq!((&seen[0].body["dimensions"], &seen[0].body["input_type"]), (&json!(1), &json!("query")));
    assert!(seen[0].body.get("case_number").is_none());
    assert_eq!(stub.batches(), [["x"], ["y"]]);
}

#[tokio::test]
async fn a_wrong_input_is_refused_at_its_place() {
    let (stub, fleet) = fleet("", "").await;
    for (input, param) in [
        (json!({ "input": [] }), "input.input"),
        (json!({ "input": ["x", 7] }), "input.input[1]"),
        (json!({ "input": "x", "encoding_format": "hex" }), "input.encoding_format"),
    ] {
        let answer = fleet.client.post_job(&job(&input)).await;
        assert_eq!((answer.status, answer.param()), (422, param), "{}", answer.text);
    }
    assert_eq!(stub.requests(), 0);
}

#[tokio::test]
async fn a_server_that_ignores_the_wish_for_shorter_vectors_fails_the_job() {
    let (stub, fleet) = fleet("", "").await;
    stub.push(Reply::status(200, &[], r#"{"data":[{"embedding":[1,2,3,4]}]}"#));
    let id = fleet.client.submit(&job(&json!({ "input": "x", "dimensions": 2 }))).await;
    let ended = fleet.client.wait_end(&id).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("bad_input")), "{ended}");
}
