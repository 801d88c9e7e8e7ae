//! How the programs start: wrong configurations, an absent Redis, a Redis that may lose jobs.

use std::time::Duration;

use serde_json::json;
use support::{Client, PATIENCE, Process, Program, RedisOptions, RedisServer, assert_eventually};

use crate::settings::{chat, quick};

const BOTH: [Program; 2] = [Program::Api, Program::Worker];

fn env(url: &str, config: &std::path::Path) -> Vec<(String, String)> {
    let pairs = [
        ("OVERSHOT_REDIS_URL", url),
        ("OVERSHOT_CONFIG", config.to_str().unwrap()),
        ("OVERSHOT_HTTP_ADDR", "127.0.0.1:0"),
        ("OVERSHOT_WORKER_HTTP_ADDR", "127.0.0.1:0"),
    ];
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn config(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn every_mistake_of_a_configuration_is_told_at_once_with_exit_code_2() {
    let file = config(
        "max_body_bytes = \"lots\"\nno_such_key = 1\n[pools.chat]\nproviders = [\"absent\"]\nlease = \"1ms\"\n\
         concurrency = 0\n[providers.sim]\nkind = \"simulated\"\ntokens = -1\n",
    );
    let mut env = env("nonsense://", file.path());
    env.push(("OVERSHOT_API_TOKEN".to_owned(), "secret-token,".to_owned()));
    for program in BOTH {
        for args in [&[][..], &["--check-config"]] {
            let mut process = Process::start(program, args, &env);
            let status = process.wait(PATIENCE).await;
            let log = process.log().join("\n");
            assert_eq!(status.code(), Some(2), "{log}");
            for key in [
                "max_body_bytes",
                "no_such_key",
                "pools.chat.providers",
                "pools.chat.lease",
                "pools.chat.concurrency",
                "providers.sim.tokens",
                "OVERSHOT_REDIS_URL",
                "OVERSHOT_API_TOKEN",
            ] {
                assert!(log.contains(key), "{key} is missing in:\n{log}");
            }
            assert!(!log.contains("secret-token"), "{log}");
        }
    }
}

#[tokio::test]
async fn check_config_ends_well_without_a_redis() {
    let file = config(&quick());
    for program in BOTH {
        let mut process = Process::start(program, &["--check-config"], &env("unix:///nowhere/redis.sock", file.path()));
        assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{:?}", process.log());
    }
}

#[tokio::test]
async fn the_programs_wait_for_a_redis_that_is_absent_at_start() {
    let file = config(&quick());
    let mut redis = RedisOptions::default().stopped();
    let env = env(&redis.url(), file.path());
    let mut api = Process::start(Program::Api, &[], &env);
    let mut worker = Process::start(Program::Worker, &[], &env);
    for process in [&mut api, &mut worker] {
        // Away at start is what this test is about.
        process.allow_error("redis");
        process.allow_error("Redis");
    }
    let client = Client::new(&api.address().await, None);
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(client.get("/readyz").await.status, 503);
    let refused = client.post_job(&chat("x")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"), "{}", refused.text);
    assert!(!refused.text.contains("sock"), "a 5xx shows no internals: {}", refused.text);
    assert!(api.is_running() && worker.is_running());
    redis.restart().await;
    assert_eventually!(client.get("/readyz").await.status == 200);
    let id = client.submit(&chat("x")).await;
    client.wait_status(&id, "completed").await;
    drop((api, worker));
}

#[tokio::test]
async fn a_redis_that_may_lose_jobs_is_refused_unless_overridden() {
    let file = config(&quick());
    for (options, word) in [
        (RedisServer::options().policy("allkeys-lru"), "noeviction"),
        (RedisServer::options().without_persistence(), "appendonly"),
    ] {
        let redis = options.start().await;
        let mut env = env(&redis.url(), file.path());
        for program in BOTH {
            let mut process = Process::start(program, &[], &env);
            process.allow_error(word);
            let status = process.wait(PATIENCE).await;
            assert!(!status.success(), "{status}");
            assert!(process.has_logged(word), "{:?}", process.log());
        }
        env.push(("OVERSHOT_ALLOW_UNSAFE_REDIS".to_owned(), "1".to_owned()));
        let mut api = Process::start(Program::Api, &[], &env);
        let worker = Process::start(Program::Worker, &[], &env);
        let client = Client::new(&api.address().await, None);
        assert_eventually!(client.get("/readyz").await.status == 200, Duration::from_secs(10));
        let answer = client.post("/api/v1/jobs?wait=20s", &chat("x")).await;
        assert_eq!(answer.json["status"], json!("completed"), "{}", answer.text);
        assert!(api.has_logged(word), "it warns: {:?}", api.log());
        drop(worker);
    }
}
