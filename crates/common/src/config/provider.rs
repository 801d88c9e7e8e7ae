//! `[providers.NAME]`: who answers.

use std::time::Duration;

use url::{Host, ParseError, Url};

use super::mistakes::Mistakes;
use super::reader::{POSITIVE, Section};
use crate::task::embedding::BATCH_MAX;

mod ollama;
mod resilience;

pub use ollama::{KeepAlive, OllamaProvider};
pub use resilience::{BreakerConfig, LimitsConfig, Wake, WakeConfig};

/// One provider.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderConfig {
    /// What it speaks, with the settings of that kind.
    pub kind: ProviderKind,
    /// Models that it serves; the first is the default; empty: any.
    pub models: Vec<String>,
    /// The limit of one call; default 5 min.
    pub request_timeout: Duration,
    /// Its share among neighbours in a pool's list that have one, 1 to 1000; `None`: its place alone counts.
    pub weight: Option<u32>,
    /// Texts per call of an embedding job, 1 to 2048; default 32. A job's input may ask for another number.
    pub batch_size: u32,
    /// When calls to it stop for a while; `None`: never, which is the default of a simulated one.
    pub breaker: Option<BreakerConfig>,
    /// What it takes.
    pub limits: LimitsConfig,
    /// How it is woken; `None`: it does not sleep.
    pub wake: Option<WakeConfig>,
}

/// What a provider speaks.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderKind {
    /// The HTTP API of OpenAI, as many servers offer it.
    OpenAi(HttpProvider),
    /// Ollama's own HTTP API.
    Ollama(OllamaProvider),
    /// No network: answers made up in the worker.
    Simulated(SimulatedProvider),
}

/// A provider behind HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProvider {
    /// An `http` or `https` URL without a slash at its end; never holds credentials.
    pub base_url: String,
    /// The variable that holds the key. Only a worker needs it, so only a worker can miss it.
    pub api_key_env: Option<String>,
}

/// A provider that makes its answers up.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedProvider {
    /// Tokens per answer, 0 to 1 000 000; 0 is an empty answer at once; default 20.
    pub tokens: u32,
    /// Time between tokens; default 20 ms.
    pub pace: Duration,
    /// How far the pace strays, as a share from 0 to 1; default 0.2.
    pub jitter: f64,
    /// Share of attempts that fail as `provider_error`, 0 to 1; default 0.
    pub error_rate: f64,
}

impl Default for SimulatedProvider {
    fn default() -> Self {
        Self { tokens: 20, pace: Duration::from_millis(20), jitter: 0.2, error_rate: 0.0 }
    }
}

impl ProviderConfig {
    /// The default of `request_timeout`.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

    /// The default of `batch_size`.
    pub const BATCH_SIZE: u32 = 32;

    /// A simulated provider that serves any model.
    pub fn simulated(settings: SimulatedProvider) -> Self {
        Self::plain(ProviderKind::Simulated(settings))
    }

    /// A provider that serves any model, all else as by default.
    pub fn plain(kind: ProviderKind) -> Self {
        Self {
            breaker: kind.default_breaker(),
            kind,
            models: Vec::new(),
            request_timeout: Self::REQUEST_TIMEOUT,
            weight: None,
            batch_size: Self::BATCH_SIZE,
            limits: LimitsConfig::default(),
            wake: None,
        }
    }

    /// Reads a section; `None` where its kind is not known.
    pub(super) fn read(mut from: Section, mistakes: &mut Mistakes) -> Option<Self> {
        let kind = read_kind(&mut from, mistakes);
        let request_timeout = from.duration(mistakes, "request_timeout", &POSITIVE, Self::REQUEST_TIMEOUT);
        let models = from.texts(mistakes, "models").unwrap_or_default();
        let weight = from.names().iter().any(|name| name == "weight");
        let weight = weight.then(|| from.integer(mistakes, "weight", &(1..=1000), 1));
        let batch_size = from.integer(mistakes, "batch_size", &(1..=BATCH_MAX), Self::BATCH_SIZE);
        let breaker = kind.as_ref().map_or_else(|| Some(BreakerConfig::default()), ProviderKind::default_breaker);
        let breaker = BreakerConfig::read(&mut from, mistakes, breaker);
        let limits = LimitsConfig::read(&mut from, mistakes);
        let wake = WakeConfig::read(&mut from, mistakes);
        from.finish(mistakes);
        Some(Self { kind: kind?, models, request_timeout, weight, batch_size, breaker, limits, wake })
    }

    /// Where its server is, in one form for all ways to write it: providers of one address share a server. None of a simulated
    /// one.
    pub fn server(&self) -> Option<String> {
        let http = match &self.kind {
            ProviderKind::OpenAi(http) => http,
            ProviderKind::Ollama(ollama) => &ollama.http,
            ProviderKind::Simulated(_) => return None,
        };
        let url = Url::parse(&http.base_url).ok()?;
        let here = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let host = if here { "localhost" } else { url.host_str()? };
        // Ollama has its own API beside the other one's `/v1`.
        let path = url.path().trim_end_matches('/').trim_end_matches("/v1").trim_end_matches('/');
        Some(format!("{}://{host}:{}{path}", url.scheme(), url.port_or_known_default()?))
    }
}

impl ProviderKind {
    /// Whether it is an Ollama.
    pub fn is_ollama(&self) -> bool {
        matches!(self, Self::Ollama(_))
    }

