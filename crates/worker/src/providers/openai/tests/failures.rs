//! Every way in which a call can fail, and what the job is told to do.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use tokio::net::TcpListener;

use super::server::{Seen, Server, Then as After, cut_stream, json, stream};
use super::{HELLO, Recorder, chat, config, request};
use crate::providers::{Provider, ProviderFailure, Then};

const RETRY: Then = Then::Retry(None);

/// The failure that those bytes lead to. Checks that it shows nothing of the prompt.
async fn failure(bytes: impl Into<Vec<u8>>, after: After) -> (ProviderFailure, Recorder) {
    let mut server = Server::start(bytes, after).await;
    let (answer, recorder) = chat(&server.url).await;
    let failure = answer.unwrap_err();
    assert!(!failure.to_string().contains("secret"), "{failure}");
    server.request().await;
    let next = server.seen.try_recv();
    assert!(matches!(next, Err(_) | Ok(Seen::Gone)), "after {failure}: {next:?}");
    (failure, recorder)
}

/// An HTTP error is classified so.
async fn check_status(status: &str, headers: &str, body: &str, code: ErrorCode, then: Then) {
    let (failure, _) = failure(json(status, headers, body), After::Hang).await;
    assert_eq!((failure.error.code, failure.then), (code, then), "{status} {headers} {body}");
}

/// An error object inside a stream that had begun is classified so.
async fn check_event(error: &str, code: ErrorCode, then: Then) {
    let (failure, recorder) = failure(stream(&[HELLO[1], error]), After::Hang).await;
    assert_eq!((failure.error.code, failure.then), (code, then), "{error}");
    assert_eq!(recorder.texts, ["Hel"]);
}

#[tokio::test]
async fn http_errors_are_classified_by_status() {
    use ErrorCode::{BadInput, ProviderAuth, ProviderError, ProviderUnavailable, Timeout};
    check_status("400 Bad Request", "", "{}", BadInput, Then::Fail).await;
    check_status("401 Unauthorized", "", "", ProviderAuth, Then::Fail).await;
    check_status("403 Forbidden", "", "<html>", ProviderAuth, Then::Fail).await;
    check_status("404 Not Found", "", "{}", BadInput, Then::Fail).await;
    check_status("408 Request Timeout", "", "{}", Timeout, RETRY).await;
    check_status("413 Content Too Large", "", "{}", BadInput, Then::Fail).await;
    check_status("422 Unprocessable", "", "[]", BadInput, Then::Fail).await;
    check_status("429 Too Many", "", "{}", ProviderUnavailable, Then::Snooze(Duration::from_secs(5))).await;
    let after_7s = Then::Snooze(Duration::from_secs(7));
    check_status("429 Too Many", "retry-after: 7\r\n", "{}", ProviderUnavailable, after_7s).await;
    check_status("500 Oops", "", "{}", ProviderError, RETRY).await;
    check_status("502 Bad Gateway", "", "<html>", ProviderError, RETRY).await;
    check_status("503 Unavailable", "", "{}", ProviderError, RETRY).await;
    check_status("503 Unavailable", "retry-after: 7\r\n", "{}", ProviderUnavailable, after_7s).await;
    check_status("402 Payment Required", "", "{}", ProviderError, RETRY).await;
    check_status("409 Conflict", "", "{}", ProviderError, RETRY).await;
    check_status("424 Failed Dependency", "", "{}", ProviderError, RETRY).await;
    check_status("501 Not Implemented", "", "{}", BadInput, Then::Fail).await;
    check_status("529 Overloaded", "", "{}", ProviderUnavailable, Then::Snooze(Duration::from_secs(5))).await;
    check_status("302 Found", "location: /v2\r\n", "", ProviderError, RETRY).await;
}

#[tokio::test]
async fn http_errors_are_told_apart_by_what_the_server_says() {
    use ErrorCode::{ContextLength, ModelUnavailable, ProviderError, ProviderUnavailable};
    let llama = r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size",
        "type":"exceed_context_size_error"}}"#;
    check_status("400 Bad Request", "", llama, ContextLength, Then::Fail).await;
    let openai = r#"{"error":{"message":"secret","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    check_status("400 Bad Request", "", openai, ContextLength, Then::Fail).await;
    let vllm = r#"{"object":"error","message":"This model's maximum context length is 9","code":400}"#;
    check_status("400 Bad Request", "", vllm, ContextLength, Then::Fail).await;
    let no_model = r#"{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","code":404}}"#;
    check_status("404 Not Found", "", no_model, ModelUnavailable, RETRY).await;
    let ollama = r#"{"error":"model 'm' not found, try pulling it first"}"#;
    check_status("404 Not Found", "", ollama, ModelUnavailable, RETRY).await;
    let fast_api = r#"{"detail":"Model 'm' not found. Available patterns: ['whisper-*']"}"#;
    check_status("404 Not Found", "", fast_api, ModelUnavailable, RETRY).await;
    let after_5s = Then::Snooze(Duration::from_secs(5));
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    check_status("503 Unavailable", "", loading, ModelUnavailable, after_5s).await;
    let full = r#"{"error":{"message":"The engine is currently overloaded, please try again later"}}"#;
    check_status("503 Unavailable", "", full, ProviderUnavailable, after_5s).await;
    let quota = r#"{"error":{"message":"secret","code":"insufficient_quota"}}"#;
    check_status("429 Too Many", "", quota, ProviderError, RETRY).await;
}

