//! The client against a scripted server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::{HttpProvider, KeepAlive, OllamaProvider, ProviderConfig, ProviderKind};
use overshot_common::job::Phase;
use overshot_common::task::chat::request_body;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::server::{Server, until};
use crate::providers::{
    ChatOutput, ChatRequest, EmbedRequest, EmbedUsage, Open, Provider, ProviderFailure, Then, Turnstile, Unmetered,
};
use crate::tasks::recorder::Recorder;

mod server;

const LAST: &str = r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}"#;

fn piece(message: &Value) -> String {
    json!({"model": "m", "message": message, "done": false}).to_string()
}

fn provider_with(url: &str, keep_alive: Option<KeepAlive>, preload: &[&str]) -> Provider {
    let http = HttpProvider { base_url: url.to_owned(), api_key_env: None };
    let preload = preload.iter().map(|model| (*model).to_owned()).collect();
    let kind = ProviderKind::Ollama(OllamaProvider { http, keep_alive, preload });
    let config = ProviderConfig { request_timeout: Duration::from_secs(10), ..ProviderConfig::plain(kind) };
    Provider::new("local", &config, |_| None).unwrap()
}

fn request(input: &Value) -> ChatRequest {
    let input = RawValue::from_string(input.to_string()).unwrap();
    ChatRequest { body: request_body(&input, Some("m"), true).unwrap(), publish: true, seed: 7 }
}

async fn chat(server: &Server, input: &Value) -> (Result<ChatOutput, ProviderFailure>, Recorder) {
    let mut recorder = Recorder::default();
    let answer = provider_with(&server.url, None, &[]).chat(&request(input), &mut recorder).await;
    (answer, recorder)
}

/// The body that the server gets for an input.
async fn sent(input: Value, keep_alive: Option<KeepAlive>) -> Value {
    let server = Server::start(&[LAST]).await;
    provider_with(&server.url, keep_alive, &[]).chat(&request(&input), &mut Recorder::default()).await.unwrap();
    server.asked("/api/chat").remove(0)
}

fn failure(answer: (Result<ChatOutput, ProviderFailure>, Recorder)) -> (ErrorCode, Then) {
    let failure = answer.0.unwrap_err();
    (failure.error.code, failure.then)
}

#[tokio::test]
async fn a_stream_of_lines_comes_out_in_the_shape_of_every_other_provider() {
    let lines = [
        piece(&json!({"role": "assistant", "content": "", "thinking": "Hm. "})),
        piece(&json!({"role": "assistant", "content": "Hel"})),
        piece(&json!({"role": "assistant", "content": "lo"})),
        LAST.to_owned(),
    ];
    let server = Server::start(&lines.each_ref().map(String::as_str)).await;
    let (output, recorder) = chat(&server, &json!({"user": "hi"})).await;
    let output = output.unwrap();
    assert_eq!((output.answer.content.as_str(), output.answer.reasoning.as_str()), ("Hello", "Hm. "));
    assert_eq!((output.model.as_deref(), output.finish_reason.as_deref()), (Some("m"), Some("stop")));
    let usage: Value = serde_json::from_str(output.usage.unwrap().get()).unwrap();
    assert_eq!(usage, json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}));
    let deltas = [json!({"reasoning": "Hm. "}), json!({"content": "Hel"}), json!({"content": "lo"})];
    assert_eq!(recorder.deltas, deltas);
    assert_eq!(recorder.texts, ["", "Hel", "lo"]);
}

