//! Secrets, and what callers and providers wrote, stay out of logs, metrics, open endpoints and error messages.

use reqwest::Method;
use serde_json::json;
use support::{Client, FleetOptions, OpenAiStub, Reply};

use crate::settings::{chat, chat_with, stubbed};

/// Planted where they belong; none of them may show anywhere else.
const TOKEN: &str = "planted-api-token-7f3a";
const WRONG: &str = "planted-wrong-token-91c2";
const KEY: &str = "planted-provider-key-55d1";
const PROMPT: &str = "planted-prompt-c0ffee";
const COMPLETION: &str = "planted-completion-beefed";
const PROVIDER_BODY: &str = "planted-provider-body-0dd5";
const PLANTED: [&str; 6] = [TOKEN, WRONG, KEY, PROMPT, COMPLETION, PROVIDER_BODY];

#[tokio::test]
async fn nothing_that_is_secret_or_a_callers_shows_where_it_does_not_belong() {
    let stub = OpenAiStub::start().await;
    let config = stubbed(&stub, "").replace("kind = \"openai\"", "kind = \"openai\"\napi_key_env = \"PLANTED_KEY\"");
    let options = FleetOptions::new(config).token(TOKEN).env("PLANTED_KEY", KEY).env("OVERSHOT_LOG", "trace");
    let mut fleet = options.start().await;
    let client = &fleet.client;
    // A completion, a refusal of the provider's, and one that is tried again.
    stub.push(Reply::texts(&[COMPLETION]).then_end("stop"));
    let done = client.submit(&chat_with(PROMPT, &json!({ "owner": { "service": "s", "ref": "r" } }))).await;
    assert_eq!(client.wait_end(&done).await["result"]["content"], COMPLETION);
    assert_eq!(stub.wait_for(1).await.headers["authorization"], format!("Bearer {KEY}"), "the key is in use");
    let mut messages = Vec::new();
    for status in [400, 401, 500, 200] {
        let body = format!("{{\"error\": {{\"message\": \"{PROVIDER_BODY} {PROMPT}\"}}}}");
        stub.always(Reply::status(status, &[], &body));
        let id = client.submit(&chat_with(PROMPT, &json!({ "max_attempts": 1 }))).await;
        let job = client.wait_end(&id).await;
        assert_eq!(job["status"], "failed", "{status}: {job}");
        messages.push(job["error"].to_string());
    }
    // Calls that are refused: what is wrong with them is told, not what they hold.
    let stranger = client.with_token(Some(WRONG));
    messages.push(stranger.post_job(&chat(PROMPT)).await.text);
    messages.push(client.post_bytes("/api/v1/jobs", format!("{{\"task\": \"chat\", \"input\": {PROMPT}")).await.text);
    messages.push(client.post_job(&json!({ "task": "chat", "input": { "messages": PROMPT } })).await.text);
    messages.push(client.get("/api/v1/jobs/nonsense").await.text);
    let worker = Client::new(&fleet.workers[0].address().await, None);
    let open = client.with_token(None);
    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs/"] {
        messages.push(open.send(open.request(Method::GET, path)).await.text);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        messages.push(worker.get(path).await.text);
    }
    messages.push(client.get("/api/v1/workers").await.text);
    messages.push(client.get("/api/v1/pools").await.text);
    fleet.workers[0].term();
    fleet.workers[0].wait(support::PATIENCE).await;
    messages.extend(fleet.api.log());
    messages.extend(fleet.workers[0].log());
    assert!(messages.len() > 100, "the logs were not read: {}", messages.len());
    for planted in PLANTED {
        let shown: Vec<_> = messages.iter().filter(|text| text.contains(planted)).collect();
        assert!(shown.is_empty(), "{planted} shows in {shown:#?}");
    }
}
