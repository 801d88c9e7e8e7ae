//! Redis behind TLS, and with a user that may do no more than it must.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use support::{Fleet, FleetOptions, RedisServer};

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

#[tokio::test]
async fn a_fleet_speaks_tls_to_a_redis_whose_authority_it_knows_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(path("ca.pem"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &Issuer::new(authority, authority_key)).unwrap();
    std::fs::write(path("server.pem"), server.pem()).unwrap();
    std::fs::write(path("server.key"), server_key.serialize_pem()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = RedisServer::options().tcp().standalone().setting("tls-port", &port.to_string());
    let options = options.setting("tls-cert-file", &path("server.pem")).setting("tls-key-file", &path("server.key"));
    let options = options.setting("tls-ca-cert-file", &path("ca.pem")).setting("tls-auth-clients", "no");
    let redis = options.start().await;
    let url = format!("rediss://127.0.0.1:{port}/0");
    let fleet = FleetOptions::new(quick()).env("SSL_CERT_FILE", &path("ca.pem")).start_over(redis, &url).await;
    serves(&fleet).await;
    // Whoever does not know the authority does not speak to it.
    let env = [("OVERSHOT_REDIS_URL", url.as_str()), ("OVERSHOT_HTTP_ADDR", "127.0.0.1:0")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut other = support::Process::start(support::Program::Api, &[], &env);
    let client = support::Client::new(&other.address().await, None);
    assert_eq!(client.get("/readyz").await.status, 503);
    other.kill();
}
