//! The operator's verbs of `overshot`, as a shell runs them.

use std::process::Stdio;

use serde_json::Value;
use support::{Client, PATIENCE, built};
use tokio::io::AsyncWriteExt as _;

mod control;
mod refusals;
mod submit;

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    out: String,
    beside: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    /// The same, where the command must have done what it was asked.
    #[track_caller]
    fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// Runs `overshot` against the API of `client`, without a token.
pub(crate) async fn overshot(client: &Client, arguments: &[&str]) -> Said {
    overshot_with(client, arguments, &[], "").await
}

/// The same, with more variables and something on the standard input.
async fn overshot_with(client: &Client, arguments: &[&str], env: &[(&str, &str)], input: &str) -> Said {
    let mut command = tokio::process::Command::new(built("overshot"));
    command.args(arguments).env_clear().env("OVERSHOT_API_URL", client.base()).envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("it is built");
    let mut pipe = child.stdin.take().expect("it is piped");
    // Who reads no input closes it unread.
    let _ = pipe.write_all(input.as_bytes()).await;
    drop(pipe);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{arguments:?} does not end")).expect("it is our child");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), beside: text(output.stderr) }
}
