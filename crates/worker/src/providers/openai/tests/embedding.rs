//! Embeddings against a scripted server: both forms of a vector, and answers that are none.

use std::collections::BTreeMap;

use overshot_common::code::ErrorCode;
use overshot_common::task::embedding::Vectors;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::server::{Server, Then as After, json as json_answer};
use super::{config, provider};
use crate::providers::{EmbedOutput, EmbedRequest, EmbedUsage, Provider, ProviderFailure, Then, Unmetered};

const TEXTS: &[&str] = &["a secret text", "two"];

async fn embed(provider: &Provider, extra: &BTreeMap<String, Box<RawValue>>) -> Result<EmbedOutput, ProviderFailure> {
    provider
        .embed(EmbedRequest { model: Some("m"), texts: TEXTS, dimensions: Some(2), extra, seed: 0, meter: &Unmetered })
        .await
}

/// What that body of a 200 comes to.
async fn answered(body: &Value) -> Result<EmbedOutput, ProviderFailure> {
    let server = Server::start(json_answer("200 OK", "", &body.to_string()), After::Close).await;
    embed(&provider(&server.url), &BTreeMap::new()).await
}

fn vectors(list: &[[f32; 2]]) -> Vectors {
    let mut vectors = Vectors::default();
    list.iter().for_each(|numbers| vectors.push(*numbers).unwrap());
    vectors
}

#[tokio::test]
async fn numbers_and_base64_are_read_in_the_order_of_their_index() {
    let usage = json!({"prompt_tokens": 5, "total_tokens": 5});
    let data = [
        json!([{"index": 1, "embedding": [0.5, -1.0]}, {"index": 0, "embedding": [1, 2e-3]}]),
        json!([{"object": "embedding", "index": 0, "embedding": "AACAP28SAzs="}, {"index": 1, "embedding": "AAAAPwAAgL8="}]),
    ];
    for data in data {
        let body = json!({"object": "list", "model": "e5", "data": data, "usage": usage});
        let output = answered(&body).await.unwrap();
        assert_eq!(output.vectors, vectors(&[[1.0, 2e-3], [0.5, -1.0]]), "{body}");
        assert_eq!(output.model.as_deref(), Some("e5"));
        assert_eq!(output.usage, Some(EmbedUsage { prompt_tokens: 5, total_tokens: 5 }));
    }
}

#[tokio::test]
async fn the_request_holds_the_batch_and_the_callers_own_members() {
    let body = json!({"data": [{"embedding": [1, 2]}, {"embedding": [3, 4]}]});
    let mut server = Server::start(json_answer("200 OK", "", &body.to_string()), After::Close).await;
    let extra = BTreeMap::from([("input_type".to_owned(), RawValue::from_string("\"query\"".into()).unwrap())]);
    embed(&provider(&server.url), &extra).await.unwrap();
    let (head, body) = server.request().await;
    assert!(head.starts_with("POST /v1/embeddings "), "{head}");
    let expected =
        json!({"model": "m", "input": TEXTS, "encoding_format": "base64", "dimensions": 2, "input_type": "query"});
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
}

#[tokio::test]
async fn an_answer_without_one_vector_for_each_text_cannot_be_used() {
    let one = json!({"index": 0, "embedding": [1.0, 2.0]});
    for data in [
        json!([]),
        json!([one]),
        json!([one, one]),
        json!([one, {"index": 2, "embedding": [1.0, 2.0]}]),
        json!([one, {"index": 1, "embedding": [1.0]}]),
        json!([one, {"index": 1, "embedding": []}]),
        json!([one, {"index": 1, "embedding": ["x", "y"]}]),
        json!([one, {"index": 1, "embedding": "%%%"}]),
        json!([one, {"index": 1, "embedding": [1e300, 2.0]}]),
    ] {
        let failure = answered(&json!({ "data": data })).await.unwrap_err();
        assert_eq!(failure.error.code, ErrorCode::BadResponse, "{data}");
    }
}

#[tokio::test]
async fn an_error_is_classified_as_that_of_a_chat() {
    for (status, body, code, then) in [
        ("429 Too Many", "{}", ErrorCode::ProviderUnavailable, Then::Snooze(std::time::Duration::from_secs(5))),
        ("500 Oops", "{}", ErrorCode::ProviderError, Then::Retry(None)),
        (
            "400 Bad Request",
            r#"{"error":{"message":"a secret text exceeds the context size"}}"#,
            ErrorCode::ContextLength,
            Then::Fail,
        ),
        ("200 OK", r#"{"error":{"code":500,"message":"a secret text"}}"#, ErrorCode::ProviderError, Then::Retry(None)),
    ] {
        let server = Server::start(json_answer(status, "", body), After::Close).await;
        let failure = embed(&provider(&server.url), &BTreeMap::new()).await.unwrap_err();
        assert_eq!((failure.error.code, failure.then), (code, then), "{status} {body}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_base64_is_asked_for_numbers() {
    let mut server = Server::start(json_answer("422 Unprocessable", "", "{}"), After::KeepAlive).await;
    let provider = Provider::new("local", &config(&server.url, None), |_| None).unwrap();
    let failure = embed(&provider, &BTreeMap::new()).await.unwrap_err();
    assert_eq!((failure.error.code, failure.then), (ErrorCode::BadInput, Then::Fail), "what it says to both counts");
    for form in ["base64", "float"] {
        let body: Value = serde_json::from_str(&server.request().await.1).unwrap();
        assert_eq!(body["encoding_format"], form);
    }
}
