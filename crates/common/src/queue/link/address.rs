//! What a Redis URL says: one server, a cluster, or what Sentinels watch over.

use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2};
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};

use super::super::error::Error;
use crate::config::RedisTls;

/// Where Redis is, and how to ask who is in charge.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    /// One server.
    One(ConnectionInfo),
    /// Nodes of a cluster, of which one tells of all.
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels, who know the primary of that name; `primary` is how to connect to it, but for its place.
    Sentinel { sentinels: Vec<ConnectionInfo>, primary: ConnectionInfo, name: String },
}

/// The usual port of a Sentinel.
const SENTINEL_PORT: u16 = 26_379;

impl Address {
    /// Reads `redis://`, `rediss://`, `unix://`, `redis+cluster://host:port,…` or
    /// `redis+sentinel://host:port,…/<name of the primary>[/<db>]`; credentials stand before an `@` and are the
    /// data nodes'. Those of the Sentinels stand in the query: `sentinel_username`, `sentinel_password`.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let refused = |what: &str| Error::Refused(what.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("a URL has a scheme"))?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(kind, "cluster" | "sentinel") {
            return Ok(Self::One(info(url)?));
        }
        let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(who, rest)| (who, rest));
        let credentials = if credentials.is_empty() { String::new() } else { format!("{credentials}@") };
        let (rest, query) =
            rest.split_once('?').map_or((rest, String::new()), |(rest, query)| (rest, format!("?{query}")));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts: Vec<&str> = hosts.split(',').collect();
        if hosts.iter().any(|host| host.is_empty()) {
            return Err(refused("a host is empty"));
        }
        if kind == "cluster" {
            if !matches!(path, "" | "0") {
                return Err(refused("a cluster has only database 0"));
            }
            let seeds = hosts.iter().map(|host| info(&format!("{base}://{credentials}{host}{query}")));
            return Ok(Self::Cluster(seeds.collect::<Result<_, _>>()?));
        }
        let (name, db) = path.split_once('/').unwrap_or((path, "0"));
        if name.is_empty() {
            return Err(refused("redis+sentinel:// needs the name of the primary: host:port,…/<name>"));
        }
        let own = sentinel_credentials(&query).map_err(refused)?;
        let sentinels = hosts.iter().map(|host| {
            let ported = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            let port = if ported { String::new() } else { format!(":{SENTINEL_PORT}") };
            info(&format!("{base}://{own}{host}{port}"))
        });
        let primary = info(&format!("{base}://{credentials}{}/{db}{query}", hosts[0]))?;
        Ok(Self::Sentinel { sentinels: sentinels.collect::<Result<_, _>>()?, primary, name: name.to_owned() })
    }

    /// The same servers, spoken to with these certificates. Without any it is as it was.
    pub(crate) fn with(self, tls: &RedisTls) -> Result<Self, Error> {
        if *tls == RedisTls::default() {
            return Ok(self);
        }
        let bytes = |text: &str| text.as_bytes().to_vec();
        let client_tls = tls.identity.as_ref().map(|(certificate, key)| ClientTlsConfig {
            client_cert: bytes(certificate),
            client_key: bytes(key.expose()),
        });
        let certificates = TlsCertificates { client_tls, root_cert: tls.authorities.as_deref().map(bytes) };
        let with = |info: ConnectionInfo| {
            let client = Client::build_with_tls(info, certificates.clone());
            let info = client.map(|client| client.get_connection_info().clone());
            info.map_err(|error| Error::Refused(format!("the certificates for Redis: {error}")))
        };
        let all = |infos: Vec<ConnectionInfo>| infos.into_iter().map(with).collect::<Result<_, _>>();
        Ok(match self {
            Self::One(info) => Self::One(with(info)?),
            Self::Cluster(seeds) => Self::Cluster(all(seeds)?),
            Self::Sentinel { sentinels, primary, name } => {
                Self::Sentinel { sentinels: all(sentinels)?, primary: with(primary)?, name }
            }
        })
    }
}

