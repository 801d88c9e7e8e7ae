//! Vectors that outlive their jobs.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use support::{DIMENSIONS, Fleet, OpenAiStub, Reply, vector_of};
use tokio::sync::Semaphore;

use super::{fleet, job, options, run};

/// The input of a job on the collection `docs`.
fn docs(items: &[(&str, &str)]) -> Value {
    let items: Vec<Value> = items.iter().map(|(id, text)| json!({ "id": id, "text": text })).collect();
    json!({ "input": items, "collection": "docs" })
}

/// What the collection holds, page by page.
async fn held(fleet: &Fleet) -> Vec<(String, Value)> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = fleet.client.get(&format!("/api/v1/collections/docs?limit=2&after={after}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        for item in page.json["data"].as_array().unwrap() {
            assert_eq!(item["object"], "embedding");
            all.push((item["id"].as_str().unwrap().to_owned(), item["embedding"].clone()));
        }
        assert_eq!(page.json["has_more"], page.json["next"].is_string());
        match page.json["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return all,
        }
    }
}

/// What it holds when it is made of these.
fn made_of(items: &[(&str, &str)], dimensions: usize) -> Vec<(String, Value)> {
    items.iter().map(|(id, text)| ((*id).to_owned(), json!(vector_of(text, dimensions)))).collect()
}

#[tokio::test]
async fn only_what_changed_is_embedded_and_what_is_gone_goes() {
    let (stub, fleet) = fleet("batch_size = 2", "").await;
    let first = [("a", "one"), ("b", "two"), ("c", "three")];
    let done = run(&fleet, &docs(&first)).await;
    let summary = json!({ "name": "docs", "embedded": 3, "unchanged": 0, "removed": 0 });
    assert_eq!(done["result"]["collection"], summary);
    assert_eq!(held(&fleet).await, made_of(&first, DIMENSIONS));
    let second = [("a", "one"), ("b", "two again"), ("d", "four")];
    let done = run(&fleet, &docs(&second)).await;
    assert_eq!(stub.batches()[2..], [["two again", "four"]]);
    let summary = json!({ "name": "docs", "embedded": 2, "unchanged": 1, "removed": 1 });
    assert_eq!((&done["result"]["collection"], &done["progress"]["done"]), (&summary, &json!(3)));
    let data = done["result"]["data"].as_array().unwrap();
    let data = data.iter().map(|item| (item["id"].as_str().unwrap().to_owned(), item["embedding"].clone()));
    assert_eq!(data.collect::<Vec<_>>(), made_of(&second, DIMENSIONS), "the result has all of them");
    assert_eq!(held(&fleet).await, made_of(&second, DIMENSIONS));
    let before = stub.requests();
    let done = run(&fleet, &docs(&second)).await;
    assert_eq!((stub.requests(), &done["result"]["dimensions"]), (before, &json!(DIMENSIONS)));
}

#[tokio::test]
async fn collections_are_listed_and_forgotten() {
    let (_stub, fleet) = fleet("", "").await;
    assert_eq!(fleet.client.get("/api/v1/collections").await.json["data"], json!([]));
    run(&fleet, &docs(&[("a", "one"), ("b", "two")])).await;
    let list = fleet.client.get("/api/v1/collections?limit=1").await.json;
    let docs = &list["data"][0];
    assert_eq!((&docs["name"], &docs["count"], &docs["dimensions"]), (&json!("docs"), &json!(2), &json!(DIMENSIONS)));
    assert_eq!((&docs["model"], &list["has_more"]), (&json!("stub-model"), &json!(false)));
    assert!(docs["updated_at"].is_string(), "{docs}");
    for (path, status, param) in [
        ("docs?limit=0", 422, "limit"),
        ("docs?page=2", 422, "page"),
        ("docs?encoding_format=hex", 422, "encoding_format"),
        ("other", 404, ""),
        ("%7Btag%7D", 404, ""),
    ] {
        let answer = fleet.client.get(&format!("/api/v1/collections/{path}")).await;
        assert_eq!((answer.status, answer.param()), (status, param), "{path}: {}", answer.text);
    }
    let drop =
        async || fleet.client.send(fleet.client.request(reqwest::Method::DELETE, "/api/v1/collections/docs")).await;
    assert_eq!((drop().await.status, drop().await.status), (204, 404));
    assert_eq!(fleet.client.get("/api/v1/collections").await.json["data"], json!([]));
    let keys = fleet.redis.command(&["KEYS", "overshot:collection*"]).await.unwrap();
    assert_eq!(keys, redis::Value::Array(Vec::new()));
}

