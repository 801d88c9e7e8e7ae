//! Chat jobs on an Ollama.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::{Fleet, OllamaShim, OllamaStub};

use crate::settings::{chat, chat_with, on_ollama, quick};

#[tokio::test]
async fn a_job_waits_for_its_model_in_the_phase_loading_and_streams_like_any_other() {
    let stub = OllamaStub::start(Duration::from_millis(1500), Duration::ZERO).await;
    let fleet = Fleet::start(on_ollama(&stub, "", "models = [\"small\"]")).await;
    let id = fleet.client.submit(&chat("Hello world")).await;
    let events = fleet.client.events(&id, None).await.rest().await;
    let phases: Vec<&str> = events.iter().filter_map(|event| event.data["phase"].as_str()).collect();
    assert!(phases.contains(&"loading"), "{phases:?}");
    let texts: Vec<&str> = events.iter().filter(|event| event.event == "chunk").map(|event| event.text()).collect();
    assert_eq!(texts, ["Hello ", "world"]);
    let done = fleet.client.wait_end(&id).await;
    assert_eq!((&done["status"], &done["result"]["content"]), (&json!("completed"), &json!("Hello world")), "{done}");
    assert_eq!(done["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 }));
    assert_eq!(stub.asked("/api/chat")[0]["keep_alive"], json!(-1));
}

#[tokio::test]
async fn a_full_server_costs_no_attempt_and_a_missing_model_is_tried_again() {
    let stub = OllamaStub::start(Duration::ZERO, Duration::ZERO).await;
    let fleet = Fleet::start(on_ollama(&stub, "", "models = [\"small\"]")).await;
    stub.refuse(404, "model 'small' not found, try pulling it first");
    let id = fleet.client.submit(&chat("hi")).await;
    let done = fleet.client.wait_end(&id).await;
    assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(2)), "{done}");
    stub.refuse(503, "server busy, please try again.  maximum pending requests exceeded");
    let id = fleet.client.submit(&chat_with("hi", &json!({ "max_attempts": 1 }))).await;
    let done = fleet.client.wait_end(&id).await;
    assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(1)), "{done}");
}

#[tokio::test]
async fn a_transcription_for_an_ollama_alone_fails_at_once_and_its_models_circuit_stays_closed() {
    let stub = OllamaStub::start(Duration::ZERO, Duration::ZERO).await;
    let fleet = Fleet::start(on_ollama(&stub, "", "models = [\"small\"]\nbreaker = { failures = 1 }")).await;
    let uploaded = fleet.client.upload(&[], *b"RIFF").await;
    let job = fleet.client.wait_end(uploaded.json["id"].as_str().unwrap()).await;
    assert_eq!((&job["error"]["code"], &job["attempts"]), (&json!("bad_input"), &json!(1)), "{job}");
    let id = fleet.client.submit(&chat("hi")).await;
    let done = fleet.client.wait_end(&id).await;
    assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(1)), "{done}");
    let status = fleet.client.get("/api/v1/providers/status").await.json;
    assert!(status["data"][0]["last_error"].is_null(), "{status}");
}

#[tokio::test]
async fn models_are_loaded_before_the_first_job_and_after_the_server_was_restarted() {
    let stub = OllamaStub::start(Duration::ZERO, Duration::ZERO).await;
    let _fleet = Fleet::start(on_ollama(&stub, "", "models = [\"small\"]\npreload = [\"small\"]")).await;
    stub.wait_loaded("small").await;
    stub.forget();
    stub.wait_loaded("small").await;
    assert_eq!(stub.loads(), 2);
    assert!(stub.asked("/api/chat").is_empty());
}

#[tokio::test]
async fn a_real_model_behind_its_api_answers_in_the_form_of_the_task() {
    let Some(shim) = OllamaShim::start() else { return };
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    let task = format!("[tasks.capital]\nkind = \"chat\"\npool = \"real\"\nschema = '{schema}'\n");
    let input = "[tasks.capital.input]\ntemperature = 0\nmax_tokens = 60\nseed = 1\n";
    let pool = "[pools.real]\nproviders = [\"ollama\"]\n";
    let fleet = Fleet::start(format!("{}{}{pool}{task}{input}", quick(), shim.provider())).await;
    let job = json!({ "task": "capital", "max_attempts": 1, "input": { "user": "Name the capital of France." } });
    let id = fleet.client.submit(&job).await;
    let events = fleet.client.events(&id, None).await.rest().await;
    let done = fleet.client.wait_end(&id).await;
    assert_eq!(done["status"], "completed", "{done}");
    let content = done["result"]["content"].as_str().unwrap();
    let answer: serde_json::Value = serde_json::from_str(content).unwrap();
    assert!(answer["city"].is_string(), "{answer}");
    let streamed: String = events.iter().filter(|event| event.event == "chunk").map(|event| event.text()).collect();
    assert_eq!(streamed, content);
    assert!(done["usage"]["prompt_tokens"].as_u64() > Some(0) && done["usage"]["completion_tokens"].as_u64() > Some(0));
    assert_eq!(done["result"]["finish_reason"], "stop");
}

#[tokio::test]
async fn what_the_tests_take_for_ollama_its_own_client_takes_for_it_too() {
    let Some(shim) = OllamaShim::start() else { return };
    let Some(python) = OllamaShim::python_of_the_client() else { return };
    let script = OllamaShim::script("check_ollama.py");
    let checked = Command::new(python).arg(script).args([shim.base_url(), OllamaShim::MODEL]).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}
