//! The variables that are no keys of the file: addresses, secrets and what differs from process to process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use super::mistakes::Mistakes;
use super::redis_tls::RedisTls;
use super::secret::{RedisUrl, Secret};
use crate::ids::PoolName;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json"),
        }
    }
}

/// What the environment says, with the defaults where it says nothing.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) redis_url: RedisUrl,
    pub(super) redis_tls: RedisTls,
    pub(super) api_tokens: Vec<Secret>,
    pub(super) http_addr: SocketAddr,
    pub(super) worker_http_addr: SocketAddr,
    pub(super) allow_unsafe_redis: bool,
    pub(super) worker_pools: Option<Vec<PoolName>>,
    pub(super) log_filter: String,
    pub(super) log_format: LogFormat,
}

pub(super) const WORKER_POOLS: &str = "OVERSHOT_WORKER_POOLS";

impl Environment {
    /// Reads the known variables; others are ignored, for Kubernetes injects some of the same prefix.
    pub(super) fn read(env: &BTreeMap<String, String>, mistakes: &mut Mistakes) -> Self {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let local = RedisUrl::new("redis://127.0.0.1:6379/0").expect("has a known scheme and a host");
        let mut from = Variables { env, mistakes };
        let redis_url = from.read("OVERSHOT_REDIS_URL", RedisUrl::new).unwrap_or(local);
        let redis_tls = RedisTls::read(env, &redis_url, from.mistakes);
        Self {
            redis_url,
            redis_tls,
            api_tokens: from.read("OVERSHOT_API_TOKEN", api_tokens).unwrap_or_default(),
            http_addr: from.read("OVERSHOT_HTTP_ADDR", address).unwrap_or_else(|| any(8080)),
            worker_http_addr: from.read("OVERSHOT_WORKER_HTTP_ADDR", address).unwrap_or_else(|| any(8081)),
            allow_unsafe_redis: from.read("OVERSHOT_ALLOW_UNSAFE_REDIS", flag).unwrap_or(false),
            worker_pools: from.read(WORKER_POOLS, pool_names),
            log_filter: from.read("OVERSHOT_LOG", log_filter).unwrap_or_else(|| "info".to_owned()),
            log_format: from
                .read("OVERSHOT_LOG_FORMAT", |text| text.parse::<LogFormat>().map_err(str::to_owned))
                .unwrap_or_default(),
        }
    }
}

struct Variables<'a> {
    env: &'a BTreeMap<String, String>,
    mistakes: &'a mut Mistakes,
}

impl Variables<'_> {
    fn read<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(self.env.get(name)?) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.mistakes.add(name, problem);
                None
            }
        }
    }
}

fn api_tokens(text: &str) -> Result<Vec<Secret>, String> {
    let tokens: Vec<_> = text.split(',').map(str::trim).collect();
    if tokens.iter().any(|token| token.is_empty()) {
        return Err("holds an empty token; unset it to leave the API open".to_owned());
    }
    if tokens.iter().any(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err("holds a token that no header can carry: only printable ASCII without spaces".to_owned());
    }
    Ok(tokens.into_iter().map(Secret::new).collect())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{}` is not an address such as 0.0.0.0:8080", text.escape_debug()))
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "1" => Ok(true),
        "" | "0" => Ok(false),
        _ => Err("must be 1 or unset".to_owned()),
    }
}

fn pool_names(text: &str) -> Result<Vec<PoolName>, String> {
    let mut pools = Vec::new();
    for name in text.split(',') {
        let pool = name.trim().parse().map_err(|error| format!("`{}`: {error}", name.escape_debug()))?;
        if !pools.contains(&pool) {
            pools.push(pool);
        }
    }
    Ok(pools)
}

fn log_filter(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is not a tracing filter such as info,overshot_common=debug".to_owned()),
    }
}
