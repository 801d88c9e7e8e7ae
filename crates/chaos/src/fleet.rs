//! The fleet under test: one Redis, APIs and workers as processes, each behind a proxy of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{ChaosProxy, Client, Process, Program, RedisServer};
use tempfile::TempDir;

use crate::log::{Log, What};
use crate::provider::Provider;

/// The lease of every job, and how long a worker may be silent: short, so that faults take seconds. A worker gives its
/// work up a second before it counts as dead.
pub const LEASE: Duration = Duration::from_secs(3);
/// See [`LEASE`].
pub const LIVENESS: Duration = Duration::from_secs(2);
/// How long a worker that was asked to end goes on with its jobs.
pub const DRAIN: Duration = Duration::from_secs(2);
/// The one pool.
pub const POOL: &str = "chat";

fn config(provider: &Provider) -> String {
    format!(
        r#"
[worker]
drain = "{}s"
liveness = "{}s"
[retry]
provider_unavailable = "300ms"
model_unavailable = "300ms"
provider_error = "100ms"
dependency_error = "100ms"
timeout = "100ms"
storage_error = "100ms"
stale_worker = "100ms"
bad_response = "100ms"
internal_error = "100ms"
unknown = "100ms"
[providers.stub]
kind = "openai"
base_url = "{}"
models = ["small"]
# Not the 10 s of the default: little would run under the faults that come meanwhile.
breaker = {{ open_for = "500ms" }}
[pools.{POOL}]
providers = ["stub"]
concurrency = 8
lease = "{}s"
max_crashes = 100
"#,
        DRAIN.as_secs(),
        LIVENESS.as_secs(),
        provider.base_url(),
        LEASE.as_secs(),
    )
}

/// A process in its place, behind its proxy.
#[derive(Debug)]
pub struct Slot {
    /// The process; one that was killed is replaced by [`Fleet::start_again`].
    pub process: Process,
    /// What lies between it and Redis.
    pub proxy: Arc<ChaosProxy>,
    program: Program,
    file: PathBuf,
    env: Vec<(String, String)>,
}

/// Clients of the APIs, kept up to date while these are killed and started.
#[derive(Debug, Clone, Default)]
pub struct Endpoints(Arc<Mutex<Vec<Client>>>);

impl Endpoints {
    /// A client of one of the APIs; any number will do.
    pub fn one(&self, number: u64) -> Client {
        let clients = self.0.lock().expect("no holder of this lock can panic");
        let place = usize::try_from(number % clients.len() as u64).expect("less than a length");
        clients[place].clone()
    }
}

/// All processes of a run. Fields are dropped in order: the programs before their Redis.
#[derive(Debug)]
pub struct Fleet {
    /// The APIs.
    pub apis: Vec<Slot>,
    /// The workers.
    pub workers: Vec<Slot>,
    /// Where the APIs are.
    pub endpoints: Endpoints,
    /// What answers the workers.
    pub provider: Provider,
    log: Arc<Log>,
    _dir: TempDir,
    /// What they share.
    pub redis: RedisServer,
}

impl Fleet {
    /// Starts everything and waits until the APIs are ready. Redis syncs every write to its disk, so that killing it loses
    /// nothing. `without` names a guard that the programs are to lack.
    ///
    /// # Errors
    /// When a port or a folder cannot be had.
    pub async fn start(log: Arc<Log>, apis: usize, workers: usize, without: Option<&str>) -> anyhow::Result<Self> {
        let redis = RedisServer::options().tcp().durable().steps_clock().start().await;
        let provider = Provider::start(Arc::clone(&log)).await?;
        let dir = tempfile::Builder::new().prefix("overshot-chaos-").tempdir()?;
        let path = dir.path().join("overshot.toml");
        std::fs::write(&path, config(&provider))?;
        let path = path.to_string_lossy().into_owned();
        let (mut api_slots, mut worker_slots, mut clients) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..apis {
            let mut slot = slot(Program::Api, without, &redis, &path).await;
            clients.push(Client::new(&slot.process.address().await, None));
            api_slots.push(slot);
        }
        for _ in 0..workers {
            worker_slots.push(slot(Program::Worker, without, &redis, &path).await);
        }
        let endpoints = Endpoints(Arc::new(Mutex::new(clients)));
        let fleet = Self { apis: api_slots, workers: worker_slots, endpoints, provider, log, _dir: dir, redis };
        for api in 0..apis {
            let client = fleet.endpoints.one(api as u64);
            support::assert_eventually!(client.get("/readyz").await.status == 200);
        }
        Ok(fleet)
    }

    /// Kills a process and starts another in its place.
    pub async fn start_again(&mut self, program: Program, place: usize) {
        let slot = match program {
            Program::Api => &mut self.apis[place],
            Program::Worker => &mut self.workers[place],
        };
        slot.process.kill();
        note_log(&slot.process, &self.log);
        slot.process = start(slot.program, &slot.file, &slot.env);
        if program == Program::Api {
            let client = Client::new(&slot.process.address().await, None);
            self.endpoints.0.lock().expect("no holder of this lock can panic")[place] = client;
        }
    }

    /// Every proxy.
    pub fn proxies(&self) -> Vec<Arc<ChaosProxy>> {
        self.apis.iter().chain(&self.workers).map(|slot| Arc::clone(&slot.proxy)).collect()
    }

    /// Notes what the processes said of panics and of repairs.
    pub fn note_logs(&self) {
        for slot in self.apis.iter().chain(&self.workers) {
            note_log(&slot.process, &self.log);
        }
    }
}

async fn slot(program: Program, without: Option<&str>, redis: &RedisServer, config: &str) -> Slot {
    let proxy = Arc::new(ChaosProxy::start(redis).await);
    let env = [
        ("OVERSHOT_REDIS_URL", proxy.url()),
        ("OVERSHOT_CONFIG", config.to_owned()),
        ("OVERSHOT_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("OVERSHOT_WORKER_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("OVERSHOT_LOG", "warn,overshot_api=info,overshot_worker=info".to_owned()),
    ];
    let mut env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let mut file = program.path();
    if let Some(guard) = without {
        env.push(("OVERSHOT_SABOTAGE".to_owned(), guard.to_owned()));
        file = support::built(&program.name().replace("overshot-", "examples/unguarded-"));
    }
    Slot { process: start(program, &file, &env), proxy, program, file, env }
}

fn start(program: Program, file: &Path, env: &[(String, String)]) -> Process {
    let mut process = Process::start_as(program, file, &[], env);
    // What breaks here is broken on purpose; panics are looked for below.
    process.allow_error("");
    process
}

fn note_log(process: &Process, log: &Log) {
    for line in process.log() {
        if line.contains("panicked at") {
            log.record(What::Panicked { line });
        } else if line.contains("audit mended") {
            let count = line.split("mended=").nth(1).and_then(|rest| rest.split(' ').next());
            let count = count.and_then(|count| count.parse().ok()).unwrap_or(1);
            log.record(What::Mended { count, what: line.split("what=").nth(1).unwrap_or_default().to_owned() });
        }
    }
}
