//! What a caller sends, and what the provider gets of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use support::{OpenAiStub, Reply};

use super::{completed, fleet, fleet_with, silence, verbose};

#[tokio::test]
async fn an_uploaded_file_becomes_a_transcript() {
    let stub = OpenAiStub::start().await;
    stub.push(verbose(&[(0.0, 1.5, " Hello there."), (1.5, 4.0, " How are you?")]));
    let fleet = fleet(&stub).await;
    let file = silence(20, 0);
    let fields = [("language", "en"), ("prompt", "Overshot"), ("temperature", "0.2"), ("metadata", r#"{"call":"7"}"#)];
    let answer = fleet.client.upload(&fields, file.clone()).await;
    assert_eq!((answer.status, &answer.json["task"]), (202, &json!("transcription")), "{}", answer.text);
    assert_eq!((&answer.json["metadata"]["call"], &answer.json["stream"]), (&json!("7"), &json!(false)));
    let job = completed(&fleet, &answer.id()).await;
    let result = &job["result"];
    assert_eq!(result["schema_version"], "ai.transcription_result.v1");
    let segments = json!([{"start": 0.0, "end": 1.5, "text": "Hello there."},
        {"start": 1.5, "end": 4.0, "text": "How are you?"}]);
    assert_eq!((&result["segments"], &result["language"]), (&segments, &json!("english")), "{result}");
    assert_eq!((&result["provider"], &result["model"]), (&json!("stub"), &json!("small")));
    let attempts = result["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["provider"]), (1, &json!("stub")), "{result}");
    let seen = stub.wait_for(1).await;
    let expected = json!({"response_format": "verbose_json", "model": "small", "language": "en", "prompt": "Overshot",
        "temperature": "0.2", "file": {"name": "audio.wav", "bytes": file.len()}});
    assert_eq!(seen.body, expected);
    let input = fleet.client.get(&format!("/api/v1/jobs/{}?include=input", answer.id())).await.json["input"].clone();
    assert_eq!((&input["audio"]["bytes"], &input["audio"]["filename"]), (&json!(file.len()), &json!("call.wav")));
}

#[tokio::test]
async fn a_file_is_fetched_from_where_the_configuration_allows() {
    let stub = OpenAiStub::start().await;
    stub.always(verbose(&[(0.0, 1.0, "Fetched.")]));
    let files = Router::new()
        .route("/call.wav", get(async || silence(1, 0)))
        .route("/moved", get(async || (StatusCode::FOUND, [("location", "/call.wav")])));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, files).await });
    let fleet = fleet_with(&stub, &format!("fetch.allow = [\"{address}\"]"), "").await;
    let submit = async |url: String| {
        let job = json!({"task": "transcription", "max_attempts": 1, "input": {"audio_url": url, "language": "de"}});
        fleet.client.wait_end(&fleet.client.submit(&job).await).await
    };
    let job = submit(format!("http://{address}/call.wav?sig=1")).await;
    assert_eq!(job["result"]["segments"][0]["text"], "Fetched.", "{job}");
    assert_eq!(stub.wait_for(1).await.body["language"], "de");
    let closed = format!("http://localhost:{}/call.wav", address.port());
    for (url, code) in [
        (format!("http://{address}/gone.wav"), "bad_input"),
        (format!("http://{address}/moved"), "dependency_error"),
        (closed, "bad_input"),
        ("http://169.254.169.254/latest/meta-data".to_owned(), "bad_input"),
    ] {
        let job = submit(url.clone()).await;
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{url}: {job}");
        assert!(!job["error"]["message"].as_str().unwrap().contains("http"), "a URL may be signed: {job}");
    }
}

