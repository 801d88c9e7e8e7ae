//! Every field of a submit, wrong in every way.

use serde_json::{Value, json};
use support::{Client, Fleet, FleetOptions};

use crate::settings::{chat, chat_with, quick};

/// Without a worker: whatever were stored would still be there.
async fn fleet() -> Fleet {
    FleetOptions::new(quick()).workers(0).start().await
}

#[track_caller]
fn check_envelope(answer: &support::Answer) {
    let (json, status) = (&answer.json, answer.status);
    for member in ["code", "message", "type"] {
        assert!(json["error"][member].is_string(), "error.{member} of {status}: {}", answer.text);
    }
    assert!(json["error"].as_object().unwrap().contains_key("param"), "{}", answer.text);
    for member in ["type", "title", "detail"] {
        assert!(json[member].is_string(), "{member} of {status}: {}", answer.text);
    }
    assert_eq!(json["status"], status, "{}", answer.text);
}

/// A submit with these fields is refused, and the answer names the field.
async fn check(client: &Client, fields: Value, param: &str) {
    let answer = client.post_job(&chat_with("hello", &fields)).await;
    let shown: String = fields.to_string().chars().take(100).collect();
    assert_eq!(answer.status, 422, "{shown}: {}", answer.text);
    check_envelope(&answer);
    assert_eq!(answer.param(), param, "{shown}: {}", answer.text);
}

async fn nothing_is_stored(client: &Client) {
    let list = client.get("/api/v1/jobs").await;
    assert_eq!((list.status, &list.json["data"]), (200, &json!([])), "{}", list.text);
}

#[tokio::test]
async fn a_field_of_the_wrong_type_or_an_unknown_value_is_named() {
    let fleet = fleet().await;
    let client = &fleet.client;
    check(client, json!({ "task": 7 }), "task").await;
    check(client, json!({ "task": "no-such-task" }), "task").await;
    let unknown = client.post_job(&chat_with("hello", &json!({ "pool": "no-such-pool" }))).await;
    assert_eq!((unknown.status, unknown.param()), (404, "pool"), "{}", unknown.text);
    check(client, json!({ "pool": ["chat"] }), "pool").await;
    check(client, json!({ "model": 1 }), "model").await;
    check(client, json!({ "provider": "no-such-provider" }), "provider").await;
    check(client, json!({ "priority": "urgent" }), "priority").await;
    check(client, json!({ "priority": 1 }), "priority").await;
    check(client, json!({ "max_attempts": 0 }), "max_attempts").await;
    check(client, json!({ "max_attempts": 101 }), "max_attempts").await;
    check(client, json!({ "max_attempts": "3" }), "max_attempts").await;
    check(client, json!({ "max_attempts": 1.5 }), "max_attempts").await;
    check(client, json!({ "run_at": "tomorrow" }), "run_at").await;
    check(client, json!({ "run_at": 1_700_000_000 }), "run_at").await;
    check(client, json!({ "delay": "soon" }), "delay").await;
    check(client, json!({ "delay": 5 }), "delay").await;
    check(client, json!({ "delay": "31d" }), "delay").await;
    for field in ["timeout", "expires_in", "result_ttl"] {
        for wrong in [json!("0s"), json!("-1s"), json!("31d"), json!("5"), json!(5), json!("")] {
            check(client, json!({ field: wrong }), field).await;
        }
    }
    check(client, json!({ "fail_fast": "yes" }), "fail_fast").await;
    check(client, json!({ "stream": 1 }), "stream").await;
    check(client, json!({ "on_conflict": "maybe", "concurrency_key": "k" }), "on_conflict").await;
    check(client, json!({ "input": "text" }), "input").await;
    nothing_is_stored(client).await;
}

