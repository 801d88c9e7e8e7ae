//! Embedding jobs, over a provider that answers by script.

use serde_json::{Value, json};
use support::{Fleet, FleetOptions, OpenAiStub, Reply};

use crate::settings::stubbed;

mod basics;
mod collections;
mod large;
mod real;
mod resume;

/// A fleet on a stub that knows vectors, with `provider` among its settings and `top` above all.
async fn fleet(provider: &str, top: &str) -> (OpenAiStub, Fleet) {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::vectors());
    let fleet = options(&stub, provider, top).start().await;
    (stub, fleet)
}

fn options(stub: &OpenAiStub, provider: &str, top: &str) -> FleetOptions {
    let config = stubbed(stub, "").replace("[pools.chat]", &format!("{provider}\n[pools.chat]"));
    FleetOptions::new(format!("{top}\n{config}"))
}

/// An embedding job.
fn job(input: &Value) -> Value {
    json!({ "task": "embedding", "input": input })
}

/// Submits and waits for the completed job.
async fn run(fleet: &Fleet, input: &Value) -> Value {
    let id = fleet.client.submit(&job(input)).await;
    let done = fleet.client.wait_end(&id).await;
    assert_eq!(done["status"], "completed", "{done}");
    done
}

/// As many texts.
fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("text {number}")).collect()
}