#[tokio::test]
async fn other_vectors_take_the_place_of_the_old_ones_all_at_once() {
    let (stub, fleet) = fleet("batch_size = 1", "").await;
    let items = [("a", "one"), ("b", "two")];
    run(&fleet, &docs(&items)).await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::vectors());
    stub.push(Reply::vectors_gated(&gate));
    let mut input = docs(&items);
    input["dimensions"] = json!(2);
    let id = fleet.client.submit(&job(&input)).await;
    stub.wait_for(4).await;
    assert_eq!(held(&fleet).await, made_of(&items, DIMENSIONS), "readers see what is whole");
    gate.add_permits(1);
    fleet.client.wait_status(&id, "completed").await;
    assert_eq!(held(&fleet).await, made_of(&items, 2));
}

#[tokio::test]
async fn of_jobs_that_overlap_the_last_to_complete_wins_whole_and_pays_once() {
    let (stub, fleet) = fleet("batch_size = 1", "").await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::vectors());
    stub.push(Reply::vectors());
    stub.push(Reply::vectors_gated(&gate));
    let slow = [("a", "one"), ("b", "two"), ("c", "three")];
    let id = fleet.client.submit(&job(&docs(&slow))).await;
    stub.wait_for(3).await;
    let quick = [("b", "other"), ("z", "last")];
    run(&fleet, &docs(&quick)).await;
    assert_eq!(held(&fleet).await, made_of(&quick, DIMENSIONS));
    gate.add_permits(1);
    let done = fleet.client.wait_status(&id, "completed").await;
    assert_eq!(held(&fleet).await, made_of(&slow, DIMENSIONS));
    assert_eq!(done["attempts"], 1, "{done}");
    paid_once(&stub, 5);
}

#[tokio::test]
async fn a_killed_workers_batches_are_paid_for_once_and_the_collection_is_whole() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::vectors());
    (0..2).for_each(|_| stub.push(Reply::vectors()));
    stub.push(Reply::hang());
    let mut fleet = options(&stub, "batch_size = 1", "").start().await;
    let items = [("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")];
    let id = fleet.client.submit(&job(&docs(&items))).await;
    stub.wait_for(3).await;
    assert_eq!(held(&fleet).await, made_of(&items[..2], DIMENSIONS), "a first build can be read as it grows");
    fleet.workers[0].kill();
    fleet.add_worker();
    fleet.client.wait_status(&id, "completed").await;
    assert_eq!(held(&fleet).await, made_of(&items, DIMENSIONS));
    assert_eq!(stub.batches(), [["one"], ["two"], ["three"], ["three"], ["four"]]);
}

#[tokio::test]
async fn a_large_result_holds_what_was_there_before_too() {
    let (_stub, fleet) = fleet("batch_size = 100", "max_inline_result = \"1KiB\"").await;
    let texts = super::texts(300);
    let mut items: Vec<(&str, &str)> = texts.iter().map(|text| (text.as_str(), text.as_str())).collect();
    run(&fleet, &docs(&items)).await;
    items[7].1 = "changed";
    let done = run(&fleet, &docs(&items)).await;
    let result = fleet.client.get(done["result_url"].as_str().unwrap()).await.json;
    assert_eq!((&result["collection"]["embedded"], &result["collection"]["unchanged"]), (&json!(1), &json!(299)));
    for (item, (id, text)) in result["data"].as_array().unwrap().iter().zip(&items) {
        assert_eq!((&item["id"], &item["embedding"]), (&json!(id), &json!(vector_of(text, DIMENSIONS))));
    }
}

#[track_caller]
fn paid_once(stub: &OpenAiStub, count: usize) {
    let texts: Vec<String> = stub.batches().concat();
    assert_eq!((texts.iter().collect::<HashSet<_>>().len(), texts.len()), (count, count), "{texts:?}");
}
