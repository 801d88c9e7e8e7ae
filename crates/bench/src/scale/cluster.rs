//! A Redis Cluster of primaries, each with an equal range of the slots.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::calls;
use crate::server::Server;

const SLOTS: usize = 16_384;
/// How long the nodes may take to find each other.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with its owner, with all that it held.
#[derive(Debug)]
pub(super) struct Cluster {
    primaries: Vec<(Server, u16)>,
}

impl Cluster {
    /// Starts one, empty, and waits until every node finds it whole.
    pub(super) async fn start(primaries: usize, append_only: bool) -> anyhow::Result<Self> {
        let mut cluster = Self { primaries: Vec::new() };
        for _ in 0..primaries {
            let [port, bus] = free_ports()?;
            let settings = [
                ("--port", port.to_string()),
                ("--cluster-enabled", "yes".to_owned()),
                ("--cluster-port", bus.to_string()),
                ("--cluster-config-file", "nodes.conf".to_owned()),
            ];
            let server = Server::start_with(append_only, &settings).await?;
            let place = cluster.primaries.len();
            let (first, last) = (place * SLOTS / primaries, (place + 1) * SLOTS / primaries - 1);
            say(&server, &["SET-CONFIG-EPOCH", &(place + 1).to_string()]).await?;
            say(&server, &["ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await?;
            if let Some((known, _)) = cluster.primaries.first() {
                say(known, &["MEET", "127.0.0.1", &port.to_string(), &bus.to_string()]).await?;
            }
            cluster.primaries.push((server, port));
        }
        cluster.is_whole().await?;
        Ok(cluster)
    }

    async fn is_whole(&self) -> anyhow::Result<()> {
        let (began, nodes) = (Instant::now(), format!("cluster_known_nodes:{}\r", self.primaries.len()));
        for (server, _) in &self.primaries {
            loop {
                let mut connection = server.connect().await?;
                let state: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
                if state.contains("cluster_state:ok") && state.contains(&nodes) {
                    break;
                }
                anyhow::ensure!(began.elapsed() < PATIENCE, "the nodes of a cluster do not find each other");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Where clients find it.
    pub(super) fn url(&self) -> String {
        let places: Vec<String> = self.primaries.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{}", places.join(","))
    }

    /// Forgets all jobs.
    pub(super) async fn empty(&self) -> anyhow::Result<()> {
        for (server, _) in &self.primaries {
            let (): () = redis::cmd("FLUSHALL").arg("SYNC").query_async(&mut server.connect().await?).await?;
        }
        Ok(())
    }

    /// The seconds of CPU that all nodes together used since their starts.
    pub(super) async fn cpu_s(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for (server, _) in &self.primaries {
            sum += server.cpu_s().await?;
        }
        Ok(sum)
    }

    /// The commands that clients sent to all nodes together so far.
    pub(super) async fn calls(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for (server, _) in &self.primaries {
            sum += calls::so_far(server).await?;
        }
        Ok(sum)
    }
}

async fn say(server: &Server, words: &[&str]) -> anyhow::Result<()> {
    let (): () = redis::cmd("CLUSTER").arg(words).query_async(&mut server.connect().await?).await?;
    Ok(())
}

/// Two ports that nobody listens on now.
fn free_ports() -> anyhow::Result<[u16; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [port, bus] = listeners.map(|listener| listener.local_addr().map(|address| address.port()));
    Ok([port.context("no port")?, bus.context("no port")?])
}