#[tokio::test]
async fn tool_calls_get_names_and_their_arguments_as_a_text() {
    let call = json!({"function": {"name": "weather", "arguments": {"city": "Paris"}}});
    let named = json!({"id": "call_9", "function": {"name": "time", "arguments": {}}});
    let message = json!({"role": "assistant", "content": "", "tool_calls": [call]});
    let lines = [piece(&message), piece(&json!({"role": "assistant", "tool_calls": [named]})), LAST.to_owned()];
    let server = Server::start(&lines.each_ref().map(String::as_str)).await;
    let output = chat(&server, &json!({"user": "hi"})).await.0.unwrap();
    assert_eq!(output.finish_reason.as_deref(), Some("tool_calls"));
    let calls = serde_json::to_value(&output.answer.tool_calls).unwrap();
    let function = json!({"name": "weather", "arguments": r#"{"city":"Paris"}"#});
    assert_eq!(calls[0], json!({"id": "call_7_0", "type": "function", "function": function}));
    assert_eq!((&calls[1]["id"], &calls[1]["function"]["arguments"]), (&json!("call_9"), &json!("{}")));
}

#[tokio::test]
async fn parameters_become_options() {
    let body = sent(
        json!({"system": "s", "user": "u", "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": "END", "max_tokens": 9,
            "logit_bias": {"1": 2}, "reasoning_effort": "none", "extra_body": {"options": {"num_ctx": 512, "seed": 4}, "truncate": false},
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}}),
        None,
    )
    .await;
    let expected = json!({
        "model": "m", "stream": true, "keep_alive": -1, "think": false, "format": {"type": "object"}, "truncate": false,
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "options": {"temperature": 0.5, "top_p": 0.9, "seed": 4, "stop": ["END"], "num_predict": 9, "num_ctx": 512},
    });
    assert_eq!(body, expected);
    let any_json = sent(json!({"user": "u", "response_format": {"type": "json_object"}}), None).await;
    assert_eq!((&any_json["format"], any_json.get("options")), (&json!("json"), None));
}

#[tokio::test]
async fn messages_are_translated() {
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Paris\"}"}});
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    let messages = json!([
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "text", "text": "what is this?"}, image]},
        {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]);
    let body = sent(json!({ "messages": messages, "tools": [{"type": "function"}] }), None).await;
    let function = json!({"name": "weather", "arguments": {"city": "Paris"}});
    let expected = json!([
        {"role": "system", "content": "d"},
        {"role": "user", "content": "what is this?", "images": ["AAAA"]},
        {"role": "assistant", "content": "", "thinking": "r", "tool_calls": [{"id": "c1", "function": function}]},
        {"role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "c1"},
    ]);
    assert_eq!(body["messages"], expected);
    assert_eq!(body["tools"], json!([{"type": "function"}]));
}

#[tokio::test]
async fn what_ollama_has_no_form_for_is_refused_by_its_place() {
    let server = Server::start(&[LAST]).await;
    let url = json!([{"type": "image_url", "image_url": {"url": "https://example.org/secret.png"}}]);
    let answer = chat(&server, &json!({"messages": [{"role": "user", "content": url}]})).await;
    let failure = answer.0.unwrap_err();
    assert_eq!((failure.error.code, failure.then), (ErrorCode::BadInput, Then::Fail));
    assert!(failure.error.message.contains("input.messages[0].content[0]"), "{failure}");
    assert!(!failure.error.message.contains("secret"), "{failure}");
    assert!(server.asked("/api/chat").is_empty());
}

#[tokio::test]
async fn the_configured_keep_alive_wins_over_a_callers_and_without_any_it_is_for_ever() {
    let asked = || json!({"user": "u", "extra_body": {"keep_alive": "5m"}});
    assert_eq!(sent(json!({"user": "u"}), None).await["keep_alive"], json!(-1));
    assert_eq!(sent(asked(), None).await["keep_alive"], json!("5m"));
    assert_eq!(sent(asked(), Some(KeepAlive::Seconds(3600))).await["keep_alive"], json!(3600));
    assert_eq!(sent(asked(), Some(KeepAlive::Text("15m".into()))).await["keep_alive"], json!("15m"));
}

