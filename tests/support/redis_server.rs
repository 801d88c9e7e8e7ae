//! A redis-server of a test's own: its own folder, its own socket, killed and removed at the end.
//!
//! `OVERSHOT_TEST_REDIS_SERVER` names another program than `redis-server`: `scripts/test-matrix`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult, Value};
use tempfile::TempDir;

use crate::port::Port;
use crate::redis_options::{ADMIN, RedisOptions};
use crate::stepped_clock::SteppedClock;
use crate::{PATIENCE, assert_eventually};

/// Where Redis keeps its AOF below its folder, and where a copy of that is set aside.
const AOF_DIR: &str = "appendonlydir";
const COPY_DIR: &str = "copy";

/// A running redis-server. By default with AOF every second, no save points, and a unix socket only.
#[derive(Debug)]
pub struct RedisServer {
    options: RedisOptions,
    dir: TempDir,
    port: Option<Port>,
    /// Where the nodes of its cluster reach it.
    bus: Option<Port>,
    clock: Option<SteppedClock>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one with the defaults and waits until it answers.
    pub async fn start() -> Self {
        RedisOptions::default().start().await
    }

    /// Other settings than the defaults.
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// Stopped, with its own folder.
    pub(crate) fn new(options: RedisOptions, dir: TempDir) -> Self {
        let port = (options.tcp || options.cluster).then(Port::reserve);
        let bus = (options.node || options.cluster).then(Port::reserve);
        let clock = options.steps_clock.then(|| SteppedClock::new(dir.path()));
        Self { options, dir, port, bus, clock, child: None }
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        match self {
            Self { options: RedisOptions { cluster: true, .. }, .. } => {
                format!("redis+cluster://127.0.0.1:{}", self.port())
            }
            Self { options: RedisOptions { tls, .. }, .. } if !tls.is_empty() => {
                format!("rediss://127.0.0.1:{}/0", self.port())
            }
            _ => self.node_url(),
        }
    }

    /// The test's own way to it.
    fn node_url(&self) -> String {
        if self.port.is_some() && self.options.tls.is_empty() {
            return format!("redis://127.0.0.1:{}/0", self.port());
        }
        let who = if self.options.users.is_empty() { String::new() } else { format!("?user={ADMIN}&pass={ADMIN}") };
        format!("unix://{}{who}", self.socket())
    }

    /// The TCP port, with TLS where it speaks that; 0 without TCP.
    pub fn port(&self) -> u16 {
        self.port.as_ref().map_or(0, Port::number)
    }

    /// Kills it with SIGKILL; its files stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops all of its threads with SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Ends a [`RedisServer::freeze`].
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Steps its clock to so many milliseconds off the right time, if it was started with [`RedisOptions::steps_clock`].
    pub fn step_clock(&self, millis: i64) {
        self.clock.as_ref().expect("RedisServer::options().steps_clock()").set(millis);
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("the server runs").id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill is on every machine");
        assert!(status.success(), "kill {signal} {pid}");
    }

    /// Starts it on the same files, and waits until it answers: with AOF, what was written is there again.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = Some(self.spawn());
        let start = Instant::now();
        while self.try_connect().await.is_err() {
            let child = self.child.as_mut().expect("just spawned");
            if let Ok(Some(status)) = child.try_wait() {
                panic!("redis-server ended with {status}: {}", self.log());
            }
            assert!(start.elapsed() < PATIENCE, "redis-server does not answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if self.options.cluster {
            // The second time it has them; both times it takes a moment until it serves them.
            let _ = self.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
            let is_whole = async || {
                let info = self.cli(&["CLUSTER", "INFO"]).await;
                redis::from_redis_value::<String>(info).is_ok_and(|info| info.contains("cluster_state:ok"))
            };
            assert_eventually!(is_whole().await, PATIENCE);
        }
    }

    /// Sets a copy of its files aside, as they are on the disk now: with AOF, what it has answered to is in it.
    pub fn keep_copy(&self) {
        copy(&self.dir.path().join(AOF_DIR), &self.dir.path().join(COPY_DIR));
    }

    /// Starts it on the files of the last [`RedisServer::keep_copy`]: what was written since is forgotten, as by a failover
    /// to a replica that lags.
    pub async fn restart_from_copy(&mut self) {
        self.kill();
        copy(&self.dir.path().join(COPY_DIR), &self.dir.path().join(AOF_DIR));
        self.restart().await;
    }

    /// A connection that waits long enough for a busy machine.
    pub async fn connection(&self) -> MultiplexedConnection {
        self.try_connect().await.expect("the test's Redis runs")
    }

    /// Sends one command and gives its answer.
    pub async fn command(&self, args: &[&str]) -> RedisResult<Value> {
        let mut connection = self.try_connect().await?;
        let (name, args) = args.split_first().expect("a command has a name");
        let mut command = redis::cmd(name);
        for arg in args {
            command.arg(arg);
        }
        command.query_async(&mut connection).await
    }

    /// Sends one command, which must succeed.
    pub async fn cli(&self, args: &[&str]) -> Value {
        self.command(args).await.unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// Whether it is a replica that has got everything that its primary had.
    pub async fn is_synced(&self) -> bool {
        let info = self.cli(&["INFO", "replication"]).await;
        redis::from_redis_value::<String>(info).is_ok_and(|info| info.contains("master_link_status:up"))
    }

    async fn try_connect(&self) -> RedisResult<MultiplexedConnection> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let mut connection =
            Client::open(self.node_url())?.get_multiplexed_async_connection_with_config(&config).await?;
        // While it loads its AOF it answers LOADING.
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    fn spawn(&self) -> Child {
        let program = std::env::var_os("OVERSHOT_TEST_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(&program);
        command.current_dir(self.dir.path());
        let (plain, tls) = if self.options.tls.is_empty() { (self.port(), 0) } else { (0, self.port()) };
        command.args(["--port", &plain.to_string(), "--bind", "127.0.0.1", "--save", "", "--logfile", "redis.log"]);
        if tls != 0 {
            command.args(["--tls-port", &tls.to_string()]);
        }
        for (name, value) in &self.options.tls {
            command.args([&format!("--{name}"), value]);
        }
        command.args(["--dir", &self.dir.path().to_string_lossy(), "--appendfsync", self.options.fsync]);
        command.args(["--appendonly", if self.options.appendonly { "yes" } else { "no" }]);
        command.args(["--maxmemory-policy", &self.options.policy]);
        // A copy without a file begins five seconds late, and what is written after it waits for the replica's first word, up
        // to a second more, though the replica counts as synced by then.
        command.args(["--repl-diskless-sync", "no"]);
        if let Some(limit) = &self.options.maxmemory {
            command.args(["--maxmemory", limit]);
        }
        if let Some(bus) = &self.bus {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.number().to_string()]);
        }
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        command.args(&self.options.extra);
        if !self.options.tcp || tls != 0 {
            command.args(["--unixsocket", &self.socket()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap_or_else(|error| panic!("{}: {error}; type: make setup", program.display()))
    }

    fn socket(&self) -> String {
        self.dir.path().join("redis.sock").to_string_lossy().into_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Replaces a folder of plain files by another.
fn copy(from: &Path, to: &Path) {
    // The first time there is none.
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).expect("a folder of our own");
    for file in std::fs::read_dir(from).expect("redis-server has made it").map(|file| file.expect("it can be listed")) {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("it can be read");
    }
}
