//! Secrets, and what callers and providers wrote, stay out of logs, metrics, open endpoints and error messages.

use reqwest::Method;
use serde_json::{Value, json};
use support::{Client, Fleet, FleetOptions, OpenAiStub, RedisServer, Reply};

use crate::settings::{chat, chat_with, stubbed};
use crate::transcription::silence;

/// Planted where they belong; none of them may show anywhere else.
const TOKEN: &str = "planted-api-token-7f3a";
const NAMED: &str = "planted-named-token-3c2e";
const WRONG: &str = "planted-wrong-token-91c2";
const KEY: &str = "planted-provider-key-55d1";
const REDIS: &str = "planted-redis-password-a4b4";
const PROMPT: &str = "planted-prompt-c0ffee";
const SYSTEM: &str = "planted-system-prompt-1dea";
const EXTRA: &str = "planted-extra-body-e77a";
const METADATA: &str = "planted-metadata-5ad0";
const COMPLETION: &str = "planted-completion-beefed";
const TRANSCRIPT: &str = "planted-transcript-50fa";
const AUDIO: &str = "planted-audio-bytes-ad10";
const PROVIDER_BODY: &str = "planted-provider-body-0dd5";
const PROVIDER_HEADER: &str = "planted-provider-header-8ead";
const PLANTED: [&str; 14] = [
    TOKEN,
    NAMED,
    WRONG,
    KEY,
    REDIS,
    PROMPT,
    SYSTEM,
    EXTRA,
    METADATA,
    COMPLETION,
    TRANSCRIPT,
    AUDIO,
    PROVIDER_BODY,
    PROVIDER_HEADER,
];

const SETTINGS: &str = r#"
[tasks.strict]
kind   = "chat"
schema = '{"type": "object", "required": ["score"]}'

[tokens.team]
token_env = "PLANTED_TOKEN"
roles     = ["submit", "read"]
"#;

/// Everything is logged, and everything that is secret is in use.
async fn fleet(stub: &OpenAiStub) -> Fleet {
    let redis = RedisServer::options().tcp().standalone().start().await;
    redis.command(&["ACL", "SETUSER", "fleet", "on", &format!(">{REDIS}"), "~*", "&*", "+@all"]).await.unwrap();
    let url = format!("redis://fleet:{REDIS}@127.0.0.1:{}/0", redis.port());
    // The circuit stays closed, so that every failure is met.
    let provider = "kind = \"openai\"\napi_key_env = \"PLANTED_KEY\"\nbreaker = { failures = 1000 }";
    let config = stubbed(stub, "").replace("kind = \"openai\"", provider) + SETTINGS;
    let options = FleetOptions::new(config).token(TOKEN).env("PLANTED_TOKEN", NAMED);
    options.env("PLANTED_KEY", KEY).env("OVERSHOT_LOG", "trace").start_over(redis, &url).await
}

/// Runs a job to its end, and gives its error.
async fn failed(client: &Client, job: &Value) -> String {
    let job = client.wait_end(&client.submit(job).await).await;
    assert_eq!(job["status"], "failed", "{job}");
    job["error"].to_string()
}

fn refusal(status: u16) -> Reply {
    let body = format!(
        "{{\"error\": {{\"message\": \"{PROVIDER_BODY} {PROMPT}\", \"type\": \"in words: {PROVIDER_BODY}\"}}}}"
    );
    Reply::status(status, &[("x-request-id", PROVIDER_HEADER), ("retry-after", PROVIDER_HEADER)], &body)
}

/// A completion, and all the ways in which a provider can fail a chat; the errors.
async fn chats(client: &Client, stub: &OpenAiStub) -> Vec<String> {
    stub.push(Reply::texts(&[COMPLETION]).then_end("stop"));
    let input = json!({ "system": SYSTEM, "user": PROMPT, "extra_body": { "note": EXTRA } });
    let job = json!({ "task": "chat", "input": input, "max_attempts": 1, "metadata": { "note": METADATA },
        "owner": { "service": "s", "ref": "r" } });
    let done = client.submit(&job).await;
    assert_eq!(client.wait_end(&done).await["result"]["content"], COMPLETION);
    let asked = stub.wait_for(1).await;
    assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"), "the key is in use");
    assert_eq!(asked.body["note"], EXTRA, "what is extra is sent");
    let mut errors = Vec::new();
    let broken = format!("{{\"error\": {{\"message\": \"{PROVIDER_BODY}\"}}}}");
    for reply in [
        refusal(400),
        refusal(401),
        refusal(404),
        refusal(500),
        refusal(503),
        // Of the wrong form; in the midst of an answer; no JSON at all.
        refusal(200),
        Reply::texts(&[COMPLETION]).then_data(&broken),
        Reply::texts(&[COMPLETION]).then_data(PROVIDER_BODY),
        Reply::texts(&[COMPLETION]).then_cut(),
    ] {
        stub.always(reply);
        errors.push(failed(client, &job).await);
    }
    // An answer that does not fit its schema.
    stub.always(Reply::texts(&[COMPLETION]).then_end("stop"));
    errors.push(failed(client, &json!({ "task": "strict", "input": { "user": PROMPT }, "max_attempts": 1 })).await);
    errors
}

