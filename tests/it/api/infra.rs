//! `/api/v1/infra/status`: what a real HTTP server beside the GPUs says.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use support::{Fleet, FleetOptions, assert_eventually};
use tokio::net::TcpListener;

use crate::settings::quick;

type Said = Arc<Mutex<(u16, String)>>;

/// A sidecar that says what is put into the second part, and its URL.
async fn sidecar(text: &str) -> (String, Said) {
    let said: Said = Arc::new(Mutex::new((200, text.to_owned())));
    let answer = async |State(said): State<Said>| {
        let (status, text) = said.lock().unwrap().clone();
        (StatusCode::from_u16(status).unwrap(), text)
    };
    let router = axum::Router::new().route("/metrics", axum::routing::get(answer)).with_state(said.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, said)
}

async fn fleet(url: &str) -> Fleet {
    FleetOptions::new(format!("{}\n[infra]\nurl = \"{url}\"\n", quick())).workers(0).start().await
}

async fn status(fleet: &Fleet) -> Value {
    fleet.client.get("/api/v1/infra/status").await.json
}

const PAGE: &str =
    "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",modelName=\"L4\"} 87\nvllm:num_requests_waiting{model_name=\"m\"} 3\n";

#[tokio::test]
async fn gpus_and_vllm_are_told_with_their_age_and_stay_when_the_sidecar_fails() {
    let (url, said) = sidecar(PAGE).await;
    let fleet = fleet(&url).await;
    let told = status(&fleet).await;
    assert_eq!(told["gpu"], json!([{ "index": "0", "name": "L4", "utilization_percent": 87.0 }]), "{told:#}");
    assert_eq!(told["vllm"], json!([{ "model": "m", "requests_waiting": 3.0 }]), "{told:#}");
    assert_eq!((&told["containers"], &told["sidecar_error"]), (&Value::Null, &Value::Null));
    assert!(told["age_seconds"].as_f64().unwrap() < 2.0, "{told:#}");
    said.lock().unwrap().0 = 500;
    assert_eventually!(status(&fleet).await["sidecar_error"] == "the sidecar answered 500");
    let told = status(&fleet).await;
    assert_eq!(told["gpu"][0]["name"], "L4", "{told:#}");
    assert!(told["age_seconds"].as_f64().unwrap() > 1.0, "{told:#}");
    let health = fleet.client.get("/health/detail").await.json;
    assert_eq!(health["status"], "degraded", "{health:#}");
}

#[tokio::test]
async fn neither_the_url_nor_a_secret_of_the_sidecar_is_told() {
    let (url, said) =
        sidecar(r#"{"gpu": [{"util": 1, "api_key": "hunter2"}], "vllm": {"auth": {"token": "hunter2"}}}"#).await;
    let fleet = fleet(&url).await;
    let told = status(&fleet).await;
    assert_eq!((&told["gpu"], &told["vllm"]), (&json!([{ "util": 1 }]), &json!({})), "{told:#}");
    said.lock().unwrap().1 = "hunter2 is no sample".to_owned();
    assert_eventually!(status(&fleet).await["sidecar_error"] == "line 1 of the sidecar's page is broken");
    said.lock().unwrap().1 = "x 1\n".repeat(300_000);
    assert_eventually!(status(&fleet).await["sidecar_error"].as_str().unwrap_or("").contains("larger than"));
    let told = status(&fleet).await.to_string();
    assert!(!told.contains("hunter2") && !told.contains("127.0.0.1"), "{told}");
}

#[tokio::test]
async fn a_sidecar_that_is_not_there_is_an_error_and_none_configured_is_not() {
    let gone = fleet("http://127.0.0.1:9/metrics").await;
    let told = status(&gone).await;
    assert_eq!((&told["configured"], &told["sidecar_error"]), (&json!(true), &json!("the sidecar cannot be reached")));
    let none = FleetOptions::new(quick()).workers(0).start().await;
    let told = status(&none).await;
    assert_eq!((&told["configured"], &told["sidecar_error"]), (&json!(false), &Value::Null), "{told:#}");
}