#[tokio::test]
async fn errors_inside_a_stream_are_classified_after_the_first_chunk_too() {
    use ErrorCode::{BadInput, ContextLength, ProviderAuth, ProviderError, ProviderUnavailable};
    check_event(r#"{"error":{"object":"error","type":"BadRequestError","code":400}}"#, BadInput, Then::Fail).await;
    check_event(r#"{"error":{"type":"BadRequestError","code":"400"}}"#, BadInput, Then::Fail).await;
    check_event(r#"{"error":{"code":"context_length_exceeded"}}"#, ContextLength, Then::Fail).await;
    check_event(r#"{"error":{"type":"authentication_error"}}"#, ProviderAuth, Then::Fail).await;
    check_event(r#"{"error":{"type":"server_error","message":"secret"}}"#, ProviderError, RETRY).await;
    check_event(r#"{"error":"secret"}"#, ProviderError, RETRY).await;
    check_event(r#"{"object":"error","message":"secret","code":500}"#, ProviderError, RETRY).await;
    let snooze = Then::Snooze(Duration::from_secs(5));
    check_event(r#"{"error":{"code":"rate_limit_exceeded"}}"#, ProviderUnavailable, snooze).await;
}

#[tokio::test]
async fn an_error_in_a_200_body_is_an_error() {
    let body = r#"{"error":{"message":"secret","type":"server_error"}}"#;
    check_status("200 OK", "", body, ErrorCode::ProviderError, RETRY).await;
}

#[tokio::test]
async fn a_stream_without_its_end_mark_was_cut_whatever_came_before() {
    for events in [HELLO, &HELLO[..2], &[]] {
        let (failure, _) = failure(cut_stream(events), After::Close).await;
        assert_eq!((failure.error.code, failure.then), (ErrorCode::ProviderError, RETRY));
    }
    let mut within_an_event = cut_stream(HELLO);
    within_an_event.push_str("data: {\"choices\":[{\"delta\"");
    let (failure, recorder) = failure(within_an_event, After::Close).await;
    assert_eq!(failure.error.code, ErrorCode::ProviderError);
    assert_eq!(recorder.texts, ["Hel", "lo"]);
}

#[tokio::test]
async fn a_reset_before_the_first_byte_is_unavailable_and_one_in_the_middle_is_an_error() {
    for after in [After::Reset, After::Close] {
        let (failure, _) = failure("", after).await;
        assert_eq!((failure.error.code, failure.then), (ErrorCode::ProviderUnavailable, RETRY));
    }
    let (failure, _) = failure("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ndata: ", After::Close).await;
    assert_eq!((failure.error.code, failure.then), (ErrorCode::ProviderError, RETRY));
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let failure = chat(&url).await.0.unwrap_err();
    assert_eq!((failure.error.code, failure.then), (ErrorCode::ProviderUnavailable, RETRY));
    assert_eq!(failure.error.message, "the provider cannot be reached (connection refused)");
}

#[tokio::test]
async fn a_call_over_its_request_timeout_is_a_timeout_before_and_after_the_first_chunk() {
    for (bytes, chunks) in [(String::new(), 0), (cut_stream(HELLO), 2)] {
        let server = Server::start(bytes, After::Hang).await;
        let mut config = config(&server.url, None);
        config.request_timeout = Duration::from_millis(500);
        let provider = Provider::new("local", &config, |_| None).unwrap();
        let mut recorder = Recorder::default();
        let failure = provider.chat(&request(true), &mut recorder).await.unwrap_err();
        assert_eq!((failure.error.code, failure.then), (ErrorCode::Timeout, RETRY));
        assert_eq!(recorder.texts.len(), chunks);
    }
}

#[tokio::test]
async fn answers_of_another_form_are_bad_responses() {
    let html = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 1\r\n\r\n<".to_owned();
    for bytes in [
        html,
        json("200 OK", "", "{}"),
        json("200 OK", "", r#"{"choices":[]}"#),
        json("200 OK", "", "secret"),
        json("200 OK", "", r#"{"choices":[{"message":{"content":7}}]}"#),
        stream(&[]),
        stream(&["secret"]),
        stream(&[r#"{"choices":[{"delta":[]}]}"#]),
    ] {
        let (failure, _) = failure(bytes, After::Hang).await;
        assert_eq!((failure.error.code, failure.then), (ErrorCode::BadResponse, RETRY), "{failure}");
    }
}

#[tokio::test]
async fn messages_name_the_status_and_the_servers_short_names_only() {
    for (body, expected) in [
        (
            r#"{"error":{"message":"secret","type":"invalid_request_error","code":"a secret","param":"tools[0]"}}"#,
            "the provider answered 400 (invalid_request_error, tools[0])",
        ),
        (r#"{"error":{"message":"secret","code":400}}"#, "the provider answered 400"),
    ] {
        let (failure, _) = failure(json("400 Bad Request", "", body), After::Hang).await;
        assert_eq!(failure.error.message, expected);
    }
}
