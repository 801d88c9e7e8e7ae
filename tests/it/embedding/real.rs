//! A real model: what we send, a real server accepts, and its vectors mean something.

use serde_json::{Value, json};
use support::{EmbeddingServer, Fleet, FleetOptions};

use super::job;

async fn fleet(server: &EmbeddingServer) -> Fleet {
    let config = format!(
        "[pools.vectors]\nproviders = [\"e5\"]\n[providers.e5]\nkind = \"openai\"\nbase_url = \"{}\"\n\
         models = [\"multilingual-e5-small\"]\nbatch_size = 3\n",
        server.base_url()
    );
    FleetOptions::new(config).start().await
}

/// The vectors of a completed job.
async fn vectors(fleet: &Fleet, input: &Value) -> Vec<Vec<f64>> {
    let id = fleet.client.submit(&job(input)).await;
    let done = fleet.client.wait_until(&id, support::PATIENCE * 3, |job| job["completed_at"].is_string()).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["result"]["dimensions"], 384, "{done}");
    assert!(done["usage"]["total_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{done}");
    let data = done["result"]["data"].as_array().unwrap();
    data.iter().map(|item| serde_json::from_value(item["embedding"].clone()).unwrap()).collect()
}

fn similarity(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn a_real_servers_vectors_mean_what_their_texts_mean() {
    let Some(server) = EmbeddingServer::start().await else { return };
    let fleet = fleet(&server).await;
    let texts = [
        "A cat sleeps on the sofa.",
        "A kitten naps on the couch.",
        "Stocks fell in Tokyo.",
        "Markets dropped in Japan.",
    ];
    let ours = vectors(&fleet, &json!({ "input": texts })).await;
    assert!(similarity(&ours[0], &ours[1]) > similarity(&ours[0], &ours[2]) + 0.05);
    assert!(similarity(&ours[2], &ours[3]) > similarity(&ours[1], &ours[3]) + 0.05);
    // The same as a direct call, number by number, though ours came as base64.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let direct = http.post(format!("{}/embeddings", server.base_url())).json(&json!({ "input": texts, "model": "e5" }));
    let direct: Value = direct.send().await.unwrap().json().await.unwrap();
    for (place, ours) in ours.iter().enumerate() {
        let theirs: Vec<f64> = serde_json::from_value(direct["data"][place]["embedding"].clone()).unwrap();
        assert!(similarity(ours, &theirs) > 0.99999, "text {place}");
    }
}
