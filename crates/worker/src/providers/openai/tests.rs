//! The client against a scripted server: answers here, failures in `tests/failures.rs`.

use std::time::Duration;

use overshot_common::config::{HttpProvider, ProviderConfig, ProviderKind};
use overshot_common::job::Phase;
use overshot_common::task::chat::request_body;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::server::{Seen, Server, Then, json as json_answer, stream};
use crate::providers::{ChatOutput, ChatRequest, Provider, ProviderFailure};
use crate::tasks::recorder::Recorder;

mod embedding;
mod failures;
mod server;

const HELLO: &[&str] = &[
    r#"{"model":"smol","choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}"#,
    r#"{"model":"smol","choices":[{"index":0,"delta":{"content":"Hel"}}]}"#,
    r#"{"model":"smol","choices":[{"index":0,"delta":{"content":"lo"}}],"usage":null}"#,
    r#"{"model":"smol","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    r#"{"model":"smol","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"timings":{}}"#,
];

fn config(url: &str, api_key_env: Option<&str>) -> ProviderConfig {
    let http = HttpProvider { base_url: url.to_owned(), api_key_env: api_key_env.map(str::to_owned) };
    ProviderConfig { request_timeout: Duration::from_secs(10), ..ProviderConfig::plain(ProviderKind::OpenAi(http)) }
}

fn provider(url: &str) -> Provider {
    Provider::new("local", &config(url, None), |_| None).unwrap()
}

fn request(publish: bool) -> ChatRequest {
    let input = RawValue::from_string(r#"{"user":"a secret prompt","seed":7}"#.to_owned()).unwrap();
    ChatRequest { body: request_body(&input, Some("m"), true).unwrap(), publish, seed: 0 }
}

async fn chat(url: &str) -> (Result<ChatOutput, ProviderFailure>, Recorder) {
    let mut recorder = Recorder::default();
    let answer = provider(url).chat(&request(true), &mut recorder).await;
    (answer, recorder)
}

/// The answer to those bytes, after which the server closes.
async fn answered(bytes: impl Into<Vec<u8>>) -> (ChatOutput, Recorder) {
    let server = Server::start(bytes, Then::Close).await;
    let (answer, recorder) = chat(&server.url).await;
    (answer.unwrap(), recorder)
}

fn value(output: &impl serde::Serialize) -> Value {
    serde_json::to_value(output).unwrap()
}

#[tokio::test]
async fn a_stream_is_put_together_and_its_pieces_come_in_order() {
    let (output, recorder) = answered(stream(HELLO)).await;
    assert_eq!(output.answer.content, "Hello");
    assert_eq!(output.model.as_deref(), Some("smol"));
    assert_eq!(output.finish_reason.as_deref(), Some("stop"));
    assert_eq!(value(&output.usage), json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}));
    assert_eq!(recorder.texts, ["Hel", "lo"]);
    assert_eq!(recorder.deltas, [json!({"content": "Hel"}), json!({"content": "lo"})]);
    assert_eq!(recorder.phases, [Phase::Working, Phase::Streaming]);
    assert_eq!(recorder.progress, [1, 2]);
}

#[tokio::test]
async fn a_job_without_a_stream_gets_progress_but_no_chunks() {
    let server = Server::start(stream(HELLO), Then::Close).await;
    let mut recorder = Recorder::default();
    let output = provider(&server.url).chat(&request(false), &mut recorder).await.unwrap();
    assert_eq!(output.answer.content, "Hello");
    assert_eq!((recorder.texts.len(), recorder.progress.len()), (0, 2));
    assert_eq!(recorder.phases, [Phase::Working]);
}

