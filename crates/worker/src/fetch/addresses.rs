//! Which addresses are public.
//!
//! By IANA's registries of special-purpose addresses: what is not globally reachable is refused, and so is what only
//! wraps another address (IPv4-mapped, NAT64, 6to4, Teredo), whose inside a router may take out.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

/// Not public, beyond what lies outside of [`GLOBAL_V6`].
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",        // this network
    "10.0.0.0/8",       // private
    "100.64.0.0/10",    // shared by carriers
    "127.0.0.0/8",      // loopback
    "168.63.129.16/32", // a cloud's own services, on an address that looks public
    "169.254.0.0/16",   // link-local, and clouds' metadata
    "172.16.0.0/12",    // private
    "192.0.0.0/24",     // protocol assignments
    "192.0.2.0/24",     // documentation
    "192.88.99.0/24",   // 6to4 relays
    "192.168.0.0/16",   // private
    "198.18.0.0/15",    // benchmarks
    "198.51.100.0/24",  // documentation
    "203.0.113.0/24",   // documentation
    "224.0.0.0/4",      // multicast
    "240.0.0.0/4",      // reserved, broadcast
    "2001::/23",        // protocol assignments, Teredo
    "2001:db8::/32",    // documentation
    "2002::/16",        // 6to4
    "3fff::/20",        // documentation
];

/// The only part of IPv6 that is given out as global unicast.
const GLOBAL_V6: &str = "2000::/3";

static SPECIAL_NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| SPECIAL.iter().map(|net| parsed(net)).collect());
static GLOBAL_NET: LazyLock<IpNet> = LazyLock::new(|| parsed(GLOBAL_V6));

/// Whether an address is one of the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    (address.is_ipv4() || GLOBAL_NET.contains(&address)) && !SPECIAL_NETS.iter().any(|net| net.contains(&address))
}

fn parsed(net: &str) -> IpNet {
    net.parse().expect("the tables hold networks")
}
