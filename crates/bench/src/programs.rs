//! Overshot's own programs, as users run them: separate processes, built beside this one.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::server::Server;

/// The fleet of all measurements: one pool with the no-op task, no network.
const CONFIG: &str = r#"
[pools.chat]
providers = ["sim"]
concurrency = 1000

[providers.sim]
kind = "simulated"
tokens = 0
"#;

/// A running program; ends with its owner.
#[derive(Debug)]
pub(crate) struct Program {
    _process: Child,
    _directory: tempfile::TempDir,
    pub(crate) address: String,
}

impl Program {
    /// Starts `overshot-api` or `overshot-worker` and waits until it says where it listens.
    pub(crate) async fn start(name: &str, server: &Server) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("overshot.toml");
        tokio::fs::write(&config, CONFIG).await?;
        let mut process = Command::new(beside_us(name)?)
            .env("OVERSHOT_CONFIG", &config)
            .env("OVERSHOT_REDIS_URL", server.url())
            .env("OVERSHOT_ALLOW_UNSAFE_REDIS", "1")
            .env("OVERSHOT_HTTP_ADDR", "127.0.0.1:0")
            .env("OVERSHOT_WORKER_HTTP_ADDR", "127.0.0.1:0")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut lines = BufReader::new(process.stderr.take().context("no stderr")?).lines();
        let address = loop {
            let line = lines.next_line().await?.with_context(|| format!("{name} ended"))?;
            if let Some((_, rest)) = line.split_once("addr=") {
                break rest.split_whitespace().next().unwrap_or_default().trim_matches('"').to_owned();
            }
        };
        // Its log is read on, so that it never blocks on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { _process: process, _directory: directory, address })
    }
}

fn beside_us(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is missing: cargo build --release --workspace --bins", path.display());
    Ok(path)
}
