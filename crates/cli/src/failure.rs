//! Why a command did not do what it was asked, as a message and an exit code.

use std::fmt;
use std::io::ErrorKind;
use std::process::ExitCode;

use serde_json::Value;

/// What a script can tell apart. Code 2, wrong use or configuration, is also clap's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nobody reads the output any more: `overshot … | head` has what it wanted.
    ReaderLeft = 0,
    /// No answer, or one that tells of a failure on the other side.
    Failed = 1,
    /// Wrong use, also where only the API could tell.
    Usage = 2,
    /// The job that was waited for ended, but not as completed.
    NotCompleted = 3,
    /// There is no such job, pool or worker.
    NotFound = 4,
    /// The token does not open this.
    Refused = 5,
    /// The state does not allow it: ended already, not ended yet, key held, queue full.
    Conflict = 6,
}

/// The end of a command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// What the API said with an error status.
    pub(crate) fn of_answer(status: u16, body: &Value) -> Self {
        let exit = match status {
            401 | 403 => Exit::Refused,
            404 => Exit::NotFound,
            409 | 429 => Exit::Conflict,
            400..500 => Exit::Usage,
            _ => Exit::Failed,
        };
        let error = &body["error"];
        let message = match (error["message"].as_str(), error["code"].as_str()) {
            (Some(message), Some(code)) => format!("{message} ({status} {code})"),
            _ => format!("the API answered {status}"),
        };
        Self { exit, message }
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The chain of causes says more than the error: "error sending request" alone helps nobody.
        let message = format!("the API cannot be reached: {:#}", anyhow::Error::new(error));
        Self { exit: Exit::Failed, message }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let exit = if error.kind() == ErrorKind::BrokenPipe { Exit::ReaderLeft } else { Exit::Failed };
        Self { exit, message: error.to_string() }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
