//! Overshot's own programs, as users run them: separate processes, built beside this one.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::server::Server;

/// The fleet of most measurements: one pool with the no-op task, no network.
const NO_OP: &str = r#"
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
    process: Child,
    _directory: tempfile::TempDir,
    /// Where it listens, as `host:port`.
    pub(crate) address: String,
}

impl Program {
    /// Starts `overshot-api` or `overshot-worker` with the no-op task and waits until it says where it listens.
    pub(crate) async fn start(name: &str, server: &Server) -> anyhow::Result<Self> {
        Self::start_with(name, server, NO_OP).await
    }

    /// The same with a pool of several shards on any Redis.
    pub(crate) async fn start_sharded(name: &str, redis_url: &str, shards: u16) -> anyhow::Result<Self> {
        let config = NO_OP.replacen("[pools.chat]", &format!("[pools.chat]\nshards = {shards}"), 1);
        Self::start_at(name, redis_url, &config).await
    }

    /// The same with a configuration of the caller's.
    pub(crate) async fn start_with(name: &str, server: &Server, config: &str) -> anyhow::Result<Self> {
        Self::start_at(name, &server.url(), config).await
    }

    async fn start_at(name: &str, redis_url: &str, config: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("overshot.toml");
        tokio::fs::write(&path, config).await?;
        let mut command = Command::new(beside_us(name)?);
        command
            .env("OVERSHOT_CONFIG", &path)
            .env("OVERSHOT_REDIS_URL", redis_url)
            .env("OVERSHOT_ALLOW_UNSAFE_REDIS", "1")
            .env("OVERSHOT_HTTP_ADDR", "127.0.0.1:0")
            .env("OVERSHOT_WORKER_HTTP_ADDR", "127.0.0.1:0");
        Self::spawn(command, directory).await.with_context(|| format!("starting {name}"))
    }

    /// Starts the bare handler of this very program.
    pub(crate) async fn start_bare_api(server: &Server) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare-api").arg(server.url());
        Self::spawn(command, tempfile::tempdir()?).await.context("starting the bare handler")
    }

    async fn spawn(mut command: Command, directory: tempfile::TempDir) -> anyhow::Result<Self> {
        let mut process = command.stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(process.stderr.take().context("no stderr")?).lines();
        let address = loop {
            let line = lines.next_line().await?.context("it ended")?;
            if let Some((_, rest)) = line.split_once("addr=") {
                break rest.split_whitespace().next().unwrap_or_default().trim_matches('"').to_owned();
            }
        };
        // Its log is read on, so that it never blocks on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { process, _directory: directory, address })
    }

    /// The process' number.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().context("the program ended")
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// The seconds of CPU that it used since its start, in user and kernel mode.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        // The name before it may hold anything but a closing parenthesis last.
        let (_, fields) = stat.rsplit_once(") ").context("/proc/…/stat is unreadable")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The bytes of memory that it holds now.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

fn beside_us(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is missing: cargo build --release --workspace --bins", path.display());
    Ok(path)
}
