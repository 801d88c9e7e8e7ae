//! A real chat model: llama.cpp's server, as `scripts/model-server/install` installs it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The server, as a process of its own; dropped, it ends.
#[derive(Debug)]
pub struct ChatServer {
    process: Served,
}

/// A process that wrote its address as its first line; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
}

impl ChatServer {
    /// The model that it serves.
    pub const MODEL: &str = "smollm2-135m";

    /// Starts it; `None`, said loudly: this machine does not have the model.
    pub fn start() -> Option<Self> {
        Self::start_with_key("")
    }

    /// Starts one that answers only who shows this key; an empty one: everybody.
    pub fn start_with_key(key: &str) -> Option<Self> {
        let python = installed("model", "no real chat model; scripts/model-server/install chat")?;
        let mut command = Command::new(python);
        command.arg(script("serve.py")).env("MODEL_API_KEY", key);
        Some(Self { process: Served::start(&mut command) })
    }

    /// Where it is, without a path.
    pub fn address(&self) -> &str {
        &self.process.address
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        let port = self.address().rsplit(':').next().and_then(|port| port.parse().ok());
        port.expect("its address ends with its port")
    }

    /// Stops all of its threads, with SIGSTOP: it is there and says nothing.
    pub fn freeze(&self) {
        let id = self.process.child.id().to_string();
        let done = Command::new("kill").args(["-STOP", &id]).status();
        assert!(done.is_ok_and(|status| status.success()), "it runs until it is dropped");
    }

    /// The section `[providers.real]` for a configuration: the server itself, or what stands in front of it on `port`.
    pub fn provider(port: u16) -> String {
        let url = format!("http://127.0.0.1:{port}/v1");
        format!("[providers.real]\nkind = \"openai\"\nbase_url = \"{url}\"\nmodels = [\"{}\"]\n", Self::MODEL)
    }
}

impl Served {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("a program that is there starts");
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
        let served = Self { child, address: line.trim().to_owned() };
        read.expect("a pipe can be read");
        assert!(served.address.starts_with("http"), "the server ended before it told its address");
        served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the scripts of the model server.
pub(crate) fn script(name: &str) -> PathBuf {
    root().join("scripts/model-server").join(name)
}

/// The Python of one of its environments; `None`, said loudly: this machine does not have it.
pub(crate) fn installed(environment: &str, otherwise: &str) -> Option<PathBuf> {
    let python = root().join(".tools").join(environment).join("bin/python");
    if python.exists() {
        return Some(python);
    }
    // Past the test runner's capture.
    let _ = std::io::stderr().write_all(format!("\n*** SKIPPED: {otherwise}\n\n").as_bytes());
    None
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above")
}
