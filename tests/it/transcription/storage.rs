//! The audio of an upload: there as long as its job, under every fault, and not a moment without it.

use reqwest::multipart::{Form, Part};
use serde_json::json;
use support::{FleetOptions, OpenAiStub, RedisServer, assert_eventually};

use super::{completed, fleet, fleet_with, silence, stored, verbose};
use crate::settings::stubbed;

#[tokio::test]
async fn the_audio_goes_with_its_record() {
    let stub = OpenAiStub::start().await;
    stub.always(verbose(&[(0.0, 1.0, "Hello.")]));
    let fleet = fleet(&stub).await;
    let kept = fleet.client.upload(&[], silence(1, 0)).await.id();
    let short = fleet.client.upload(&[("result_ttl", "1s")], silence(1, 1)).await.id();
    completed(&fleet, &kept).await;
    completed(&fleet, &short).await;
    assert_eventually!(fleet.client.get(&format!("/api/v1/jobs/{short}")).await.status == 404);
    let keys = stored(&fleet).await;
    assert!(keys.len() == 1 && kept.ends_with(keys[0].rsplit(':').next().unwrap()), "{keys:?}");
    let ttl: i64 = redis::from_redis_value(fleet.redis.cli(&["PTTL", &keys[0]]).await).unwrap();
    assert_eq!(ttl, -1, "an accepted job's audio stays");
}

#[tokio::test]
async fn a_full_pool_refuses_an_upload_and_keeps_nothing_of_it() {
    let stub = OpenAiStub::start().await;
    let fleet = fleet_with(&stub, "", "max_queued_bytes = \"80KiB\"").await;
    let pause = fleet.client.post_empty("/api/v1/pools/chat/pause").await;
    assert_eq!(pause.status, 200, "{}", pause.text);
    assert_eq!(fleet.client.upload(&[], silence(2, 0)).await.status, 202);
    let full = fleet.client.upload(&[], silence(2, 1)).await;
    assert_eq!((full.status, full.code()), (429, "queue_full"), "the audio counts: {}", full.text);
    assert_eventually!(stored(&fleet).await.len() == 1);
}

#[tokio::test]
async fn an_idempotency_key_covers_the_audio() {
    let stub = OpenAiStub::start().await;
    stub.always(verbose(&[(0.0, 1.0, "Hello.")]));
    let fleet = fleet(&stub).await;
    let key = [("idempotency_key", "k"), ("language", "en")];
    let first = fleet.client.upload(&key, silence(1, 0)).await;
    let again = fleet.client.upload(&key, silence(1, 0)).await;
    assert_eq!((first.status, again.status), (202, 200), "{}", again.text);
    assert_eq!(first.id(), again.id());
    let other = fleet.client.upload(&key, silence(1, 1)).await;
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"), "{}", other.text);
    assert_eventually!(stored(&fleet).await.len() == 1);
    completed(&fleet, &first.id()).await;
}

#[tokio::test]
async fn fields_behind_the_file_may_still_say_where_the_job_goes() {
    let stub = OpenAiStub::start().await;
    stub.always(verbose(&[(0.0, 1.0, "Hello.")]));
    let other = "shards = 4\n[pools.calls]\nproviders = [\"stub\"]\nshards = 8\nlease = \"3s\"";
    let fleet = fleet_with(&stub, "", other).await;
    for key in ["a", "b", "c"] {
        // Of several pieces.
        let part = Part::bytes(silence(20, 0)).file_name("a.wav");
        let form = Form::new().part("file", part).text("pool", "calls").text("concurrency_key", key);
        let answer = fleet.client.upload_form(form).await;
        assert_eq!((answer.status, &answer.json["pool"]), (202, &json!("calls")), "{}", answer.text);
        completed(&fleet, &answer.id()).await;
    }
    assert_eventually!(stored(&fleet).await.len() == 3);
    assert!(stored(&fleet).await.iter().all(|key| key.starts_with("overshot:{calls.")));
}

#[tokio::test]
async fn another_worker_transcribes_what_a_dead_one_had() {
    let stub = OpenAiStub::start().await;
    stub.push(support::Reply::hang());
    let mut fleet = fleet(&stub).await;
    let file = silence(20, 0);
    let id = fleet.client.upload(&[], file.clone()).await.id();
    stub.wait_for(1).await;
    stub.always(verbose(&[(0.0, 1.0, "Saved.")]));
    fleet.workers[0].kill();
    fleet.add_worker();
    let job = completed(&fleet, &id).await;
    assert_eq!((&job["result"]["segments"][0]["text"], &job["crashes"]), (&json!("Saved."), &json!(1)), "{job}");
    assert_eq!(stub.wait_for(2).await.body["file"]["bytes"], file.len());
}

#[tokio::test]
async fn an_accepted_upload_survives_its_redis() {
    let stub = OpenAiStub::start().await;
    stub.always(verbose(&[(0.0, 1.0, "Survived.")]));
    let options = FleetOptions::new(stubbed(&stub, "durability = \"disk\"")).workers(0);
    let durable = RedisServer::options().durable();
    let mut fleet = options.redis(durable).start().await;
    let id = fleet.client.upload(&[], silence(20, 0)).await.id();
    fleet.redis.kill();
    fleet.redis.restart().await;
    fleet.add_worker();
    assert_eq!(completed(&fleet, &id).await["result"]["segments"][0]["text"], "Survived.");
}

#[tokio::test]
async fn a_retry_with_another_input_keeps_the_audio() {
    let stub = OpenAiStub::start().await;
    stub.always(verbose(&[(0.0, 1.0, "Hallo.")]));
    let fleet = fleet(&stub).await;
    let id = fleet.client.upload(&[("language", "en")], silence(20, 0)).await.id();
    completed(&fleet, &id).await;
    let again = fleet.client.post(&format!("/api/v1/jobs/{id}/retry"), &json!({"input": {"language": "de"}})).await;
    assert_eq!(again.status, 202, "{}", again.text);
    completed(&fleet, &id).await;
    let seen = stub.wait_for(2).await.body;
    assert_eq!((&seen["language"], &seen["file"]["bytes"]), (&json!("de"), &json!(44 + 20 * 32_000)));
    let bad = fleet.client.post(&format!("/api/v1/jobs/{id}/retry"), &json!({"input": {"language": 7}})).await;
    assert_eq!((bad.status, bad.param()), (422, "input.language"), "{}", bad.text);
}
