//! One kept-alive connection that does the least a client can: a general one would cost as much as the server.

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection; one request at a time.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: address.to_owned(), buffer: Vec::new() })
    }

    /// The bytes of a POST of JSON, to be sent as often as wanted.
    pub(crate) fn post(&self, path: &str, body: &str) -> Vec<u8> {
        format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        )
        .into_bytes()
    }

    /// Sends a request and reads the whole answer, which must have that status; returns its body.
    pub(crate) async fn send(&mut self, request: &[u8], expected: u16) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (status, body) = loop {
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?.to_ascii_lowercase();
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
                let status: u16 = head.split(' ').nth(1).context("no status")?.parse()?;
                break (status, end + 4..end + 4 + length.trim().parse::<usize>()?);
            }
        };
        while self.buffer.len() < body.end {
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
        anyhow::ensure!(status == expected, "a request was answered with {status}");
        Ok(&self.buffer[body])
    }
}
