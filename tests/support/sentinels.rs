//! A primary, a replica and three Sentinels of a test's own.

use std::process::{Child, Command, Stdio};

use redis::{FromRedisValue, RedisResult};
use tempfile::TempDir;

use crate::port::Port;
use crate::redis_options::ADMIN;
use crate::redis_server::RedisServer;
use crate::{Certificates, PATIENCE, assert_eventually};

/// What watches over a primary called `main`. Dropped, all of it is gone.
#[derive(Debug)]
pub struct Sentinels {
    /// The primary at the start.
    pub primary: RedisServer,
    /// Its replica.
    pub replica: RedisServer,
    processes: Vec<Child>,
    ports: Vec<Port>,
    dir: TempDir,
}

/// Who may come, and how.
#[derive(Debug, Clone, Copy)]
pub struct Guarded<'a> {
    /// TLS alone, with a certificate on both sides.
    pub certificates: &'a Certificates,
    /// The one user of primary and replica, as a line of an ACL file.
    pub user: &'a str,
    /// The one user of the Sentinels.
    pub sentinel_user: &'a str,
}

impl Sentinels {
    /// Starts all, and waits until the Sentinels know each other and the replica. They take a primary that is silent for a
    /// second for dead.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// As [`Sentinels::start`], closed to all but the guard's users.
    pub async fn start_guarded(guarded: Guarded<'_>) -> Self {
        Self::start_with(Some(guarded)).await
    }

    async fn start_with(guarded: Option<Guarded<'_>>) -> Self {
        let mut options = RedisServer::options().standalone().tcp();
        if let Some(Guarded { certificates, user, .. }) = guarded {
            options = options.tls(certificates, true).only_user(user);
        }
        let primary = options.clone().start().await;
        let port = primary.port().to_string();
        let replica = options.setting("replicaof", &format!("127.0.0.1 {port}")).start().await;
        // One that has not got everything yet would be promoted empty.
        assert_eventually!(replica.is_synced().await, PATIENCE);
        let dir = tempfile::Builder::new().prefix("overshot-sentinel-").tempdir().expect("a temporary folder");
        let ports: Vec<Port> = (0..3).map(|_| Port::reserve()).collect();
        let processes = ports.iter().map(|own| spawn(&dir, own.number(), &port, guarded)).collect();
        let sentinels = Self { primary, replica, processes, ports, dir };
        for place in 0..sentinels.ports.len() {
            assert_eventually!(sentinels.knows_all(place).await, PATIENCE, "sentinel {place}");
        }
        sentinels
    }

    /// Has the replica made the primary, while the old one lives.
    pub async fn fail_over(&self) {
        self.ask::<()>(0, &["SENTINEL", "FAILOVER", "main"]).await.expect("a replica is there");
    }

    /// Sends one command to one of the Sentinels.
    pub async fn ask<T: FromRedisValue>(&self, place: usize, args: &[&str]) -> RedisResult<T> {
        let socket = socket(&self.dir, self.ports[place].number());
        let client = redis::Client::open(format!("unix://{socket}?user={ADMIN}&pass={ADMIN}"))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(args[0]).arg(&args[1..]).query_async(&mut connection).await
    }

    /// Their places, as a URL has them.
    pub fn hosts(&self) -> String {
        let places: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{}", port.number())).collect();
        places.join(",")
    }

    /// Where clients find the primary.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/main", self.hosts())
    }

    /// Whether a Sentinel knows the two others and the replica.
    async fn knows_all(&self, place: usize) -> bool {
        let state = self.ask::<String>(place, &["INFO", "sentinel"]).await;
        state.is_ok_and(|state| state.contains("status=ok") && state.contains("slaves=1,sentinels=3"))
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

fn socket(dir: &TempDir, port: u16) -> String {
    dir.path().join(format!("{port}.sock")).to_string_lossy().into_owned()
}

fn spawn(dir: &TempDir, port: u16, primary: &str, guarded: Option<Guarded<'_>>) -> Child {
    let path = dir.path().join(format!("{port}.conf"));
    let mut config = format!(
        "bind 127.0.0.1\nunixsocket {}\ndir {}\nuser {ADMIN} on >{ADMIN} ~* &* +@all\n\
         sentinel monitor main 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
        socket(dir, port),
        dir.path().display()
    );
    config += &match guarded {
        None => format!("port {port}\n"),
        Some(Guarded { certificates, sentinel_user, .. }) => {
            let settings = certificates.settings(true).into_iter();
            let tls: String = settings.map(|(name, value)| format!("{name} {value}\n")).collect();
            format!(
                "port 0\ntls-port {port}\n{tls}{sentinel_user}\nuser default off\n\
                 sentinel auth-user main {ADMIN}\nsentinel auth-pass main {ADMIN}\n\
                 sentinel sentinel-user {ADMIN}\nsentinel sentinel-pass {ADMIN}\n"
            )
        }
    };
    std::fs::write(&path, config).expect("the folder is ours");
    let mut command = Command::new("redis-server");
    command.arg(&path).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("redis-server --sentinel: {error}; type: make setup"))
}
