//! A redis-server of a test's own: its own folder, its own socket, killed and removed at the end.
//!
//! `OVERSHOT_TEST_REDIS_SERVER` names another program than `redis-server`, and `OVERSHOT_TEST_REDIS_MODE=cluster` makes each
//! server a cluster of one node, so that every test runs over that code path too: `scripts/test-matrix`.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult, Value};
use tempfile::TempDir;

use crate::{PATIENCE, assert_eventually};

/// How a [`RedisServer`] is set up.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    tcp: bool,
    cluster: bool,
    extra: Vec<String>,
    appendonly: bool,
    fsync: &'static str,
    policy: String,
    maxmemory: Option<String>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            tcp: false,
            cluster: std::env::var_os("OVERSHOT_TEST_REDIS_MODE").is_some_and(|mode| mode == "cluster"),
            extra: Vec::new(),
            appendonly: true,
            fsync: "everysec",
            policy: "noeviction".to_owned(),
            maxmemory: None,
        }
    }
}

impl RedisOptions {
    /// Listens on a free TCP port instead of a unix socket, for a proxy in front.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// One server alone whatever `OVERSHOT_TEST_REDIS_MODE` says: for tests of how servers stand to each other, and of what a
    /// cluster has not.
    #[must_use]
    pub fn standalone(mut self) -> Self {
        self.cluster = false;
        self
    }

    /// Nothing is answered before it is on the disk, so that a SIGKILL loses nothing. With the default, every second, Redis
    /// holds even its writes back for up to two seconds while the disk is busy with the last sync.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.fsync = "always";
        self
    }

    /// Neither AOF nor save points.
    #[must_use]
    pub fn without_persistence(mut self) -> Self {
        self.appendonly = false;
        self
    }

    /// The `maxmemory-policy`; the default is `noeviction`.
    #[must_use]
    pub fn policy(mut self, policy: &str) -> Self {
        policy.clone_into(&mut self.policy);
        self
    }

    /// The `maxmemory`, as Redis spells it (`20mb`).
    #[must_use]
    pub fn maxmemory(mut self, limit: &str) -> Self {
        self.maxmemory = Some(limit.to_owned());
        self
    }

    /// One more setting, as on the command line: `--name value`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.extra.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> RedisServer {
        let mut server = self.stopped();
        server.restart().await;
        server
    }

    /// Sets everything up, but leaves it stopped until [`RedisServer::restart`].
    pub fn stopped(self) -> RedisServer {
        let dir = tempfile::Builder::new().prefix("overshot-redis-").tempdir().expect("a temporary folder");
        let port = if self.tcp || self.cluster { free_port() } else { 0 };
        RedisServer { options: self, dir, port, child: None }
    }
}

/// A running redis-server. By default with AOF every second, no save points, and a unix socket only.
#[derive(Debug)]
pub struct RedisServer {
    options: RedisOptions,
    dir: TempDir,
    port: u16,
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

    /// Where clients find it.
    pub fn url(&self) -> String {
        if self.options.cluster { format!("redis+cluster://127.0.0.1:{}", self.port) } else { self.node_url() }
    }

    fn node_url(&self) -> String {
        if self.port != 0 { format!("redis://127.0.0.1:{}/0", self.port) } else { format!("unix://{}", self.socket()) }
    }

    /// The TCP port; 0 without TCP.
    pub fn port(&self) -> u16 {
        self.port
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
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--logfile", "redis.log"]);
        command.args(["--dir", &self.dir.path().to_string_lossy(), "--appendfsync", self.options.fsync]);
        command.args(["--appendonly", if self.options.appendonly { "yes" } else { "no" }]);
        command.args(["--maxmemory-policy", &self.options.policy]);
        // A copy without a file begins five seconds late, and what is written after it waits for the replica's first word, up
        // to a second more, though the replica counts as synced by then.
        command.args(["--repl-diskless-sync", "no"]);
        if let Some(limit) = &self.options.maxmemory {
            command.args(["--maxmemory", limit]);
        }
        if self.options.cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()]);
        }
        command.args(&self.options.extra);
        if !self.options.tcp {
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

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