    /// What fails as it was told to needs no protection.
    fn default_breaker(&self) -> Option<BreakerConfig> {
        (!matches!(self, Self::Simulated(_))).then(BreakerConfig::default)
    }
}

impl SimulatedProvider {
    fn read(from: &mut Section, mistakes: &mut Mistakes) -> Self {
        let default = Self::default();
        Self {
            tokens: from.integer(mistakes, "tokens", &(0..=1_000_000), default.tokens),
            pace: from.duration(mistakes, "pace", &POSITIVE, default.pace),
            jitter: from.share(mistakes, "jitter", default.jitter),
            error_rate: from.share(mistakes, "error_rate", default.error_rate),
        }
    }
}

impl HttpProvider {
    fn read(from: &mut Section, mistakes: &mut Mistakes) -> Option<Self> {
        let base_url = read_base_url(from, mistakes);
        let api_key_env = from.text(mistakes, "api_key_env").filter(|name| {
            let variable = is_variable(name);
            if !variable {
                // The value may be the key itself, put here by mistake: it is not repeated.
                mistakes.add(&from.key("api_key_env"), "must be the name of an environment variable");
            }
            variable
        });
        Some(Self { base_url: base_url?, api_key_env })
    }
}

fn read_kind(from: &mut Section, mistakes: &mut Mistakes) -> Option<ProviderKind> {
    let kinds = [("openai", "openai"), ("ollama", "ollama"), ("simulated", "simulated")];
    let absent = !from.names().iter().any(|name| name == "kind");
    match from.choice(mistakes, "kind", &kinds) {
        Some("openai") => HttpProvider::read(from, mistakes).map(ProviderKind::OpenAi),
        Some("ollama") => OllamaProvider::read(from, mistakes).map(ProviderKind::Ollama),
        Some(_) => Some(ProviderKind::Simulated(SimulatedProvider::read(from, mistakes))),
        None => {
            if absent {
                mistakes.add(&from.key("kind"), "is missing: openai, ollama or simulated");
            }
            for name in ["base_url", "api_key_env", "keep_alive", "preload", "tokens", "pace", "jitter", "error_rate"] {
                from.ignore(name);
            }
            None
        }
    }
}

fn read_base_url(from: &mut Section, mistakes: &mut Mistakes) -> Option<String> {
    let key = from.key("base_url");
    if !from.names().iter().any(|name| name == "base_url") {
        mistakes.add(&key, "is missing");
        return None;
    }
    let text = from.text(mistakes, "base_url")?;
    match check_base_url(&text) {
        Ok(()) => Some(text.trim_end_matches('/').to_owned()),
        Err(problem) => {
            mistakes.add(&key, problem);
            None
        }
    }
}

/// The problem never repeats the URL, which may hold credentials.
pub(super) fn check_base_url(text: &str) -> Result<(), &'static str> {
    if text.contains(['?', '#']) {
        return Err("must be a URL without query, fragment and spaces");
    }
    check_url(text)
}

/// As [`check_base_url`], with a query where one is wanted.
fn check_url(text: &str) -> Result<(), &'static str> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let rest = rest.ok_or("must begin with http:// or https://")?;
    // What the parser would pass over in silence.
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must be a URL without query, fragment and spaces");
    }
    if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
        return Err("must not hold credentials: name a variable in api_key_env");
    }
    if rest.starts_with(['/', ':']) {
        return Err("names no host");
    }
    let url = Url::parse(text).map_err(|problem| match problem {
        ParseError::EmptyHost => "names no host",
        ParseError::InvalidPort => "names no valid port",
        _ => "is no valid URL",
    })?;
    if url.port() == Some(0) {
        return Err("names no valid port");
    }
    Ok(())
}

pub(super) fn is_variable(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(base_url: &str) -> String {
        let http = HttpProvider { base_url: base_url.to_owned(), api_key_env: None };
        ProviderConfig::plain(ProviderKind::OpenAi(http)).server().unwrap()
    }

    #[test]
    fn an_address_names_a_host_and_holds_no_credentials() {
        for good in ["http://h", "https://h:1/v1", "http://[::1]:8080", "http://h/a@b"] {
            assert_eq!(check_base_url(good), Ok(()), "{good}");
        }
        for (bad, problem) in [
            ("http://u:p@h", "credentials"),
            ("http://@h", "credentials"),
            ("http:///h", "no host"),
            ("http://:80", "no host"),
            ("http://h:0", "port"),
            ("http://h:70000", "port"),
            ("http://h h", "spaces"),
            ("ftp://h", "begin with"),
        ] {
            assert!(check_base_url(bad).unwrap_err().contains(problem), "{bad}");
        }
    }

    #[test]
    fn a_server_is_the_same_however_its_address_is_written() {
        for same in
            ["http://127.0.0.1:11434", "http://localhost:11434/v1", "http://LOCALHOST:11434", "http://[::1]:11434/v1"]
        {
            assert_eq!(server(same), "http://localhost:11434", "{same}");
        }
        assert_eq!(server("https://Models.example:443/v1"), server("https://models.example"));
        let others =
            ["http://gpu:80", "http://gpu:8080", "https://gpu", "http://gpu/a/v1", "http://gpu/A", "http://localhosts"];
        let names: std::collections::BTreeSet<_> = others.iter().map(|one| server(one)).collect();
        assert_eq!(names.len(), others.len(), "{names:?}");
    }
}