#[tokio::test]
async fn errors_are_classified() {
    let cases = [
        (404, "model 'm' not found, try pulling it first", ErrorCode::ModelUnavailable, Then::Retry(None)),
        (400, "the input length exceeds the context length", ErrorCode::ContextLength, Then::Fail),
        (400, "\"m\" does not support tools", ErrorCode::BadInput, Then::Fail),
        (401, "unauthorized", ErrorCode::ProviderAuth, Then::Fail),
        (
            500,
            "model requires more system memory (9 GiB) than is available (2 GiB)",
            ErrorCode::ModelUnavailable,
            Then::Retry(None),
        ),
        (500, "model runner has unexpectedly stopped", ErrorCode::ProviderError, Then::Retry(None)),
        (
            503,
            "server busy, please try again.  maximum pending requests exceeded",
            ErrorCode::ProviderUnavailable,
            Then::Snooze(Duration::from_secs(5)),
        ),
    ];
    for (status, message, code, then) in cases {
        let server = Server::refusing(status, &json!({"error": message}).to_string()).await;
        assert_eq!(failure(chat(&server, &json!({"user": "u"})).await), (code, then), "{message}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_holds_an_error_is_a_failure() {
    let first = piece(&json!({"content": "Hel"}));
    let error = (ErrorCode::ProviderError, Then::Retry(None));
    let ended = Server::start(&[&first]).await;
    assert_eq!(failure(chat(&ended, &json!({"user": "u"})).await), error);
    let late = Server::start(&[&first, r#"{"error":"an error was encountered while running the model"}"#]).await;
    assert_eq!(failure(chat(&late, &json!({"user": "u"})).await), error);
    let garbage = Server::start(&["<html>"]).await;
    assert_eq!(failure(chat(&garbage, &json!({"user": "u"})).await), (ErrorCode::BadResponse, Then::Retry(None)));
    let endless = Server::start(&[&"x".repeat(2 << 20)]).await;
    assert_eq!(failure(chat(&endless, &json!({"user": "u"})).await), (ErrorCode::BadResponse, Then::Retry(None)));
}

#[tokio::test]
async fn a_model_that_is_not_loaded_shows_as_loading_until_it_answers() {
    let lines = [piece(&json!({"content": "a"})), LAST.to_owned()];
    let server = Server::start(&lines.each_ref().map(String::as_str)).await;
    let provider = provider_with(&server.url, None, &[]);
    for expected in
        [&[Phase::Working, Phase::Loading, Phase::Working, Phase::Streaming][..], &[Phase::Working, Phase::Streaming]]
    {
        let mut recorder = Recorder::default();
        provider.chat(&request(&json!({"user": "u"})), &mut recorder).await.unwrap();
        assert_eq!(recorder.phases, expected);
    }
    assert_eq!(server.asked("/api/ps").len(), 1, "who has just answered is loaded: no call is paid for it");
}

#[tokio::test]
async fn a_model_that_was_pushed_out_meanwhile_shows_as_loading_when_its_answer_is_late() {
    let server = Server::start(&[LAST]).await;
    server.script().loaded = vec!["m:latest".into()];
    let provider = provider_with(&server.url, None, &[]);
    provider.chat(&request(&json!({"user": "u"})), &mut Recorder::default()).await.unwrap();
    server.gate.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    server.script().loaded = vec!["other".into()];
    let mut recorder = Recorder::default();
    let request = request(&json!({"user": "u"}));
    let answer = provider.chat(&request, &mut recorder);
    let asked = async {
        until(|| server.asked("/api/ps").len() == 2).await;
        server.gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(answer, asked);
    answer.unwrap();
    assert_eq!(recorder.phases, [Phase::Working, Phase::Loading, Phase::Working]);
}

#[tokio::test]
async fn texts_are_embedded_and_the_model_is_kept_whatever_is_configured_or_asked() {
    let server = Server::start(&[LAST]).await;
    let provider = provider_with(&server.url, Some(KeepAlive::Seconds(0)), &[]);
    let asked = r#"{"keep_alive": "1m", "options": {"num_ctx": 512}}"#;
    let extra: BTreeMap<String, Box<RawValue>> = serde_json::from_str(asked).unwrap();
    let request = EmbedRequest {
        model: Some("e"),
        texts: &["a", "b"],
        dimensions: Some(2),
        extra: &extra,
        seed: 0,
        meter: &Unmetered,
    };
    let output = provider.embed(request).await.unwrap();
    assert_eq!((output.vectors.len(), output.vectors.dimensions(), output.model.as_deref()), (2, 2, Some("e")));
    assert_eq!(output.usage, Some(EmbedUsage { prompt_tokens: 5, total_tokens: 5 }));
    let expected = json!({"model": "e", "input": ["a", "b"], "dimensions": 2, "truncate": false, "keep_alive": -1,
        "options": {"num_ctx": 512}});
    assert_eq!(server.asked("/api/embed"), [expected]);
}

#[tokio::test]
async fn models_are_loaded_ahead_and_an_embedding_model_is_kept_whatever_the_chat_models_get() {
    let server = Server::start(&[LAST]).await;
    server.script().embedders = vec!["e".into()];
    let provider = provider_with(&server.url, Some(KeepAlive::Text("15m".into())), &["m", "e"]);
    tokio::select! {
        () = provider.tend(&Open) => panic!("it has something to do"),
        () = until(|| server.script().loaded.len() == 2) => {}
    }
    assert_eq!(server.asked("/api/generate")[0], json!({"model": "m", "keep_alive": "15m"}));
    assert_eq!(server.asked("/api/embed"), [json!({"model": "e", "keep_alive": -1, "input": ""})]);
}

#[tokio::test]
async fn a_server_that_lost_its_models_is_given_them_again_but_one_that_swapped_is_left_alone() {
    let server = Server::start(&[LAST]).await;
    let provider = provider_with(&server.url, None, &["m"]);
    let loads = || server.asked("/api/generate").len();
    let looks = || server.asked("/api/ps").len();
    let scenario = async {
        until(|| loads() == 1).await;
        server.script().loaded = vec!["other".into()];
        let seen = looks();
        until(|| looks() >= seen + 2).await;
        assert_eq!(loads(), 1, "loading it again would push the other one out");
        server.script().loaded.clear();
        until(|| loads() == 2).await;
    };
    tokio::select! {
        () = provider.tend(&Open) => panic!("it has something to do"),
        () = scenario => {}
    }
}

/// A server in use for another model, until it is told otherwise.
struct InUse(AtomicBool);

impl Turnstile for InUse {
    type Turn = ();

    fn turns(&self) -> bool {
        true
    }

    async fn enter(&self, _: &str) -> Option<()> {
        (!self.0.load(Ordering::Relaxed)).then_some(())
    }
}

#[tokio::test]
async fn a_chat_model_is_loaded_ahead_in_its_turn_and_an_embedding_model_at_once() {
    let server = Server::start(&[LAST]).await;
    server.script().embedders = vec!["e".into()];
    let (provider, turns) = (provider_with(&server.url, None, &["m", "e"]), InUse(true.into()));
    let scenario = async {
        until(|| server.script().loaded == ["e"]).await;
        let seen = server.asked("/api/ps").len();
        until(|| server.asked("/api/ps").len() >= seen + 2).await;
        assert_eq!(server.script().loaded, ["e"], "the other model is at work");
        turns.0.store(false, Ordering::Relaxed);
        until(|| server.script().loaded == ["e", "m"]).await;
        let seen = server.asked("/api/ps").len();
        server.script().loaded = vec!["other".into()];
        until(|| server.asked("/api/ps").len() >= seen + 2).await;
        assert_eq!(server.script().loaded, ["other"], "loading it again would push the other one out");
    };
    tokio::select! {
        () = provider.tend(&turns) => panic!("it has something to do"),
        () = scenario => {}
    }
}