#[tokio::test]
async fn each_mistake_in_a_form_names_its_field_and_leaves_nothing() {
    let stub = OpenAiStub::start().await;
    let fleet = fleet_with(&stub, "max_audio_bytes = \"100KiB\"", "").await;
    let file = || silence(1, 0);
    for (fields, param) in [
        (&[("language", "no such language")][..], "input.language"),
        (&[("temperature", "hot")], "input.temperature"),
        (&[("task", "chat")], "task"),
        (&[("task", "nothing")], "task"),
        (&[("model", "large")], "model"),
        (&[("max_attempts", "many")], "max_attempts"),
        (&[("audio_url", "http://a/")], "input.audio_url"),
        (&[("audio", "x")], "audio"),
        (&[("prompt", "a"), ("prompt", "b")], "prompt"),
        (&[("job", "[]")], "job"),
        (&[("job", r#"{"priority":"urgent"}"#)], "priority"),
    ] {
        let answer = fleet.client.upload(fields, file()).await;
        assert_eq!((answer.status, answer.param()), (422, param), "{fields:?}: {}", answer.text);
    }
    let form = |part: Part| Form::new().part("file", part.file_name("a.wav"));
    let empty = fleet.client.upload_form(form(Part::bytes(Vec::new()))).await;
    assert_eq!((empty.status, empty.param()), (422, "file"), "{}", empty.text);
    let absent = fleet.client.upload_form(Form::new().text("language", "en")).await;
    assert_eq!((absent.status, absent.code(), absent.param()), (422, "missing_field", "file"), "{}", absent.text);
    let late = form(Part::bytes(file())).text("priority", "urgent");
    assert_eq!(fleet.client.upload_form(late).await.param(), "priority", "behind the file");
    let two = form(Part::bytes(file())).part("file", Part::bytes(file()).file_name("b.wav"));
    assert_eq!(fleet.client.upload_form(two).await.param(), "file", "twice");
    let large = fleet.client.upload(&[], silence(5, 0)).await;
    assert_eq!((large.status, large.code()), (413, "payload_too_large"), "{}", large.text);
    let json = fleet.client.post("/api/v1/jobs/transcription", &json!({})).await;
    assert_eq!((json.status, json.code()), (400, "malformed_request"), "{}", json.text);
    let forged = json!({"task": "transcription", "input": {"audio": {"sha256": "00", "bytes": 3}}});
    assert_eq!(fleet.client.post_job(&forged).await.param(), "input.audio");
    support::assert_eventually!(super::stored(&fleet).await.is_empty());
}

#[tokio::test]
async fn a_server_without_verbose_json_is_asked_for_json_from_then_on() {
    let stub = OpenAiStub::start().await;
    let refusal = json!({"error": {"message": "response_format 'verbose_json' is not compatible with model 'small'",
        "type": "invalid_request_error", "param": "response_format"}});
    stub.push(Reply::status(400, &[], &refusal.to_string()));
    stub.always(Reply::status(200, &[], r#"{"text":"Plain words."}"#));
    let fleet = fleet(&stub).await;
    for _ in 0..2 {
        let answer = fleet.client.upload(&[("language", "en")], silence(3, 0)).await;
        let job = completed(&fleet, &answer.id()).await;
        let expected = json!([{"start": 0.0, "end": 3.0, "text": "Plain words."}]);
        assert_eq!((&job["result"]["segments"], &job["result"]["language"]), (&expected, &json!("en")), "{job}");
    }
    let formats: Vec<_> = stub.seen().iter().map(|seen| seen.body["response_format"].clone()).collect();
    assert_eq!(formats, ["verbose_json", "json", "json"]);
}

#[tokio::test]
async fn what_was_fetched_once_is_there_for_the_next_attempt_though_its_url_is_over() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::status(500, &[], "{}"));
    stub.push(verbose(&[(0.0, 1.0, "Fetched once.")]));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let answer = async move || match count.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(silence(20, 0)),
        _ => Err(StatusCode::FORBIDDEN),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/call.wav", get(answer))).await });
    let fleet = fleet_with(&stub, &format!("fetch.allow = [\"{address}\"]"), "").await;
    let url = format!("http://{address}/call.wav?expires=soon");
    let job = json!({"task": "transcription", "input": {"audio_url": url}});
    let job = completed(&fleet, &fleet.client.submit(&job).await).await;
    assert_eq!((&job["attempts"], asked.load(Ordering::Relaxed)), (&json!(2), 1), "{job}");
    let seen = stub.wait_for(2).await;
    assert_eq!(seen.body["file"]["bytes"], silence(20, 0).len());
}
