//! An HTTP client of the API.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::PATIENCE;

mod events;

pub use events::{Event, Events};

/// A client of one API process.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; `null` if it was no JSON.
    pub json: Value,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The error's code; empty without one.
    pub fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or_default()
    }

    /// The field that the error names; empty without one.
    pub fn param(&self) -> &str {
        self.json["error"]["param"].as_str().unwrap_or_default()
    }

    /// The job's id; panics without one.
    #[track_caller]
    pub fn id(&self) -> String {
        self.json["id"].as_str().unwrap_or_else(|| panic!("{} {}", self.status, self.text)).to_owned()
    }
}

impl Client {
    /// For the API at `address` (`host:port`).
    pub fn new(address: &str, token: Option<&str>) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build();
        let http = http.expect("a plain client can always be made");
        Self { base: format!("http://{address}"), token: token.map(str::to_owned), http }
    }

    /// Where the API is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same API with another token.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// A request to `path`, with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request; an error is the connection's.
    pub async fn try_send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer { status, headers, json, text })
    }

    /// Sends a request, which must be answered.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("the API answers")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// POST without a body.
    pub async fn post_empty(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    /// POST with these very bytes, as JSON.
    pub async fn post_bytes(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        self.send(request.body(body)).await
    }

    /// Uploads a file with these fields before it, as a transcription.
    pub async fn upload(&self, fields: &[(&str, &str)], file: impl Into<Vec<u8>>) -> Answer {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let form = fields.fold(Form::new(), |form, (name, value)| form.text(name, value));
        let part = Part::bytes(file.into()).file_name("call.wav");
        self.upload_form(form.part("file", part)).await
    }

    /// Uploads a form as a transcription.
    pub async fn upload_form(&self, form: Form) -> Answer {
        self.send(self.request(Method::POST, "/api/v1/jobs/transcription").multipart(form)).await
    }

    /// Submits a job.
    pub async fn post_job(&self, job: &Value) -> Answer {
        self.post("/api/v1/jobs", job).await
    }

    /// Submits a job that must be accepted, and gives its id.
    pub async fn submit(&self, job: &Value) -> String {
        let answer = self.post_job(job).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.id()
    }

    /// The job, which must be there.
    pub async fn job(&self, id: &str) -> Value {
        let answer = self.get(&format!("/api/v1/jobs/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json
    }

    /// Asks for cancellation.
    pub async fn cancel(&self, id: &str) -> Answer {
        self.post_empty(&format!("/api/v1/jobs/{id}/cancel")).await
    }

    /// Waits until the job satisfies `condition`; answers with an error status (a Redis that is away) are asked again.
    pub async fn wait_until(&self, id: &str, within: Duration, condition: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let answer = self.get(&format!("/api/v1/jobs/{id}")).await;
            if answer.status == 200 && condition(&answer.json) {
                return answer.json;
            }
            assert!(start.elapsed() < within, "the job did not get there within {within:?}: {}", answer.text);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the job has that status.
    pub async fn wait_status(&self, id: &str, status: &str) -> Value {
        self.wait_until(id, PATIENCE, |job| job["status"] == status).await
    }

    /// Waits until the job has ended.
    pub async fn wait_end(&self, id: &str) -> Value {
        self.wait_until(id, PATIENCE, |job| {
            matches!(job["status"].as_str(), Some("completed" | "failed" | "cancelled" | "expired"))
        })
        .await
    }

    /// Reads the job's events, from the start or after `last_event_id`.
    pub async fn events(&self, id: &str, last_event_id: Option<&str>) -> Events {
        let mut request = self.request(Method::GET, &format!("/api/v1/jobs/{id}/events"));
        request = request.header("accept", "text/event-stream");
        if let Some(last) = last_event_id {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("the API answers");
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap_or_default());
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Events::new(response.bytes_stream().boxed())
    }
}
