//! The configuration: one TOML file and the environment, read once at start.
//!
//! Every section has a file of its own with its keys, units, limits and defaults. All mistakes are told together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Table;

use crate::ids::PoolName;

mod checks;
mod environment;
mod fetch;
mod health;
mod mistakes;
mod overrides;
mod pool;
mod provider;
mod reader;
mod redis_tls;
mod retry;
mod secret;
mod task;
#[cfg(test)]
mod tests;
mod token;
mod traces;

pub use environment::LogFormat;
pub use fetch::{Allowed, FetchConfig};
pub use health::{HealthConfig, InfraConfig};
pub use mistakes::{ConfigError, ConfigErrors};
pub use pool::{Affinity, Durability, PoolConfig};
pub use provider::{
    BreakerConfig, HttpProvider, KeepAlive, LimitsConfig, OllamaProvider, ProviderConfig, ProviderKind,
    SimulatedProvider, Wake, WakeConfig,
};
pub use redis_tls::RedisTls;
pub use retry::RetryPolicy;
pub use secret::{RedisUrl, Secret};
pub use task::{TaskConfig, TaskKind};
pub use token::{Role, TokenConfig};
pub use traces::TracesConfig;

use environment::Environment;
use mistakes::Mistakes;
use reader::Section;

/// What runs when no file is named: one pool on a simulated provider.
const WITHOUT_A_FILE: &str = r#"
[pools.chat]
providers = ["sim"]

[providers.sim]
kind = "simulated"
"#;

/// Most labels of their own that the models of a pool that drains by model have.
const TURN_LABELS_MAX: usize = 64;
/// The label of all other models.
pub(crate) const TURN_LABEL_OTHER: &str = "other";

/// Everything that the programs are told at start.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The largest request body, in bytes, 1 KiB to 512 MiB (a value in Redis holds no more); default 32 MiB.
    pub max_body_bytes: u64,
    /// The largest result that stands in its job, in bytes, 1 KiB to 16 MiB; default 1 MiB.
    pub max_inline_result: u64,
    /// `cors_origins`: the pages whose scripts may call the API; default none.
    pub cors_origins: Vec<String>,
    /// The largest audio of a job, uploaded or fetched, in bytes, 1 KiB to 1 GiB; default 100 MiB.
    pub max_audio_bytes: u64,
    /// `[fetch]`.
    pub fetch: FetchConfig,
    /// `[worker]`.
    pub worker: WorkerConfig,
    /// `[pools.NAME]`; at least one.
    pub pools: BTreeMap<PoolName, PoolConfig>,
    /// `[providers.NAME]`.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// `[tasks.NAME]`: names of the user's own; the built-in ones are not in it.
    pub tasks: BTreeMap<String, TaskConfig>,
    /// `[tokens.NAME]`: callers of the API with less than all rights.
    pub tokens: BTreeMap<String, TokenConfig>,
    /// `[health]`.
    pub health: HealthConfig,
    /// `[infra]`.
    pub infra: InfraConfig,
    /// `[traces]`, and the variables of OpenTelemetry's own.
    pub traces: TracesConfig,
    /// `[retry]`. What counts for a job is the policy of its pool, which has this one in it.
    pub retry: RetryPolicy,
    /// `OVERSHOT_REDIS_URL`; default `redis://127.0.0.1:6379/0`.
    pub redis_url: RedisUrl,
    /// `OVERSHOT_REDIS_CA_FILE`, `OVERSHOT_REDIS_CERT_FILE`, `OVERSHOT_REDIS_KEY_FILE`; default none.
    pub redis_tls: RedisTls,
    /// `OVERSHOT_API_TOKEN`, tokens with all rights. Without any, and without `[tokens]`, the API is open.
    pub api_tokens: Vec<Secret>,
    /// `OVERSHOT_HTTP_ADDR`; default `0.0.0.0:8080`.
    pub http_addr: SocketAddr,
    /// `OVERSHOT_WORKER_HTTP_ADDR`; default `0.0.0.0:8081`.
    pub worker_http_addr: SocketAddr,
    /// `OVERSHOT_ALLOW_UNSAFE_REDIS`: an evicting or forgetful Redis is a warning, not a refusal; default off.
    pub allow_unsafe_redis: bool,
    /// `OVERSHOT_WORKER_POOLS`, each configured; `None`: all. See [`Config::served_pools`].
    pub worker_pools: Option<Vec<PoolName>>,
    /// `OVERSHOT_LOG`: a tracing filter that parses; default `info`.
    pub log_filter: String,
    /// `OVERSHOT_LOG_FORMAT`; default text.
    pub log_format: LogFormat,
    /// What is allowed and yet likely not meant, one line each; log them at start.
    pub warnings: Vec<String>,
}