#[tokio::test]
async fn a_plain_json_answer_to_a_stream_request_is_taken() {
    let body = r#"{"model":"smol","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant",
        "content":null,"reasoning_content":"hm","tool_calls":[
        {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},
        {"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]}}],"usage":{"total_tokens":5}}"#;
    let (output, recorder) = answered(json_answer("200 OK", "", body)).await;
    assert_eq!(output.answer.content, "");
    assert_eq!(output.answer.reasoning, "hm");
    assert_eq!(value(&output.answer.tool_calls)[1]["function"]["name"], "g");
    assert_eq!(output.finish_reason.as_deref(), Some("tool_calls"));
    assert_eq!(recorder.texts, [""]);
}

#[tokio::test]
async fn tool_calls_are_merged_by_index() {
    let delta = |calls: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{calls}]}}}}]}}"#);
    let events = [
        delta(r#"{"index":0,"id":"a","type":"function","function":{"name":"weather","arguments":""}}"#),
        delta(r#"{"index":1,"id":"b","type":"function","function":{"name":"time","arguments":"{"}}"#),
        delta(r#"{"index":0,"id":"a","function":{"name":"weather","arguments":"{\"city\":"}}"#),
        delta(r#"{"index":0,"function":{"arguments":"\"Rome\"}"}},{"index":1,"function":{"arguments":"}"}}"#),
    ];
    let (output, recorder) = answered(stream(&events.each_ref().map(String::as_str))).await;
    let call =
        |id, name, arguments| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let expected = json!([call("a", "weather", r#"{"city":"Rome"}"#), call("b", "time", "{}")]);
    assert_eq!(value(&output.answer.tool_calls), expected);
    assert_eq!(recorder.deltas.len(), 4);
}

#[tokio::test]
async fn an_empty_answer_is_an_answer() {
    let (output, recorder) = answered(stream(&[HELLO[0], HELLO[3]])).await;
    assert_eq!(output.answer.content, "");
    assert!(recorder.texts.is_empty(), "{recorder:?}");
}

#[tokio::test]
async fn comments_and_a_bare_end_mark_are_understood() {
    let bytes = stream(HELLO).replace("data: [DONE]\n\n", ": ping\n\ndata:[DONE]\r\n");
    let (output, _) = answered(bytes).await;
    assert_eq!(output.answer.content, "Hello");
}

#[tokio::test]
async fn other_choices_do_not_mix_in() {
    let other = r#"{"choices":[{"index":1,"delta":{"content":"Bye"}}]}"#;
    let (output, _) = answered(stream(&[HELLO[1], other, HELLO[2]])).await;
    assert_eq!(output.answer.content, "Hello");
}

#[tokio::test]
async fn the_request_is_a_stream_with_usage_under_the_key() {
    let mut server = Server::start(stream(HELLO), Then::Close).await;
    let env = |name: &str| (name == "KEY").then(|| "s3cret\n".to_owned());
    let provider = Provider::new("local", &config(&server.url, Some("KEY")), env).unwrap();
    provider.chat(&request(true), &mut Recorder::default()).await.unwrap();
    let (head, body) = server.request().await;
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer s3cret\r\n"), "{head}");
    let expected = json!({"model": "m", "messages": [{"role": "user", "content": "a secret prompt"}], "seed": 7,
        "stream": true, "stream_options": {"include_usage": true}});
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    assert!(!format!("{provider:?}").contains("s3cret"));
}

#[test]
fn a_key_that_is_not_set_is_a_mistake_at_start() {
    let mistake = Provider::new("local", &config("http://h/v1", Some("KEY")), |_| None).unwrap_err();
    assert_eq!(mistake, "providers.local.api_key_env: the variable KEY is not set");
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_stream() {
    let body: String = stream(HELLO).split_once("\r\n\r\n").unwrap().1.to_owned();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let bytes = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let mut server = Server::start(bytes, Then::KeepAlive).await;
    let provider = provider(&server.url);
    for _ in 0..2 {
        provider.chat(&request(true), &mut Recorder::default()).await.unwrap();
    }
    assert_eq!(server.seen.recv().await, Some(Seen::Connection));
    assert!(matches!(server.seen.recv().await, Some(Seen::Request(..))));
    assert!(matches!(server.seen.recv().await, Some(Seen::Request(..))));
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let mut server = Server::start(server::cut_stream(HELLO), Then::Hang).await;
    let (told, first_chunk) = oneshot::channel();
    let mut recorder = Recorder { first_chunk: Some(told), ..Recorder::default() };
    let url = server.url.clone();
    let call = tokio::spawn(async move { provider(&url).chat(&request(true), &mut recorder).await.map(drop) });
    first_chunk.await.unwrap();
    call.abort();
    server.request().await;
    assert_eq!(server.seen.recv().await, Some(Seen::Gone));
}
