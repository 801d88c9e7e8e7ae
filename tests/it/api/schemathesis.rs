//! The API under thousands of requests that its own document allows, or forbids, made up by schemathesis.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use support::FleetOptions;

use crate::settings::{chat, quick};

/// Beside the ids: what is by design, and what would keep the rest from being tested.
const SETTINGS: &str = r#"
[parameters]
wait = "5ms"
"path.id" = "JOB"

# Its items are judged one by one, inside a 200.
[[operations]]
include-path = "/api/v1/jobs/batch"
checks.negative_data_rejection.enabled = false

# Where the header says after which event, the query is not looked at.
[[operations]]
include-path = "/api/v1/jobs/{id}/events"
checks.negative_data_rejection.enabled = false

# The worker and the pool are needed.
[[operations]]
include-path = "/api/v1/workers/{id}/drain"
parameters = { "path.id" = "nobody" }

[[operations]]
include-path = "/api/v1/pools/{pool}/pause"
parameters = { pool = "other" }
"#;

#[tokio::test]
async fn no_request_makes_the_api_fail_or_answer_what_its_document_does_not_tell() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace");
    let program = root.join(".tools/schemathesis/bin/schemathesis");
    if !program.exists() {
        eprintln!("*** SKIPPED: schemathesis is missing (scripts/setup test installs it)");
        return;
    }
    let fleet = FleetOptions::new(quick()).token("full-token").start().await;
    let id = fleet.client.submit(&chat("a")).await;
    fleet.client.wait_end(&id).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("schemathesis.toml");
    std::fs::write(&settings, SETTINGS.replace("JOB", &id)).unwrap();
    let mut command = Command::new(program);
    command.current_dir(folder.path()).arg("--config-file").arg(&settings).arg("run");
    command.arg(format!("{}/openapi.json", fleet.client.base()));
    command.args(["--header", "Authorization: Bearer full-token", "--phases", "examples,coverage,fuzzing"]);
    command.args(["--max-time", "30", "--seed", "1", "--request-timeout", "10", "--generation-database", "none"]);
    // What the document allows may still be refused: an id that is not there, a model that nobody serves.
    command.args(["--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--no-color"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Fuzzing"), "{said}");
    assert_eq!(fleet.client.get("/readyz").await.json, json!({ "status": "ok" }));
}
