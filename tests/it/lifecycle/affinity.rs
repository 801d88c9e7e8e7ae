//! Affinity: an Ollama with room for one chat model runs one after the other, and swaps seldom.

use std::time::Duration;

use serde_json::{Value, json};
use support::{Fleet, FleetOptions, OllamaStub, PATIENCE, assert_eventually};

use crate::settings::{chat_with, on_ollama};

const MODELS: &str = "models = [\"a\", \"b\"]";

fn of(model: &str, text: &str) -> Value {
    chat_with(text, &json!({ "model": model }))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Submits so many jobs, their models in turn; returns their ids.
async fn submit(fleet: &Fleet, models: &[&str], count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for model in models.iter().cycle().take(count) {
        ids.push(fleet.client.submit(&of(model, "hello")).await);
    }
    ids
}

async fn all_complete(fleet: &Fleet, ids: &[String]) {
    for id in ids {
        let job = fleet.client.wait_end(id).await;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("completed"), &json!(1)), "{job}");
    }
}

async fn pool(fleet: &Fleet) -> Value {
    fleet.client.get("/api/v1/pools/chat").await.json
}

#[tokio::test]
async fn two_workers_never_have_two_models_under_way_and_swap_seldom() {
    let stub = OllamaStub::start(ms(300), ms(30)).await;
    let fleet = FleetOptions::new(on_ollama(&stub, "", MODELS)).workers(2).start().await;
    let ids = submit(&fleet, &["a", "b"], 40).await;
    all_complete(&fleet, &ids).await;
    assert_eq!(stub.conflicts(), 0);
    assert!(stub.loads() <= 4, "{} loads", stub.loads());
    let pool = pool(&fleet).await;
    assert_eq!((&pool["by_status"]["queued"], &pool["by_status"]["completed"]), (&json!(0), &json!(40)), "{pool}");
}

#[tokio::test]
async fn models_that_no_provider_names_share_a_label_and_still_take_turns() {
    let stub = OllamaStub::start(ms(300), ms(30)).await;
    let fleet = FleetOptions::new(on_ollama(&stub, "", "")).workers(2).start().await;
    let ids = submit(&fleet, &["x", "y", "z"], 30).await;
    all_complete(&fleet, &ids).await;
    assert_eq!(stub.conflicts(), 0);
    assert!(stub.loads() <= 6, "{} loads", stub.loads());
}

#[tokio::test]
async fn a_model_that_waits_too_long_gets_its_turn_before_the_others_are_done() {
    let stub = OllamaStub::start(ms(100), ms(200)).await;
    let config = on_ollama(&stub, "affinity_max_wait = \"1s\"", MODELS);
    let fleet = FleetOptions::new(config.replace("concurrency = 4", "concurrency = 1")).workers(2).start().await;
    let jobs = json!({ "jobs": vec![of("a", "hello"); 40] });
    let answer = fleet.client.post("/api/v1/jobs/batch", &jobs).await;
    let many = answer.json["results"].as_array().unwrap().iter().map(|result| result["job"]["id"].as_str().unwrap());
    stub.wait_loaded("a").await;
    let one = fleet.client.submit(&of("b", "hello")).await;
    let one = fleet.client.wait_end(&one).await;
    let (mut meanwhile, mut later) = (0, 0);
    for id in many {
        let job = fleet.client.wait_end(id).await;
        assert_eq!((&job["status"], &job["attempts"]), (&json!("completed"), &json!(1)), "{job}");
        // Written so that their order as texts is that in time.
        let started = job["started_at"].as_str();
        meanwhile += u32::from(started > one["created_at"].as_str() && started < one["started_at"].as_str());
        later += u32::from(started > one["started_at"].as_str());
    }
    // Two workers begin ten in a second.
    assert!(meanwhile >= 4, "it was not its turn yet: {meanwhile} before it, {later} after it");
    assert!(later >= 4, "the others had to wait for it: {meanwhile} before it, {later} after it");
    assert_eq!(stub.conflicts(), 0);
}

