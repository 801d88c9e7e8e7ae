//! `overshot probe`: whether an address answers 200. What a container's health check runs, where there is no shell and no curl.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::StatusCode;

use crate::failure::{Exit, Failure};

/// For the whole question.
const PATIENCE: Duration = Duration::from_secs(3);

/// What `overshot probe` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to ask, such as `http://127.0.0.1:8080/readyz`. Without it: `/healthz` of the API and of the worker on this
    /// machine, one of which must answer.
    address: Option<String>,
    #[arg(long, env = "OVERSHOT_HTTP_ADDR", default_value = "0.0.0.0:8080", hide = true)]
    api_listener: SocketAddr,
    #[arg(long, env = "OVERSHOT_WORKER_HTTP_ADDR", default_value = "0.0.0.0:8081", hide = true)]
    worker_listener: SocketAddr,
}

/// Asks.
///
/// # Errors
/// Anything but a 200 in time.
pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    if let Some(address) = &options.address {
        return ask(&client, address).await;
    }
    match ask(&client, &healthz(options.api_listener)).await {
        Ok(()) => Ok(()),
        Err(_) => ask(&client, &healthz(options.worker_listener)).await,
    }
}

/// The health page of a listener, asked from its own machine.
fn healthz(mut listener: SocketAddr) -> String {
    if listener.ip().is_unspecified() {
        let loopback = if listener.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        listener.set_ip(loopback);
    }
    format!("http://{listener}/healthz")
}

async fn ask(client: &reqwest::Client, address: &str) -> Result<(), Failure> {
    let told = |message| Failure::new(Exit::Failed, message);
    let answer = client.get(address).send().await;
    match answer.map(|answer| answer.status()) {
        Ok(StatusCode::OK) => Ok(()),
        Ok(status) => Err(told(format!("{address} answers {status}"))),
        Err(error) => Err(told(format!("{:#}", anyhow::Error::new(error)))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// The address of a server that gives one answer and ends.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    /// An address where nobody listens.
    fn silent() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn options(api_listener: SocketAddr, worker_listener: SocketAddr) -> Options {
        Options { address: None, api_listener, worker_listener }
    }

    const HEALTHY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    #[tokio::test]
    async fn only_a_200_is_healthy() {
        let ask = async |address: SocketAddr| {
            let address = Some(format!("http://{address}/readyz"));
            run(&Options { address, ..options(silent(), silent()) }).await
        };
        assert!(ask(answering(HEALTHY)).await.is_ok());
        for answer in ["HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "no HTTP", ""] {
            assert!(ask(answering(answer)).await.is_err(), "{answer:?}");
        }
        let error = ask(silent()).await.unwrap_err();
        assert!(error.to_string().contains("readyz"), "{error}");
    }

    #[tokio::test]
    async fn without_an_address_either_program_will_do() {
        assert!(run(&options(answering(HEALTHY), silent())).await.is_ok());
        assert!(run(&options(silent(), answering(HEALTHY))).await.is_ok());
        assert!(run(&options(silent(), silent())).await.is_err());
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_this_machine() {
        assert_eq!(healthz("0.0.0.0:8080".parse().unwrap()), "http://127.0.0.1:8080/healthz");
        assert_eq!(healthz("[::]:81".parse().unwrap()), "http://[::1]:81/healthz");
        assert_eq!(healthz("10.0.0.7:1".parse().unwrap()), "http://10.0.0.7:1/healthz");
    }
}
