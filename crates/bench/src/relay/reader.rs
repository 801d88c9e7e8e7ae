//! A reader of an event stream that does the least it can: it finds the tokens, and tells how old each one is.

use anyhow::Context as _;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::provider::now_us;

/// One open stream.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Reader {
    /// Opens a stream and reads up to `greeting`.
    pub(crate) async fn open(address: &str, path: &str, greeting: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
        let mut buffer = Vec::with_capacity(4096);
        while !buffer.windows(greeting.len()).any(|window| window == greeting.as_bytes()) {
            anyhow::ensure!(stream.read_buf(&mut buffer).await? > 0, "the stream ended before it began");
        }
        Ok(Self { stream, buffer })
    }

    /// Reads so many tokens, whose times stand behind `mark`; returns how long each was under way, in µs.
    pub(crate) async fn read(mut self, mark: &[u8], tokens: usize) -> anyhow::Result<Vec<u64>> {
        let mut delays = Vec::with_capacity(tokens);
        loop {
            let now = now_us();
            let mut done = 0;
            while let Some(start) = self.buffer[done..].windows(mark.len()).position(|window| window == mark) {
                let token = &self.buffer[done + start + mark.len()..];
                let Some(length) = token.iter().position(|byte| *byte == b'"') else { break };
                let sent: u64 = std::str::from_utf8(&token[..length])?.parse().context("a token is no time")?;
                delays.push(now.saturating_sub(sent));
                if delays.len() == tokens {
                    return Ok(delays);
                }
                done += start + mark.len() + length;
            }
            self.buffer.drain(..done);
            let read = self.stream.read_buf(&mut self.buffer).await?;
            anyhow::ensure!(read > 0, "the stream ended after {} of {tokens} tokens", delays.len());
        }
    }
}

/// Submits jobs in one call; returns their ids.
pub(super) async fn submit(address: &str, count: usize) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Answer {
        results: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        job: Job,
    }
    #[derive(Deserialize)]
    struct Job {
        id: String,
    }
    let job = r#"{"task":"chat","input":{"user":"count the time"}}"#;
    let body = format!("{{\"jobs\":[{}]}}", vec![job; count].join(","));
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST /api/v1/jobs/batch HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, json) = answer.split_once("\r\n\r\n").context("no answer")?;
    let answer: Answer = serde_json::from_str(json).context("the jobs were refused")?;
    Ok(answer.results.into_iter().map(|item| item.job.id).collect())
}
