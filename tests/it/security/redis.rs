//! Redis behind TLS, and with a user that may do no more than it must.

use std::time::Duration;

use support::{
    Certificates, Client, Fleet, FleetOptions, Guarded, OpenAiStub, Process, Program, RedisCluster, RedisServer,
    Sentinels, assert_eventually,
};

use crate::api::shards::tour;
use crate::fault::load::submit_surely;
use crate::settings::{chat, quick, stubbed};

/// A line of an ACL file as `docs/SECURITY.md` shows it, of the user of that name, with that password.
fn documented(user: &str, password: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SECURITY.md")).unwrap();
    let start = format!("user {user} ");
    let line = page.lines().find(|line| line.starts_with(&start)).expect("the page shows the ACL line");
    line.replace(">PASSWORD", &format!(">{password}"))
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
    assert_eq!(client.post_empty("/api/v1/pools/chat/resume").await.status, 200);
    for path in ["/api/v1/jobs", "/api/v1/pools", "/api/v1/workers", "/metrics", "/readyz"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_fleet_needs_no_more_rights_in_redis_than_the_page_gives() {
    let user = documented("overshot", "its-password");
    let redis = RedisServer::options().tcp().standalone().start().await;
    let user: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(user.split_whitespace().skip(1)).collect();
    redis.command(&user).await.unwrap();
    let url = format!("redis://overshot:its-password@127.0.0.1:{}/0", redis.port());
    let fleet = FleetOptions::new(quick()).start_over(redis, &url).await;
    serves(&fleet).await;
    denied_nothing(&fleet.redis).await;
    let client = ::redis::Client::open(url).unwrap();
    let mut user = client.get_multiplexed_async_connection().await.unwrap();
    for beyond in [&["FLUSHALL"][..], &["KEYS", "*"], &["GET", "other:key"], &["CONFIG", "SET", "maxmemory", "1"]] {
        let mut command = ::redis::cmd(beyond[0]);
        command.arg(&beyond[1..]);
        let refused = command.query_async::<()>(&mut user).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{beyond:?}");
    }
}

/// A Redis behind TLS, and its URL.
async fn tls_redis(certificates: &Certificates, wants_certificates_of_clients: bool) -> (RedisServer, String) {
    let redis = RedisServer::options().standalone().tls(certificates, wants_certificates_of_clients).start().await;
    let url = redis.url();
    (redis, url)
}

/// With what Redis wants to be shown.
fn showing(certificates: &Certificates, config: String) -> FleetOptions {
    FleetOptions::new(config)
        .env("OVERSHOT_REDIS_CA_FILE", &certificates.path("ca.pem"))
        .env("OVERSHOT_REDIS_CERT_FILE", &certificates.path("fleet.pem"))
        .env("OVERSHOT_REDIS_KEY_FILE", &certificates.path("fleet.key"))
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
    let (redis, url) = tls_redis(&certificates, false).await;
    let authorities = certificates.path("ca.pem");
    let fleet = FleetOptions::new(quick()).env("SSL_CERT_FILE", &authorities).start_over(redis, &url).await;
    serves(&fleet).await;
    is_turned_away(&[("OVERSHOT_REDIS_URL", &url)]).await;
}

#[tokio::test]
async fn a_fleet_shows_its_certificate_to_a_redis_that_wants_one() {
    let certificates = Certificates::new();
    let (redis, url) = tls_redis(&certificates, true).await;
    let fleet = showing(&certificates, quick()).start_over(redis, &url).await;
    serves(&fleet).await;
    let authorities = certificates.path("ca.pem");
    is_turned_away(&[("OVERSHOT_REDIS_URL", &url), ("OVERSHOT_REDIS_CA_FILE", &authorities)]).await;
}

/// Nothing that the fleet sent was denied, nor did it come without a name.
async fn denied_nothing(redis: &RedisServer) {
    let denied = redis.cli(&["ACL", "LOG"]).await;
    assert_eq!(denied, ::redis::Value::Array(Vec::new()), "every command that the fleet sent was allowed");
}

#[tokio::test]
async fn a_fleet_comes_to_a_cluster_with_its_certificate_and_its_user_and_stays_over_a_lost_primary() {
    let certificates = Certificates::new();
    let user = documented("overshot", "its-password") + " +cluster|slots";
    let shape = |options: support::RedisOptions| options.tls(&certificates, true).only_user(&user);
    let mut cluster = RedisCluster::start_with(3, true, shape).await;
    let url = cluster.url().replace("://", "://overshot:its-password@");
    let stub = OpenAiStub::start().await;
    let mut fleet = showing(&certificates, stubbed(&stub, "shards = 3")).workers(2).start_at(&url).await;
    tour(&fleet, &stub).await;
    for node in &cluster.nodes {
        denied_nothing(node).await;
    }
    fleet.allow_error("");
    cluster.nodes[0].kill();
    let client = fleet.client.clone();
    // Each shard takes jobs again, and a worker finds them.
    for shard in 0..3 {
        let mut n = 0;
        loop {
            n += 1;
            let id = submit_surely(&client, &format!("{shard} after {n}")).await;
            if crate::api::shards::shard_of(&id) == shard {
                client.wait_until(&id, Duration::from_secs(60), |job| job["status"] == "completed").await;
                break;
            }
        }
    }
    for node in &cluster.nodes[1..] {
        denied_nothing(node).await;
    }
}

#[tokio::test]
async fn a_fleet_comes_to_sentinels_and_their_primary_with_its_certificate_and_a_user_for_each() {
    let certificates = Certificates::new();
    let (user, sentinel_user) = (documented("overshot", "its-password"), documented("overshot-sentinel", "another"));
    let guarded = Guarded { certificates: &certificates, user: &user, sentinel_user: &sentinel_user };
    let sentinels = Sentinels::start_guarded(guarded).await;
    let hosts = sentinels.hosts();
    let query = "sentinel_username=overshot-sentinel&sentinel_password=another";
    let url = format!("rediss+sentinel://overshot:its-password@{hosts}/main?{query}");
    let mut fleet = showing(&certificates, quick()).start_at(&url).await;
    serves(&fleet).await;
    fleet.allow_error("");
    let is_primary = async |redis: &RedisServer| {
        // One that becomes it closes its connections.
        let info = redis
            .command(&["INFO", "replication"])
            .await
            .and_then(|info| Ok(::redis::from_redis_value::<String>(info)?));
        info.is_ok_and(|info| info.contains("role:master"))
    };
    sentinels.fail_over().await;
    assert_eventually!(is_primary(&sentinels.replica).await);
    // The news of it comes over a connection to a Sentinel; the old primary lives on, and forgets what it still takes.
    let mut n = 0;
    let kept = loop {
        n += 1;
        let id = submit_surely(&fleet.client, &format!("after {n}")).await;
        let record = format!("overshot:{{chat.0}}:j:{}", id.rsplit('-').next().unwrap());
        if sentinels.replica.cli(&["EXISTS", &record]).await == ::redis::Value::Int(1) {
            break id;
        }
        assert!(n < 1000, "still at the old primary");
    };
    fleet.client.wait_status(&kept, "completed").await;
    for redis in [&sentinels.primary, &sentinels.replica] {
        denied_nothing(redis).await;
    }
    for place in 0..3 {
        let denied: ::redis::Value = sentinels.ask(place, &["ACL", "LOG"]).await.unwrap();
        assert_eq!(denied, ::redis::Value::Array(Vec::new()), "sentinel {place} allowed every command");
    }
}