#[tokio::test]
async fn a_worker_killed_in_its_turn_leaves_it_to_the_others() {
    let stub = OllamaStub::start(ms(50), Duration::from_secs(600)).await;
    // Its job is found before its turn ends, though that was renewed earlier.
    let config = on_ollama(&stub, "", MODELS).replace("liveness = \"3s\"", "liveness = \"9s\"");
    let mut fleet = Fleet::start(config).await;
    let long = fleet.client.submit(&of("a", "hello")).await;
    fleet.client.wait_status(&long, "running").await;
    let waits = fleet.client.submit(&of("b", "")).await;
    fleet.add_worker();
    fleet.wait_for_workers(2).await;
    fleet.workers[0].kill();
    let again = fleet.client.wait_until(&long, PATIENCE, |job| job["attempts"] == 2).await;
    assert_eq!(fleet.client.job(&waits).await["status"], "queued", "what was under way goes on: {again}");
    assert_eq!(fleet.client.cancel(&long).await.status, 202);
    all_complete(&fleet, &[waits]).await;
    assert_eq!(stub.conflicts(), 0);
}

#[tokio::test]
async fn with_workers_killed_in_their_turns_every_job_is_done_and_no_two_models_meet() {
    let stub = OllamaStub::start(ms(100), ms(200)).await;
    let config = on_ollama(&stub, "max_crashes = 100", MODELS);
    let mut fleet = FleetOptions::new(config).workers(3).start().await;
    let ids = submit(&fleet, &["a", "b"], 60).await;
    for victim in 0..2 {
        assert_eventually!(stub.in_use() > 0);
        fleet.workers[victim].kill();
        fleet.add_worker();
        fleet.wait_for_workers(4).await;
    }
    for id in &ids {
        assert_eq!(fleet.client.wait_end(id).await["status"], "completed");
    }
    assert_eq!(stub.conflicts(), 0);
    assert!(stub.loads() <= 6, "{} loads", stub.loads());
}

#[tokio::test]
async fn a_job_that_waits_for_its_turn_is_counted_explained_and_cancelled() {
    let stub = OllamaStub::start(ms(50), Duration::from_secs(600)).await;
    let fleet = Fleet::start(on_ollama(&stub, "", MODELS)).await;
    let runs = fleet.client.submit(&of("a", "hello")).await;
    fleet.client.wait_status(&runs, "running").await;
    let waits = [fleet.client.submit(&of("b", "1")).await, fleet.client.submit(&of("b", "2")).await];
    let numbers = pool(&fleet).await;
    assert_eq!((&numbers["by_status"]["queued"], &numbers["by_priority"]["normal"]), (&json!(2), &json!(2)));
    assert_eq!(fleet.client.get("/api/v1/pools/chat/demand").await.json["demand"], 3);
    let explained = fleet.client.get(&format!("/api/v1/jobs/{}/explain", waits[1])).await.json;
    assert_eq!((&explained["reason"], &explained["position"]), (&json!("waiting_for_turn"), &json!(1)), "{explained}");
    assert!(explained["summary"].as_str().unwrap().contains("ollama runs a"), "{explained}");
    let status = fleet.client.get("/api/v1/providers/status").await.json;
    assert_eq!(status["data"][0]["turn"], json!({ "model": "a", "workers": 1, "next": null }));
    assert_eq!(fleet.client.cancel(&waits[0]).await.status, 200);
    assert_eq!(fleet.client.job(&waits[0]).await["status"], "cancelled");
    assert_eq!(fleet.client.get("/api/v1/pools/chat/demand").await.json["demand"], 2);
    assert_eq!(fleet.client.cancel(&runs).await.status, 202);
    fleet.client.wait_status(&waits[1], "running").await;
}

#[tokio::test]
async fn embeddings_run_beside_any_model_and_what_they_load_is_told_but_chosen_by_nobody() {
    let stub = OllamaStub::start(ms(50), ms(1500)).await;
    let fleet = Fleet::start(on_ollama(&stub, "", "models = [\"a\", \"b\", \"e\"]")).await;
    let runs = fleet.client.submit(&of("a", "hello")).await;
    fleet.client.wait_status(&runs, "running").await;
    let embed = json!({ "task": "embedding", "model": "e", "input": { "input": "text" } });
    let embedded = fleet.client.submit(&embed).await;
    fleet.client.wait_status(&embedded, "completed").await;
    assert_ne!(fleet.client.job(&runs).await["status"], "completed", "it was under way meanwhile");
    let ids = submit(&fleet, &["b", "a"], 8).await;
    all_complete(&fleet, &ids).await;
    assert!(stub.loads() <= 3, "{} loads", stub.loads());
    assert_eventually!({
        let status = fleet.client.get("/api/v1/providers/status").await.json;
        status["data"][0]["loaded"] == json!([stub.loaded().unwrap(), "e"])
    });
}

