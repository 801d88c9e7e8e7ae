//! Exit codes, tokens, and what needs no API.

use std::process::Stdio;

use support::{Client, FleetOptions, built};

use super::{overshot, overshot_with};
use crate::settings::{chat, quick};

#[tokio::test]
async fn exit_codes_tell_why() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    let client = &fleet.client;
    let id = client.submit(&chat("a")).await;
    let nobody = Client::new("127.0.0.1:9", None);
    let cases: [(&[&str], &Client, i32, &str); 8] = [
        (&["pools", "list"], &nobody, 1, "cannot be reached"),
        (&["jobs", "cancel"], client, 2, "at least one filter"),
        (&["jobs", "list", "--status", "nonsense"], client, 2, "invalid_value"),
        (&["submit", "--input", "{"], client, 2, "is not JSON"),
        (&["jobs", "show", "nonsense"], client, 4, "job_not_found"),
        (&["pools", "pause", "other/../chat"], client, 4, "not_found"),
        (&["workers", "drain", "nobody"], client, 4, "not_found"),
        (&["jobs", "retry", &id], client, 6, "job_not_ended"),
    ];
    for (arguments, client, code, text) in cases {
        let said = overshot(client, arguments).await;
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        assert!(said.beside.contains(text) && said.out.is_empty(), "{arguments:?}: {said:?}");
    }
}

#[tokio::test]
async fn the_token_comes_from_the_environment_or_a_file_and_never_shows() {
    let fleet = FleetOptions::new(quick()).workers(0).token("first-token,second-token").start().await;
    let client = &fleet.client;
    let refused = overshot(client, &["pools", "list"]).await;
    assert_eq!(refused.code, 5, "{refused:?}");
    let both = [("OVERSHOT_API_TOKEN", "second-token,first-token")];
    overshot_with(client, &["pools", "list"], &both, "").await.done();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first-token\n").unwrap();
    let path = file.path().to_str().unwrap();
    overshot(client, &["pools", "list", "--token-file", path]).await.done();
    std::fs::write(file.path(), "wrong-token\n").unwrap();
    let said = overshot_with(client, &["pools", "list", "--token-file", path], &both, "").await;
    assert_eq!(said.code, 5, "a file goes before the variable: {said:?}");
    assert!(!said.beside.contains("wrong-token"), "{said:?}");
}

#[tokio::test]
async fn each_shell_gets_completions_of_every_verb() {
    let nobody = Client::new("127.0.0.1:9", None);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = overshot(&nobody, &["completions", shell]).await.done();
        for verb in ["submit", "explain", "resume", "drain", "dead", "top"] {
            assert!(said.out.contains(verb), "{shell}: no {verb}");
        }
    }
}

#[tokio::test]
async fn who_stops_reading_ends_a_command_without_a_complaint() {
    let fleet = FleetOptions::new(quick()).workers(0).start().await;
    for arguments in [["completions", "bash"], ["pools", "list"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = tokio::process::Command::new(built("overshot"));
        let command = command.args(arguments).env("OVERSHOT_API_URL", fleet.client.base()).stdout(writer);
        let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().await.unwrap();
        assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""), "{arguments:?}");
    }
}
