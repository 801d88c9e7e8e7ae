//! What a service sees over HTTP: single POSTs per second, and POST → result on an idle fleet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bare::input;
use crate::programs::Program;
use crate::server::Server;

const CONNECTIONS: usize = 64;

/// What one round brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpFigures {
    pub(crate) posts_per_s: f64,
    pub(crate) result_p50_ms: f64,
    pub(crate) result_p99_ms: f64,
}

pub(crate) async fn run(server: &Server, posts: usize, round_trips: usize) -> anyhow::Result<HttpFigures> {
    let api = Program::start("overshot-api", server).await?;
    let posts_per_s = single_posts(&api.address, posts).await?;
    let _worker = Program::start("overshot-worker", server).await?;
    let mut client = Client::connect(&api.address).await?;
    let request = client.post("/api/v1/jobs?wait=30s", &body());
    // The backlog of the first part has to be gone before the fleet is idle.
    let mut times = Histogram::<u64>::new(3)?;
    for number in 0..round_trips + 50 {
        let began = Instant::now();
        let status = client.send(&request).await?;
        anyhow::ensure!(status == 200, "a job waited for was answered with {status}");
        if number >= 50 {
            times.record(u64::try_from(began.elapsed().as_micros())?)?;
        }
    }
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(HttpFigures { posts_per_s, result_p50_ms: ms(0.5), result_p99_ms: ms(0.99) })
}

async fn single_posts(address: &str, posts: usize) -> anyhow::Result<f64> {
    let left = Arc::new(AtomicUsize::new(posts));
    let began = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (left, address) = (left.clone(), address.to_owned());
            tokio::spawn(async move {
                let mut client = Client::connect(&address).await?;
                let request = client.post("/api/v1/jobs", &body());
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let status = client.send(&request).await?;
                    anyhow::ensure!(status == 202, "a POST was answered with {status}");
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(posts as f64 / began.elapsed().as_secs_f64())
}

fn body() -> String {
    format!(r#"{{"task":"chat","input":{}}}"#, input())
}

/// One kept-alive connection that does the least a client can: a general one would cost as much as the server.
struct Client {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: address.to_owned(), buffer: Vec::new() })
    }

    fn post(&self, path: &str, body: &str) -> Vec<u8> {
        format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        )
        .into_bytes()
    }

    /// Sends a request and reads the whole answer; returns its status.
    async fn send(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end])?.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
            if self.buffer.len() >= end + 4 + length.trim().parse::<usize>()? {
                return Ok(head.split(' ').nth(1).context("no status")?.parse()?);
            }
        }
    }
}