/// What stands before a Sentinel's host, as in a URL: they have users of their own, or none.
fn sentinel_credentials(query: &str) -> Result<String, &'static str> {
    let part = |name: &str| {
        let parts = query.trim_start_matches('?').split('&');
        parts.filter_map(|part| part.split_once('=')).find_map(|(key, value)| (key == name).then_some(value))
    };
    match (part("sentinel_username"), part("sentinel_password")) {
        (None, None) => Ok(String::new()),
        (Some(_), None) => Err("sentinel_username needs a sentinel_password"),
        (user, Some(password)) => Ok(format!("{}:{password}@", user.unwrap_or_default())),
    }
}

/// The same way to connect, to another place.
pub(super) fn at(like: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let host = host.to_owned();
    let addr = match like.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    like.clone().set_addr(addr)
}

/// Host and port; `None` for a socket.
pub(super) fn place(info: &ConnectionInfo) -> Option<(String, u16)> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some((host.clone(), *port)),
        _ => None,
    }
}

fn info(url: &str) -> Result<ConnectionInfo, Error> {
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3));
    let tcp =
        TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(Duration::from_secs(5));
    let info = url.into_connection_info().map_err(|error| Error::Refused(error.to_string()))?;
    Ok(info.set_tcp_settings(tcp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(infos: &[ConnectionInfo]) -> Vec<(String, u16)> {
        infos.iter().filter_map(place).collect()
    }

    #[test]
    fn a_cluster_is_named_by_some_of_its_nodes() {
        let Address::Cluster(seeds) = Address::parse("redis+cluster://u:p%40@a:7000,b:7001,[::1]:7002").unwrap() else {
            panic!("a cluster")
        };
        assert_eq!(places(&seeds), [("a".into(), 7000), ("b".into(), 7001), ("::1".into(), 7002)]);
        assert!(seeds.iter().all(|seed| seed.redis_settings().password() == Some("p@")));
        assert!(Address::parse("redis+cluster://a:7000/1").is_err());
        assert!(Address::parse("redis+cluster://a:7000,").is_err());
    }

    #[test]
    fn sentinels_are_asked_without_the_credentials_of_the_primary() {
        let url = "rediss+sentinel://u:p@a,b:26380/main/3";
        let Address::Sentinel { sentinels, primary, name } = Address::parse(url).unwrap() else { panic!("sentinels") };
        assert_eq!(places(&sentinels), [("a".into(), 26_379), ("b".into(), 26_380)]);
        assert!(sentinels.iter().all(|sentinel| sentinel.redis_settings().password().is_none()));
        assert_eq!((name.as_str(), primary.redis_settings().db()), ("main", 3));
        let there = at(&primary, "c", 1);
        assert!(matches!(there.addr(), ConnectionAddr::TcpTls { host, port: 1, .. } if host == "c"));
        assert!(Address::parse("redis+sentinel://a").is_err());
    }

    #[test]
    fn sentinels_may_have_a_user_of_their_own() {
        let url = "redis+sentinel://u:p@a,b:26380/main?sentinel_username=s&sentinel_password=q%40";
        let Address::Sentinel { sentinels, primary, .. } = Address::parse(url).unwrap() else { panic!("sentinels") };
        let who = |info: &ConnectionInfo| {
            let settings = info.redis_settings();
            (settings.username().map(str::to_owned), settings.password().map(str::to_owned))
        };
        assert_eq!(places(&sentinels), [("a".into(), 26_379), ("b".into(), 26_380)]);
        assert!(sentinels.iter().all(|sentinel| who(sentinel) == (Some("s".into()), Some("q@".into()))));
        assert_eq!(who(&primary), (Some("u".into()), Some("p".into())));
        let Address::Sentinel { sentinels, .. } = Address::parse("redis+sentinel://a/m?sentinel_password=q").unwrap()
        else {
            panic!("sentinels")
        };
        assert_eq!(who(&sentinels[0]), (None, Some("q".into())), "of the user that is there by default");
        assert!(Address::parse("redis+sentinel://a/m?sentinel_username=s").is_err());
    }
}
