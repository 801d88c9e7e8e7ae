//! The commands of the README, as a reader types them.

use std::process::Stdio;
use std::time::Duration;

use support::{Fleet, FleetOptions, built};

use crate::settings::simulated;

/// What each group of commands shows, by the words that its comment begins with; in the README's order.
const SHOWN: [(&str, &[&str]); 12] = [
    ("Submit, and let it run", &["\"id\": \"job_", "\"status\": \"queued\""]),
    ("Submit and wait", &["\"content\": \"", "\"finish_reason\": \"stop\""]),
    ("Watch", &["event: status", "event: chunk", "event: done"]),
    ("Cancel a running job", &["\"cancel_requested_at\": \"2", "\"status\": \"cancelled\"", "\"partial\": true"]),
    ("Run an ended job again", &["\"id\": \"job_"]),
    ("List", &["\"status\":\"completed\""]),
    ("A batch", &["{\"status\":202,\"id\":\"job_", "{\"status\":422,\"id\":null,\"error\":\"`input"]),
    ("Idempotency", &["202\n200\n422\n"]),
    ("A concurrency key", &["\"blocked\"", "run_already_active", "\"waiting\":[\"job_"]),
    ("Later", &["{\"status\":\"scheduled\",\"run_at\":\"2"]),
    ("Pause a pool", &["{\"paused\":true,", "{\"paused\":false,\"demand\":"]),
    ("The fleet", &["\"slots\":4", "{\"pool\":\"chat\",\"demand\":", "\n/api/v1/jobs/{id}\n"]),
];

const SKIPPED: &str = "*** SKIPPED: curl (7.82 or newer) or jq is missing (make demo installs them)";

/// The shell block of the README that begins with `first`.
fn block(first: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let mut blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.starts_with(first)).unwrap_or_else(|| panic!("no block begins with {first}")).to_owned()
}

/// What bash says to these commands, of which every one must succeed.
async fn typed(commands: &str, fleet: &Fleet) -> String {
    let programs = built("overshot").parent().unwrap().to_string_lossy().into_owned();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", commands]).env("PATH", path).env("OVERSHOT_API_URL", fleet.client.base());
    // All of this is on loopback.
    bash.env("NO_PROXY", "*").stdin(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(Duration::from_secs(90), bash.output()).await.expect("it ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(said.status.success(), "{}\n{}", text(&said.stdout), text(&said.stderr));
    text(&said.stdout)
}

/// Whether curl (7.82 or newer) and jq are there; `make demo` installs them.
fn can_be_typed() -> bool {
    let there = |program: &str, arguments: &[&str], says: &str| {
        let said = std::process::Command::new(program).args(arguments).output();
        said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(says))
    };
    there("curl", &["--help", "all"], "--json") && there("jq", &["--version"], "jq")
}

/// As after `OVERSHOT__PROVIDERS__SIM__TOKENS=200 make dev`.
async fn fleet() -> Fleet {
    FleetOptions::new(simulated("", "tokens = 200")).start().await
}

#[tokio::test]
async fn every_call_of_the_readme_does_what_its_comment_says() {
    if !can_be_typed() {
        eprintln!("{SKIPPED}");
        return;
    }
    let fleet = fleet().await;
    let commands = block("API=").replace("http://127.0.0.1:8080", fleet.client.base());
    assert!(commands.contains(fleet.client.base()), "the README asks another address");
    let groups: Vec<&str> = commands.split("\n\n").skip(1).collect();
    let comments: Vec<&str> = groups.iter().map(|group| group.trim_start_matches("# ")).collect();
    assert_eq!(comments.len(), SHOWN.len(), "what is new in the README, say in SHOWN what it shows");
    // What one group sets the next one uses: all of it is one shell's, with a line between them.
    let said = typed(&commands.replace("\n\n", "\necho -----\n"), &fleet).await;
    let said: Vec<&str> = said.split("-----\n").skip(1).collect();
    for (((begins, shows), comment), said) in SHOWN.iter().zip(comments).zip(said) {
        assert!(comment.starts_with(begins), "not `{begins}`: {comment}");
        for part in *shows {
            assert!(said.contains(part), "no `{part}` after\n{comment}\nbut\n{said}");
        }
    }
}

#[tokio::test]
async fn every_command_of_the_readme_does_something() {
    if !can_be_typed() {
        eprintln!("{SKIPPED}");
        return;
    }
    let fleet = fleet().await;
    // It goes on until it is stopped.
    let top = ["overshot top", "timeout 3 overshot top || [[ $? == 124 ]]"];
    let commands = block("overshot submit");
    assert!(commands.contains(top[0]), "{commands}");
    let said = typed(&commands.replace(top[0], top[1]), &fleet).await;
    for part in ["The water runs along", "ID  STATUS", "POOL  STATE"] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
}
