//! Redis behind TLS, and with a user that may do no more than it must.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use support::{Client, Fleet, FleetOptions, Process, Program, RedisServer};
use tempfile::TempDir;

use crate::settings::{chat, quick};

/// What `docs/SECURITY.md` gives the user, but for the password.
fn documented_rights() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SECURITY.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("user overshot ")).expect("the page shows the ACL line");
    let rights = line.split_whitespace().skip(2).filter(|right| !right.starts_with('>'));
    rights.map(str::to_owned).collect()
}

/// A job's whole life, and what operators do.
async fn serves(fleet: &Fleet) {
    let client = &fleet.client;
    let id = client.submit(&chat("one two three")).await;
    assert_eq!(client.wait_end(&id).await["status"], "completed");
    assert_eq!(client.events(&id, None).await.rest().await.last().unwrap().event, "done");
    assert_eq!(client.post_empty(&format!("/api/v1/jobs/{id}/retry")).await.status, 202);
    assert_eq!(client.wait_end(&id).await["status"], "completed");
    assert_eq!(client.post_empty("/api/v1/pools/chat/pause").await.status, 200);
    let waits = client.submit(&chat("waits")).await;
    assert_eq!(client.cancel(&waits).await.json["status"], "cancelled");
    for path in ["/api/v1/jobs", "/api/v1/pools", "/api/v1/workers", "/metrics", "/readyz"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_fleet_needs_no_more_rights_in_redis_than_the_page_gives() {
    let redis = RedisServer::options().tcp().standalone().start().await;
    let rights = documented_rights();
    let mut user = vec!["ACL", "SETUSER", "overshot", ">its-password"];
    user.extend(rights.iter().map(String::as_str));
    redis.command(&user).await.unwrap();
    let url = format!("redis://overshot:its-password@127.0.0.1:{}/0", redis.port());
    let fleet = FleetOptions::new(quick()).start_over(redis, &url).await;
    serves(&fleet).await;
    let denied = fleet.redis.cli(&["ACL", "LOG"]).await;
    assert_eq!(denied, ::redis::Value::Array(Vec::new()), "every command that the fleet sent was allowed");
    let client = ::redis::Client::open(url).unwrap();
    let mut user = client.get_multiplexed_async_connection().await.unwrap();
    for beyond in [&["FLUSHALL"][..], &["KEYS", "*"], &["GET", "other:key"], &["CONFIG", "SET", "maxmemory", "1"]] {
        let mut command = ::redis::cmd(beyond[0]);
        command.arg(&beyond[1..]);
        let refused = command.query_async::<()>(&mut user).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{beyond:?}");
    }
}

/// An authority, and what it has signed: for a server on 127.0.0.1, and for the fleet.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let made = Self { folder: tempfile::tempdir().unwrap() };
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Under the same name as what it signs, each of those would be taken for signed by itself.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        std::fs::write(made.path("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Issuer::new(authority, key);
        for (name, whom) in [("server", "127.0.0.1"), ("fleet", "fleet")] {
            let key = KeyPair::generate().unwrap();
            let signed = CertificateParams::new(vec![whom.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
            std::fs::write(made.path(&format!("{name}.pem")), signed.pem()).unwrap();
            std::fs::write(made.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        made
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// A Redis behind TLS, and its URL.
    async fn redis(&self, wants_clients_certificates: &str) -> (RedisServer, String) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = RedisServer::options().tcp().standalone().setting("tls-port", &port.to_string());
        let options = options.setting("tls-cert-file", &self.path("server.pem"));
        let options = options.setting("tls-key-file", &self.path("server.key"));
        let options = options.setting("tls-ca-cert-file", &self.path("ca.pem"));
        let redis = options.setting("tls-auth-clients", wants_clients_certificates).start().await;
        (redis, format!("rediss://127.0.0.1:{port}/0"))
    }
}

/// A worker with these variables does not come to speak to its Redis.
async fn is_turned_away(env: &[(&str, &str)]) {
    let own = [("OVERSHOT_WORKER_HTTP_ADDR", "127.0.0.1:0")];
    let env: Vec<_> = own.iter().chain(env).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut worker = Process::start(Program::Worker, &[], &env);
    let client = Client::new(&worker.address().await, None);
    let said = worker.wait_for_line("waiting for redis").await.to_lowercase();
    assert!(said.contains("certificate"), "turned away for another reason: {said}");
    assert_eq!(client.get("/readyz").await.status, 503);
    worker.kill();
}

#[tokio::test]
async fn a_fleet_speaks_tls_to_a_redis_whose_authority_it_knows_and_to_no_other() {
    let certificates = Certificates::new();
    let (redis, url) = certificates.redis("no").await;
    let authorities = certificates.path("ca.pem");
    let fleet = FleetOptions::new(quick()).env("SSL_CERT_FILE", &authorities).start_over(redis, &url).await;
    serves(&fleet).await;
    is_turned_away(&[("OVERSHOT_REDIS_URL", &url)]).await;
}

#[tokio::test]
async fn a_fleet_shows_its_certificate_to_a_redis_that_wants_one() {
    let certificates = Certificates::new();
    let (redis, url) = certificates.redis("yes").await;
    let [authorities, certificate, key] = ["ca.pem", "fleet.pem", "fleet.key"].map(|name| certificates.path(name));
    let options = FleetOptions::new(quick()).env("OVERSHOT_REDIS_CA_FILE", &authorities);
    let options = options.env("OVERSHOT_REDIS_CERT_FILE", &certificate).env("OVERSHOT_REDIS_KEY_FILE", &key);
    let fleet = options.start_over(redis, &url).await;
    serves(&fleet).await;
    is_turned_away(&[("OVERSHOT_REDIS_URL", &url), ("OVERSHOT_REDIS_CA_FILE", &authorities)]).await;
}
