//! How a test's redis-server is set up.
//!
//! `OVERSHOT_TEST_REDIS_MODE=cluster` makes each server a cluster of one node, so that every test runs over that code path too:
//! `scripts/test-matrix`.

use crate::Certificates;
use crate::redis_server::RedisServer;

/// Name and password of the test's own user where others have users too.
pub(crate) const ADMIN: &str = "admin";

/// How a [`RedisServer`] is set up.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    pub(crate) tcp: bool,
    /// It speaks TLS alone, with these settings.
    pub(crate) tls: Vec<(&'static str, String)>,
    /// Lines of its ACL file: nobody else may come.
    pub(crate) users: Vec<String>,
    pub(crate) cluster: bool,
    /// It is a node of a cluster that others join.
    pub(crate) node: bool,
    pub(crate) steps_clock: bool,
    pub(crate) extra: Vec<String>,
    pub(crate) appendonly: bool,
    pub(crate) fsync: &'static str,
    pub(crate) policy: String,
    pub(crate) maxmemory: Option<String>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            tcp: false,
            tls: Vec::new(),
            users: Vec::new(),
            cluster: std::env::var_os("OVERSHOT_TEST_REDIS_MODE").is_some_and(|mode| mode == "cluster"),
            node: false,
            steps_clock: false,
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

    /// Listens on a free TCP port with TLS, and speaks it with other servers too; without TLS there is only the test's own socket.
    #[must_use]
    pub fn tls(mut self, certificates: &Certificates, wants_certificates_of_clients: bool) -> Self {
        self.tcp = true;
        self.tls = certificates.settings(wants_certificates_of_clients);
        self
    }

    /// Nobody may come without a name but as this user (a line of an ACL file), and the one that the tests use.
    #[must_use]
    pub fn only_user(mut self, line: &str) -> Self {
        self.users =
            [line, "user default off", &format!("user {ADMIN} on >{ADMIN} ~* &* +@all")].map(Into::into).into();
        self.setting("aclfile", "users.acl").setting("masteruser", ADMIN).setting("masterauth", ADMIN)
    }

    /// One server alone whatever `OVERSHOT_TEST_REDIS_MODE` says: for tests of how servers stand to each other, and of what a
    /// cluster has not.
    #[must_use]
    pub fn standalone(mut self) -> Self {
        self.cluster = false;
        self
    }

    /// One node of a cluster, on TCP, to be joined with others.
    #[must_use]
    pub(crate) fn node(mut self) -> Self {
        self.node = true;
        self.standalone().tcp()
    }

    /// Nothing is answered before it is on the disk, so that a SIGKILL loses nothing. With the default, every second, Redis
    /// holds even its writes back for up to two seconds while the disk is busy with the last sync.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.fsync = "always";
        self
    }

    /// Its clock may be stepped: [`RedisServer::step_clock`].
    #[must_use]
    pub fn steps_clock(mut self) -> Self {
        self.steps_clock = true;
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
        std::fs::write(dir.path().join("users.acl"), self.users.join("\n")).expect("the folder is ours");
        RedisServer::new(self, dir)
    }
}
