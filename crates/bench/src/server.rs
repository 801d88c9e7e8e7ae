//! A private redis-server for one measurement.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with its owner, with all that it held.
#[derive(Debug)]
pub(crate) struct Server {
    _process: Child,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts one, empty; with an append-only file it is synced every second.
    pub(crate) async fn start(append_only: bool) -> anyhow::Result<Self> {
        Self::start_with(append_only, &[]).await
    }

    /// The same with settings of the caller's, each an option and its value.
    pub(crate) async fn start_with(append_only: bool, settings: &[(&str, String)]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock", "--appendfsync", "everysec"])
            .args(["--appendonly", if append_only { "yes" } else { "no" }])
            .args(settings.iter().flat_map(|(option, value)| [*option, value.as_str()]))
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
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<redis::aio::MultiplexedConnection> {
        // What empties a full server takes its time.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        Ok(redis::Client::open(self.url())?.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// A section of `INFO`, by field.
    pub(crate) async fn info(&self, section: &str) -> anyhow::Result<HashMap<String, String>> {
        let text: String = redis::cmd("INFO").arg(section).query_async(&mut self.connect().await?).await?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    /// The seconds of CPU that the server used since its start, in user and kernel mode.
    pub(crate) async fn cpu_s(&self) -> anyhow::Result<f64> {
        let info = self.info("cpu").await?;
        ["used_cpu_user", "used_cpu_sys"]
            .iter()
            .map(|name| Ok(info.get(*name).context("INFO cpu lacks a field")?.parse::<f64>()?))
            .sum()
    }

    /// The bytes that it holds: data, and the buffers of its clients.
    pub(crate) async fn used_bytes(&self) -> anyhow::Result<f64> {
        self.number("memory", "used_memory").await
    }

    /// A number out of `INFO`.
    pub(crate) async fn number(&self, section: &str, field: &str) -> anyhow::Result<f64> {
        Ok(self.info(section).await?.get(field).with_context(|| format!("INFO lacks {field}"))?.parse()?)
    }
}
