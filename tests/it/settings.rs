//! Configurations that the tests start from: short leases, so that faults take seconds.

use support::{OllamaStub, OpenAiStub};

/// The part that all share. A worker gives its work up min(lease, liveness) - 1 s after its last renewal.
const QUICK: &str = r#"
[worker]
drain = "10s"
liveness = "3s"
[retry]
provider_unavailable = "100ms"
model_unavailable = "100ms"
provider_error = "100ms"
timeout = "100ms"
stale_worker = "100ms"
bad_response = "100ms"
storage_error = "100ms"
"#;

/// One pool `chat` with `pool` among its settings, on a simulated provider with `provider` among its.
pub(crate) fn simulated(pool: &str, provider: &str) -> String {
    format!(
        "{QUICK}\n[providers.sim]\nkind = \"simulated\"\n{provider}\n\
         [pools.chat]\nproviders = [\"sim\"]\nconcurrency = 4\nlease = \"3s\"\n{pool}\n"
    )
}

/// A simulated provider that answers three words at once.
pub(crate) fn quick() -> String {
    simulated("", "tokens = 3\npace = \"1ms\"")
}

/// A simulated provider whose answers take a minute.
pub(crate) fn slow() -> String {
    simulated("", "tokens = 600\npace = \"100ms\"\njitter = 0.0")
}

/// One pool `chat` with `pool` among its settings, on the stub.
pub(crate) fn stubbed(stub: &OpenAiStub, pool: &str) -> String {
    let provider = stub.provider();
    format!("{QUICK}\n{provider}\n[pools.chat]\nproviders = [\"stub\"]\nconcurrency = 4\nlease = \"3s\"\n{pool}\n")
}

/// One pool `chat` with `pool` among its settings, on these stubs in this order, under these names.
pub(crate) fn stubbed_all(stubs: &[(&str, &OpenAiStub)], pool: &str) -> String {
    let named =
        |(name, stub): &(&str, &OpenAiStub)| stub.provider().replace("providers.stub", &format!("providers.{name}"));
    let providers: String = stubs.iter().map(named).collect();
    let names: Vec<&str> = stubs.iter().map(|(name, _)| *name).collect();
    format!("{QUICK}\n{providers}\n[pools.chat]\nproviders = {names:?}\nconcurrency = 4\nlease = \"3s\"\n{pool}\n")
}

/// One pool `chat` with `pool` among its settings, on an Ollama with `provider` among its.
pub(crate) fn on_ollama(stub: &OllamaStub, pool: &str, provider: &str) -> String {
    let provider = stub.provider(provider);
    format!("{QUICK}\n{provider}\n[pools.chat]\nproviders = [\"ollama\"]\nconcurrency = 4\nlease = \"3s\"\n{pool}\n")
}

/// A chat job that says `text`.
pub(crate) fn chat(text: &str) -> serde_json::Value {
    serde_json::json!({ "task": "chat", "input": { "messages": [{ "role": "user", "content": text }] } })
}

/// The same with more fields at the top.
pub(crate) fn chat_with(text: &str, fields: &serde_json::Value) -> serde_json::Value {
    let mut job = chat(text);
    let members = job.as_object_mut().unwrap();
    members.extend(fields.as_object().unwrap().clone());
    job
}
