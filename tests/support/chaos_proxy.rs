//! A TCP proxy in front of Redis, or of a provider, whose connections break on demand.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::redis_server::RedisServer;

/// A proxy to a server that listens on TCP, most often a Redis. It passes everything until told otherwise, and may be told
/// while it runs.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: Mutex<String>,
    refuses: AtomicBool,
    /// Milliseconds before each piece of an answer.
    delay: AtomicU64,
    connections: Mutex<Vec<Arc<Connection>>>,
    trap: Mutex<Option<Trap>>,
    sprung: watch::Sender<u64>,
    stop: CancellationToken,
}

/// Breaks off the answer to the next request that holds these bytes, after so much of it.
#[derive(Debug)]
struct Trap {
    bytes: Vec<u8>,
    keep: usize,
}

#[derive(Debug, Default)]
struct Connection {
    cut: CancellationToken,
    swallows_requests: AtomicBool,
    swallows_answers: AtomicBool,
    /// The trap has sprung: of the answer that comes next so much passes, then the connection ends.
    last_bytes: Mutex<Option<usize>>,
}

impl ChaosProxy {
    /// Starts in front of `redis`, which must have been started with `tcp()`.
    pub async fn start(redis: &RedisServer) -> Self {
        assert_ne!(redis.port(), 0, "a proxy needs a Redis on TCP: RedisServer::options().tcp()");
        Self::to(redis.port()).await
    }

    /// Starts in front of whatever listens on this port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            target: Mutex::new(format!("127.0.0.1:{port}")),
            refuses: AtomicBool::default(),
            delay: AtomicU64::default(),
            connections: Mutex::default(),
            trap: Mutex::default(),
            sprung: watch::Sender::new(0),
            stop: CancellationToken::new(),
        });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state }
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Passes new connections to `redis`.
    pub fn point_at(&self, redis: &RedisServer) {
        *self.state.target.lock().expect("no holder of this lock can panic") = format!("127.0.0.1:{}", redis.port());
    }

    /// Closes every connection and, until [`ChaosProxy::pass`], every new one at once.
    pub fn refuse(&self) {
        self.state.refuses.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Closes every connection; new ones pass.
    pub fn cut(&self) {
        for connection in self.connections().drain(..) {
            connection.cut.cancel();
        }
    }

    /// Swallows all bytes of the existing connections, which stay open; new ones pass.
    pub fn black_hole(&self) {
        for connection in self.connections().iter() {
            connection.swallows_requests.store(true, Ordering::SeqCst);
            connection.swallows_answers.store(true, Ordering::SeqCst);
        }
    }

    /// Lets requests through on the existing connections, but no answers; new ones pass.
    pub fn one_way(&self) {
        for connection in self.connections().iter() {
            connection.swallows_answers.store(true, Ordering::SeqCst);
        }
    }

    /// Holds every piece of an answer back for that long.
    pub fn delay(&self, by: Duration) {
        self.state.delay.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Passes everything again on new connections, and without delay; a swallowed connection stays swallowed.
    pub fn pass(&self) {
        self.state.refuses.store(false, Ordering::SeqCst);
        self.delay(Duration::ZERO);
    }

    /// Lets the next request that holds `bytes` reach Redis, loses its answer, and closes that connection.
    pub fn lose_answer_to(&self, bytes: &[u8]) {
        self.break_off_answer_to(bytes, 0);
    }

    /// Lets the next request that holds `bytes` through, and of its answer the first `keep` bytes, then closes that connection.
    pub fn break_off_answer_to(&self, bytes: &[u8], keep: usize) {
        *self.trap() = Some(Trap { bytes: bytes.to_vec(), keep });
    }

    /// Waits until as many answers have been lost or broken off.
    pub async fn wait_for_lost(&self, count: u64) {
        let mut sprung = self.state.sprung.subscribe();
        let wait = sprung.wait_for(|lost| *lost >= count);
        let waited = tokio::time::timeout(crate::PATIENCE, wait).await;
        waited.expect("the request whose answer is to be lost never came").expect("the sender is ours");
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.connections().iter().filter(|connection| !connection.cut.is_cancelled()).count()
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.state.connections.lock().expect("no holder of this lock can panic")
    }

    fn trap(&self) -> std::sync::MutexGuard<'_, Option<Trap>> {
        self.state.trap.lock().expect("no holder of this lock can panic")
    }
}

impl Connection {
    fn last_bytes(&self) -> std::sync::MutexGuard<'_, Option<usize>> {
        self.last_bytes.lock().expect("no holder of this lock can panic")
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.state.stop.cancel();
        self.cut();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.stop.cancelled() => return,
        };
        let Ok((client, _)) = accepted else { continue };
        if !state.refuses.load(Ordering::SeqCst) {
            tokio::spawn(serve(client, Arc::clone(&state)));
        }
    }
}

async fn serve(client: TcpStream, state: Arc<State>) {
    // Redis may be down: then the client is refused too.
    let target = state.target.lock().expect("no holder of this lock can panic").clone();
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let connection = Arc::new(Connection::default());
    state.connections.lock().expect("no holder of this lock can panic").push(Arc::clone(&connection));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = requests(from_client, to_server, &connection, &state) => {}
        () = answers(from_server, to_client, &connection, &state) => {}
        () = connection.cut.cancelled() => {}
    }
    connection.cut.cancel();
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, connection: &Connection, state: &State) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if connection.swallows_requests.load(Ordering::SeqCst) {
            continue;
        }
        {
            let mut trap = state.trap.lock().expect("no holder of this lock can panic");
            let holds = |trap: &mut Trap| buffer[..length].windows(trap.bytes.len()).any(|window| window == trap.bytes);
            if let Some(trap) = trap.take_if(holds) {
                *connection.last_bytes() = Some(trap.keep);
            }
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, connection: &Connection, state: &State) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let last = connection.last_bytes().map(|keep| keep.min(length));
        let length = last.unwrap_or(length);
        let delay = state.delay.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if connection.swallows_answers.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        if let Some(length) = last {
            let rest = connection.last_bytes().take().unwrap_or(0) - length;
            if rest == 0 {
                state.sprung.send_modify(|lost| *lost += 1);
                return;
            }
            *connection.last_bytes() = Some(rest);
        }
    }
}