/// A transcript and vectors, and how they fail; the errors.
async fn audio_and_texts(client: &Client, stub: &OpenAiStub) -> Vec<String> {
    let mut errors = Vec::new();
    let answer = format!("{{\"text\": \"{TRANSCRIPT}\"}}");
    let heard = || [silence(2, 0), AUDIO.into()].concat();
    for (reply, file) in [
        (Reply::status(200, &[], &answer), heard()),
        (refusal(500), heard()),
        (refusal(500), AUDIO.repeat(50).into_bytes()),
        (Reply::status(200, &[], TRANSCRIPT), heard()),
    ] {
        stub.always(reply);
        let fields = [("max_attempts", "1"), ("prompt", PROMPT)];
        let job = client.wait_end(&client.upload(&fields, file).await.id()).await;
        errors.push(job["error"].to_string());
    }
    assert_eq!(errors[0], "null", "the first is heard");
    let texts = json!({ "task": "embedding", "input": { "input": [PROMPT, SYSTEM] }, "max_attempts": 1 });
    stub.always(Reply::vectors());
    assert_eq!(client.wait_end(&client.submit(&texts).await).await["status"], "completed");
    for reply in [refusal(400), refusal(200)] {
        stub.always(reply);
        errors.push(failed(client, &texts).await);
    }
    errors
}

/// Calls that are refused: what is wrong with them is told, not what they hold.
async fn refusals(client: &Client) -> Vec<String> {
    let mut said = vec![client.with_token(Some(WRONG)).post_job(&chat(PROMPT)).await.text];
    said.push(client.post_bytes("/api/v1/jobs", format!("{{\"task\": \"chat\", \"input\": {PROMPT}")).await.text);
    for wrong in [
        json!({ "task": "chat", "input": { "messages": PROMPT } }),
        json!({ "task": "chat", "input": { "user": PROMPT, "temperature": SYSTEM } }),
        json!({ "task": "embedding", "input": { "input": { "a": PROMPT } } }),
        chat_with(PROMPT, &json!({ "metadata": METADATA })),
        chat_with(PROMPT, &json!({ "delay": "never" })),
    ] {
        let answer = client.post_job(&wrong).await;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text);
        said.push(answer.text);
    }
    said.push(client.get("/api/v1/jobs/nonsense").await.text);
    let named = client.with_token(Some(NAMED));
    said.push(named.post_empty("/api/v1/pools/chat/pause").await.text);
    assert_eq!(named.get("/api/v1/jobs").await.status, 200, "the named token is in use");
    said
}

/// Every page that is no job: with a token, and of those without one that answer.
async fn pages(client: &Client, worker: &Client, failed: &str) -> Vec<String> {
    let (mut pages, open) = (Vec::new(), client.with_token(None));
    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs/", "/health/detail"] {
        pages.push(open.send(open.request(Method::GET, path)).await.text);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        pages.push(worker.get(path).await.text);
    }
    let explained = format!("jobs/{failed}/explain");
    for path in
        ["workers", "pools", "pools/chat", "providers/status", "stats", "infra/status", "collections", &explained]
    {
        let answer = client.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        pages.push(answer.text);
    }
    pages.push(client.get("/health/detail").await.text);
    pages
}

#[tokio::test]
async fn nothing_that_is_secret_or_a_callers_shows_where_it_does_not_belong() {
    let mut stub = OpenAiStub::start().await;
    let mut fleet = fleet(&stub).await;
    let client = fleet.client.clone();
    let mut said = chats(&client, &stub).await;
    said.extend(audio_and_texts(&client, &stub).await);
    said.extend(refusals(&client).await);
    // Nobody is there.
    stub.kill();
    let last = client.submit(&chat_with(PROMPT, &json!({ "max_attempts": 1 }))).await;
    said.push(client.wait_end(&last).await["error"].to_string());
    let worker = Client::new(&fleet.workers[0].address().await, None);
    said.extend(pages(&client, &worker, &last).await);
    fleet.workers[0].term();
    fleet.workers[0].wait(support::PATIENCE).await;
    let logs = [fleet.api.log(), fleet.workers[0].log()].concat();
    assert!(logs.len() > 100 && logs.iter().any(|line| line.contains("TRACE")), "the logs were not read");
    said.extend(logs);
    for planted in PLANTED {
        let shown: Vec<_> = said.iter().filter(|text| text.contains(planted)).collect();
        assert!(shown.is_empty(), "{planted} shows in {shown:#?}");
    }
}
