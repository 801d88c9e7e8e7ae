//! Lists: filters, pages, order.

use std::collections::HashSet;

use serde_json::{Value, json};
use support::{Client, Fleet, FleetOptions};

use crate::settings::{chat_with, quick};

async fn ids(client: &Client, query: &str) -> Vec<String> {
    ids_from(client, query, String::new()).await
}

async fn ids_after(client: &Client, query: &str, after: &str) -> Vec<String> {
    ids_from(client, query, format!("&after={after}")).await
}

async fn ids_from(client: &Client, query: &str, mut after: String) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = client.get(&format!("/api/v1/jobs?{query}{after}")).await;
        assert_eq!((page.status, &page.json["object"]), (200, &json!("list")), "{}", page.text);
        ids.extend(page.json["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        if page.json["has_more"] != true {
            assert_eq!(page.json["next"], Value::Null, "{}", page.text);
            return ids;
        }
        after = format!("&after={}", page.json["next"].as_str().unwrap());
    }
}

#[tokio::test]
async fn pages_show_every_job_once_newest_first_even_while_others_come() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let mut submitted = Vec::new();
    for n in 0..25 {
        submitted.push(client.submit(&chat_with("x", &json!({ "metadata": { "n": n.to_string() } }))).await);
    }
    submitted.reverse();
    assert_eq!(ids(client, "limit=7").await, submitted);
    let first = client.get("/api/v1/jobs?limit=10").await;
    assert_eq!(first.json["data"].as_array().unwrap().len(), 10);
    client.submit(&chat_with("late", &json!({}))).await;
    let after = first.json["next"].as_str().unwrap();
    assert_eq!(ids_after(client, "limit=10", after).await, submitted[10..]);
}

async fn two_pools() -> Fleet {
    let second = "\n[pools.second]\nproviders = [\"sim\"]\n";
    FleetOptions::new(format!("{}{second}", quick())).workers(0).start().await
}

#[tokio::test]
async fn each_filter_and_their_combination_narrow_the_list() {
    let fleet = two_pools().await;
    let client = &fleet.client;
    let owner = |service: &str, reference: &str, agent: &str| json!({ "pool": "chat", "owner": { "service": service, "ref": reference, "agent": agent } });
    let a = client.submit(&chat_with("a", &owner("billing", "r1", "x"))).await;
    let b = client.submit(&chat_with("b", &owner("billing", "r2", "y"))).await;
    let c = client.submit(&chat_with("c", &owner("mail", "r1", "x"))).await;
    let d = client.submit(&chat_with("d", &json!({ "pool": "second", "concurrency_key": "k k" }))).await;
    let e = client.submit(&chat_with("e", &json!({ "pool": "second", "delay": "1h", "model": "m" }))).await;
    client.cancel(&c).await;
    for (query, expected) in [
        ("owner_service=billing", vec![&b, &a]),
        ("owner_ref=r1", vec![&c, &a]),
        ("owner_agent=x", vec![&c, &a]),
        ("owner_service=billing&owner_ref=r1", vec![&a]),
        ("pool=second", vec![&e, &d]),
        ("concurrency_key=k%20k", vec![&d]),
        ("status=scheduled", vec![&e]),
        ("status=cancelled&status=scheduled", vec![&e, &c]),
        ("status=queued&owner_service=billing", vec![&b, &a]),
        ("model=m", vec![&e]),
        ("task=chat", vec![&e, &d, &c, &b, &a]),
        ("pool=chat&status=cancelled", vec![&c]),
        ("owner_service=nobody", vec![]),
    ] {
        let found = ids(client, query).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
        let one_by_one: HashSet<_> = ids(client, &format!("{query}&limit=1")).await.into_iter().collect();
        assert_eq!(one_by_one, found.into_iter().collect(), "{query} in pages of one");
    }
}
