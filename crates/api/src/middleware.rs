//! What every request passes: its id, its log line and numbers; then token, drain and the first look at Redis.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use opentelemetry::context::FutureExt as _;
use overshot_common::metrics;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::app::App;
use crate::error::{ApiError, Cause};
use crate::redis_watch::RedisState;

pub(crate) mod trace;

use trace::Serving;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_LENGTH_MAX: usize = 128;
const PROBLEM: &str = "application/problem+json";
/// How long a request waits for the first look at Redis, just after the start.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Gives the request an id, counts it, and logs a failure once.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request_id(request.headers());
    let wants_problem = request.headers().get(ACCEPT).is_some_and(|accept| accept.as_bytes() == PROBLEM.as_bytes());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let trace_id = tracing::field::Empty;
    let span = tracing::info_span!("request", request.id = %id.to_str().unwrap_or_default(), trace_id);
    let serving = Serving::begin(&request);
    let mut response = match &serving {
        None => next.run(request).instrument(span.clone()).await,
        Some(serving) => Box::pin(next.run(request).instrument(span.clone()).with_context(serving.context())).await,
    };
    let status = response.status();
    if let Some(serving) = serving {
        serving.end(status);
    }
    metrics::http_request(status.as_u16(), begun.elapsed());
    let cause = response.extensions_mut().remove::<Cause>();
    span.in_scope(|| {
        let cause = cause.as_ref().map_or("", |cause| cause.0.as_str());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%method, cause, "request failed");
        } else if !cause.is_empty() {
            tracing::warn!(%method, cause, status = status.as_u16(), "request refused");
        }
        tracing::debug!(%method, path, status = status.as_u16(), "request answered");
    });
    if wants_problem && (status.is_client_error() || status.is_server_error()) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The caller's id where it is one that may stand in a log line, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
        (1..=REQUEST_ID_LENGTH_MAX).contains(&value.len()) && value.as_bytes().iter().all(plain)
    };
    headers.get(REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let id = ulid::Ulid::new().to_string().to_ascii_lowercase();
        HeaderValue::from_str(&id).expect("a ULID is plain ASCII")
    })
}

/// Lets only those pass who may, and only while there is somebody to serve them.
pub(crate) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let guarded = ["/api", "/v1"]
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    if guarded {
        let caller = app.access.admit(request.headers(), request.method(), request.uri().path());
        let served = match caller {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                serves(&app).await
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = served {
            return refusal.into_response();
        }
    }
    next.run(request).await
}

/// Whether there is somebody to serve requests.
async fn serves(app: &App) -> Result<(), ApiError> {
    if app.stopping.is_cancelled() {
        return Err(ApiError::draining());
    }
    if *app.redis.borrow() == RedisState::Starting {
        let mut redis = app.redis.clone();
        let seen = redis.wait_for(|state| *state != RedisState::Starting);
        if !matches!(tokio::time::timeout(START_PATIENCE, seen).await, Ok(Ok(_))) {
            return Err(ApiError::unavailable("redis_unavailable", "the queue cannot be reached yet"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &[u8]) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_sane_request_id_is_kept() {
        assert_eq!(id_for(b"abc-1.2:3"), "abc-1.2:3");
    }

    #[test]
    fn any_other_request_id_is_replaced() {
        for bad in [&b""[..], b"a b", b"a\"b", &[b'x'; 129], "\u{e9}".as_bytes()] {
            assert_ne!(id_for(bad).as_bytes(), bad);
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
