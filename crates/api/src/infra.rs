//! What a sidecar beside the GPUs says: fetched from `[infra] url`, which only the configuration names, and cut to what
//! operators look at. Never the URL, nor anything that looks like a secret.

use std::time::Duration;

use jiff::Timestamp;
use overshot_common::job::times;
use reqwest::redirect::Policy;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

mod exposition;
mod sections;

use sections::Sections;

/// How long one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer, or a failure, is good for, however many ask.
const FRESH: Duration = Duration::from_secs(2);
/// More than that is not read.
const LARGEST: usize = 1 << 20;

/// The sidecar, and what it last said.
#[derive(Debug)]
pub(crate) struct Infra {
    target: Option<(reqwest::Client, String)>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    tried: Option<Instant>,
    error: Option<String>,
    heard: Option<(Instant, Timestamp, Sections)>,
}

/// What the sidecar said last.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = InfraStatus)]
pub(crate) struct InfraView {
    /// Always `infra_status`.
    object: &'static str,
    pub(crate) configured: bool,
    /// When the sections were fetched.
    fetched_at: Option<String>,
    age_seconds: Option<f64>,
    #[serde(flatten)]
    sections: Sections,
    /// Why the last fetch failed; the sections are then those of the one before.
    pub(crate) sidecar_error: Option<String>,
}

impl Infra {
    /// A sidecar at `url`, or none.
    pub(crate) fn new(url: Option<&str>) -> Self {
        let client = || {
            let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).no_proxy();
            client.build().inspect_err(|_| tracing::error!("no HTTP client for the sidecar")).ok()
        };
        let target = url.and_then(|url| Some((client()?, url.to_owned())));
        Self { target, last: Mutex::default() }
    }

    /// What it says now, or said last. Takes at most [`TIMEOUT`]; cancel safe.
    pub(crate) async fn look(&self) -> InfraView {
        let mut last = self.last.lock().await;
        if let Some((client, url)) = &self.target
            && last.tried.is_none_or(|at| at.elapsed() >= FRESH)
        {
            match fetch(client, url).await {
                Ok(sections) => {
                    last.heard = Some((Instant::now(), Timestamp::now(), sections));
                    last.error = None;
                }
                Err(error) => last.error = Some(error),
            }
            last.tried = Some(Instant::now());
        }
        let heard = last.heard.as_ref();
        InfraView {
            object: "infra_status",
            configured: self.target.is_some(),
            fetched_at: heard.map(|(_, at, _)| times::text(*at)),
            age_seconds: heard.map(|(at, ..)| at.elapsed().as_secs_f64()),
            sections: heard.map(|(.., sections)| sections.clone()).unwrap_or_default(),
            sidecar_error: last.error.clone(),
        }
    }
}

/// Fetches and reads. The error never holds the URL, nor what was answered.
async fn fetch(client: &reqwest::Client, url: &str) -> Result<Sections, String> {
    let mut answer = client.get(url).send().await.map_err(|error| trouble(&error))?;
    if !answer.status().is_success() {
        return Err(format!("the sidecar answered {}", answer.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| trouble(&error))? {
        if body.len() + chunk.len() > LARGEST {
            return Err(format!("the sidecar's answer is larger than {LARGEST} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(body).map_err(|_| "the sidecar's answer is not UTF-8".to_owned())?;
    if text.trim_start().starts_with(['{', '[']) {
        let value: Value = serde_json::from_str(&text).map_err(|_| "the sidecar's JSON is broken".to_owned())?;
        Ok(Sections::of_json(value))
    } else {
        let samples =
            exposition::parse(&text).map_err(|line| format!("line {line} of the sidecar's page is broken"))?;
        Ok(Sections::of_samples(&samples))
    }
}

fn trouble(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "does not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off its answer"
    };
    format!("the sidecar {what}")
}