/// `[worker]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Grace after SIGTERM before the rest is handed back; default 25 s.
    pub drain: Duration,
    /// A worker silent this long is taken for dead, 2 s to 10 min; default 10 s.
    pub liveness: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { drain: Duration::from_secs(25), liveness: Duration::from_secs(10) }
    }
}

impl Config {
    /// The default of `max_body_bytes`: 32 MiB.
    pub const MAX_BODY_BYTES: u64 = 32 << 20;
    /// The default of `max_inline_result`: 1 MiB.
    pub const MAX_INLINE_RESULT: u64 = 1 << 20;
    const INLINE_LIMITS: RangeInclusive<u64> = 1 << 10..=16 << 20;
    /// The default of `max_audio_bytes`: 100 MiB.
    pub const MAX_AUDIO_BYTES: u64 = 100 << 20;
    const AUDIO_LIMITS: RangeInclusive<u64> = 1 << 10..=1 << 30;
    const BODY_LIMITS: RangeInclusive<u64> = 1 << 10..=512 << 20;

    /// Reads the text of a file, its path for messages beside it, and the variables out of `env` that count.
    ///
    /// Without a file there is a pool `chat` on the simulated provider `sim`.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(
        file: Option<(&Path, &str)>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let base = file.and_then(|(path, _)| path.parent()).unwrap_or(Path::new(""));
        Self::assemble(parse(file), base, &env.into_iter().collect(), Mistakes::default())
    }

    /// The settings of `pool`, if it is configured.
    pub fn pool(&self, pool: &PoolName) -> Option<&PoolConfig> {
        self.pools.get(pool)
    }

    /// Every configured pool and how many shards it has.
    pub fn shards(&self) -> impl Iterator<Item = (&PoolName, u16)> {
        self.pools.iter().map(|(name, pool)| (name, pool.shards))
    }

    /// The only pool, if there is just one: where a job goes that names none.
    pub fn default_pool(&self) -> Option<&PoolName> {
        let mut names = self.pools.keys();
        names.next().filter(|_| names.next().is_none())
    }

    /// The pools that this worker serves.
    pub fn served_pools(&self) -> Vec<PoolName> {
        self.worker_pools.clone().unwrap_or_else(|| self.pools.keys().cloned().collect())
    }

    /// The providers of `pool`, in order of preference.
    pub fn providers_of_pool<'a>(&'a self, pool: &PoolName) -> impl Iterator<Item = (&'a str, &'a ProviderConfig)> {
        let names = self.pools.get(pool).map_or(&[][..], |pool| &pool.providers);
        names.iter().filter_map(|name| Some((name.as_str(), self.providers.get(name)?)))
    }

    /// The models that the providers of `pool` name, each once, in order of preference.
    pub fn models_of_pool<'a>(&'a self, pool: &PoolName) -> Vec<&'a str> {
        let mut seen = BTreeSet::new();
        let models = self.providers_of_pool(pool).flat_map(|(_, provider)| &provider.models);
        models.map(String::as_str).filter(|model| seen.insert(*model)).collect()
    }

    /// In a pool that drains by model: the label under which jobs of `model` wait for its turn. Models beyond the first 64
    /// that its providers name, and those that none names, share one.
    pub fn turn_label<'a>(&self, pool: &PoolName, model: &'a str) -> Option<&'a str> {
        (self.pools.get(pool)?.affinity == Affinity::Model).then(|| {
            let named = self.models_of_pool(pool).into_iter().take(TURN_LABELS_MAX).any(|one| one == model);
            if named { model } else { TURN_LABEL_OTHER }
        })
    }

    /// What runs one model at a time for the whole fleet: the server behind a provider, where one of its providers is in a pool
    /// that drains by model.
    pub fn turns_of(&self, provider: &str) -> Option<String> {
        let server_of = |name: &str| Some(self.providers.get(name)?.server().unwrap_or_else(|| name.to_owned()));
        let server = server_of(provider)?;
        let draining = self.pools.values().filter(|pool| pool.affinity == Affinity::Model);
        let mut names = draining.flat_map(|pool| &pool.providers);
        names.any(|name| server_of(name).as_ref() == Some(&server)).then_some(server)
    }

    /// The model of a job that names none: the first of the first provider of `pool`, if that one names any.
    pub fn default_model(&self, pool: &PoolName) -> Option<&str> {
        let (_, provider) = self.providers_of_pool(pool).next()?;
        provider.models.first().map(String::as_str)
    }

    fn assemble(
        file: Result<Table, ConfigError>,
        base: &Path,
        env: &BTreeMap<String, String>,
        mut mistakes: Mistakes,
    ) -> Result<Self, ConfigErrors> {
        let environment = Environment::read(env, &mut mistakes);
        let mut table = match file {
            Ok(table) => table,
            Err(mistake) => {
                // Overrides of a file that cannot be read would only add mistakes that are none.
                mistakes.add(&mistake.key, mistake.problem);
                return Err(mistakes.into_errors());
            }
        };
        overrides::apply(&mut table, env, &mut mistakes);
        let mut root = Section::root(table);
        let max_body_bytes = root.bytes(&mut mistakes, "max_body_bytes", &Self::BODY_LIMITS);
        let max_inline_result = root.bytes(&mut mistakes, "max_inline_result", &Self::INLINE_LIMITS);
        let cors_origins = token::read_origins(&mut root, &mut mistakes);
        let tokens = token::read_all(&mut root, &mut mistakes);
        let max_audio_bytes = root.bytes(&mut mistakes, "max_audio_bytes", &Self::AUDIO_LIMITS);
        let fetch = FetchConfig::read(root.section(&mut mistakes, "fetch"), &mut mistakes);
        let worker = WorkerConfig::read(root.section(&mut mistakes, "worker"), &mut mistakes);
        let retry = root.section(&mut mistakes, "retry");
        let retry = RetryPolicy::read(retry, &mut mistakes, &RetryPolicy::default());
        let providers = root.sections(&mut mistakes, "providers");
        let provider_names: BTreeSet<_> = providers.iter().map(|(name, _)| name.clone()).collect();
        let providers = providers
            .into_iter()
            .filter_map(|(name, section)| Some((name, ProviderConfig::read(section, &mut mistakes)?)));
        let providers = providers.collect();
        let (pools, pool_names) = read_pools(&mut root, &mut mistakes, &retry, &provider_names, &providers);
        let tasks = root.sections(&mut mistakes, "tasks").into_iter().filter_map(|(name, section)| {
            let known = |pool: &str| pool_names.contains(pool);
            let task = TaskConfig::read(&name, section, &mut mistakes, base, known)?;
            Some((name, task))
        });
        let tasks = tasks.collect();
        let health = HealthConfig::read(root.section(&mut mistakes, "health"), &mut mistakes);
        let infra = InfraConfig::read(root.section(&mut mistakes, "infra"), &mut mistakes);
        let traces = TracesConfig::read(root.section(&mut mistakes, "traces"), env, &mut mistakes);
        root.finish(&mut mistakes);
        checks::worker_pools(&environment, &pool_names, &mut mistakes);
        mistakes.into_result()?;
        let mut config = Self {
            max_body_bytes: max_body_bytes.unwrap_or(Self::MAX_BODY_BYTES),
            max_inline_result: max_inline_result.unwrap_or(Self::MAX_INLINE_RESULT),
            cors_origins,
            tokens,
            max_audio_bytes: max_audio_bytes.unwrap_or(Self::MAX_AUDIO_BYTES),
            fetch,
            worker,
            pools,
            providers,
            tasks,
            health,
            infra,
            traces,
            retry,
            redis_url: environment.redis_url,
            redis_tls: environment.redis_tls,
            api_tokens: environment.api_tokens,
            http_addr: environment.http_addr,
            worker_http_addr: environment.worker_http_addr,
            allow_unsafe_redis: environment.allow_unsafe_redis,
            worker_pools: environment.worker_pools,
            log_filter: environment.log_filter,
            log_format: environment.log_format,
            warnings: Vec::new(),
        };
        config.warnings = checks::warnings(&config);
        Ok(config)
    }
}

