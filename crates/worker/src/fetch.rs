//! Fetches what callers name by URL: only from public addresses and allowed ones, within a size and a time.
//!
//! Addresses are judged where the connection is made, after the name was resolved: what a name meant a moment before does
//! not count. No redirect is followed, and no proxy of the environment is asked.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use overshot_common::code::ErrorCode;
use overshot_common::config::{Allowed, FetchConfig};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Response, Url};
use url::Host;

use crate::outcome::Outcome;

mod addresses;
#[cfg(test)]
mod tests;

use addresses::is_public;

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches by one configuration.
#[derive(Debug, Clone)]
pub struct Fetcher {
    allow: Arc<[Allowed]>,
    timeout: Duration,
    bytes_max: u64,
}

/// The address may not be fetched from.
#[derive(Debug, thiserror::Error)]
#[error("the address is not public")]
struct Forbidden;

impl Fetcher {
    /// For bodies of at most `bytes_max`.
    pub fn new(config: &FetchConfig, bytes_max: u64) -> Self {
        Self { allow: config.allow.clone().into(), timeout: config.timeout, bytes_max }
    }

    /// The body that the URL answers with. `progress` is told of every piece of it.
    ///
    /// # Errors
    ///
    /// What becomes of the attempt. No message holds the URL: it may be signed.
    pub async fn get(&self, url: &str, progress: impl FnMut(u64) + Send) -> Result<Bytes, Outcome> {
        let limit = self.timeout;
        tokio::time::timeout(limit, self.read(url, progress)).await.unwrap_or_else(|_| {
            Err(failed(&format!("did not arrive within the fetch.timeout of {}", humantime::format_duration(limit))))
        })
    }

    async fn read(&self, url: &str, mut progress: impl FnMut(u64) + Send) -> Result<Bytes, Outcome> {
        let url = Url::parse(url).map_err(|_| bad("is no URL"))?;
        let guard = self.guard(&url).ok_or_else(|| bad("is no http or https URL with a host"))?;
        guard.check_literal(&url).map_err(|Forbidden| forbidden())?;
        let client = reqwest::Client::builder()
            .dns_resolver(Arc::new(guard))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|_| failed("cannot be fetched: no HTTP client can be made"))?;
        let response = client.get(url).send().await.map_err(|error| unreachable(&error))?;
        let mut response = self.judge(response)?;
        let mut body = BytesMut::new();
        while let Some(bytes) = response.chunk().await.map_err(|_| failed("broke off in the middle"))? {
            if (body.len() + bytes.len()) as u64 > self.bytes_max {
                return Err(self.too_large());
            }
            body.extend_from_slice(&bytes);
            progress(body.len() as u64);
        }
        Ok(body.freeze())
    }

    fn judge(&self, response: Response) -> Result<Response, Outcome> {
        let status = response.status();
        match status.as_u16() {
            200..=299 => {}
            404 | 410 => return Err(bad(&format!("answered {}", status.as_u16()))),
            code @ 300..=399 => return Err(failed(&format!("answered {code}, and redirects are not followed"))),
            code => return Err(failed(&format!("answered {code}"))),
        }
        if response.content_length().is_some_and(|length| length > self.bytes_max) {
            return Err(self.too_large());
        }
        Ok(response)
    }

    fn too_large(&self) -> Outcome {
        bad(&format!("is larger than the max_audio_bytes of {}", self.bytes_max))
    }

    fn guard(&self, url: &Url) -> Option<Guard> {
        let known = matches!(url.scheme(), "http" | "https");
        let (host, port) = (url.host_str().filter(|_| known)?, url.port_or_known_default()?);
        let named = |allowed: &Allowed| matches!(allowed, Allowed::Host(name, at) if name == host && *at == port);
        Some(Guard { anywhere: self.allow.iter().any(named), allow: self.allow.clone() })
    }
}

/// Judges the addresses of one fetch.
#[derive(Debug, Clone)]
struct Guard {
    /// The host is allowed by its name.
    anywhere: bool,
    allow: Arc<[Allowed]>,
}

impl Guard {
    fn admits(&self, address: IpAddr) -> bool {
        let within = |allowed: &Allowed| matches!(allowed, Allowed::Net(net) if net.contains(&address));
        self.anywhere || is_public(address) || self.allow.iter().any(within)
    }

    /// A host that is an address is connected to without asking the resolver.
    fn check_literal(&self, url: &Url) -> Result<(), Forbidden> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.admits(address) { Ok(()) } else { Err(Forbidden) }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            // The port is set by who connects.
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let admitted: Vec<_> = found.iter().copied().filter(|address| guard.admits(address.ip())).collect();
            if admitted.is_empty() && !found.is_empty() {
                return Err(Forbidden.into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

fn unreachable(error: &reqwest::Error) -> Outcome {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.is::<Forbidden>() {
            return forbidden();
        }
        source = inner.source();
    }
    failed(if error.is_connect() { "cannot be reached" } else { "broke off before it answered" })
}

fn forbidden() -> Outcome {
    bad("leads to an address that is not public and that fetch.allow does not name")
}

fn bad(what: &str) -> Outcome {
    Outcome::fail(ErrorCode::BadInput, format!("the audio_url {what}"))
}

fn failed(what: &str) -> Outcome {
    Outcome::retry(ErrorCode::DependencyError, format!("the audio_url {what}"))
}
