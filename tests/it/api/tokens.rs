//! Named tokens: roles, one service's own jobs, limits, the audit, other pages' scripts.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use support::{Answer, Client, Fleet, FleetOptions};

use crate::settings::{chat, chat_with, quick};

/// Tokens of four callers, the first of them with two, as while one replaces the other; of `reader-token` only the digest.
const TOKENS: &str = r#"
[tokens.first]
token_env = "FIRST_TOKENS"
roles = ["submit", "read"]
service = "first"
[tokens.second]
token_env = "SECOND_TOKEN"
roles = ["submit", "read"]
service = "second"
[tokens.reader]
token_sha256 = ["ba5005a40cf5212e4ac0190104cc127edab013294bb71279a975b27a80982d45"]
roles = ["read"]
[tokens.operator]
token_env = "OPERATOR_TOKEN"
roles = ["read", "operate"]
"#;

async fn start() -> Fleet {
    let options = FleetOptions::new(format!("{}{TOKENS}", quick())).workers(0).token("full-token");
    let options = options.env("FIRST_TOKENS", "first-old,first-new").env("SECOND_TOKEN", "second-token");
    options.env("OPERATOR_TOKEN", "operator-token").start().await
}

fn ids(list: &Answer) -> BTreeSet<String> {
    let jobs = list.json["data"].as_array().unwrap_or_else(|| panic!("{}", list.text));
    jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

async fn send(client: &Client, method: Method, path: &str) -> Answer {
    client.send(client.request(method, path)).await
}

#[tokio::test]
async fn a_token_does_what_its_roles_say_and_rotates() {
    let fleet = start().await;
    let [first, operator, reader] =
        ["first-old", "operator-token", "reader-token"].map(|token| fleet.client.with_token(Some(token)));
    assert_eq!(fleet.client.with_token(Some("first-new")).post_job(&chat("a")).await.status, 202);
    let id = first.submit(&chat("a")).await;
    for (client, method, path, status) in [
        (&first, Method::POST, "/api/v1/pools/chat/pause", 403),
        (&first, Method::GET, "/api/v1/workers", 403),
        (&first, Method::GET, "/api/v1/pools", 200),
        (&reader, Method::GET, "/api/v1/workers", 200),
        (&reader, Method::POST, "/api/v1/pools/chat/pause", 403),
        (&operator, Method::POST, "/api/v1/pools/chat/pause", 200),
        (&operator, Method::POST, "/api/v1/jobs/cancel", 403),
        (&operator, Method::GET, &*format!("/api/v1/jobs/{id}"), 200),
        (&operator, Method::DELETE, &*format!("/api/v1/jobs/{id}"), 403),
        (&fleet.client, Method::DELETE, &*format!("/api/v1/jobs/{id}"), 200),
    ] {
        let answer = send(client, method.clone(), path).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        if status == 403 {
            assert_eq!(
                (answer.code(), &answer.json["error"]["type"]),
                ("permission_denied", &json!("permission_error"))
            );
        }
    }
}

#[tokio::test]
async fn a_token_of_one_service_knows_only_its_own_jobs() {
    let fleet = start().await;
    let [first, second] = ["first-old", "second-token"].map(|token| fleet.client.with_token(Some(token)));
    let own = first.submit(&chat_with("a", &json!({ "owner": { "service": "second", "ref": "r" } }))).await;
    assert_eq!(first.job(&own).await["owner"], json!({ "service": "first", "ref": "r" }), "set, not trusted");
    let bare = first.submit(&chat("b")).await;
    assert_eq!(first.job(&bare).await["owner"], json!({ "service": "first", "ref": "first" }));
    let key = json!({ "concurrency_key": "k", "idempotency_key": "once" });
    let foreign = second.submit(&chat_with("c", &key)).await;
    let unowned = fleet.client.submit(&chat("d")).await;
    let mine = BTreeSet::from([own.clone(), bare.clone()]);
    assert_eq!(ids(&first.get("/api/v1/jobs").await), mine);
    assert_eq!(ids(&first.get("/api/v1/jobs?owner_service=second").await), BTreeSet::new());
    assert_eq!(ids(&fleet.client.get("/api/v1/jobs").await).len(), 4, "a full token knows all");
    for id in [&foreign, &unowned] {
        for (method, rest) in [
            (Method::GET, ""),
            (Method::GET, "?wait=1s"),
            (Method::GET, "/events"),
            (Method::GET, "/result"),
            (Method::DELETE, ""),
            (Method::POST, "/cancel"),
            (Method::POST, "/retry"),
        ] {
            let answer = send(&first, method.clone(), &format!("/api/v1/jobs/{id}{rest}")).await;
            assert_eq!((answer.status, answer.code()), (404, "job_not_found"), "{method} {rest}: {}", answer.text);
        }
        let patch =
            first.request(Method::PATCH, &format!("/api/v1/jobs/{id}")).json(&json!({ "metadata": { "a": "b" } }));
        assert_eq!(first.send(patch).await.status, 404);
        assert_eq!(fleet.client.job(id).await["status"], "queued", "untouched");
    }
    let nobody: Value = json!({ "active": null, "waiting": [], "latest": null });
    assert_eq!(first.get("/api/v1/keys/k").await.json, nobody);
    // The same idempotency key is another one.
    let answer = first.post_job(&chat_with("other", &json!({ "idempotency_key": "once" }))).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    // Nobody takes the place of another service's job.
    let replace = json!({ "concurrency_key": "k", "on_conflict": "replace" });
    assert_eq!(first.post_job(&chat_with("e", &replace)).await.code(), "run_already_active");
    assert_eq!(second.post_job(&chat_with("e", &replace)).await.status, 202);
    let all = first.post("/api/v1/jobs/cancel", &json!({ "status": "queued" })).await.json;
    assert_eq!(all["changed"], 3, "{all}");
    let foreign = first.post("/api/v1/jobs/cancel", &json!({ "owner_service": "second" })).await.json;
    assert_eq!(foreign, json!({ "matched": 0, "changed": 0, "more": false }));
    assert_eq!(fleet.client.job(&unowned).await["status"], "queued");
}

#[tokio::test]
async fn a_limited_token_is_told_when_to_come_again_and_others_go_on() {
    let tokens = "[tokens.slow]\ntoken_env = \"SLOW\"\nroles = [\"read\"]\nrate_limit = 1\n";
    let options = FleetOptions::new(format!("{}{tokens}", quick())).workers(0).token("full-token");
    let fleet = options.env("SLOW", "slow-token").start().await;
    let slow = fleet.client.with_token(Some("slow-token"));
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(slow.get("/api/v1/pools").await);
    }
    let refused = answers.iter().find(|answer| answer.status == 429).expect("three calls within a second are too many");
    assert_eq!(refused.code(), "rate_limit_exceeded");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    for _ in 0..3 {
        assert_eq!(fleet.client.get("/api/v1/pools").await.status, 200);
    }
}

