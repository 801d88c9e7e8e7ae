//! A primary, a replica and three Sentinels of a test's own.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::redis_server::{RedisServer, free_port};
use crate::{PATIENCE, assert_eventually};

/// What watches over a primary called `main`. Dropped, all of it is gone.
#[derive(Debug)]
pub struct Sentinels {
    /// The primary at the start.
    pub primary: RedisServer,
    /// Its replica.
    pub replica: RedisServer,
    processes: Vec<Child>,
    ports: Vec<u16>,
    _dir: TempDir,
}

impl Sentinels {
    /// Starts all, and waits until the Sentinels know each other and the replica. They take a primary that is silent for a
    /// second for dead.
    pub async fn start() -> Self {
        let options = RedisServer::options().standalone().tcp();
        let primary = options.clone().start().await;
        let port = primary.port().to_string();
        let replica = options.setting("replicaof", &format!("127.0.0.1 {port}")).start().await;
        // One that has not got everything yet would be promoted empty.
        assert_eventually!(replica.is_synced().await, PATIENCE);
        let dir = tempfile::Builder::new().prefix("overshot-sentinel-").tempdir().expect("a temporary folder");
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let processes = ports.iter().map(|own| spawn(&dir, *own, &port)).collect();
        let sentinels = Self { primary, replica, processes, ports, _dir: dir };
        for port in &sentinels.ports {
            assert_eventually!(knows_all(*port).await, PATIENCE, "the sentinel at {port}");
        }
        sentinels
    }

    /// Has the replica made the primary, while the old one lives.
    pub async fn fail_over(&self) {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.ports[0])).expect("a URL");
        let mut sentinel = client.get_multiplexed_async_connection().await.expect("the sentinel runs");
        let mut command = redis::cmd("SENTINEL");
        command.arg("FAILOVER").arg("main").exec_async(&mut sentinel).await.expect("a replica is there");
    }

    /// Where clients find the primary.
    pub fn url(&self) -> String {
        let places: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/main", places.join(","))
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Fails only if it is gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn spawn(dir: &TempDir, port: u16, primary: &str) -> Child {
    let path = dir.path().join(format!("{port}.conf"));
    let config = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
        dir.path().display()
    );
    std::fs::write(&path, config).expect("the folder is ours");
    let mut command = Command::new("redis-server");
    command.arg(&path).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("redis-server --sentinel: {error}; type: make setup"))
}

/// Whether a Sentinel knows the two others and the replica.
async fn knows_all(port: u16) -> bool {
    let ask = async {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("INFO").arg("sentinel").query_async::<String>(&mut connection).await
    };
    let state: redis::RedisResult<String> = ask.await;
    state.is_ok_and(|state| state.contains("status=ok") && state.contains("slaves=1,sentinels=3"))
}
