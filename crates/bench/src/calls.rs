//! How many commands clients send to a server: what scripts call within does not count.

use std::collections::BTreeMap;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::server::Server;

/// What clients send and no script of ours calls; `INFO commandstats` mixes the rest with what scripts call.
const SENT_BY_CLIENTS: [&str; 7] = ["evalsha", "eval", "blpop", "ping", "subscribe", "unsubscribe", "hello"];

/// The calls so far, by the server's own count: exact for those that do nothing but run scripts, and free.
pub(crate) async fn so_far(server: &Server) -> anyhow::Result<u64> {
    let info = server.info("commandstats").await?;
    let calls = |name: &&str| -> anyhow::Result<u64> {
        let Some(stats) = info.get(&format!("cmdstat_{name}")) else { return Ok(0) };
        let calls = stats.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
        Ok(calls.context("INFO commandstats is unreadable")?.parse()?)
    };
    SENT_BY_CLIENTS.iter().map(calls).sum()
}

/// Watches every command that reaches a server. Slows it down: for fleets with little to do.
#[derive(Debug)]
pub(crate) struct Watch {
    lines: tokio::io::Lines<BufReader<UnixStream>>,
}

impl Watch {
    pub(crate) async fn start(server: &Server) -> anyhow::Result<Self> {
        let mut stream = UnixStream::connect(server.socket()).await?;
        stream.write_all(b"MONITOR\r\n").await?;
        let mut lines = BufReader::new(stream).lines();
        anyhow::ensure!(lines.next_line().await?.is_some_and(|line| line == "+OK"), "MONITOR was refused");
        Ok(Self { lines })
    }

    /// Ends the watch; tells how often clients sent each command meanwhile.
    pub(crate) async fn end(mut self, server: &Server) -> anyhow::Result<BTreeMap<String, u64>> {
        let mark = "the watch ends";
        let _: String = redis::cmd("ECHO").arg(mark).query_async(&mut server.connect().await?).await?;
        let mut sent = BTreeMap::new();
        loop {
            let line = self.lines.next_line().await?.context("MONITOR ended")?;
            if line.contains(mark) {
                return Ok(sent);
            }
            // `<time> [<database> <address, or lua>] "<command>" …`
            let (source, command) = line.split_once("] \"").context("MONITOR is unreadable")?;
            if !source.ends_with(" lua") {
                let name = command.split('"').next().unwrap_or_default().to_ascii_lowercase();
                *sent.entry(name).or_default() += 1;
            }
        }
    }
}