#[tokio::test]
async fn each_call_that_changes_something_leaves_one_line_with_who_called() {
    let fleet = start().await;
    let [first, operator] = ["first-old", "operator-token"].map(|token| fleet.client.with_token(Some(token)));
    let id = first.submit(&chat("a")).await;
    let batch = json!({ "jobs": [chat("b"), { "task": "chat", "input": {} }] });
    assert_eq!(first.post("/api/v1/jobs/batch", &batch).await.status, 200);
    let patch = first.request(Method::PATCH, &format!("/api/v1/jobs/{id}")).json(&json!({ "metadata": { "a": "b" } }));
    assert_eq!(first.send(patch).await.status, 200);
    assert_eq!(first.cancel(&id).await.status, 200);
    assert_eq!(first.post_empty(&format!("/api/v1/jobs/{id}/retry")).await.status, 202);
    first.post("/api/v1/jobs/cancel", &json!({ "status": ["queued"], "owner_ref": "x\"\n y" })).await;
    operator.post_empty("/api/v1/pools/chat/pause").await;
    // Looking leaves none, nor does a call that was refused.
    first.get("/api/v1/jobs").await;
    first.post_empty("/api/v1/pools/chat/resume").await;
    first.cancel("job_chat-0-01arz3ndektsv4rrffq69g5fav").await;
    let lines: Vec<_> = fleet.api.log().into_iter().filter(|line| line.contains(" audit ")).collect();
    let told: Vec<_> = [
        format!("token.name=\"first\" verb=\"submit\" what={id} count=1"),
        "token.name=\"first\" verb=\"submit\" what=job_chat-0-".to_owned(),
        format!("verb=\"annotate\" what={id} count=1"),
        format!("verb=\"cancel\" what={id} count=1"),
        format!("verb=\"retry\" what={id} count=1"),
        "verb=\"cancel by filter\" what=status=queued owner_service=\"first\" owner_ref=\"x\\\"\\n y\" count=0"
            .to_owned(),
        "token.name=\"operator\" verb=\"pause\" what=chat count=1".to_owned(),
    ]
    .into();
    assert_eq!(lines.len(), told.len(), "{lines:#?}");
    for (line, told) in lines.iter().zip(told) {
        assert!(line.contains(&told) && line.contains("request.id"), "{line}\ndoes not hold\n{told}");
    }
}