/// What `--check-config` prints: `configuration ok`, then each warning on a line of its own.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("configuration ok")?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

impl WorkerConfig {
    fn read(mut from: Section, mistakes: &mut Mistakes) -> Self {
        let default = Self::default();
        let liveness = Duration::from_secs(2)..=Duration::from_secs(600);
        let worker = Self {
            drain: from.duration(mistakes, "drain", &reader::POSITIVE, default.drain),
            liveness: from.duration(mistakes, "liveness", &liveness, default.liveness),
        };
        from.finish(mistakes);
        worker
    }
}

/// Reads the configuration of this process: the file of `--config`, else that of `OVERSHOT_CONFIG`, and the
/// environment.
///
/// # Errors
/// Every mistake at once; a program prints them to stderr and ends with exit code 2.
pub fn from_process(config_flag: Option<PathBuf>) -> Result<Config, ConfigErrors> {
    let mut mistakes = Mistakes::default();
    let ours = |(name, _): &(OsString, OsString)| {
        let name = name.to_string_lossy();
        name.starts_with("OVERSHOT_") || traces::VARIABLES.contains(&&*name)
    };
    let mut env = BTreeMap::new();
    for (name, value) in std::env::vars_os().filter(ours) {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => drop(env.insert(name, value)),
            (Ok(name), Err(_)) => mistakes.add(&name, "is not UTF-8"),
            (Err(name), _) => mistakes.add(&name.to_string_lossy(), "is not UTF-8"),
        }
    }
    let from_env = env.get("OVERSHOT_CONFIG").map(PathBuf::from);
    let named = config_flag.map(|path| ("--config", path));
    let named = named.or_else(|| from_env.map(|path| ("OVERSHOT_CONFIG", path)));
    let base = named.as_ref().and_then(|(_, path)| path.parent()).map(Path::to_owned).unwrap_or_default();
    let file = match named {
        None => parse(None),
        Some((key, path)) => match std::fs::read_to_string(&path) {
            Ok(text) => parse(Some((&path, &text))),
            Err(error) => {
                let problem = format!("cannot read `{}`: {error}", path.display());
                Err(ConfigError { key: key.to_owned(), problem })
            }
        },
    };
    Config::assemble(file, &base, &env, mistakes)
}