#[tokio::test]
async fn keys_owners_and_metadata_have_limits() {
    let fleet = fleet().await;
    let client = &fleet.client;
    let long = "x".repeat(257);
    for key in ["idempotency_key", "concurrency_key"] {
        check(client, json!({ key: "" }), key).await;
        check(client, json!({ key: long }), key).await;
        check(client, json!({ key: 7 }), key).await;
    }
    // 1 to 256 bytes, not characters.
    check(client, json!({ "concurrency_key": "é".repeat(129) }), "concurrency_key").await;
    check(client, json!({ "owner": { "service": "x".repeat(65), "ref": "r" } }), "owner.service").await;
    check(client, json!({ "owner": { "service": "s", "ref": "x".repeat(65) } }), "owner.ref").await;
    check(client, json!({ "owner": { "service": "s", "ref": "r", "agent": "x".repeat(65) } }), "owner.agent").await;
    let too_many: serde_json::Map<_, _> = (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
    check(client, json!({ "metadata": too_many }), "metadata").await;
    let answer = client.post_job(&chat_with("hello", &json!({ "metadata": { "a": 1 } }))).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.param().starts_with("metadata"), "{}", answer.text);
    for owner in [json!("me"), json!({ "service": "s" }), json!({ "service": "s", "ref": "r", "other": 1 })] {
        let answer = client.post_job(&chat_with("hello", &json!({ "owner": owner }))).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(answer.param().starts_with("owner"), "{}", answer.text);
    }
    nothing_is_stored(client).await;
}

#[tokio::test]
async fn an_unknown_field_is_named_at_the_top_and_kept_in_the_input() {
    let fleet = fleet().await;
    let client = &fleet.client;
    check(client, json!({ "prioritty": "high" }), "prioritty").await;
    nothing_is_stored(client).await;
    let mut job = chat("hello");
    job["input"]["case_number"] = json!("A-17");
    let id = client.submit(&job).await;
    let stored = client.get(&format!("/api/v1/jobs/{id}?include=input")).await;
    assert_eq!(stored.json["input"], job["input"], "{}", stored.text);
    assert!(client.job(&id).await.get("input").is_none());
}

#[tokio::test]
async fn a_chat_input_that_no_provider_would_take_is_refused_at_submit() {
    let fleet = fleet().await;
    let client = &fleet.client;
    for (input, param) in [
        (json!({}), "input.messages"),
        (json!({ "messages": [] }), "input.messages"),
        (json!({ "messages": "hello" }), "input.messages"),
        (json!({ "user": "hello", "temperature": 3 }), "input.temperature"),
        (json!({ "user": "hello", "max_tokens": 0 }), "input.max_tokens"),
        (json!({ "user": 7 }), "input.user"),
        (json!({ "user": "hello", "extra_body": [] }), "input.extra_body"),
    ] {
        let answer = client.post_job(&json!({ "task": "chat", "input": input })).await;
        assert_eq!(answer.status, 422, "{input}: {}", answer.text);
        assert!(answer.param().starts_with(param), "{input}: {}", answer.text);
        check_envelope(&answer);
    }
    for job in [json!({ "input": { "user": "hello" } }), json!({ "task": "chat" })] {
        let answer = client.post_job(&job).await;
        assert_eq!(answer.status, 422, "{job}: {}", answer.text);
    }
    nothing_is_stored(client).await;
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_malformed() {
    let fleet = fleet().await;
    let client = &fleet.client;
    let bad: [&[u8]; 6] = [b"", b"{", b"nonsense", b"{\"task\":\"chat\",}", b"\xff\xfe{}", b"{\"task\":\"\xc3(\"}"];
    for body in bad {
        let answer = client.post_bytes("/api/v1/jobs", body.to_vec()).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text);
        check_envelope(&answer);
    }
    for body in ["[]", "null", "\"text\"", "7"] {
        let answer = client.post_bytes("/api/v1/jobs", body).await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {} {}", answer.status, answer.text);
        check_envelope(&answer);
    }
    nothing_is_stored(client).await;
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused() {
    let fleet = fleet().await;
    let client = &fleet.client;
    for query in ["status=sleeping", "limit=0", "limit=201", "limit=x", "after=nonsense"] {
        let answer = client.get(&format!("/api/v1/jobs?{query}")).await;
        assert!(matches!(answer.status, 400 | 422), "{query}: {} {}", answer.status, answer.text);
        check_envelope(&answer);
    }
    for wait in ["0s", "-1s", "11m", "soon"] {
        let answer = client.post(&format!("/api/v1/jobs?wait={wait}"), &chat("hello")).await;
        assert!(matches!(answer.status, 400 | 422), "{wait}: {} {}", answer.status, answer.text);
    }
    nothing_is_stored(client).await;
}
