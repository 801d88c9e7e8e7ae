//! A server that says what a test tells it to, byte by byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the server does after it has sent its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    /// Waits for the next request on the same connection.
    KeepAlive,
    Close,
    Reset,
    /// Sends nothing more until the client is gone.
    Hang,
}

/// What the server saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Connection,
    /// Head and body.
    Request(String, String),
    /// The client closed its connection.
    Gone,
}

pub(super) struct Server {
    pub(super) url: String,
    pub(super) seen: UnboundedReceiver<Seen>,
}

impl Server {
    /// Answers every request with the same bytes.
    pub(super) async fn start(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (tell, seen) = unbounded_channel();
        let answer = answer.into();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tell.send(Seen::Connection).ok();
                tokio::spawn(serve(connection, answer.clone(), then, tell.clone()));
            }
        });
        Self { url, seen }
    }

    /// The next request, past the connections.
    pub(super) async fn request(&mut self) -> (String, String) {
        loop {
            if let Seen::Request(head, body) = self.seen.recv().await.unwrap() {
                return (head, body);
            }
        }
    }
}

async fn serve(mut connection: TcpStream, answer: Vec<u8>, then: Then, tell: UnboundedSender<Seen>) {
    while let Some((head, body)) = read_request(&mut connection).await {
        tell.send(Seen::Request(head, body)).ok();
        connection.write_all(&answer).await.unwrap();
        match then {
            Then::KeepAlive => {}
            Then::Close => return,
            Then::Reset => return connection.set_zero_linger().unwrap(),
            Then::Hang => {
                while connection.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                tell.send(Seen::Gone).ok();
                return;
            }
        }
    }
}

async fn read_request(connection: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = bytes.split_off(end + 4);
            let rest = length.parse::<usize>().unwrap() - body.len();
            let read = body.len();
            body.resize(read + rest, 0);
            connection.read_exact(&mut body[read..]).await.unwrap();
            return Some((head, String::from_utf8(body).unwrap()));
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A stream of these events, then the end mark, until the connection closes.
pub(super) fn stream(events: &[&str]) -> String {
    let mut answer = cut_stream(events);
    answer.push_str("data: [DONE]\n\n");
    answer
}

/// A stream of these events without an end mark.
pub(super) fn cut_stream(events: &[&str]) -> String {
    let mut answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n".to_owned();
    for event in events {
        answer.push_str(&format!("data: {event}\n\n"));
    }
    answer
}

/// An answer of that status line, further header lines, and body.
pub(super) fn json(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}")
}