fn parse(file: Option<(&Path, &str)>) -> Result<Table, ConfigError> {
    let (path, text) = file.unwrap_or((Path::new("built-in"), WITHOUT_A_FILE));
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        // Only the message: the excerpt that the error could show may hold what is secret.
        let message = error.message().replace('\n', " ");
        ConfigError { key: path.display().to_string(), problem: format!("line {line}: {message}") }
    })
}

/// The pools whose names are valid, and the names of all, so that one mistake is not told twice.
fn read_pools(
    root: &mut Section,
    mistakes: &mut Mistakes,
    retry: &RetryPolicy,
    provider_names: &BTreeSet<String>,
    providers: &BTreeMap<String, ProviderConfig>,
) -> (BTreeMap<PoolName, PoolConfig>, BTreeSet<String>) {
    let mut pools = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (name, section) in root.sections(mistakes, "pools") {
        let key = section.key("providers");
        let is_ollama = |name: &String| providers.get(name).is_some_and(|provider| provider.kind.is_ollama());
        let pool = PoolConfig::read(section, mistakes, retry, is_ollama);
        for provider in pool.providers.iter().filter(|name| !provider_names.contains(*name)) {
            mistakes.add(&key, format!("no provider is named `{}`", provider.escape_debug()));
        }
        match name.parse() {
            Ok(name) => drop(pools.insert(name, pool)),
            Err(error) => mistakes.add(&reader::join("pools", &name), format!("{error}")),
        }
        names.insert(name);
    }
    if names.is_empty() {
        mistakes.add("pools", "there is no pool: add a section [pools.NAME]");
    }
    (pools, names)
}