#[tokio::test]
async fn only_the_named_pages_may_call_from_a_browser() {
    let config = format!("cors_origins = [\"https://app.example.com\"]\n{}", quick());
    let fleet = FleetOptions::new(config).workers(0).token("full-token").start().await;
    let stranger = fleet.client.with_token(None);
    let preflight = |origin: &'static str| {
        let request = stranger.request(Method::OPTIONS, "/api/v1/jobs").header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization")
    };
    let answer = stranger.send(preflight("https://app.example.com")).await;
    assert_eq!(answer.status, 200, "asked without a token: {}", answer.text);
    assert_eq!(answer.headers["access-control-allow-origin"], "https://app.example.com");
    let other = stranger.send(preflight("https://evil.example.com")).await;
    assert!(!other.headers.contains_key("access-control-allow-origin"));
    let call = fleet.client.request(Method::GET, "/api/v1/jobs").header("origin", "https://app.example.com");
    assert_eq!(fleet.client.send(call).await.headers["access-control-allow-origin"], "https://app.example.com");
}

#[tokio::test]
async fn a_token_that_is_not_there_is_a_mistake_of_the_configuration() {
    let config = format!("{}\n[tokens.lost]\ntoken_env = \"NOT_SET_ANYWHERE\"\nroles = [\"read\"]\n", quick());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config).unwrap();
    let env = [("OVERSHOT_CONFIG".to_owned(), file.path().to_string_lossy().into_owned())];
    let mut api = support::Process::start(support::Program::Api, &["--check-config"], &env);
    assert_eq!(api.wait(support::PATIENCE).await.code(), Some(2));
    assert!(api.has_logged("tokens.lost.token_env: NOT_SET_ANYWHERE is not set"), "{:?}", api.log());
}

#[tokio::test]
async fn a_token_of_one_service_writes_to_its_own_collections_alone() {
    let fleet = start().await;
    let first = fleet.client.with_token(Some("first-old"));
    let input = |name: &str| json!({ "input": [{ "id": "a", "text": "x" }], "collection": name });
    let job = |name: &str| json!({ "task": "embedding", "input": input(name) });
    for (name, status) in [("first", 202), ("first.docs", 202), ("second.docs", 422), ("firsts", 422), ("docs", 422)] {
        let answer = first.post_job(&job(name)).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert_eq!(answer.param(), if status == 422 { "input.collection" } else { "" });
        assert_eq!(fleet.client.post_job(&job(name)).await.status, 202, "a full token writes to all");
    }
    let id = first.submit(&job("first")).await;
    assert_eq!(first.cancel(&id).await.status, 200);
    let answer = first.post(&format!("/api/v1/jobs/{id}/retry"), &json!({ "input": input("second.docs") })).await;
    assert_eq!((answer.status, answer.param()), (422, "input.collection"), "{}", answer.text);
}

#[tokio::test]
async fn a_token_of_one_service_reads_its_own_collections_alone() {
    let mut fleet = start().await;
    fleet.add_worker();
    let first = fleet.client.with_token(Some("first-old"));
    for (name, status) in [("first", 200), ("first-x", 404), ("first.docs", 200), ("firsts", 404), ("docs", 404)] {
        let input = json!({ "input": [{ "id": "a", "text": "x" }], "collection": name });
        let id = fleet.client.submit(&json!({ "task": "embedding", "input": input })).await;
        fleet.client.wait_status(&id, "completed").await;
        let found = first.get(&format!("/api/v1/collections/{name}")).await;
        assert_eq!(found.status, status, "{name}: {}", found.text);
    }
    let names = async |query: &str| {
        let page = first.get(&format!("/api/v1/collections?{query}")).await.json;
        let names: Vec<_> = page["data"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        (names, page["has_more"] == true)
    };
    assert_eq!(names("").await, (vec![json!("first"), json!("first.docs")], false));
    assert_eq!(names("limit=1").await, (vec![json!("first")], true));
    assert_eq!(names("after=first").await, (vec![json!("first.docs")], false));
    assert_eq!(names("after=first.docs").await, (vec![], false));
    assert_eq!(send(&first, Method::DELETE, "/api/v1/collections/first").await.status, 403, "it does not operate");
}
