//! A real model behind Ollama's API: llama.cpp's server as `scripts/model-server/install` installs it, and our reading of
//! the API in front of it.

use std::path::PathBuf;
use std::process::Command;

use crate::ChatServer;
use crate::chat_server::{Served, installed, script};

/// Both servers, as processes of their own.
#[derive(Debug)]
pub struct OllamaShim {
    shim: Served,
    _model: ChatServer,
}

impl OllamaShim {
    /// The model that it serves.
    pub const MODEL: &str = ChatServer::MODEL;

    /// Starts it; `None`, said loudly: this machine does not have the model.
    pub fn start() -> Option<Self> {
        let model = ChatServer::start()?;
        let python = installed("model", "no real chat model; scripts/model-server/install chat")?;
        let mut command = Command::new(python);
        command.arg(Self::script("ollama_shim.py")).arg(format!("{}/v1", model.address()));
        Some(Self { shim: Served::start(&mut command), _model: model })
    }

    /// A Python with Ollama's own client; `None`, said loudly: this machine does not have it.
    pub fn python_of_the_client() -> Option<PathBuf> {
        installed("ollama", "no client of Ollama's; scripts/model-server/install ollama")
    }

    /// One of the scripts beside the model server.
    pub fn script(name: &str) -> PathBuf {
        script(name)
    }

    /// Where it is.
    pub fn base_url(&self) -> &str {
        &self.shim.address
    }

    /// The section `[providers.ollama]` for a configuration.
    pub fn provider(&self) -> String {
        let url = self.base_url();
        format!("[providers.ollama]\nkind = \"ollama\"\nbase_url = \"{url}\"\nmodels = [\"{}\"]\n", Self::MODEL)
    }
}
