//! `/health/detail`: each component, judged.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Fleet, FleetOptions, OpenAiStub, Reply, assert_eventually};

use crate::settings::{chat, chat_with, quick, slow, stubbed};

/// The component of that name; null where there is none.
fn component(report: &Value, name: &str) -> Value {
    let all = report["components"].as_array().unwrap();
    all.iter().find(|component| component["name"] == name).cloned().unwrap_or_default()
}

async fn detail(fleet: &Fleet) -> Value {
    fleet.client.get("/health/detail").await.json
}

#[tokio::test]
async fn a_fleet_that_is_well_is_ok_in_every_component() {
    let fleet = Fleet::start(quick()).await;
    assert_eventually!(detail(&fleet).await["status"] == "ok");
    let answer = fleet.client.get("/health/detail").await;
    assert_eq!((answer.status, &answer.json["status"]), (200, &json!("ok")), "{}", answer.text);
    assert!(answer.json["generated_at"].as_str().unwrap().ends_with('Z'));
    let names: Vec<_> = answer.json["components"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["redis", "providers", "queue", "errors", "throughput", "infra"]);
    assert!(component(&answer.json, "redis")["data"]["used_memory_bytes"].as_u64().unwrap() > 0);
    let owned = chat_with("x", &json!({ "owner": { "service": "desk", "ref": "1" } }));
    fleet.client.post("/api/v1/jobs?wait=10s", &owned).await;
    assert_eventually!(component(&detail(&fleet).await, "throughput")["data"]["done_last_24h"] == 1);
    let report = detail(&fleet).await;
    assert_eq!(report["status"], "ok", "{report:#}");
    let queue = &component(&report, "queue")["data"];
    assert_eq!((&queue["pending"], &queue["running"], &queue["backlog"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(queue["by_owner_service"], json!({ "desk": 1 }));
    assert_eq!(queue["by_status"]["completed"], 1);
    assert_eq!(component(&report, "throughput")["data"]["stages"][0]["task"], "chat");
}

#[tokio::test]
async fn a_provider_that_nobody_tells_of_degrades_and_one_that_dies_is_down_until_it_is_back() {
    let mut stub = OpenAiStub::start().await;
    let config = stubbed(&stub, "");
    let config =
        config.replace("[providers.stub]", "[providers.stub]\nbreaker = { failures = 2, open_for = \"300ms\" }");
    let mut fleet = FleetOptions::new(config).workers(0).start().await;
    let providers = async |fleet: &Fleet| component(&detail(fleet).await, "providers");
    let shown = providers(&fleet).await;
    assert_eq!(
        (&shown["status"], &shown["error"]),
        (&json!("degraded"), &json!("providers of which no worker has told of late: 1"))
    );
    assert_eq!(shown["data"]["providers"][0]["state"], "unconfigured", "{shown:#}");
    fleet.add_worker();
    assert_eventually!(providers(&fleet).await["status"] == "ok");
    let shown = providers(&fleet).await;
    let expected = json!({ "provider": "stub", "state": "ok", "ok": true, "stale": false, "in_flight": 0 });
    assert_eq!(shown["data"]["providers"], json!([expected]), "{shown:#}");
    stub.kill();
    let job = fleet.client.submit(&chat_with("x", &json!({ "max_attempts": 9 }))).await;
    assert_eventually!(providers(&fleet).await["status"] == "down");
    let report = fleet.client.get("/health/detail").await;
    assert_eq!((report.status, &report.json["status"]), (503, &json!("down")), "{}", report.text);
    assert_eq!(component(&report.json, "providers")["error"], "providers that do not answer: 1");
    stub.revive().await;
    assert_eventually!(providers(&fleet).await["status"] == "ok");
    fleet.client.wait_status(&job, "completed").await;
}

#[tokio::test]
async fn a_failure_in_the_last_day_and_work_of_which_nothing_gets_done_degrade() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::status(400, &[], "{}"));
    let config = stubbed(&stub, "").replace("[worker]", "[health]\nfailures_24h = 2\n[worker]");
    let fleet = Fleet::start(config).await;
    let fail = async || {
        let job = fleet.client.submit(&chat("x")).await;
        fleet.client.wait_status(&job, "failed").await;
    };
    fail().await;
    assert_eventually!(component(&detail(&fleet).await, "errors")["data"]["failed"] == 1);
    assert_eq!(detail(&fleet).await["status"], "ok", "one failure is below the limit");
    fail().await;
    assert_eventually!(component(&detail(&fleet).await, "errors")["status"] == "degraded");
    let errors = component(&detail(&fleet).await, "errors");
    assert_eq!(errors["data"]["by_code"]["bad_input"], json!({ "total": 2, "last_24h": 2 }), "{errors:#}");
    fleet.client.post("/api/v1/pools/chat/pause", &json!({})).await;
    fleet.client.submit(&chat("y")).await;
    assert_eventually!(component(&detail(&fleet).await, "throughput")["status"] == "degraded");
    let throughput = component(&detail(&fleet).await, "throughput");
    assert_eq!(throughput["data"]["stuck_stages"][0]["task"], "chat", "{throughput:#}");
    assert_eq!(throughput["data"]["stuck_stages"][0]["open"], 1, "{throughput:#}");
}

#[tokio::test]
async fn a_job_that_waits_too_long_and_one_whose_lease_is_over_degrade_the_queue() {
    let config = slow().replace("[worker]", "[health]\noldest_queued = \"1s\"\n[worker]");
    let fleet = FleetOptions::new(config).start().await;
    for n in 0..5 {
        fleet.client.submit(&chat(&n.to_string())).await;
    }
    assert_eventually!(component(&detail(&fleet).await, "queue")["status"] == "degraded");
    let queue = component(&detail(&fleet).await, "queue");
    assert!(queue["error"].as_str().unwrap().contains("waited for more than 1s"), "{queue:#}");
    assert_eq!((&queue["data"]["running"], &queue["data"]["pending"]), (&json!(4), &json!(1)), "{queue:#}");
    assert!(queue["data"]["oldest_running_seconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_redis_that_hangs_is_down_and_told_within_twelve_seconds() {
    let fleet = Fleet::start(quick()).await;
    assert_eventually!(detail(&fleet).await["status"] == "ok");
    fleet.redis.freeze();
    // The report may be a second old.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, mut asked) = (Instant::now(), Vec::new());
    for _ in 0..8 {
        let client = fleet.client.with_token(None);
        asked.push(tokio::spawn(async move { client.get("/health/detail").await }));
    }
    for answer in asked {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, &answer.json["status"]), (503, &json!("down")), "{}", answer.text);
        assert_eq!(component(&answer.json, "redis")["status"], "down");
        assert_eq!(component(&answer.json, "infra")["status"], "ok", "what needs no Redis is told");
        let providers = component(&answer.json, "providers");
        assert_eq!(providers["status"], "degraded", "what cannot be read is never well: {providers:#}");
        assert!(providers["error"].as_str().unwrap().contains("cannot be read"), "{providers:#}");
        assert_eq!(component(&answer.json, "queue"), Value::Null);
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    fleet.redis.thaw();
    assert_eventually!(detail(&fleet).await["status"] == "ok");
}

#[tokio::test]
async fn without_a_token_the_report_names_no_services() {
    let fleet = FleetOptions::new(quick()).workers(0).token("a-token").start().await;
    let open = fleet.client.with_token(None).get("/health/detail").await;
    assert_eq!(open.status, 200, "{}", open.text);
    assert_eq!(open.json["components"].as_array().unwrap().len(), 6);
    assert!(open.json["components"].as_array().unwrap().iter().all(|one| one.get("data").is_none()), "{}", open.text);
    assert!(component(&detail(&fleet).await, "queue")["data"]["pending"] == 0);
}
