//! The one map from what went wrong to an HTTP answer: the envelope of OpenAI and RFC 9457 in one body.

use std::any::Any;
use std::borrow::Cow;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use overshot_common::ids::JobId;
use overshot_common::queue;
use overshot_common::task::InvalidInput;
use serde::Serialize;

/// A refusal or a failure. Its texts hold nothing of a job's content.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    param: Option<String>,
    retry_after_seconds: Option<u32>,
    /// The job that it is about.
    job_id: Option<Box<JobId>>,
    /// What really happened; for the log only.
    cause: Option<Box<Cause>>,
}

/// What really happened, on its way to the middleware that logs it.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) String);

/// The member `error` of the body.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorObject<'a> {
    code: &'static str,
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<&'a JobId>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorObject<'a>,
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<&'a JobId>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            param: None,
            retry_after_seconds: None,
            job_id: None,
            cause: None,
        }
    }

    /// The body is not JSON, or the request is otherwise not readable.
    pub(crate) fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_request", message)
    }

    /// Readable, but not what the place `param` takes.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::unprocessable("invalid_value", param, message)
    }

    /// Readable, but refused, for a reason with a code of its own. The message goes on where the name of `param` ends.
    pub(crate) fn unprocessable(
        code: &'static str,
        param: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (param, message) = (param.into(), message.into());
        if param.is_empty() {
            return Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message);
        }
        let message = format!("`{param}` {message}");
        Self { param: Some(param), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message) }
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_api_token",
            "a valid token is needed: Authorization: Bearer <token>",
        )
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_denied", "the token does not open this")
    }

    /// The token came more often than it may; it may come again after `wait`.
    pub(crate) fn too_often(wait: std::time::Duration) -> Self {
        let message = "the token sends more requests per second than it may";
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).retry_after(seconds)
    }

    pub(crate) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    }

    pub(crate) fn job_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "job_not_found", "there is no such job, or its retention is over")
    }

    pub(crate) fn collection_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "collection_not_found", "there is no such collection")
    }

    pub(crate) fn pool_not_found() -> Self {
        let error = Self::new(StatusCode::NOT_FOUND, "pool_not_found", "there is no such pool");
        Self { param: Some("pool".into()), ..error }
    }

    pub(crate) fn conflict(code: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(crate) fn run_already_active(holder: JobId) -> Self {
        let error = Self::conflict("run_already_active", "another job holds the concurrency key");
        Self { param: Some("concurrency_key".into()), job_id: Some(Box::new(holder)), ..error }
    }

    pub(crate) fn queue_full() -> Self {
        let message = "the pool holds as many waiting jobs or bytes as it may";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message).retry_after(5)
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        let message = format!("larger than the limit of {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    }

    pub(crate) fn unavailable(code: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(1)
    }

    /// The job is there, but perhaps not as safe as its pool asks for.
    pub(crate) fn durability_unknown(id: JobId) -> Self {
        let message = "the job is accepted, but not yet confirmed to be durable; send the same request again with its \
                       idempotency key";
        Self { job_id: Some(Box::new(id)), ..Self::unavailable("durability_unknown", message) }
    }

    /// The audio of a job is not there, or not whole.
    pub(crate) fn upload_lost() -> Self {
        Self::unavailable("upload_lost", "the upload did not stay whole; send it again")
    }

    pub(crate) fn draining() -> Self {
        Self::unavailable("draining", "this process is stopping; send the request again")
    }

    /// A defect of ours: the caller learns nothing of it.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "an internal error occurred");
        Self { cause: Some(Box::new(Cause(cause.to_string()))), ..error }
    }

    /// The same for another item of a batch; its cause is logged once.
    pub(crate) fn again(&self) -> Self {
        Self {
            message: self.message.clone(),
            param: self.param.clone(),
            job_id: self.job_id.clone(),
            cause: None,
            ..*self
        }
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The code.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// What only the log may know.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_ref().map(|cause| cause.0.as_str())
    }

    /// The member `error` of the body.
    pub(crate) fn object(&self) -> ErrorObject<'_> {
        let r#type = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "service_unavailable_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let (message, param) = (self.message.as_ref(), self.param.as_deref());
        ErrorObject { code: self.code, message, r#type, param, job_id: self.job_id.as_deref() }
    }
}

impl From<queue::Error> for ApiError {
    fn from(error: queue::Error) -> Self {
        let answer = match &error {
            queue::Error::Unavailable(_) => Self::unavailable("redis_unavailable", "the queue cannot be reached now"),
            queue::Error::OutOfMemory => {
                Self::unavailable("redis_out_of_memory", "the queue takes no new work now").retry_after(5)
            }
            queue::Error::Corrupt(_) | queue::Error::Refused(_) | queue::Error::Mismatch(_) => {
                return Self::internal(error);
            }
        };
        Self { cause: Some(Box::new(Cause(error.to_string()))), ..answer }
    }
}

impl From<InvalidInput> for ApiError {
    fn from(error: InvalidInput) -> Self {
        Self::invalid(error.param, error.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = self.object();
        let envelope = Envelope {
            r#type: format!("urn:overshot:error:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: error.message,
            job_id: error.job_id,
            error,
        };
        let body = serde_json::to_vec(&envelope).expect("texts and numbers always serialize");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::CONFLICT {
            // Clients made for OpenAI repeat a 409 unless told not to.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(*cause);
        }
        response
    }
}

/// The answer to a request whose handler panicked.
#[expect(clippy::needless_pass_by_value, reason = "the signature of CatchPanicLayer")]
pub(crate) fn of_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    ApiError::internal(format!("a handler panicked: {text}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(error: ApiError) -> (StatusCode, axum::http::HeaderMap, serde_json::Value) {
        let response = error.into_response();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn the_envelope_always_has_all_its_keys() {
        let (status, _, body) = body(ApiError::malformed("no")).await;
        assert_eq!(status, 400);
        for key in ["code", "message", "type", "param"] {
            assert!(body["error"].as_object().unwrap().contains_key(key), "{key}");
        }
        assert_eq!(body["status"], 400);
        assert_eq!(body["title"], "Bad Request");
        assert_eq!(body["detail"], "no");
        assert!(body["type"].is_string());
    }

    #[tokio::test]
    async fn a_failure_of_ours_shows_no_internals() {
        let (status, _, body) = body(queue::Error::Corrupt("secret detail".into()).into()).await;
        assert_eq!(status, 500);
        assert_eq!(body["error"]["type"], "server_error");
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn refusals_to_be_repeated_say_when() {
        for error in
            [ApiError::queue_full(), queue::Error::Unavailable("x".into()).into(), queue::Error::OutOfMemory.into()]
        {
            let (_, headers, _) = body(error).await;
            assert!(headers[RETRY_AFTER].to_str().unwrap().parse::<u32>().unwrap() >= 1);
        }
    }

    #[tokio::test]
    async fn a_missing_token_is_asked_for() {
        let (status, headers, body) = body(ApiError::unauthorized()).await;
        assert_eq!(status, 401);
        assert_eq!(headers[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(body["error"]["type"], "authentication_error");
    }

    #[tokio::test]
    async fn a_held_key_names_its_holder() {
        let holder: JobId = format!("job_chat-0-{}", "0".repeat(26)).parse().unwrap();
        let (status, _, body) = body(ApiError::run_already_active(holder.clone())).await;
        assert_eq!(status, 409);
        assert_eq!(body["job_id"], holder.to_string());
        assert_eq!(body["error"]["job_id"], holder.to_string());
    }
}
