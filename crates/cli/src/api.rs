//! The way to the API: where it is, with which token, and what its answers mean.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::Value;

use crate::failure::{Exit, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other side may be silent: an event stream bears a comment every 15 s, a call by filter takes up to 20 s.
const SILENCE: Duration = Duration::from_secs(60);

/// Where the API is. The token comes from `OVERSHOT_API_TOKEN` or a file: an argument would show in the list of
/// processes.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Where the API is.
    #[arg(long, global = true, value_name = "URL", env = "OVERSHOT_API_URL", default_value = "http://127.0.0.1:8080")]
    api: String,
    /// A file that holds the token; else `OVERSHOT_API_TOKEN` is it.
    #[arg(long, global = true, value_name = "FILE", env = "OVERSHOT_API_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Prints what the API said, as JSON; events as one object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A client of one API.
#[derive(Debug)]
pub(crate) struct Api {
    base: Url,
    token: Option<String>,
    http: reqwest::Client,
}

/// An answer: as it came, and read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    /// The members of a list.
    pub(crate) fn data(&self) -> &[Value] {
        self.json["data"].as_array().map_or(&[], Vec::as_slice)
    }
}

impl Api {
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let usage = |message: String| Failure::new(Exit::Usage, message);
        let base = Url::parse(&connection.api).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let base = base.ok_or_else(|| usage(format!("--api: `{}` is no http or https URL", connection.api)))?;
        let token = match &connection.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.map_err(|error| usage(format!("--token-file: {}: {error}", path.display())))?)
            }
            None => std::env::var("OVERSHOT_API_TOKEN").ok(),
        };
        // The variable is also the server's, which takes several.
        let token = token.and_then(|text| text.split(',').next().map(|first| first.trim().to_owned()));
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .user_agent(concat!("overshot/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { base, token: token.filter(|token| !token.is_empty()), http })
    }

    /// A request to `/api/v1/<path>`, each part of it as it is, however it may look.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &[&str]) -> Result<Answer, Failure> {
        Self::send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &[&str], body: Option<&Value>) -> Result<Answer, Failure> {
        let request = self.request(Method::POST, path);
        Self::send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Sends a request whose answer is JSON.
    pub(crate) async fn send(request: RequestBuilder) -> Result<Answer, Failure> {
        let response = accepted(request.send().await?).await?;
        let text = response.text().await?;
        let json = serde_json::from_str(&text).map_err(|_| Failure::new(Exit::Failed, "the answer is no JSON"))?;
        Ok(Answer { text, json })
    }

    /// Opens the event stream of a job, after the event of that id.
    pub(crate) async fn events(&self, job: &str, after: &str) -> Result<Response, Failure> {
        let mut request = self.request(Method::GET, &["jobs", job, "events"]).header(ACCEPT, "text/event-stream");
        if !after.is_empty() {
            request = request.header("last-event-id", after);
        }
        accepted(request.send().await?).await
    }
}

/// The answer if it is no refusal.
async fn accepted(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.json().await.unwrap_or_default();
    Err(Failure::of_answer(status.as_u16(), &body))
}
