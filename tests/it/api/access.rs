//! Tokens, paths, methods, sizes.

use reqwest::Method;
use serde_json::json;
use support::FleetOptions;

use crate::settings::{chat, quick};

#[tokio::test]
async fn the_api_wants_one_of_its_tokens_and_the_probes_want_none() {
    let fleet = FleetOptions::new(quick()).workers(0).token("first-token,second-token").start().await;
    let client = &fleet.client;
    for wrong in [None, Some("wrong"), Some("first-toke"), Some("first-token2"), Some("first-token,second-token")] {
        let stranger = client.with_token(wrong);
        for (method, path) in [(Method::GET, "/api/v1/jobs"), (Method::GET, "/api/v1/nothing"), (Method::POST, "/v1/x")]
        {
            let answer = stranger.send(stranger.request(method, path)).await;
            assert_eq!(answer.status, 401, "{wrong:?} {path}: {}", answer.text);
            assert!(answer.json["error"]["message"].is_string(), "{}", answer.text);
        }
        assert_eq!(stranger.post_job(&chat("hello")).await.status, 401);
    }
    assert_eq!(client.get("/api/v1/jobs").await.json["data"], json!([]));
    for right in ["first-token", "second-token"] {
        assert_eq!(client.with_token(Some(right)).get("/api/v1/jobs").await.status, 200, "{right}");
    }
    let stranger = client.with_token(None);
    for open in ["/", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(stranger.get(open).await.status, 200, "{open}");
    }
    assert_eq!(stranger.get("/healthz").await.json, json!({ "status": "ok" }));
}

#[tokio::test]
async fn unknown_paths_methods_and_ids_answer_with_the_envelope() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let absent = "job_chat-0-01arz3ndektsv4rrffq69g5fav";
    for path in [
        "/nothing".to_owned(),
        "/api/v1/nothing".to_owned(),
        "/api/v1/jobs/nonsense".to_owned(),
        format!("/api/v1/jobs/{absent}"),
        format!("/api/v1/jobs/{absent}/events"),
        format!("/api/v1/jobs/{}", absent.replace("chat", "other")),
        format!("/api/v1/jobs/{}", absent.replace("-0-", "-7-")),
        "/api/v1/pools/other".to_owned(),
        "/api/v1/pools/other/demand".to_owned(),
    ] {
        let answer = client.get(&path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
        assert!(answer.json["error"]["code"].is_string() && answer.json["status"] == 404, "{path}: {}", answer.text);
    }
    for (method, path) in [
        (Method::PUT, "/api/v1/jobs"),
        (Method::DELETE, "/api/v1/pools"),
        (Method::POST, "/healthz"),
        (Method::GET, "/api/v1/pools/chat/pause"),
    ] {
        let answer = client.send(client.request(method.clone(), path)).await;
        assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text);
        assert_eq!(answer.json["status"], 405, "{method} {path}: {}", answer.text);
    }
    for path in [format!("/api/v1/jobs/{absent}/cancel"), format!("/api/v1/jobs/{absent}/retry")] {
        assert_eq!(client.post_empty(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_and_one_under_it_is_not() {
    let fleet = FleetOptions::new(format!("max_body_bytes = \"64KiB\"\n{}", quick())).workers(0).start().await;
    let client = &fleet.client;
    let answer = client.post_job(&chat(&"x".repeat(70_000))).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_eq!(answer.json["status"], 413, "{}", answer.text);
    // Without a length in advance, it is counted while it comes.
    let pieces = futures_util::stream::iter((0..80).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 10])));
    let answer = client.post_bytes("/api/v1/jobs", reqwest::Body::wrap_stream(pieces)).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_eq!(client.post_job(&chat(&"x".repeat(60_000))).await.status, 202);
}
