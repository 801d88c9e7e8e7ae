//! A private redis-server for one measurement.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};

/// Ends with its owner, with all that it held.
#[derive(Debug)]
pub(crate) struct Server {
    _process: Child,
    directory: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(append_only: bool) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock", "--appendonly"])
            .arg(if append_only { "yes" } else { "no" })
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("redis-server is needed: apt-get install -y redis-server")?;
        let server = Self { _process: process, directory };
        for _ in 0..200 {
            if server.connect().await.is_ok() {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("redis-server did not start")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}/redis.sock", self.directory.path().display())
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<redis::aio::MultiplexedConnection> {
        Ok(redis::Client::open(self.url())?.get_multiplexed_async_connection().await?)
    }
}
