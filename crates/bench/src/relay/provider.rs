//! A provider that speaks the least of the chat API, and stamps each token with the time of its emission.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Requests wait here until all of a round have come.
const ROOM: usize = 4096;
/// How long the requests of a round may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens are emitted this often at most, so that emitting costs little: all that are due by then.
const STEP: Duration = Duration::from_millis(1);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time by which tokens are stamped.
pub(crate) fn now_us() -> u64 {
    u64::try_from(EPOCH.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Takes requests; who answers them is the measurement.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) address: String,
    requests: mpsc::Receiver<TcpStream>,
}

impl Provider {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (sender, requests) = mpsc::channel(ROOM);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Ok(Some(stream)) = take(stream).await {
                        // The measurement is over when nobody wants it.
                        let _ = sender.send(stream).await;
                    }
                });
            }
        });
        Ok(Self { address, requests })
    }

    /// The next so many requests, whose answers have begun.
    pub(super) async fn requests(&mut self, count: usize) -> anyhow::Result<Vec<TcpStream>> {
        let mut streams = Vec::with_capacity(count);
        while streams.len() < count {
            let next = tokio::time::timeout(PATIENCE, self.requests.recv()).await;
            let stream = next.with_context(|| format!("only {} of {count} requests came", streams.len()))?;
            streams.push(stream.context("the provider ended")?);
        }
        Ok(streams)
    }
}

/// Reads a request to its end and begins the answer. A worker's look at the models is answered at once: no token is for it.
async fn take(mut stream: tokio::net::TcpStream) -> anyhow::Result<Option<TcpStream>> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    loop {
        anyhow::ensure!(stream.read_buf(&mut request).await? > 0, "the request was cut");
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&request[..end])?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if request.len() >= end + 4 + length.trim().parse::<usize>()? {
            break;
        }
    }
    let looks = request.starts_with(b"GET /v1/models");
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    if looks {
        let models = r#"{"object":"list","data":[{"id":"relay"}]}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
        write!(stream, "{head}: {}\r\n\r\n{models}", models.len())?;
        return Ok(None);
    }
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    Ok(Some(stream))
}

/// Emits tokens, evenly spread over the streams and the time, then ends the answers.
///
/// # Errors
///
/// Somebody closed their connection before the end.
pub(super) fn emit(mut streams: Vec<TcpStream>, rate: u32, tokens: u32) -> std::io::Result<()> {
    let began = Instant::now();
    let spacing = Duration::from_secs(1) / rate / u32::try_from(streams.len()).unwrap_or(u32::MAX);
    let mut piece = String::new();
    let mut due = Duration::ZERO;
    for _ in 0..tokens {
        for stream in &mut streams {
            while began.elapsed() < due {
                std::thread::sleep(STEP);
            }
            due += spacing;
            let data = format!(
                "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"relay\",\
                 \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}},\"finish_reason\":null}}]}}\n\n",
                now_us()
            );
            piece.clear();
            write!(piece, "{:x}\r\n{data}\r\n", data.len()).map_err(std::io::Error::other)?;
            stream.write_all(piece.as_bytes())?;
        }
    }
    let end = "data: [DONE]\n\n";
    for stream in &mut streams {
        // A direct reader has gone by now.
        let _ = stream.write_all(format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len()).as_bytes());
    }
    Ok(())
}
