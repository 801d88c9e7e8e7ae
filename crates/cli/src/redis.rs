//! A redis-server of one's own: its data in a directory, its socket out of everybody's way.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use overshot_common::queue::Queue;
use tokio::process::{Child, Command};

/// A running server; killed with its owner, which its append-only file survives.
#[derive(Debug)]
pub(crate) struct PrivateRedis {
    process: Child,
    /// A path of its own: that of the data may be too long for a socket.
    socket: tempfile::TempDir,
    /// Held as long as the server runs: two on one directory would spoil its data.
    _lock: File,
}

impl PrivateRedis {
    /// Starts a server on the data in `directory` and waits until it has read them.
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let lock = File::create(directory.join("lock"))?;
        lock.try_lock().with_context(|| format!("another `overshot dev` uses {}", directory.display()))?;
        let socket = tempfile::tempdir()?;
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--dir"])
            .arg(directory)
            .arg("--unixsocket")
            .arg(socket.path().join("redis.sock"))
            .stdout(Stdio::null())
            // A Ctrl-C in the terminal is for us: Redis stops last.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => anyhow::anyhow!("redis-server is missing: apt-get install -y redis-server"),
                _ => anyhow::Error::new(error).context("cannot start redis-server"),
            })?;
        let mut redis = Self { process, socket, _lock: lock };
        redis.ready().await?;
        Ok(redis)
    }

    /// Where the server listens.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}/redis.sock", self.socket.path().display())
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let queue = Queue::open(&self.url(), Duration::from_millis(200))?;
        loop {
            if queue.ping().await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                anyhow::bail!("redis-server ended at its start ({status}): is its data damaged?");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the server in good order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(id) = self.process.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        }
        tokio::time::timeout(Duration::from_secs(10), self.process.wait())
            .await
            .context("redis-server did not stop")??;
        Ok(())
    }
}
