//! The API document against the API.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};
use support::{Client, FleetOptions};

use crate::settings::{chat, quick};

const METHODS: [&str; 5] = ["get", "post", "patch", "delete", "put"];

/// Every operation of the document: method, path, and what it says of it.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    });
    operations.collect()
}

/// A path with something in its places.
fn filled(path: &str) -> String {
    let absent = "job_chat-0-01arz3ndektsv4rrffq69g5fav";
    path.replace("{concurrency_key}", "a/b")
        .replace("{pool}", "chat")
        .replace("{file}", "index.html")
        .replace("{id}", absent)
}

async fn send(client: &Client, method: &str, path: &str) -> support::Answer {
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
    client.send(client.request(method, &filled(path))).await
}

#[tokio::test]
async fn every_route_of_the_document_is_served_and_no_other_method_is() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let answer = fleet.client.get("/openapi.json").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let document = answer.json;
    assert_eq!(document["openapi"], "3.1.0");
    let known = operations(&document);
    assert!(known.len() > 20, "{}", known.len());
    let mut by_path: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (method, path, operation) in &known {
        by_path.entry(path).or_default().insert(method);
        let answer = send(&fleet.client, method, path).await;
        assert!(!["not_found", "method_not_allowed"].contains(&answer.code()), "{method} {path}: {}", answer.text);
        let status = answer.status.to_string();
        assert!(operation["responses"].get(&status).is_some(), "{method} {path} answers {status}: {}", answer.text);
    }
    // The reverse: a method that a path has and the document does not name would be a route beside it.
    for (path, named) in by_path {
        for method in METHODS.into_iter().filter(|method| !named.contains(method)) {
            let answer = send(&fleet.client, method, path).await;
            assert_eq!(answer.code(), "method_not_allowed", "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn every_operation_tells_its_errors_and_whether_it_wants_a_token() {
    let fleet = FleetOptions::new(quick()).workers(0).token("a-token").start().await;
    let stranger = fleet.client.with_token(None);
    let document = stranger.get("/openapi.json").await.json;
    for (method, path, operation) in operations(&document) {
        let place = format!("{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 8), "{place} has no summary");
        let guarded = operation["security"] == json!([{ "token": [] }]);
        let answer = send(&stranger, method, path).await;
        assert_eq!(answer.status == 401, guarded, "{place}: {}", answer.text);
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{place} {status}");
            // A fleet that is down is told with all of its components.
            let is_error = status.as_str() >= "400" && path != "/health/detail";
            let schema = &response["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(is_error, schema == "#/components/schemas/Error", "{place} {status}: {schema}");
        }
        let named: BTreeSet<&str> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let told = parameters.iter().filter(|parameter| parameter["in"] == "path");
        assert_eq!(told.filter_map(|parameter| parameter["name"].as_str()).collect::<BTreeSet<_>>(), named, "{place}");
    }
}

#[tokio::test]
async fn a_job_has_the_members_that_the_document_tells_and_no_others() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let document = fleet.client.get("/openapi.json").await.json;
    let told = |schema: &str| -> BTreeSet<String> {
        document["components"]["schemas"][schema]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let members = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let id = fleet.client.submit(&chat("a")).await;
    let job = fleet.client.get(&format!("/api/v1/jobs/{id}?include=input")).await.json;
    let absent: Vec<_> = told("Job").difference(&members(&job)).cloned().collect();
    assert_eq!(absent, ["result_url"], "there only where a result is large");
    assert!(members(&job).is_subset(&told("Job")), "{job}");
    for (schema, member) in [("Status", "status"), ("Priority", "priority")] {
        let values = document["components"]["schemas"][schema]["enum"].as_array().unwrap();
        assert!(values.contains(&job[member]), "{member}: {} is none of {values:?}", job[member]);
    }
    assert_eq!(members(&fleet.client.get("/api/v1/jobs").await.json), told("JobList"));
    assert_eq!(members(&fleet.client.get("/api/v1/pools/chat").await.json), told("Pool"));
    let error = fleet.client.get("/api/v1/jobs/nonsense").await.json;
    assert!(members(&error).is_subset(&told("Error")), "{error}");
    assert!(members(&error["error"]).is_subset(&told("ErrorObject")), "{error}");
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let page = client.get("/docs").await;
    assert_eq!((page.status, page.headers["location"].to_str().unwrap()), (303, "/docs/"));
    let page = client.get("/docs/").await;
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    assert!(page.text.contains("swagger-ui"), "{}", page.text);
    for part in page.text.split("src=\"").chain(page.text.split("href=\"")).skip(1) {
        let file = part.split('"').next().unwrap();
        if !file.starts_with("./") {
            continue;
        }
        let answer = client.get(&format!("/docs/{}", &file[2..])).await;
        assert_eq!(answer.status, 200, "{file}");
    }
    assert!(!page.text.contains("src=\"http") && !page.text.contains("href=\"http"), "{}", page.text);
    assert!(client.get("/docs/swagger-initializer.js").await.text.contains("/openapi.json"));
    assert_eq!(client.get("/docs/nothing.js").await.code(), "not_found");
}
