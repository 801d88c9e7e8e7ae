//! The examples, as their `run` starts them once all is installed: each against the real models that it is about.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::built;

/// A document of that many operations, no two of them about the same.
const THINGS: [&str; 9] = ["audio", "cats", "fruit", "hotels", "invoices", "lamps", "maps", "rivers", "trains"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above")
}

/// Whether all of these are there; what is not is said loudly.
fn can_run(example: &str, needs: &[(&str, bool)]) -> bool {
    let missing: Vec<&str> = needs.iter().filter(|(_, there)| !there).map(|(what, _)| *what).collect();
    if !missing.is_empty() {
        let said = format!("\n*** SKIPPED: examples/{example}: run {}\n\n", missing.join(" and "));
        let _ = std::io::stderr().write_all(said.as_bytes());
    }
    missing.is_empty()
}

fn python(environment: &str) -> PathBuf {
    root().join(".tools").join(environment).join("bin/python")
}

/// What the example says, once it has ended well.
async fn output(environment: &str, script: &str, argument: Option<&Path>) -> String {
    let mut command = tokio::process::Command::new(python(environment));
    command.current_dir(root()).arg("-B").arg(format!("examples/{script}")).args(argument);
    command.env("TOOLS_DIR", root().join(".tools")).env("OVERSHOT_BIN", built("overshot"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(Duration::from_secs(150), command.output()).await.expect("it ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(said.status.success(), "{}\n{}", text(&said.stdout), text(&said.stderr));
    text(&said.stdout)
}

#[tokio::test]
async fn the_calls_of_a_folder_are_written_down_summed_up_and_rated() {
    let speaks = Command::new("flite").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let needs = [
        ("scripts/model-server/install chat", python("model").exists()),
        ("scripts/speech-server/install", python("speech").exists()),
        ("apt-get install flite", speaks),
    ];
    if !can_run("call-summaries", &needs) {
        return;
    }
    let said = output("model", "call-summaries/sum_up.py", None).await;
    let calls: Vec<&str> = said.split("==> ").filter(|part| part.contains(".wav: ")).collect();
    assert_eq!(calls.len(), 3, "{said}");
    for call in calls {
        let lines: Vec<&str> = call.lines().map(str::trim).collect();
        let begins = ["transcript  ", "summary     ", "analysis    topic "];
        assert!(begins.iter().zip(&lines[1..]).all(|(begin, line)| line.starts_with(begin)), "{call}");
    }
    assert!(said.to_lowercase().contains("lamp"), "what was said is in the transcripts: {said}");
}

#[tokio::test]
async fn of_a_document_only_what_has_changed_is_embedded_again_and_it_is_found_by_meaning() {
    let reads = Command::new(python("embedding")).args(["-c", "import yaml"]).stderr(Stdio::null()).status();
    let reads = reads.is_ok_and(|status| status.success());
    if !can_run("embed-openapi", &[("examples/embed-openapi/install", reads)]) {
        return;
    }
    let operation = |thing: &&str| (format!("/{thing}"), json!({ "get": { "summary": format!("Lists the {thing}") } }));
    let paths: serde_json::Map<String, Value> = THINGS.iter().map(operation).collect();
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("document.json");
    std::fs::write(&document, json!({ "openapi": "3.1.0", "paths": paths }).to_string()).unwrap();
    let said = output("embedding", "embed-openapi/embed.py", Some(&document)).await;
    assert!(said.contains("9 embedded, 0 unchanged, 0 removed"), "{said}");
    assert!(said.contains("1 embedded, 7 unchanged, 1 removed"), "{said}");
    let found: Vec<&str> = said.lines().skip_while(|line| !line.contains("turn an audio file into text")).collect();
    assert!(found[1].ends_with("GET /audio"), "{said}");
}

#[tokio::test]
async fn a_chat_page_that_is_reloaded_has_the_whole_answer_and_nothing_twice() {
    if !can_run("live-chat", &[("scripts/model-server/install chat", python("model").exists())]) {
        return;
    }
    let said = output("model", "live-chat/page.py", Some(Path::new("--check"))).await;
    assert!(said.contains("nothing missing and nothing twice"), "{said}");
}
