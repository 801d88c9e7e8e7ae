//! `[fetch]`: how a worker fetches the URLs that callers give.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::mistakes::Mistakes;
use super::reader::{POSITIVE, Section};

/// `[fetch]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchConfig {
    /// Addresses inside a private network that may be fetched from nevertheless; default none.
    pub allow: Vec<Allowed>,
    /// The limit of one fetch, from the first byte sent to the last one read; default 5 min.
    pub timeout: Duration,
}

/// An exception from the refusal of addresses that are not public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Every address of a network, or one, at any port.
    Net(IpNet),
    /// What a host, in lower case, resolves to, at one port. An IPv6 address stands in brackets.
    Host(String, u16),
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), timeout: Duration::from_secs(300) }
    }
}

impl FetchConfig {
    pub(super) fn read(mut from: Section, mistakes: &mut Mistakes) -> Self {
        let default = Self::default();
        let timeout = from.duration(mistakes, "timeout", &POSITIVE, default.timeout);
        let mut allow = Vec::new();
        for text in from.texts(mistakes, "allow").unwrap_or_default() {
            match Allowed::parse(&text) {
                Some(allowed) => allow.push(allowed),
                None => {
                    let problem =
                        format!("`{}` is no network such as \"10.0.0.0/8\" and no \"host:port\"", text.escape_debug());
                    mistakes.add(&from.key("allow"), problem);
                }
            }
        }
        from.finish(mistakes);
        Self { allow, timeout }
    }
}

impl Allowed {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        if let Ok(net) = text.parse::<IpNet>().or_else(|_| address()) {
            return Some(Self::Net(net.trunc()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let good = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
        };
        good.then(|| Self::Host(host.to_ascii_lowercase(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_a_network_an_address_or_a_host_with_its_port() {
        let net = |text: &str| Some(Allowed::Net(text.parse().unwrap()));
        assert_eq!(Allowed::parse("10.1.2.3/8"), net("10.0.0.0/8"));
        assert_eq!(Allowed::parse("127.0.0.1"), net("127.0.0.1/32"));
        assert_eq!(Allowed::parse("fd00::/8"), net("fd00::/8"));
        assert_eq!(Allowed::parse("Files.local:9000"), Some(Allowed::Host("files.local".into(), 9000)));
        assert_eq!(Allowed::parse("[::1]:80"), Some(Allowed::Host("[::1]".into(), 80)));
        for bad in ["", "files.local", "files.local:0", ":80", "a b:80", "10.0.0.0/33", "http://a:80", "[x]:80"] {
            assert_eq!(Allowed::parse(bad), None, "{bad}");
        }
    }
}