#[tokio::test]
async fn of_two_servers_each_runs_a_model_of_its_own_and_the_jobs_go_where_theirs_runs() {
    let (one, two) = (OllamaStub::start(ms(200), ms(40)).await, OllamaStub::start(ms(200), ms(40)).await);
    let second = two.provider(MODELS).replace("[providers.ollama]", "[providers.second]");
    let config = on_ollama(&one, "", MODELS).replace("[\"ollama\"]", "[\"ollama\", \"second\"]");
    let fleet = FleetOptions::new(format!("{config}\n{second}")).workers(2).start().await;
    let ids = submit(&fleet, &["a", "b"], 40).await;
    all_complete(&fleet, &ids).await;
    assert_eq!((one.conflicts(), two.conflicts()), (0, 0));
    assert!(one.loads() <= 2 && two.loads() <= 2, "{} and {} loads", one.loads(), two.loads());
    assert!(!two.asked("/api/chat").is_empty(), "b ran beside a");
}

/// Ten jobs of model `a` in the pool `chat` and ten of `b` in `other`, by turns; no model comes while the other is at work.
async fn two_pools_never_meet(fleet: &Fleet, stub: &OllamaStub) {
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(fleet.client.submit(&chat_with("hello", &json!({ "model": "a", "pool": "chat" }))).await);
        ids.push(fleet.client.submit(&chat_with("hello", &json!({ "model": "b", "pool": "other" }))).await);
    }
    all_complete(fleet, &ids).await;
    assert_eq!(stub.conflicts(), 0);
}

#[tokio::test]
async fn another_pool_on_the_same_server_keeps_to_its_turns() {
    let stub = OllamaStub::start(ms(200), ms(30)).await;
    let other = "[pools.other]\nproviders = [\"ollama\"]\nlease = \"3s\"\naffinity = \"none\"\n";
    let config = format!("{}\n{other}", on_ollama(&stub, "affinity_max_wait = \"1s\"", MODELS));
    let fleet = FleetOptions::new(config).workers(2).start().await;
    two_pools_never_meet(&fleet, &stub).await;
}

#[tokio::test]
async fn jobs_accepted_while_the_pool_drained_by_model_run_when_it_does_not_any_more() {
    let stub = OllamaStub::start(Duration::ZERO, Duration::ZERO).await;
    let config = on_ollama(&stub, "", MODELS);
    let mut fleet = FleetOptions::new(config.clone()).workers(0).start().await;
    let ids = submit(&fleet, &["a", "b"], 4).await;
    fleet.add_worker_with(&config.replace("[pools.chat]", "[pools.chat]\naffinity = \"none\""));
    all_complete(&fleet, &ids).await;
    assert_eq!(fleet.client.get("/api/v1/pools/chat/demand").await.json["demand"], 0);
}

#[tokio::test]
async fn two_providers_on_one_server_share_its_turns() {
    let stub = OllamaStub::start(ms(200), ms(30)).await;
    let config = on_ollama(&stub, "affinity_max_wait = \"1s\"", MODELS);
    // The same server by another name, in a pool of its own that does not drain by model.
    let second =
        stub.provider(MODELS).replace("providers.ollama", "providers.second").replace("127.0.0.1", "localhost");
    let other = "[pools.other]\nproviders = [\"second\"]\nlease = \"3s\"\naffinity = \"none\"\n";
    let fleet = FleetOptions::new(format!("{config}\n{second}\n{other}")).workers(2).start().await;
    two_pools_never_meet(&fleet, &stub).await;
    let status = fleet.client.get("/api/v1/providers/status").await.json;
    let models = [&status["data"][0]["turn"]["model"], &status["data"][1]["turn"]["model"]];
    assert!(models[0].is_string() && models[0] == models[1], "{status}");
}

#[tokio::test]
async fn a_model_is_loaded_ahead_only_when_no_other_is_at_work() {
    let stub = OllamaStub::start(ms(50), Duration::from_secs(600)).await;
    let config = on_ollama(&stub, "", MODELS);
    let mut fleet = Fleet::start(config.clone()).await;
    let runs = fleet.client.submit(&of("b", "hello")).await;
    fleet.client.wait_status(&runs, "running").await;
    stub.wait_loaded("b").await;
    fleet.add_worker_with(&config.replace(MODELS, &format!("{MODELS}\npreload = [\"a\"]")));
    fleet.wait_for_workers(2).await;
    // It has asked what the model is for, and would go on to load it.
    assert_eventually!(!stub.asked("/api/show").is_empty());
    assert_eq!(fleet.client.cancel(&runs).await.status, 202);
    stub.wait_loaded("a").await;
    assert_eq!((stub.conflicts(), stub.loads()), (0, 2));
}
