//! What may be fetched: addresses one by one, and whole fetches against a server on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::{Allowed, FetchConfig};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_of_the_internet_are_public_and_all_others_are_not() {
    for public in
        ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1111"]
    {
        assert!(is_public(address(public)), "{public}");
    }
    for private in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.9.9.9",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!is_public(address(private)), "{private}");
    }
}

proptest! {
    #[test]
    fn no_address_that_holds_another_one_is_public(inner: u32, rest: u64) {
        let high = u128::from(inner);
        let low = u128::from(rest);
        for outer in [
            0xffff_0000_0000 | high,                       // IPv4-mapped
            high,                                          // IPv4-compatible
            0x0064_ff9b << 96 | high,                      // NAT64
            0x2002 << 112 | high << 80 | low,              // 6to4
            0x2001 << 112 | high << 64 | low,              // Teredo
        ] {
            prop_assert!(!is_public(IpAddr::V6(Ipv6Addr::from(outer))));
        }
    }

    #[test]
    fn the_standard_library_calls_no_public_address_special(bits: u32) {
        let address = Ipv4Addr::from(bits);
        let special = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_broadcast()
            || address.is_documentation() || address.is_multicast() || address.is_unspecified();
        prop_assert!(!(special && is_public(IpAddr::V4(address))), "{address}");
    }
}

/// A server that answers every request so.
async fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

fn fetcher(allow: Vec<Allowed>) -> Fetcher {
    Fetcher::new(&FetchConfig { allow, timeout: Duration::from_secs(2) }, 10)
}

fn loopback() -> Vec<Allowed> {
    vec![Allowed::Net("127.0.0.0/8".parse().unwrap())]
}

async fn get(fetcher: &Fetcher, url: &str) -> Result<Bytes, (ErrorCode, bool)> {
    let code = |outcome: Outcome| (outcome.error().unwrap().code, matches!(outcome, Outcome::Fail { .. }));
    fetcher.get(url, |_| {}).await.map_err(code)
}

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc";

#[tokio::test]
async fn nothing_inside_is_fetched_however_it_is_spelt() {
    let port = server(GOOD).await;
    let closed = fetcher(Vec::new());
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "127。0。0。1",
    ] {
        let found = get(&closed, &format!("http://{host}:{port}/")).await;
        assert_eq!(found.unwrap_err(), (ErrorCode::BadInput, true), "{host}");
    }
}

#[tokio::test]
async fn what_the_configuration_allows_is_fetched() {
    let port = server(GOOD).await;
    for (allow, host) in [
        (loopback(), "127.0.0.1"),
        (vec![Allowed::Host("127.0.0.1".into(), port)], "127.0.0.1"),
        (vec![Allowed::Host("localhost".into(), port)], "localhost"),
    ] {
        assert_eq!(get(&fetcher(allow), &format!("http://{host}:{port}/a.wav")).await.unwrap(), "abc", "{host}");
    }
    let elsewhere = vec![Allowed::Host("127.0.0.1".into(), port ^ 1), Allowed::Net("10.0.0.0/8".parse().unwrap())];
    let found = get(&fetcher(elsewhere), &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(found.unwrap_err(), (ErrorCode::BadInput, true));
}

#[tokio::test]
async fn each_answer_that_is_no_audio_has_its_code() {
    const REDIRECT: &str = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n";
    for (answer, code, is_final) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", ErrorCode::BadInput, true),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", ErrorCode::BadInput, true),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", ErrorCode::DependencyError, false),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", ErrorCode::DependencyError, false),
        (REDIRECT, ErrorCode::DependencyError, false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nabcdefghijk", ErrorCode::BadInput, true),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcdefghijk", ErrorCode::BadInput, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nabc", ErrorCode::DependencyError, false),
        ("nonsense\r\n\r\n", ErrorCode::DependencyError, false),
    ] {
        let port = server(answer).await;
        let found = get(&fetcher(loopback()), &format!("http://127.0.0.1:{port}/")).await;
        assert_eq!(found.unwrap_err(), (code, is_final), "{answer}");
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    assert_eq!(get(&fetcher(loopback()), &url).await.unwrap_err(), (ErrorCode::DependencyError, false), "too slow");
    drop(silent);
    assert_eq!(get(&fetcher(loopback()), &url).await.unwrap_err(), (ErrorCode::DependencyError, false), "refused");
}

/// A name that means another address at the second look changes nothing: only what was judged is connected to.
#[tokio::test]
async fn the_resolver_hands_out_only_what_may_be_connected_to() {
    let name = || "localhost".parse::<Name>().unwrap();
    let closed = Guard { anywhere: false, allow: Arc::new([]) };
    let refused = closed.resolve(name()).await.err().unwrap();
    assert!(refused.is::<Forbidden>());
    let open = Guard { anywhere: false, allow: Arc::new([Allowed::Net("127.0.0.0/8".parse().unwrap())]) };
    let found: Vec<_> = open.resolve(name()).await.ok().unwrap().collect();
    assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_ipv4()), "{found:?}");
}
