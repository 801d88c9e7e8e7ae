//! What reaches the provider, and what becomes of its answer.

use serde_json::{Value, json};
use support::{Fleet, OpenAiStub, Reply};

use crate::settings::{chat, stubbed};

/// Submits, waits for the completed job, and gives it with the request that the provider saw.
async fn run(stub: &OpenAiStub, fleet: &Fleet, job: &Value) -> (Value, Value) {
    let before = stub.requests();
    let id = fleet.client.submit(job).await;
    let done = fleet.client.wait_end(&id).await;
    assert_eq!(done["status"], "completed", "{done}");
    (done, stub.wait_for(before + 1).await.body)
}

#[tokio::test]
async fn an_answer_becomes_the_result_with_its_usage() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["Hello ", "world"]).then_end("stop"));
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let (done, request) = run(&stub, &fleet, &chat("hello")).await;
    let result = &done["result"];
    assert_eq!(result["schema_version"], "ai.chat_result.v1");
    assert_eq!(result["content"], "Hello world");
    assert_eq!(result["model"], "stub-model", "the provider's answer names it");
    assert_eq!(result["finish_reason"], "stop");
    assert!(result["duration_ms"].is_u64() && result.get("partial").is_none(), "{result}");
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 });
    assert_eq!((&result["usage"], &done["usage"]), (&usage, &usage));
    assert_eq!((&done["attempts"], &done["error"]), (&json!(1), &Value::Null));
    assert_eq!((&done["model"], &done["provider"]), (&json!("small"), &json!("stub")));
    assert_eq!(request["model"], "small");
    for time in ["created_at", "started_at", "first_chunk_at", "completed_at", "result_expires_at"] {
        assert!(done[time].as_str().is_some_and(|text| text.ends_with('Z')), "{time}: {done}");
    }
}

#[tokio::test]
async fn tool_calls_are_put_together_from_their_pieces() {
    let stub = OpenAiStub::start().await;
    let call = |delta: Value| json!({ "tool_calls": [delta] });
    stub.push(
        Reply::deltas(&[
            json!({ "role": "assistant", "content": null }),
            call(
                json!({ "index": 0, "id": "call_1", "type": "function", "function": { "name": "look", "arguments": "" } }),
            ),
            call(json!({ "index": 0, "function": { "arguments": "{\"city\":" } })),
            call(json!({ "index": 0, "function": { "arguments": "\"Oslo\"}" } })),
        ])
        .then_end("tool_calls"),
    );
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let mut job = chat("weather?");
    let tools = json!([{ "type": "function", "function": { "name": "look", "parameters": {} } }]);
    job["input"]["tools"] = tools.clone();
    let (done, request) = run(&stub, &fleet, &job).await;
    assert_eq!(request["tools"], tools);
    assert_eq!(done["result"]["finish_reason"], "tool_calls");
    let call = &done["result"]["tool_calls"][0];
    assert_eq!((&call["id"], &call["function"]["name"]), (&json!("call_1"), &json!("look")), "{done}");
    assert_eq!(call["function"]["arguments"], r#"{"city":"Oslo"}"#);
}

#[tokio::test]
async fn parameters_and_extra_body_reach_the_provider_and_domain_data_does_not() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let job = json!({ "task": "llm_chat", "input": {
        "system": "Be brief.", "user": "hello", "temperature": 0.5, "max_tokens": 9,
        "case_number": "A-17", "extra_body": { "top_k": 3 },
    }});
    let (done, request) = run(&stub, &fleet, &job).await;
    assert_eq!(done["task"], "chat", "the alias is resolved");
    let messages = json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "hello" }]);
    assert_eq!(request["messages"], messages);
    assert_eq!((&request["temperature"], &request["max_tokens"]), (&json!(0.5), &json!(9)));
    assert_eq!(request["top_k"], 3);
    for hidden in ["case_number", "extra_body", "system", "user"] {
        assert!(request.get(hidden).is_none(), "{hidden}: {request}");
    }
}

#[tokio::test]
async fn a_job_without_a_stream_has_the_same_result() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let mut job = chat("one two three");
    job["stream"] = json!(false);
    let (done, _) = run(&stub, &fleet, &job).await;
    assert_eq!((&done["stream"], &done["result"]["content"]), (&json!(false), &json!("one two three")));
}

#[tokio::test]
async fn the_key_of_a_provider_is_sent_and_shown_nowhere() {
    let stub = OpenAiStub::start().await;
    let config = stubbed(&stub, "").replace("[pools.chat]", "api_key_env = \"STUB_KEY\"\n[pools.chat]");
    let secret = "sk-very-secret";
    let fleet = support::FleetOptions::new(config).env("STUB_KEY", secret).env("OVERSHOT_LOG", "debug").start().await;
    let text = "a-private-sentence";
    run(&stub, &fleet, &chat(text)).await;
    assert_eq!(stub.seen()[0].headers["authorization"], format!("Bearer {secret}"));
    let metrics = fleet.client.get("/metrics").await.text;
    let logs = [fleet.api.log(), fleet.workers[0].log()].concat().join("\n");
    for hidden in [secret, text] {
        assert!(!logs.contains(hidden) && !metrics.contains(hidden), "{hidden} in:\n{logs}");
    }
}
