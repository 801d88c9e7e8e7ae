//! The chunk relay: how much later a token reaches an SSE reader through the fleet than straight from the provider,
//! and what an open stream costs the API.
//!
//! Each token carries the time of its emission. The same tokens read straight from the provider tell what the loaded
//! machine and the measurement themselves take.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;

use crate::Size;
use crate::programs::Program;
use crate::report::{Aim, Mode, Row, median};
use crate::server::Server;

pub(crate) mod provider;
pub(crate) mod reader;

use provider::Provider;
use reader::Reader;

/// Stands before each token's time, both in the provider's chunks and in the fleet's.
const MARK: &[u8] = br#""content":""#;
/// Open streams, and tokens per second of each. The widest first: memory is taken while the API is fresh.
const SHAPES: [(usize, u32); 3] = [(1_000, 10), (200, 50), (1, 50)];
/// Pause in which the jobs of one round end before the next begins.
const SETTLING: Duration = Duration::from_millis(300);

/// Delays of one round, or of the median one, in ms.
#[derive(Debug, Clone, Copy)]
struct Delay {
    p50: f64,
    p99: f64,
}

/// Picks one of them.
type Of = fn(&Delay) -> f64;

/// One shape, measured once.
#[derive(Debug)]
struct Round {
    direct: Delay,
    fleet: Delay,
    /// CPU time per token of Redis, the worker and the API, in µs.
    cpu: [f64; 3],
    /// Memory that each stream took in the API, silent, in KB.
    stream_kb: f64,
}

/// What runs throughout.
struct Fleet {
    provider: Provider,
    server: Server,
    worker: Program,
    api: Program,
}

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    let mut fleet = Fleet::start(Server::start(mode == Mode::AofEverysec).await?).await?;
    let mut rows = Vec::new();
    for (streams, rate) in SHAPES {
        let mut rounds = Vec::new();
        for _ in 0..size.relay_rounds {
            rounds.push(fleet.round(streams, rate, rate * size.relay_s).await?);
        }
        rows.extend(delays(streams, rate, &rounds));
        if streams > 1 {
            rows.extend(cpu(streams, &rounds));
        }
        if (streams, rate) == SHAPES[0] {
            // Later rounds find memory that the first one left behind.
            let first = rounds.first().map_or(f64::NAN, |round| round.stream_kb);
            rows.push(Row::new("memory of the API per open stream", "KB", first).aim(Aim::AtMost(30.0)));
        }
    }
    Ok(rows)
}

fn delays(streams: usize, rate: u32, rounds: &[Round]) -> Vec<Row> {
    let quantiles: [(&str, Of, f64); 2] = [("p50", |delay| delay.p50, 1.0), ("p99", |delay| delay.p99, 5.0)];
    let rows = quantiles.map(|(name, of, most)| {
        let what = |text: &str| format!("{text}, {streams} streams of {rate}/s, {name}");
        let added = median(rounds.iter().map(|round| of(&round.fleet) - of(&round.direct)));
        let through = median(rounds.iter().map(|round| of(&round.fleet)));
        let direct = median(rounds.iter().map(|round| of(&round.direct)));
        let ratio = median(rounds.iter().map(|round| of(&round.fleet) / of(&round.direct)));
        [
            Row::new(what("delay added to a token"), "ms", added).aim(Aim::AtMost(most)),
            Row::new(what("delay of a token"), "ms", through).beside("from the provider", direct, ratio),
        ]
    });
    rows.into_iter().flatten().collect()
}

fn cpu(streams: usize, rounds: &[Round]) -> [Row; 3] {
    [("Redis", 0), ("the worker", 1), ("the API", 2)].map(|(name, place): (&str, usize)| {
        let value = median(rounds.iter().map(|round| round.cpu[place]));
        Row::new(format!("CPU of {name} per token, {streams} streams"), "µs", value)
    })
}

impl Fleet {
    async fn start(server: Server) -> anyhow::Result<Self> {
        let provider = Provider::start().await?;
        let config = format!(
            r#"
[pools.chat]
providers = ["relay"]
concurrency = 1024

[providers.relay]
kind = "openai"
base_url = "http://{}/v1"
"#,
            provider.address
        );
        let api = Program::start_with("overshot-api", &server, &config).await?;
        let worker = Program::start_with("overshot-worker", &server, &config).await?;
        Ok(Self { provider, server, worker, api })
    }

    async fn round(&mut self, streams: usize, rate: u32, tokens: u32) -> anyhow::Result<Round> {
        let mut readers = Vec::new();
        for _ in 0..streams {
            readers.push(Reader::open(&self.provider.address, "/", "\r\n\r\n").await?);
        }
        let direct = self.relay(readers, rate, tokens).await?;
        tokio::time::sleep(SETTLING).await;

        let jobs = reader::submit(&self.api.address, streams).await?;
        let before = self.api.resident_bytes()?;
        let mut readers = Vec::new();
        for job in jobs {
            let path = format!("/api/v1/jobs/{job}/events");
            readers.push(Reader::open(&self.api.address, &path, "event: status").await?);
        }
        let stream_kb = (self.api.resident_bytes()? as f64 - before as f64) / 1024.0 / streams as f64;
        let began = self.cpu_s().await?;
        let fleet = self.relay(readers, rate, tokens).await?;
        let ended = self.cpu_s().await?;
        tokio::time::sleep(SETTLING).await;
        let all = f64::from(tokens) * streams as f64;
        let cpu = std::array::from_fn(|place| (ended[place] - began[place]) * 1e6 / all);
        Ok(Round { direct, fleet, cpu, stream_kb })
    }

    /// Lets the provider answer as many requests as there are readers, and takes the delays that these see.
    async fn relay(&mut self, readers: Vec<Reader>, rate: u32, tokens: u32) -> anyhow::Result<Delay> {
        let answers = self.provider.requests(readers.len()).await?;
        let reading: Vec<_> =
            readers.into_iter().map(|reader| tokio::spawn(reader.read(MARK, tokens as usize))).collect();
        let emitting = tokio::task::spawn_blocking(move || provider::emit(answers, rate, tokens));
        let mut times = Histogram::<u64>::new(3)?;
        for reading in reading {
            for delay in reading.await?? {
                times.record(delay)?;
            }
        }
        emitting.await?.context("emitting tokens")?;
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(Delay { p50: ms(0.5), p99: ms(0.99) })
    }

    /// CPU time so far of Redis, the worker and the API, in seconds.
    async fn cpu_s(&self) -> anyhow::Result<[f64; 3]> {
        Ok([self.server.cpu_s().await?, self.worker.cpu_s()?, self.api.cpu_s()?])
    }
}
