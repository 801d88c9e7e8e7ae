//! A real model behind Ollama's API: llama.cpp's server as `scripts/model-server/install` installs it, and our reading of
//! the API in front of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Both servers, as processes of their own.
#[derive(Debug)]
pub struct OllamaShim {
    servers: Vec<Child>,
    url: String,
}

impl OllamaShim {
    /// The model that it serves.
    pub const MODEL: &str = "smollm2-135m";

    /// Starts it; `None`, said loudly: this machine does not have the model.
    pub fn start() -> Option<Self> {
        let python = installed("model", "no real chat model; scripts/model-server/install chat")?;
        let mut shim = Self { servers: Vec::new(), url: String::new() };
        let model = shim.serve(Command::new(&python).arg(Self::script("serve.py")));
        shim.url = shim.serve(Command::new(&python).arg(Self::script("ollama_shim.py")).arg(format!("{model}/v1")));
        Some(shim)
    }

    /// A Python with Ollama's own client; `None`, said loudly: this machine does not have it.
    pub fn python_of_the_client() -> Option<PathBuf> {
        installed("ollama", "no client of Ollama's; scripts/model-server/install ollama")
    }

    /// One of the scripts beside the model server.
    pub fn script(name: &str) -> PathBuf {
        root().join("scripts/model-server").join(name)
    }

    /// Where it is.
    pub fn base_url(&self) -> &str {
        &self.url
    }

    /// The section `[providers.ollama]` for a configuration.
    pub fn provider(&self) -> String {
        format!("[providers.ollama]\nkind = \"ollama\"\nbase_url = \"{}\"\nmodels = [\"{}\"]\n", self.url, Self::MODEL)
    }

    /// Starts a server that writes its address as its first line.
    fn serve(&mut self, command: &mut Command) -> String {
        let server = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut server = server.expect("a program that is there starts");
        let mut line = String::new();
        let read = BufReader::new(server.stdout.take().expect("it is piped")).read_line(&mut line);
        self.servers.push(server);
        read.expect("a pipe can be read");
        assert!(line.starts_with("http"), "the server ended before it told its address");
        line.trim().to_owned()
    }
}

impl Drop for OllamaShim {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Gone already is as good.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace")
}

fn installed(environment: &str, otherwise: &str) -> Option<PathBuf> {
    let python = root().join(".tools").join(environment).join("bin/python");
    if python.exists() {
        return Some(python);
    }
    // Past the test runner's capture.
    let _ = std::io::stderr().write_all(format!("\n*** SKIPPED: {otherwise}\n\n").as_bytes());
    None
}
